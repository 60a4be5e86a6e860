"""What low-rank methods share: the linears of a block by name, and an update s B A beside one of them."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.core.errors import Incompatible, UsageError
from bench.models.view import Block, HookPoint, ModelView

TARGETS = ("q", "k", "v", "qkv", "proj", "fc1", "fc2")


class LowRank(nn.Module):
    """x -> s B A x      A: (r, d_in), Kaiming-uniform (a = sqrt 5), trained unless fixed      B: (d_out, r), zero"""

    A: Tensor

    def __init__(
        self, d_in: int, d_out: int, rank: int, scale: float, dropout: float = 0.0, *, fixed: bool = False
    ) -> None:
        super().__init__()
        self.scale = scale
        A = nn.init.kaiming_uniform_(torch.empty(rank, d_in), a=math.sqrt(5))
        if fixed:
            self.register_buffer("A", A)
        else:
            self.A = nn.Parameter(A)
        self.B = nn.Parameter(torch.zeros(d_out, rank))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * F.linear(F.linear(self.dropout(x), self.A), self.B)  # (..., d_in) -> (..., d_out)

    def merged_weights(self, W: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return W + self.scale * self.B @ self.A, b


class Principal(nn.Module):
    """x -> s (B A - B_0 A_0) x, both products the principal part of W at the start: what W keeps is the rest of it"""

    A0: Tensor
    B0: Tensor

    def __init__(self, slot: HookPoint, update: LowRank) -> None:
        super().__init__()
        self.update = update
        U, S, V = torch.linalg.svd(
            slot.module.get_parameter("weight").detach()[slot.columns].float(), full_matrices=False
        )
        r, root = len(update.A), (S / update.scale).sqrt()
        with torch.no_grad():
            update.A.copy_(root[:r, None] * V[:r])
            update.B.copy_(U[:, :r] * root[:r])
        self.register_buffer("A0", update.A.detach().clone())
        self.register_buffer("B0", update.B.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.update(x) - self.update.scale * F.linear(F.linear(x, self.A0), self.B0)
        return added

    def merged_weights(self, W: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return self.update.merged_weights(W - self.update.scale * self.B0 @ self.A0, b)


class Magnitude(nn.Module):
    """y -> b + m / |W + s B A| (y - b), y = (W + s B A) x + b: each row of the updated weight gets the length m"""

    def __init__(self, slot: HookPoint, update: LowRank) -> None:
        super().__init__()
        self.frozen = (slot.module, slot.columns, update)  # in a tuple: not submodules, but a deep copy takes its own
        self.m = nn.Parameter(slot.module.get_parameter("weight").detach()[slot.columns].norm(dim=1))

    def forward(self, y: Tensor) -> Tensor:
        linear, rows, update = self.frozen
        W, b = linear.get_parameter("weight")[rows], linear.bias
        gain = self.m / update.merged_weights(W, self.m)[0].norm(dim=1).detach() - 1
        return y + gain * (y if b is None else y - b[rows])  # type: ignore[index]

    def merged_weights(self, W: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return (self.m / W.norm(dim=1))[:, None] * W, b


def every_linear(net: ModelView) -> Iterator[HookPoint]:
    """The linears of every block, each once: q, k and v are one where they are fused."""
    for block in net.blocks:
        for name in (*(("qkv",) if "qkv" in block.linear else ("q", "k", "v")), "proj", "fc1", "fc2"):
            yield block.linear[name]


def linears(block: Block, targets: tuple[str, ...]) -> list[HookPoint]:
    """The block's linears of those names."""
    for target in targets:
        if target not in TARGETS:
            raise UsageError(f"targets: no target is called {target!r}. Known: {', '.join(TARGETS)}.")
        if target not in block.linear:
            raise Incompatible("q, k and v are separate linears in this backbone: name them instead of 'qkv'.")
    return [block.linear[target] for target in targets]


def ends(target: str, dim: int, mlp_ratio: float) -> tuple[int, int]:
    """Inputs and outputs of a target in a block of that width."""
    hidden = int(dim * mlp_ratio)
    return {"qkv": (dim, 3 * dim), "fc1": (dim, hidden), "fc2": (hidden, dim)}.get(target, (dim, dim))
