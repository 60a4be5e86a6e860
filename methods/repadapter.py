"""RepAdapter: a linear bottleneck with grouped up-projection before the attention and before the MLP of every block.

    f(x) = x + s (B (A x + a) + b)      A: (h, M)  a: (h)  B: (M, h), block-diagonal in g groups  b: (M)

x is the norm's output, which q, k and v, or fc1, read; h = 8, g = 2. Nothing but dropout, on A x + a, stands between A
and B. B and the biases start at zero, so the model starts as the frozen one; A is Xavier-uniform. After training f
merges into the linear behind it exactly: W' = W (I + s B A), b' = b + s W (B a + b_B).

Luo et al., "Towards Efficient Visual Adaption via Structural Re-parameterization", arXiv 2302.08106, section 3
(the published 0.22 M on ViT-B leaves the biases out).
Ours differs: s is 1 unless asked; the paper searches it per task among 0.1, 0.5, 1, 5, 10.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from bench.core.errors import Incompatible
from bench.models.method import Method, Shape, recorded_as
from bench.models.view import ModelView


class GroupedBottleneck(nn.Module):
    def __init__(self, dim: int, hidden: int, groups: int, scale: float, dropout: float) -> None:
        super().__init__()
        self.scale = scale
        self.A = nn.Linear(dim, hidden)
        self.B = nn.Parameter(torch.zeros(groups, dim // groups, hidden // groups))  # the blocks of the diagonal
        self.b = nn.Parameter(torch.zeros(dim))
        self.drop = nn.Dropout(dropout)
        nn.init.xavier_uniform_(self.A.weight)
        nn.init.zeros_(self.A.bias)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.drop(self.A(x)).unflatten(-1, (len(self.B), -1))  # (..., g, h / g)
        up = torch.einsum("...gh,gmh->...gm", hidden, self.B).flatten(-2)
        return x + self.scale * (up + self.b)  # (..., M) -> (..., M)

    def merged_weights(self, W: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        B = torch.block_diag(*self.B)
        return W + self.scale * W @ B @ self.A.weight, b + self.scale * W @ (B @ self.A.bias + self.b)


@dataclass(frozen=True)
class RepAdapter(Method):
    hidden: int = 8
    groups: int = 2
    scale: float = 1.0
    dropout: float = 0.1
    branches: Literal["both", "attn"] = recorded_as("before", "both")

    family = "low-rank"
    paper = "Luo et al. 2023, arXiv 2302.08106"
    supports = "vit swin swinv2 eva"
    merges = True

    def __post_init__(self) -> None:
        if self.groups < 1 or self.hidden < 1 or self.hidden % self.groups:
            raise ValueError(f"hidden = {self.hidden} must be a positive multiple of groups = {self.groups}")
        if self.scale == 0 or not 0 <= self.dropout < 1:
            raise ValueError(f"scale = {self.scale} must not be zero, and dropout = {self.dropout} in [0, 1)")

    def attach(self, net: ModelView) -> None:
        for block in net.blocks:
            if block.dim % self.groups:
                raise Incompatible(f"The width {block.dim} of {block.path} does not divide into {self.groups} groups.")
            for branch in (block.attn,) if self.branches == "attn" else (block.attn, block.mlp):
                branch.before(GroupedBottleneck(block.dim, self.hidden, self.groups, self.scale, self.dropout))

    def count(self, shape: Shape) -> int:
        h = self.hidden
        one = sum(dim * h + h + dim * h // self.groups + dim for dim in shape.dims)
        return one if self.branches == "attn" else 2 * one
