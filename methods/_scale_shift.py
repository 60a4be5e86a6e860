"""Scale and shift of what a layer puts out: gamma * y + beta, after Lian et al. 2022, eq. 2."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from bench.models.method import Shape
from bench.models.view import HookPoint, ModelView


class ScaleShift(nn.Module):
    """gamma * y + beta      gamma, beta: (M), from N(1, 0.02) and N(0, 0.02)      M channels of y"""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.empty(dim).normal_(1.0, 0.02))
        self.beta = nn.Parameter(torch.empty(dim).normal_(0.0, 0.02))

    def forward(self, y: Tensor) -> Tensor:
        return self.gamma * y + self.beta  # (..., M) -> (..., M)

    def merged_weights(self, W: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return self.gamma[:, None] * W, self.gamma * b + self.beta


def norms(net: ModelView) -> Iterator[HookPoint]:
    """Every layer norm: of the patches, of each block, beside each of Swin's reductions, and the last."""
    yield from net.stem[1:]
    for block in net.blocks:
        yield from block.norm.values()
    for parts in net.merging:
        yield from (point for point in parts if isinstance(point.module, nn.LayerNorm))
    if net.final:
        yield net.final


def norm_widths(shape: Shape) -> int:
    """The sum of the widths of every layer norm of a backbone."""
    ends = shape.patch_norm * shape.stages[0] + shape.stages[-1]
    return 2 * sum(shape.dims) + sum(shape.merging_norms) + ends
