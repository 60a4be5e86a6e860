"""Compacter: bottlenecks made of Kronecker products with rank-one factors and one mixing rule for the whole network.

    h = x + W_up gelu(W_down x + b_down) + b_up      W_down: (N, M)  W_up: (M, N)
    W = sum_i A_i (x) (s_i t_i^T),  i = 1..n         A_i: (n, n)  s_i: (d_out / n)  t_i: (d_in / n)

N is M / sigma, down to a multiple of n, at least n; n must divide every width. The rule A is shared by all layers and
trained. It starts from a normal distribution of std 1e-4, s and t Glorot-uniform with gain sqrt 2: very near the
identity, not at it. W is never formed: x is read by the t_i, mixed by A, written by the s_i.

Karimi Mahabadi, Henderson, Ruder, "Compacter: Efficient Low-Rank Hypercomplex Adapter Layers", NeurIPS 2021,
arXiv 2106.04647, section 3; `branches=mlp` is its Compacter++. `rule=own` gives every layer a rule of its own, as in
the code of Marouf et al. (MiMi). PEViT's layout is `branches=mlp hidden=64 norm=true`; its code leaves the rule
untrained by mistake, which `rule=fixed` does on purpose, for its published count, and draws it uniform in +-1, as
`rule_std=0.58` does in scale: what is fixed must not start small. `rule_std` is 1e-4 in the configurations of the
paper's runs and 0.01 in the class that they configure; the paper names none.
Ours differs: layer norms stay frozen, and gelu is exact, not its tanh form.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from bench.models.method import Method, Shape, recorded_as
from bench.models.view import ModelView
from methods._kronecker import Kronecker, KroneckerAdapter, glorot, hidden_multiple, new_rule


class RankOnePHM(Kronecker):
    def __init__(self, d_in: int, d_out: int, n: int, rule: Tensor) -> None:
        super().__init__(d_in, d_out, n, rule)
        self.s = glorot(n, d_out // n, 1)
        self.t = glorot(n, 1, d_in // n)

    def forward(self, x: Tensor) -> Tensor:
        read = x.unflatten(-1, (len(self.A), -1)) @ self.t.squeeze(1).T  # (..., q, i): t_i on part q of x
        mixed = torch.einsum("...qi,ipq->...pi", read, self.A)
        return (mixed @ self.s.squeeze(2)).flatten(-2) + self.b


@dataclass(frozen=True)
class Compacter(Method):
    n: int = 4
    sigma: float = 32.0
    hidden: int | None = None  # the same N for every adapter, instead of sigma
    branches: Literal["both", "mlp"] = recorded_as("after", "both")
    rule: Literal["shared", "own", "fixed"] = "shared"  # fixed: shared and left as it was drawn
    norm: bool = False  # a layer norm of its own on what the adapter reads
    rule_std: float = 1e-4  # of the rule at the start

    family = "adapters"
    paper = "Karimi Mahabadi et al. 2021, arXiv 2106.04647"
    identity_at_start = False
    version = 2  # the rule starts smaller

    def __post_init__(self) -> None:
        if self.n < 1 or self.sigma <= 0 or self.rule_std <= 0:
            asked = f"n = {self.n} must be at least 1, and sigma = {self.sigma} and rule_std = {self.rule_std} positive"
            raise ValueError(asked)
        if self.hidden is not None and (self.hidden < 1 or self.hidden % self.n):
            raise ValueError(f"hidden = {self.hidden} must be a positive multiple of n = {self.n}")

    def attach(self, net: ModelView) -> None:
        rule: Tensor | None = None if self.rule == "own" else new_rule(self.n, self.rule_std)
        if rule is not None and self.rule == "fixed":
            rule = rule.detach()
        for block in net.blocks:
            size = self.hidden or hidden_multiple(block.dim, self.sigma, self.n)
            for branch in (block.mlp,) if self.branches == "mlp" else (block.attn, block.mlp):
                down, up = (
                    RankOnePHM(*ends, self.n, new_rule(self.n, self.rule_std) if rule is None else rule)
                    for ends in ((block.dim, size), (size, block.dim))
                )
                branch.then(KroneckerAdapter(down, up, self.norm))

    def count(self, shape: Shape) -> int:
        adapters = (1 if self.branches == "mlp" else 2) * len(shape.dims)
        sizes = [(dim, self.hidden or hidden_multiple(dim, self.sigma, self.n)) for dim in shape.dims]
        rules = self.n**3 * {"shared": 1, "own": 2 * adapters, "fixed": 0}[self.rule]
        return rules + adapters // len(sizes) * sum(3 * (dim + n) + 2 * self.norm * dim for dim, n in sizes)
