"""LoRA: a low-rank update beside frozen linears.

    y = W x + (alpha / r) B A x      A: (r, d_in)  B: (d_out, r)

B starts at zero, so the model starts as the frozen one; A is Kaiming-uniform (a = sqrt 5). After training the update
folds into W exactly.

Hu et al., "LoRA", ICLR 2022, arXiv 2106.09685, eq. 3; q and v as in its section 4.2. Each target has its own A and B
(one A for a fused qkv is another method of the same size).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.anatomy import Anatomy
from bench.errors import UsageError
from bench.method import Method, Shape


class LowRank(nn.Module):
    def __init__(self, d_in: int, d_out: int, rank: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.A = nn.Parameter(torch.empty(rank, d_in))
        self.B = nn.Parameter(torch.zeros(d_out, rank))
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * F.linear(F.linear(x, self.A), self.B)  # (..., d_in) -> (..., d_out)

    def folded(self, W: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return W + self.scale * self.B @ self.A, b


@dataclass(frozen=True)
class LoRA(Method):
    rank: int = 8
    alpha: float = 8.0
    targets: tuple[str, ...] = ("q", "v")  # of q, k, v, qkv, proj, fc1, fc2

    family = "low-rank"
    paper = "Hu et al. 2022, arXiv 2106.09685"
    merges = True

    def __post_init__(self) -> None:
        if self.rank < 1 or not self.targets or len(set(self.targets)) < len(self.targets):
            raise ValueError(f"rank = {self.rank} must be at least 1, and targets = {self.targets} name each once")

    def attach(self, net: Anatomy) -> None:
        for block in net.blocks:
            for target in self.targets:
                if target not in block.linear:
                    raise UsageError(f"lora: no target is called {target!r}. Known: {', '.join(block.linear)}.")
                slot = block.linear[target]
                slot.add(LowRank(slot.d_in, slot.d_out, self.rank, self.alpha / self.rank))

    def count(self, shape: Shape) -> int:
        ends = {"qkv": 4.0, "fc1": 1 + shape.mlp_ratio, "fc2": 1 + shape.mlp_ratio}  # (d_in + d_out) / M
        return sum(int(self.rank * dim * ends.get(target, 2.0)) for dim in shape.dims for target in self.targets)
