"""CaRA: the updates of all blocks as two tensors in canonical form, sums of R outer products, one for the attention.

    dWq, dWk, dWv of all blocks:  s sum_r p_r o u_r o h_r o e_r    p: (3 L)  u: (M)  h: (heads)  e: (M / heads)
    dWo, dW1, dW2 of all blocks:  s sum_r p_r o u_r o v_r          p: (9 L)  u, v: (M)

o is the outer product: entry (i, j) of head a of the q of block l is s sum_r p_r[l, q] h_r[a] e_r[i] u_r[j]. The MLP is
cut into M x M slices, four of fc1's outputs and four of fc2's inputs. e and v start at zero, so the model starts as the
frozen one; u, h and p are uniform in +-1 / sqrt(M), +-1 and +-1. L blocks of one width share their tensors, one pair
for every width of a Swin. Dropout acts behind p. After training the updates are added to the weights exactly.

Veeramacheneni, Wolter, Kuehne, Gall, "Canonical Rank Adaptation: An Efficient Fine-Tuning Strategy for Vision
Transformers", ICML 2025: one tensor for the projections of attention with the heads a mode of their own, one for the
feed-forward layers.
Ours differs: the start and R = 32 are ours, dWo stands with the feed-forward layers, and s is 1 unless asked.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.models.method import Method, Shape
from bench.models.view import HookPoint, ModelView
from methods._fact import SLICES, Slices, slots

QKV = ("qkv", "q", "k", "v")


class Heads(nn.Module):
    """x -> dW x of q, k and v, or of one of them: p holds a row for each."""

    def __init__(self, shared: list[nn.Parameter], slices: int, scale: float, dropout: float) -> None:
        super().__init__()
        self.u, self.h, self.e = shared
        self.p = uniform(slices, len(self.u), bound=1)
        self.scale, self.drop = scale, nn.Dropout(dropout)

    def write(self) -> Tensor:
        """(M, R): entry a, i of its first side is h[a] e[i]."""
        return (self.h[:, None] * self.e).flatten(0, 1)

    def forward(self, x: Tensor) -> Tensor:
        read = self.drop(F.linear(x, self.u)[..., None, :] * self.p)  # (..., 3, R)
        return self.scale * F.linear(read, self.write()).flatten(-2)  # (..., 3 M)

    def merged_weights(self, W: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return W + self.scale * torch.cat([(self.write() * p) @ self.u for p in self.p]), b


class Diagonal(Slices):
    """Slices of the second tensor: the core of a slice is diag(p)."""

    def __init__(self, u: nn.Parameter, v: nn.Parameter, slot: HookPoint, scale: float, dropout: float) -> None:
        super().__init__(u, v, slot, scale, dropout)
        self.p = uniform(self.rows, self.columns, len(u), bound=1)

    def cores(self) -> Tensor:
        return self.p.diag_embed().transpose(1, 2).flatten(2).flatten(0, 1)  # (rows R, columns R)


@dataclass(frozen=True)
class CaRA(Method):
    rank: int = 32
    scale: float = 1.0
    dropout: float = 0.1

    family = "low-rank"
    paper = "Veeramacheneni et al. 2025, ICML"
    merges = True

    def __post_init__(self) -> None:
        if self.rank < 1 or self.scale == 0 or not 0 <= self.dropout < 1:
            asked = f"rank = {self.rank}, scale = {self.scale}, dropout = {self.dropout}"
            raise ValueError(f"{asked}: rank must be at least 1, scale not zero, dropout in [0, 1)")

    def attach(self, net: ModelView) -> None:
        R = self.rank
        shared = {
            block.dim: (
                uniform(R, block.dim, bound=block.dim**-0.5),
                uniform(block.heads, R, bound=1),
                nn.Parameter(torch.zeros(block.dim // block.heads, R)),
                uniform(R, block.dim, bound=block.dim**-0.5),
                nn.Parameter(torch.zeros(block.dim, R)),
            )
            for block in net.blocks
        }
        for block, slot in slots(net):
            u, h, e, u2, v = shared[block.dim]
            if slot in [block.linear.get(name) for name in QKV]:
                slot.add(Heads([u, h, e], slot.d_out // block.dim, self.scale, self.dropout))
            else:
                slot.add(Diagonal(u2, v, slot, self.scale, self.dropout))

    def count(self, shape: Shape) -> int:
        heads = dict(zip(shape.dims, shape.heads, strict=True))
        modes = sum(dim + count + dim // count + 2 * dim for dim, count in heads.items())
        return self.rank * (modes + SLICES * len(shape.dims))


def uniform(*shape: int, bound: float) -> nn.Parameter:
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
