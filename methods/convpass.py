"""Convpass: a convolutional bottleneck beside the attention and beside the MLP of every block.

    x' = x + Attn(n) + s CP(n)      CP(n) = W_up phi(conv(phi(W_down n)))      n = LN(x); the MLP likewise

W_down: (h, M)  conv: 3 x 3, h -> h channels, zero-padded, on the grid of patches  W_up: (M, h), all with biases; h = 8;
phi is QuickGELU, x sigmoid(1.702 x). Each token before the patches (class, registers) is convolved on its own, as a
picture of one patch: only the centre of the kernel acts. Dropout acts in front of W_up. In a Swin the convolution runs
over the whole map of its stage, not over windows. W_up starts at zero, so the model starts as the frozen one; W_down is
Xavier-uniform, conv passes its input on (`xavier=true`: it is Xavier-uniform, too), biases are zero.

Jie and Deng, "Convolutional Bypasses Are Better Vision Transformer Adapters", arXiv 2207.07039, section 3.
Ours differs: s is 1 unless asked; the paper searches it per task among 0.01, 0.1, 1, 10, 100.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.models.method import Method, Shape, recorded_as
from bench.models.view import Block, ModelView
from methods._spatial import from_map, to_map


class Bypass(nn.Module):
    def __init__(self, block: Block, hidden: int, scale: float, dropout: float, xavier: bool) -> None:
        super().__init__()
        self.grid, self.prefix, self.scale = block.grid, block.prefix, scale
        self.down = nn.Linear(block.dim, hidden)
        self.conv = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.drop = nn.Dropout(dropout)
        self.up = nn.Linear(hidden, block.dim)
        nn.init.xavier_uniform_(self.down.weight)
        (nn.init.xavier_uniform_ if xavier else nn.init.dirac_)(self.conv.weight)
        for zero in (self.down.bias, self.conv.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)  # type: ignore[arg-type]

    def forward(self, n: Tensor) -> Tensor:
        hidden = quick_gelu(self.down(n))  # (..., M) -> (..., h)
        patches, prefix = to_map(hidden, self.grid, self.prefix)
        prefix = F.linear(prefix, self.conv.weight[:, :, 1, 1], self.conv.bias)
        mixed = from_map(self.conv(patches), prefix, like=hidden)
        return self.scale * self.up(self.drop(quick_gelu(mixed)))  # (..., h) -> (..., M)


def quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


@dataclass(frozen=True)
class Convpass(Method):
    hidden: int = 8
    scale: float = 1.0
    dropout: float = 0.1
    xavier: bool = False
    branches: Literal["both", "attn"] = recorded_as("beside", "both")

    family = "adapters"
    paper = "Jie and Deng 2022, arXiv 2207.07039"

    def __post_init__(self) -> None:
        if self.hidden < 1 or self.scale == 0 or not 0 <= self.dropout < 1:
            asked = f"hidden = {self.hidden}, scale = {self.scale}, dropout = {self.dropout}"
            raise ValueError(f"{asked}: hidden must be at least 1, scale not zero, dropout in [0, 1)")

    def attach(self, net: ModelView) -> None:
        for block in net.blocks:
            for branch in (block.attn,) if self.branches == "attn" else (block.attn, block.mlp):
                branch.add(Bypass(block, self.hidden, self.scale, self.dropout, self.xavier))

    def count(self, shape: Shape) -> int:
        h = self.hidden
        one = sum((2 * h + 1) * dim + h + (9 * h + 1) * h for dim in shape.dims)
        return one if self.branches == "attn" else 2 * one
