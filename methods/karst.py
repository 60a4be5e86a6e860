"""KARST: an update of several Kronecker products, each in blocks of a size of its own, and a re-scaled output.

    y' = (1 + s_1) * ((W + dW) x + b) + s_2      dW = sum_i C_i (x) (A_i B_i),  i = 1 ... N
    C_i: (n_i, n_i)  A_i: (d_out / n_i, r)  B_i: (r, d_in / n_i)  s_1, s_2: (d_out)

C and A start from normal distributions of variance one over their columns, B, s_1 and s_2 at zero, so the model starts
as the frozen one. dW is never formed: parts of x are read by B_i, mixed by C_i, written by A_i. After training all of
it folds into the layer exactly.

Zhu et al., "KARST: Multi-Kernel Kronecker Adaptation with Re-Scaling Transmission for Visual Classification",
ICASSP 2025, arXiv 2502.06779, section II.
Ours differs: which linears, how many kernels, and their sizes are a choice of ours, q and v with blocks of 2, 4, 8 and
16; the bias is scaled with the rest, which s_2 can undo.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.core.errors import Incompatible
from bench.models.method import Method, Shape
from bench.models.view import HookPoint, ModelView
from methods._lowrank import ends, linears


class Kernel(nn.Module):
    """x -> (C (x) A B) x"""

    def __init__(self, slot: HookPoint, n: int, rank: int) -> None:
        super().__init__()
        if slot.d_in % n or slot.d_out % n:
            raise Incompatible(f"A kernel of {n} must divide {slot.d_in} and {slot.d_out}, the sides of {slot.label}.")
        self.C = nn.Parameter(torch.randn(n, n) / n**0.5)
        self.A = nn.Parameter(torch.randn(slot.d_out // n, rank) / rank**0.5)
        self.B = nn.Parameter(torch.zeros(rank, slot.d_in // n))

    def forward(self, x: Tensor) -> Tensor:
        read = F.linear(x.unflatten(-1, (len(self.C), -1)), self.B)  # (..., n, r)
        return F.linear(self.C @ read, self.A).flatten(-2)  # (..., d_out)

    def dense(self) -> Tensor:
        return torch.kron(self.C, self.A @ self.B)


class Kernels(nn.ModuleList):
    """x -> dW x"""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([kernel(x) for kernel in self]).sum(0)

    def merged_weights(self, W: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return W + sum(kernel.dense() for kernel in self), b  # type: ignore[operator]


class Rescaled(nn.Module):
    """y -> (1 + s_1) * y + s_2"""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.s1, self.s2 = nn.Parameter(torch.zeros(dim)), nn.Parameter(torch.zeros(dim))

    def forward(self, y: Tensor) -> Tensor:
        return y + self.s1 * y + self.s2

    def merged_weights(self, W: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return W + self.s1[:, None] * W, b + self.s1 * b + self.s2


@dataclass(frozen=True)
class KARST(Method):
    rank: int = 2
    kernels: int = 4  # N, with n = 2, 4, 8, ...
    targets: tuple[str, ...] = ("q", "v")  # of q, k, v, qkv, proj, fc1, fc2

    family = "low-rank"
    paper = "Zhu et al. 2025, arXiv 2502.06779"
    merges = True

    def __post_init__(self) -> None:
        if self.rank < 1 or self.kernels < 1:
            raise ValueError(f"rank = {self.rank} and kernels = {self.kernels} must be at least 1")
        if not self.targets or len(set(self.targets)) < len(self.targets):
            raise ValueError(f"targets = {self.targets} must name at least one, each once")

    def attach(self, net: ModelView) -> None:
        for block in net.blocks:
            for slot in linears(block, self.targets):
                slot.add(Kernels(Kernel(slot, n, self.rank) for n in self.sizes_of_kernels()))
                slot.then(Rescaled(slot.d_out))

    def sizes_of_kernels(self) -> list[int]:
        return [2 ** (i + 1) for i in range(self.kernels)]

    def count(self, shape: Shape) -> int:
        sides = [ends(target, dim, shape.mlp_ratio) for dim in shape.dims for target in self.targets]
        kernels = sum(n * n + self.rank * (a + b) // n for a, b in sides for n in self.sizes_of_kernels())
        return kernels + 2 * sum(d_out for _, d_out in sides)
