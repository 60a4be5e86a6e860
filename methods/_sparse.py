"""Updates of a few weights of a matrix, where they stand, and the gradients that tell which."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.models.view import HookPoint


class SparseUpdate(nn.Module):
    """x -> dW x      dW: (d_out, d_in), zero but at the places of `index`

    `index` are (n) places in the flattened matrix, or (d_out, k) in its rows; they are stored, four bytes each, with
    the values, which start at zero.
    """

    index: Tensor

    def __init__(self, slot: HookPoint, index: Tensor) -> None:
        super().__init__()
        self.size = slot.d_out, slot.d_in
        rows = len(index) if index.ndim == 2 else 1
        self.values = nn.Parameter(torch.zeros(rows, index.numel() // rows))  # a vector would be spared weight decay
        self.register_buffer("index", index.to(torch.int32))

    def dense(self) -> Tensor:
        rows = self.values.new_zeros(len(self.values), self.size[0] * self.size[1] // len(self.values))
        return rows.scatter(1, self.index.long().view_as(self.values), self.values).view(self.size)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.dense())  # (..., d_in) -> (..., d_out)

    def merged_weights(self, W: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return W + self.dense(), b


def weight_gradients(slots: Sequence[HookPoint], losses: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Of one loss after the other the gradients (d_out, d_in) of the frozen weights of these linears.

    A loss is asked for while they take gradients, so `losses` computes each when it is asked. Where q, k and v are
    fused the gradient of all three is computed once.
    """
    weights = {slot.path: slot.module.get_parameter("weight") for slot in slots}
    try:
        for weight in weights.values():
            weight.requires_grad_(True)
        for loss in losses:
            found = dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True))
            yield [found[slot.path][slot.columns] for slot in slots]
    finally:
        for weight in weights.values():
            weight.requires_grad_(False)
