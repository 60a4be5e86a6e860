"""FacT-TT: the updates of all linears as one tensor in tensor-train format, with two factors common to all layers.

    dW_j = s V Sigma_j U,  j = 1..12 L      U: (r, d)  V: (d, r)  Sigma_j: (r, r)

j runs over the d x d slices of L blocks: q, k, v, o, four of fc1 and four of fc2 each. V starts at zero, so the model
starts as the frozen one; U and every Sigma_j are Kaiming-uniform (a = sqrt 5). Dropout acts between Sigma_j and V.
After training the updates merge into the weights exactly.

Jie and Deng, "FacT: Factor-Tuning for Lightweight Adaptation on Vision Transformer", AAAI 2023, arXiv 2212.03145
(its U is our U transposed: the paper multiplies from the right). It chooses r up to 16 and s in 0.01 ... 100 for each
data set. On a hierarchical backbone every width has its own U and V; on Swin-T with r = 32 that is the layout, and the
size, of what the code of Marouf et al. (MiMi) calls FacT-TK.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.models.method import Method, Shape
from bench.models.view import HookPoint, ModelView
from methods._fact import SLICES, Slices, pairs, slots


class TensorTrain(Slices):
    def __init__(self, U: nn.Parameter, V: nn.Parameter, slot: HookPoint, scale: float, dropout: float) -> None:
        super().__init__(U, V, slot, scale, dropout)
        rank = len(U)
        bound = rank**-0.5  # Kaiming-uniform, a = sqrt 5, of one core
        self.sigma = nn.Parameter(torch.empty(self.rows * rank, self.columns * rank).uniform_(-bound, bound))

    def cores(self) -> Tensor:
        return self.sigma


@dataclass(frozen=True)
class FacTTT(Method):
    rank: int = 16
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
        for block, slot in slots(net):
            slot.add(TensorTrain(*shared[block.dim], slot, self.scale, self.dropout))

    def count(self, shape: Shape) -> int:
        return 2 * self.rank * sum(shape.stages) + SLICES * len(shape.dims) * self.rank**2
