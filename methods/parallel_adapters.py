"""Parallel adapters: a scaled bottleneck beside the MLP of every block, which reads what the MLP reads.

    f(n) + s (W_2 relu(W_1 n + b_1) + b_2)      n = LN(x)  W_1: (N, M)  W_2: (M, N)      N = M / sigma, s = 4

f is the frozen MLP; the sum goes on to the residual sum. W_2 and the biases start at zero, so the model starts as the
frozen one; W_1 is Kaiming-uniform (a = sqrt 5).

He, Zhou, Ma, Berg-Kirkpatrick, Neubig, "Towards a Unified View of Parameter-Efficient Transfer Learning", ICLR 2022,
arXiv 2110.04366, table 1 (scaled parallel adapter); beside the feed-forward network, where it found added
parameters to work best; `branches=both` puts a second one beside the attention.
Ours differs: N = M / sigma as for adapters here; the paper's 512 neurons are meant for language models of width 1024.
"""

from dataclasses import dataclass
from typing import Literal

from bench.models.method import Method, Shape, recorded_as
from bench.models.view import ModelView
from methods._bottleneck import hidden_size
from methods._parallel import Parallel


@dataclass(frozen=True)
class ParallelAdapters(Method):
    sigma: float = 8.0
    hidden: int | None = None  # the same N for every adapter, instead of sigma
    scale: float = 4.0
    branches: Literal["mlp", "both"] = recorded_as("after", "mlp")  # both: beside the attention too

    family = "adapters"
    paper = "He et al. 2022, arXiv 2110.04366"

    def __post_init__(self) -> None:
        if self.sigma <= 0 or (self.hidden is not None and self.hidden < 1):
            raise ValueError(f"sigma = {self.sigma} must be positive, and hidden = {self.hidden} at least 1")
        if self.scale == 0:
            raise ValueError("scale = 0 switches every adapter off; the paper's is 4")

    def attach(self, net: ModelView) -> None:
        for block in net.blocks:
            size = self.hidden or hidden_size(block.dim, self.sigma, "dim", 0)
            for branch in (block.mlp,) if self.branches == "mlp" else (block.attn, block.mlp):
                branch.add(Parallel(block.dim, size, self.scale))

    def count(self, shape: Shape) -> int:
        sizes = [(dim, self.hidden or hidden_size(dim, self.sigma, "dim", 0)) for dim in shape.dims]
        return (1 if self.branches == "mlp" else 2) * sum(2 * dim * n + n + dim for dim, n in sizes)
