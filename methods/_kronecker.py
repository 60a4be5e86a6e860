"""What PHM adapters and Compacter share: linears whose weight is a sum of n Kronecker products, W = sum_i A_i (x) B_i.

The rule A, n matrices (n, n), says how the n x n blocks of W mix the small matrices B_i; it may be one layer's own or
common to many.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.core.errors import Incompatible


class Kronecker(nn.Module):
    """The rule A: (n, n, n) and the bias b: (d_out) of y = W x + b; a subclass has the B_i. A plain tensor as rule is
    not trained."""

    A: Tensor

    def __init__(self, d_in: int, d_out: int, n: int, rule: Tensor) -> None:
        super().__init__()
        if d_in % n or d_out % n:
            raise Incompatible(f"n = {n} must divide both sides of a Kronecker layer, here {d_in} and {d_out}.")
        if isinstance(rule, nn.Parameter):
            self.A = rule
        else:
            self.register_buffer("A", rule)
        self.b = nn.Parameter(torch.zeros(d_out))


class KroneckerAdapter(nn.Module):
    """h = x + up(gelu(down(x))), or with `norm` h = x + up(gelu(down(LN(x))))"""

    def __init__(self, down: Kronecker, up: Kronecker, norm: bool = False) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(len(up.b)) if norm else nn.Identity()
        self.down, self.up = down, up

    def forward(self, x: Tensor) -> Tensor:
        return x + self.up(F.gelu(self.down(self.norm(x))))  # (..., M) -> (..., M)


def new_rule(n: int, std: float) -> nn.Parameter:
    """n matrices (n, n) from a normal distribution."""
    return nn.Parameter(std * torch.randn(n, n, n))


def glorot(n: int, rows: int, columns: int) -> nn.Parameter:
    """n matrices (rows, columns), each Glorot-uniform with gain sqrt 2."""
    bound = math.sqrt(2) * math.sqrt(6 / (rows + columns))
    return nn.Parameter(torch.empty(n, rows, columns).uniform_(-bound, bound))


def hidden_multiple(dim: int, sigma: float, n: int) -> int:
    """N of an adapter at compression rate sigma: M / sigma, down to a multiple of n, at least n."""
    return n * max(1, int(dim / (sigma * n)))
