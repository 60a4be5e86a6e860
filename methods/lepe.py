"""LePE tuning: a depth-wise 3 x 3 convolution of the values, added to what attention gives.

    softmax(Q K^T / sqrt d) V + DWConv(V)      DWConv: a 3 x 3 kernel and a bias for each of the D channels

The sum enters the attention's output projection. V lies on the grid of patches; class token and registers are neither
read nor changed. In a Swin V lies on the grid of a window, whose border is padded with zeros. Kernel and bias start at
zero: the model starts as the frozen one. Where the head reads the class token alone, the last block gets no
convolution, which could not learn (12 layers of ViT-B have 92,160 parameters, 11 have 84,480).

He et al., "Parameter-efficient Model Adaptation for Vision Transformers", AAAI 2023, arXiv 2203.16329, experiments,
after the locally-enhanced positional encoding of Dong et al., "CSWin Transformer", CVPR 2022, arXiv 2107.00652. What
happens to the class token, the kernel's size and the start are ours: the paper does not say. In a shifted window of
Swin, parts that meet only because the picture was rolled are neighbours to the convolution; attention masks them.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.models.method import Method
from bench.models.view import ModelView
from methods._spatial import blocks_with_patches_out, from_map, to_map


class ValueConvolution(nn.Module):
    def __init__(self, dim: int, grid: tuple[int, int], prefix: int) -> None:
        super().__init__()
        self.grid, self.prefix = grid, prefix
        self.conv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        for parameter in self.conv.parameters():
            nn.init.zeros_(parameter)

    def forward(self, v: Tensor) -> Tensor:
        values, prefix = to_map(v, self.grid, self.prefix)
        return from_map(self.conv(values), torch.zeros_like(prefix), like=v)  # (B, N, D) -> (B, N, D)


@dataclass(frozen=True)
class LePE(Method):
    family = "baseline"
    paper = "He et al. 2023, arXiv 2203.16329"
    supports = "vit swin"

    def attach(self, net: ModelView) -> None:
        for block in blocks_with_patches_out(net):
            rows, columns = block.grid
            window = (min(rows, net.shape.side), min(columns, net.shape.side)) if net.family == "swin" else block.grid
            block.linear["v"].feed(ValueConvolution(block.dim, window, block.prefix), block.linear["proj"])
