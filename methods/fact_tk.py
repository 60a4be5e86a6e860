"""FacT-TK: the updates of all linears as one tensor in Tucker format, with three factors and a core for all layers.

    dW_j = s V (sum_k P[j, k] C_k) U,  j = 1..12 L      U: (r, d)  V: (d, r)  P: (12 L, r)  C_k: (r, r), k = 1..r

j runs over the d x d slices of L blocks: q, k, v, o, four of fc1 and four of fc2 each. V starts at zero, so the model
starts as the frozen one; U is Kaiming-uniform (a = sqrt 5), P and C are Glorot-uniform. Dropout acts in front of V.
After training the updates merge into the weights exactly.

Jie and Deng, "FacT: Factor-Tuning for Lightweight Adaptation on Vision Transformer", AAAI 2023, arXiv 2212.03145
(its U is our U transposed: the paper multiplies from the right). It chooses r up to 32 and s in 0.01 ... 100 for each
data set. The released code interleaves the ranks of the four slices of fc1, and of fc2; ours is the paper's definition.
On a hierarchical backbone every width has its own U and V, P and C are common to all.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.models.method import Method, Shape
from bench.models.view import HookPoint, ModelView
from methods._fact import SLICES, Slices, pairs, slots


class Tucker(Slices):
    def __init__(
        self,
        U: nn.Parameter,
        V: nn.Parameter,
        P: Tensor,
        C: nn.Parameter,
        slot: HookPoint,
        scale: float,
        dropout: float,
    ) -> None:
        super().__init__(U, V, slot, scale, dropout)
        self.C = C
        self.P = nn.Parameter(P.unflatten(0, (self.rows, self.columns)).clone())  # this linear's rows of P

    def cores(self) -> Tensor:
        cores = torch.einsum("mnk,kab->manb", self.P, self.C)
        return cores.flatten(2).flatten(0, 1)


@dataclass(frozen=True)
class FacTTK(Method):
    rank: int = 32
    scale: float = 1.0
    dropout: float = 0.1

    family = "low-rank"
    paper = "Jie and Deng 2023, arXiv 2212.03145"
    merges = True

    def __post_init__(self) -> None:
        if self.rank < 1 or not 0 <= self.dropout < 1:
            raise ValueError(f"rank = {self.rank} must be at least 1, and dropout = {self.dropout} lie in [0, 1)")

    def attach(self, net: ModelView) -> None:
        shared = pairs(net, self.rank)
        C = nn.Parameter(nn.init.xavier_uniform_(torch.empty(self.rank, self.rank, self.rank)))
        P = nn.init.xavier_uniform_(torch.empty(SLICES * len(net.blocks), self.rank))
        used = 0
        for block, slot in slots(net):
            own = slot.d_out * slot.d_in // block.dim**2
            slot.add(Tucker(*shared[block.dim], P[used : used + own], C, slot, self.scale, self.dropout))
            used += own

    def count(self, shape: Shape) -> int:
        pair = 2 * self.rank * sum(shape.stages)
        return pair + SLICES * len(shape.dims) * self.rank + self.rank**3
