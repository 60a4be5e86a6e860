"""Factor-tuning: the linears of a ViT as one stack of d x d slices, their updates as products of shared factors.

A block has 12 slices: q, k, v, o, four of fc1 (its outputs) and four of fc2 (its inputs), each with an update
s V Sigma_j U. U: (r, d) and V: (d, r) are shared by all slices of one width, Sigma_j: (r, r) is the slice's core.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.core.errors import Incompatible
from bench.models.view import Block, HookPoint, ModelView

SLICES = 12  # of a block


class Slices(nn.Module):
    """The update of one linear, `rows` x `columns` slices: x -> s V dropout(Sigma U x), U and V on each slice's share.

    Sigma: (rows r, columns r) holds the cores, each where its slice stands in the weight; a subclass gives it.
    """

    def __init__(self, U: nn.Parameter, V: nn.Parameter, slot: HookPoint, scale: float, dropout: float) -> None:
        super().__init__()
        self.U, self.V, self.scale = U, V, scale
        self.rows, self.columns = (size // len(V) for size in (slot.d_out, slot.d_in))
        self.dropout = nn.Dropout(dropout)

    def cores(self) -> Tensor:
        """Sigma"""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        read = F.linear(x.unflatten(-1, (self.columns, -1)), self.U).flatten(-2)  # (..., columns r)
        mixed = self.dropout(F.linear(read, self.cores()))
        return self.scale * F.linear(mixed.unflatten(-1, (self.rows, -1)), self.V).flatten(-2)

    def merged_weights(self, W: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        write, read = (torch.block_diag(*[m] * n) for m, n in ((self.V, self.rows), (self.U, self.columns)))
        return W + self.scale * write @ self.cores() @ read, b


def slots(net: ModelView) -> Iterator[tuple[Block, HookPoint]]:
    """Every linear with its block, in the order of the slices."""
    for block in net.blocks:
        if block.linear["fc1"].d_out != 4 * block.dim or block.linear["fc2"].d_in != 4 * block.dim:
            width = block.linear["fc1"].d_out
            raise Incompatible(f"The MLP's hidden width is cut into four slices, but {width} is not 4 x {block.dim}.")
        for name in (*(("qkv",) if "qkv" in block.linear else ("q", "k", "v")), "proj", "fc1", "fc2"):
            yield block, block.linear[name]


def pairs(net: ModelView, rank: int) -> dict[int, tuple[nn.Parameter, nn.Parameter]]:
    """U, Kaiming-uniform (a = sqrt 5), and V, zero, for every width."""
    return {
        dim: (
            nn.Parameter(nn.init.kaiming_uniform_(torch.empty(rank, dim), a=math.sqrt(5))),
            nn.Parameter(torch.zeros(dim, rank)),
        )
        for dim in net.shape.stages
    }
