"""PHM adapters: bottlenecks whose matrices are sums of Kronecker products, after attention and MLP of every block.

    h = x + W_up gelu(W_down x + b_down) + b_up      W_down: (N, M)  W_up: (M, N)
    W = sum_i A_i (x) B_i,  i = 1..n                 A_i: (n, n)  B_i: (d_out / n, d_in / n)

N is M / sigma, down to a multiple of n, at least n; n must divide every width. Every layer has its own rule A. The A_i
start from a normal distribution of std 0.01, the B_i Glorot-uniform with gain sqrt 2: near the identity, not at it.

Zhang et al., "Beyond Fully-Connected Layers with Quaternions", ICLR 2021, arXiv 2102.08597, eq. 3.2, in the adapter
that Karimi Mahabadi et al. (Compacter, arXiv 2106.04647) compare with. Published counts on Swin are for n = 12
(`n=12 sigma=8`); n = 4 is our default, which divides the widths of every usual backbone.
Ours differs: layer norms stay frozen.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.models.method import Method, Shape, recorded_as
from bench.models.view import ModelView
from methods._kronecker import Kronecker, KroneckerAdapter, glorot, hidden_multiple, new_rule

STD = 0.01  # of a rule at the start


class PHM(Kronecker):
    def __init__(self, d_in: int, d_out: int, n: int, rule: Tensor) -> None:
        super().__init__(d_in, d_out, n, rule)
        self.B = glorot(n, d_out // n, d_in // n)

    def forward(self, x: Tensor) -> Tensor:
        W = torch.einsum("ipq,iuv->puqv", self.A, self.B)  # costs what n tokens cost
        return F.linear(x, W.reshape(len(self.b), -1), self.b)


@dataclass(frozen=True)
class PHMAdapter(Method):
    n: int = 4
    sigma: float = 32.0
    hidden: int | None = None  # the same N for every adapter, instead of sigma
    branches: Literal["both", "mlp"] = recorded_as("after", "both")
    rule: Literal["own", "shared"] = "own"  # shared: one A for the whole network

    family = "adapters"
    paper = "Zhang et al. 2021, arXiv 2102.08597"
    identity_at_start = False

    def __post_init__(self) -> None:
        if self.n < 1 or self.sigma <= 0:
            raise ValueError(f"n = {self.n} must be at least 1, and sigma = {self.sigma} positive")
        if self.hidden is not None and (self.hidden < 1 or self.hidden % self.n):
            raise ValueError(f"hidden = {self.hidden} must be a positive multiple of n = {self.n}")

    def attach(self, net: ModelView) -> None:
        shared = new_rule(self.n, STD) if self.rule == "shared" else None
        for block in net.blocks:
            size = self.hidden or hidden_multiple(block.dim, self.sigma, self.n)
            for branch in (block.mlp,) if self.branches == "mlp" else (block.attn, block.mlp):
                down, up = (
                    PHM(*ends, self.n, new_rule(self.n, STD) if shared is None else shared)
                    for ends in ((block.dim, size), (size, block.dim))
                )
                branch.then(KroneckerAdapter(down, up))

    def count(self, shape: Shape) -> int:
        adapters = (1 if self.branches == "mlp" else 2) * len(shape.dims)
        sizes = [(dim, self.hidden or hidden_multiple(dim, self.sigma, self.n)) for dim in shape.dims]
        rules = self.n**3 * (1 if self.rule == "shared" else 2 * adapters)
        return rules + adapters // len(sizes) * sum(2 * dim * n // self.n + dim + n for dim, n in sizes)
