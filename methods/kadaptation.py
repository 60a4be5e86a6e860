"""KAdaptation: the update of a weight as a sum of Kronecker products, of which one side is shared by all layers.

    y = W x + s dW x + b      dW = sum_i A_i (x) (u_i v_i),  i = 1..n
                              A_i: (n, n)  u_i: (d_out / n, r)  v_i: (r, d_in / n)  b: (d_out)

The slow weights A_i are shared by all layers, one set for each target; with `slow=rank1` A_i = a_i b_i. The fast
weights u_i, v_i belong to one layer and target, the bias b to one layer, common to q, k and v. u_i and b start at zero,
so the model starts as the frozen one; v_i and a_i, b_i (or A_i) are Kaiming-uniform (a = sqrt 5), like A of LoRA.
dW is never formed: with A_i = a_i b_i it is n r columns a_i (x) u_i times n r rows b_i (x) v_i. It merges into W
exactly after training.

He et al., "Parameter-efficient Model Adaptation for Vision Transformers", AAAI 2023, arXiv 2203.16329, eq. 4 with the
remarks behind it: A_i of low rank, and a bias. Its counts are those of n = 32, r = 1 with both; `n=None` is the largest
power of two up to 32 that divides every width. Its "KAdaptation to MLP" is `targets=fc1,fc2`.
Ours differs from the released code, where u and v both start at zero, so that only b ever learns, v's fast weights are
never used, s = 160, half of dW is dropped in training, q's update is added behind its division by sqrt d, a reshape
mixes the images of a batch, and slow weights start uniform in +-0.01. The paper has no s.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.core.errors import Incompatible
from bench.models.method import Method, Shape
from bench.models.view import ModelView
from methods._lowrank import ends, linears


class Kronecker(nn.Module):
    """`slow` holds the A_i as (n, n, n), or their factors a: (n, n, 1) and b: (n, 1, n)."""

    def __init__(
        self, d_in: int, d_out: int, rank: int, scale: float, slow: list[nn.Parameter], bias: nn.Parameter | None
    ) -> None:
        super().__init__()
        n = len(slow[0])
        self.scale = scale
        self.slow = nn.ParameterList(slow)
        self.u = nn.Parameter(torch.zeros(n, d_out // n, rank))
        self.v = random(n, rank, d_in // n)
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        if len(self.slow) == 2:
            a, b = self.slow
            rows = torch.einsum("ios,irt->irst", b, self.v).flatten(2).flatten(0, 1)  # (n r, d_in)
            columns = torch.einsum("ipo,iqr->pqir", a, self.u).flatten(2).flatten(0, 1)  # (d_out, n r)
            y = F.linear(F.linear(x, rows), columns)
        else:
            read = torch.einsum("...st,irt->...irs", x.unflatten(-1, (len(self.u), -1)), self.v)
            mixed = torch.einsum("...irs,ips->...irp", read, self.slow[0])
            y = torch.einsum("...irp,iqr->...pq", mixed, self.u).flatten(-2)
        return self.scale * y if self.bias is None else self.scale * y + self.bias

    def merged_weights(self, W: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        A = self.slow[0] @ self.slow[1] if len(self.slow) == 2 else self.slow[0]
        update = torch.einsum("ips,iqt->pqst", A, self.u @ self.v).reshape(W.shape)
        return W + self.scale * update, b if self.bias is None else b + self.bias


def random(*shape: int) -> nn.Parameter:
    """Kaiming-uniform (a = sqrt 5) over the last dimension, the one that reads."""
    bound = shape[-1] ** -0.5
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))


@dataclass(frozen=True)
class KAdaptation(Method):
    rank: int = 1
    n: int | None = None  # of Kronecker products, and side of the A_i
    scale: float = 1.0
    targets: tuple[str, ...] = ("q", "v")  # of q, k, v, qkv, proj, fc1, fc2
    slow: Literal["rank1", "full"] = "rank1"
    bias: bool = True

    family = "low-rank"
    paper = "He et al. 2023, arXiv 2203.16329"
    merges = True

    def __post_init__(self) -> None:
        if self.rank < 1 or (self.n is not None and self.n < 1):
            raise ValueError(f"rank = {self.rank} and n = {self.n} must be at least 1")
        if not self.targets or len(set(self.targets)) < len(self.targets):
            raise ValueError(f"targets = {self.targets} must name at least one, each once")

    def attach(self, net: ModelView) -> None:
        n = self.products(net.shape)
        slow = {
            target: [random(n, n, 1), random(n, 1, n)] if self.slow == "rank1" else [random(n, n, n)]
            for target in self.targets
        }
        for block in net.blocks:
            biases: dict[str, nn.Parameter] = {}
            for target, slot in zip(self.targets, linears(block, self.targets), strict=True):
                if slot.d_in % n or slot.d_out % n:
                    raise Incompatible(f"n = {n} must divide {slot.d_in} and {slot.d_out}, the sides of {slot.label}.")
                new = nn.Parameter(torch.zeros(slot.d_out))
                bias = biases.setdefault(owner(target), new) if self.bias else None
                slot.add(Kronecker(slot.d_in, slot.d_out, self.rank, self.scale, slow[target], bias))

    def count(self, shape: Shape) -> int:
        n, owners = self.products(shape), {owner(target) for target in self.targets}
        slow = len(self.targets) * (2 * n**2 if self.slow == "rank1" else n**3)
        return slow + sum(
            self.rank * sum(sum(ends(target, dim, shape.mlp_ratio)) for target in self.targets)
            + self.bias * sum(ends(target, dim, shape.mlp_ratio)[1] for target in owners)
            for dim in shape.dims
        )

    def products(self, shape: Shape) -> int:
        return self.n or math.gcd(32, *shape.dims)


def owner(target: str) -> str:
    """q, k and v have one bias between them."""
    return "q" if target in ("q", "k", "v") else target
