"""Adapters on attention: a bottleneck in series after the attention of every block, none after the MLP.

    h = x + W_up gelu(W_down x)      W_down: (N, M)  W_up: (M, N)      N = M / sigma

Both matrices start from a normal distribution of std 0.02: near the identity, not at it.

He et al., "Parameter-Efficient Model Adaptation for Vision Transformers", AAAI 2023, arXiv 2203.16329, table 4, which
fixes neither the size nor the exact place: ours are those of the adapters after attention of Houlsby et al. 2019.
"""

from dataclasses import dataclass

from bench.models.method import Method, Shape
from bench.models.view import ModelView
from methods._bottleneck import Bottleneck, hidden_size


@dataclass(frozen=True)
class AdaptersOnAttention(Method):
    sigma: float = 8.0
    hidden: int | None = None  # the same N for every adapter, instead of sigma
    bias: bool = False

    family = "adapters"
    paper = "He et al. 2023, arXiv 2203.16329"
    identity_at_start = False

    def __post_init__(self) -> None:
        if self.sigma <= 0 or (self.hidden is not None and self.hidden < 1):
            raise ValueError(f"sigma = {self.sigma} must be positive, and hidden = {self.hidden} at least 1")

    def attach(self, net: ModelView) -> None:
        for block in net.blocks:
            size = self.hidden or hidden_size(block.dim, self.sigma, "dim", 0)
            block.attn.then(Bottleneck(block.dim, size, self.bias))

    def count(self, shape: Shape) -> int:
        sizes = [(dim, self.hidden or hidden_size(dim, self.sigma, "dim", 0)) for dim in shape.dims]
        return sum(2 * dim * n + self.bias * (dim + n) for dim, n in sizes)
