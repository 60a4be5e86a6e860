"""What low-rank methods share: the linears of a block by name, and an update s B A beside one of them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.core.errors import Incompatible, UsageError
from bench.models.view import Block, HookPoint

TARGETS = ("q", "k", "v", "qkv", "proj", "fc1", "fc2")


class LowRank(nn.Module):
    """x -> s B A x      A: (r, d_in), Kaiming-uniform (a = sqrt 5), trained unless fixed      B: (d_out, r), zero"""

    A: Tensor

    def __init__(
        self, d_in: int, d_out: int, rank: int, scale: float, dropout: float = 0.0, *, fixed: bool = False
    ) -> None:
        super().__init__()
        self.scale = scale
        A = nn.init.kaiming_uniform_(torch.empty(rank, d_in), a=math.sqrt(5))
        if fixed:
            self.register_buffer("A", A)
        else:
            self.A = nn.Parameter(A)
        self.B = nn.Parameter(torch.zeros(d_out, rank))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * F.linear(F.linear(self.dropout(x), self.A), self.B)  # (..., d_in) -> (..., d_out)

    def merged_weights(self, W: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return W + self.scale * self.B @ self.A, b


def linears(block: Block, targets: tuple[str, ...]) -> list[HookPoint]:
    """The block's linears of those names."""
    for target in targets:
        if target not in TARGETS:
            raise UsageError(f"targets: no target is called {target!r}. Known: {', '.join(TARGETS)}.")
        if target not in block.linear:
            raise Incompatible("q, k and v are separate linears in this backbone: name them instead of 'qkv'.")
    return [block.linear[target] for target in targets]


def ends(target: str, dim: int, mlp_ratio: float) -> tuple[int, int]:
    """Inputs and outputs of a target in a block of that width."""
    hidden = int(dim * mlp_ratio)
    return {"qkv": (dim, 3 * dim), "fc1": (dim, hidden), "fc2": (hidden, dim)}.get(target, (dim, dim))
