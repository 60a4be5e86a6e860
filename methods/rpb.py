"""RPB tuning: a learned bias for every relative position of two patches, added to the attention logits.

    softmax(Q K^T / sqrt d + B) V      B[h, (r, c), (r', c')] = T[h, r - r' + R - 1, c - c' + C - 1]

on R x C patches, with one table T: (heads, 2 R - 1, 2 C - 1) a layer, zero at the start: the model starts as the frozen
one. Class token and registers have no position: their rows and columns of B are zero. So where the head reads the class
token alone, the last layer gets no table, which could not learn (12 layers of ViT-B/16 have 104,976 parameters, 11 have
96,228). A Swin has such tables of its own, one for the windows of each block; there they are trained in place, from
their values.

He et al., "Parameter-efficient Model Adaptation for Vision Transformers", AAAI 2023, arXiv 2203.16329, experiments,
after Liu et al., "Swin Transformer", ICCV 2021, arXiv 2103.14030, eq. 4. What the class token gets and the
start are ours: the paper does not say.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.models.method import Method
from bench.models.view import ModelView
from methods._spatial import blocks_with_patches_out


class RelativeBias(nn.Module):
    def __init__(self, heads: int, grid: tuple[int, int], prefix: int) -> None:
        super().__init__()
        self.grid, self.prefix = grid, prefix
        rows, columns = grid
        self.table = nn.Parameter(torch.zeros(heads, 2 * rows - 1, 2 * columns - 1))

    def forward(self) -> Tensor:
        rows, columns = self.grid
        # windows[h, r, c, i, j] = T[h, r + i, c + j], and i = R - 1 - r', j = C - 1 - c'
        windows = self.table.unfold(1, rows, 1).unfold(2, columns, 1)
        bias = windows.flip(3, 4).flatten(3).flatten(1, 2)
        return F.pad(bias, (self.prefix, 0, self.prefix, 0))  # (heads, N, N)


@dataclass(frozen=True)
class RPB(Method):
    family = "baseline"
    paper = "He et al. 2023, arXiv 2203.16329"
    supports = "vit swin"

    def attach(self, net: ModelView) -> None:
        if net.family == "swin":
            net.unfreeze(lambda name: name.endswith(".relative_position_bias_table"))
            return
        for block in blocks_with_patches_out(net):
            net.add_to_attention(block, RelativeBias(block.heads, block.grid, block.prefix))
