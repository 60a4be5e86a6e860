"""Adapters: a bottleneck in series after the attention and after the MLP of every block, before each residual sum.

    h = x + W_up gelu(W_down x)      W_down: (N, M)  W_up: (M, N)      N = M / sigma

Both matrices start from a normal distribution of std 0.02: near the identity, not at it.

Houlsby et al., "Parameter-Efficient Transfer Learning for NLP", ICML 2019, arXiv 1902.00751, section 2.1; without
biases and with sigma = M / N as in Marouf et al., "MiMi", WACV 2024, section 3.1. Published counts labelled
sigma = 32 on Swin divide the MLP's hidden width instead: `basis=mlp sigma=32` is the same network as the default.
Ours differs: layer norms stay frozen (Houlsby trains them).
"""

from dataclasses import dataclass
from typing import Literal

from bench.models.method import Method, Shape
from bench.models.view import ModelView
from methods._bottleneck import Bottleneck, hidden_size


@dataclass(frozen=True)
class Adapters(Method):
    sigma: float = 8.0
    basis: Literal["dim", "mlp"] = "dim"
    hidden: int | None = None  # the same N for every adapter, instead of sigma
    bias: bool = False

    family = "adapters"
    paper = "Houlsby et al. 2019, arXiv 1902.00751"
    identity_at_start = False

    def __post_init__(self) -> None:
        if self.sigma <= 0 or (self.hidden is not None and self.hidden < 1):
            raise ValueError(f"sigma = {self.sigma} must be positive, and hidden = {self.hidden} at least 1")

    def attach(self, net: ModelView) -> None:
        for block in net.blocks:
            size = self.hidden or hidden_size(block.dim, self.sigma, self.basis, block.linear["fc1"].d_out / block.dim)
            for branch in (block.attn, block.mlp):
                branch.then(Bottleneck(block.dim, size, self.bias))

    def count(self, shape: Shape) -> int:
        sizes = [(dim, self.hidden or hidden_size(dim, self.sigma, self.basis, shape.mlp_ratio)) for dim in shape.dims]
        return sum(2 * (2 * dim * n + self.bias * (dim + n)) for dim, n in sizes)
