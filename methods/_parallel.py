"""The bottleneck that runs beside a branch: s (W_2 relu(W_1 x + b_1) + b_2), after He et al. 2022, table 1."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional as F


class Parallel(nn.Module):
    """s (W_2 relu(W_1 x + b_1) + b_2)      W_1: (N, M)  W_2: (M, N)      M width, N hidden neurons

    W_2 and the biases start at zero, W_1 is Kaiming-uniform (a = sqrt 5). `norm` puts a layer norm in front of W_1,
    `dropout` acts on the hidden neurons.
    """

    def __init__(self, dim: int, hidden: int, scale: float, dropout: float = 0.0, norm: bool = False) -> None:
        super().__init__()
        self.scale = scale
        self.norm = nn.LayerNorm(dim) if norm else nn.Identity()
        self.down = nn.Linear(dim, hidden)
        self.drop = nn.Dropout(dropout)
        self.up = nn.Linear(hidden, dim)
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.up(self.drop(F.relu(self.down(self.norm(x)))))  # (..., M) -> (..., M)
