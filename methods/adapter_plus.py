"""Adapter+: a bottleneck with a learned gain for every channel on the output of every block.

    h + gamma * (W_2 gelu(W_1 h + b_1) + b_2)      W_1: (N, M)  W_2: (M, N)  gamma: (M)      N = 8

h is the residual stream behind the MLP's residual sum. gamma starts at one, both matrices from a normal distribution of
std 0.01 cut at two std, the biases at zero: near the identity, not at it. Drop-path leaves the adapter out for single
images in training.

Steitz and Roth, "Adapters Strike Back", CVPR 2024, arXiv 2406.06820: the post-adapter, with Houlsby's
initialisation and channel-wise scaling.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.models.method import Method, Shape
from bench.models.view import ModelView


class ChannelScaled(nn.Module):
    def __init__(self, dim: int, hidden: int, drop_path: float) -> None:
        super().__init__()
        self.down = nn.Linear(dim, hidden)
        self.up = nn.Linear(hidden, dim)
        self.gamma = nn.Parameter(torch.ones(dim))
        self.drop_path = nn.Dropout(drop_path)
        for linear in (self.down, self.up):
            nn.init.trunc_normal_(linear.weight, std=0.01, a=-0.02, b=0.02)
            nn.init.zeros_(linear.bias)

    def forward(self, h: Tensor) -> Tensor:
        kept = self.drop_path(h.new_ones(len(h), 1, 1))  # (B, 1, 1), 0 for the images that go without
        return kept * self.gamma * self.up(F.gelu(self.down(h)))  # (B, N, M) -> (B, N, M)


@dataclass(frozen=True)
class AdapterPlus(Method):
    hidden: int = 8
    drop_path: float = 0.1

    family = "adapters"
    paper = "Steitz and Roth 2024, arXiv 2406.06820"
    identity_at_start = False

    def __post_init__(self) -> None:
        if self.hidden < 1 or not 0 <= self.drop_path < 1:
            raise ValueError(f"hidden = {self.hidden} must be at least 1, and drop_path = {self.drop_path} in [0, 1)")

    def attach(self, net: ModelView) -> None:
        for block in net.blocks:
            block.mlp.add_to_sum(ChannelScaled(block.dim, self.hidden, self.drop_path))

    def count(self, shape: Shape) -> int:
        return sum((2 * dim + 1) * self.hidden + 2 * dim for dim in shape.dims)
