"""Random subspace: frozen weights move only within a random subspace of d dimensions, the same d numbers for all.

    W = W_0 + reshape(M z)       M = H G P H B / sqrt(L |G|^2)       z: (d), trained       M z: (d_out d_in)

Fastfood in place of a dense matrix: B random signs, H the Walsh-Hadamard matrix, P a random permutation, G standard
normal, all of size L, the next power of two; z is padded with zeros and M z cut. Every column of M (before the cut) has
norm 1, and M z takes L log L steps. z starts at zero, so the model starts as the frozen one; every weight has an M of
its own, which follows from `seed` and is not stored. After training the update merges into W exactly.

The smallest d that reaches 90 % of full training is the intrinsic dimension of a task: `targets` and `layer` measure it
for one submodule alone, as KAdaptation does to choose where it adapts (`bench dimension`).

Li, Farkhoor, Liu, Yosinski, "Measuring the Intrinsic Dimension of Objective Landscapes", ICLR 2018, arXiv 1804.08838,
section 2 and supplement S7; Aghajanyan et al., ACL 2021, arXiv 2012.13255, eq. 2; He et al. (PEViT), AAAI 2023, section
3.2. Fastfood: Le, Sarlos, Smola, ICML 2013. Ours differs: biases and norms stay frozen.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.core.errors import Incompatible
from bench.models.method import Method, Shape, omit_default
from bench.models.view import ModelView
from methods._lowrank import linears


def hadamard(x: Tensor) -> Tensor:
    """H x for the Walsh-Hadamard matrix of entries +-1; x (L), L a power of two."""
    size, half = len(x), 1
    while half < size:
        pairs = x.view(-1, 2, half)
        x = torch.stack((pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]), dim=1).reshape(size)
        half *= 2
    return x


class Fastfood(nn.Module):
    """x -> reshape(M z) x"""

    signs: Tensor
    order: Tensor
    gauss: Tensor

    def __init__(self, z: nn.Parameter, d_out: int, d_in: int, seed: int) -> None:
        super().__init__()
        self.z, self.shape = z, (d_out, d_in)
        size = 1 << (max(len(z), d_out * d_in) - 1).bit_length()
        chance = torch.Generator().manual_seed(seed)
        gauss = torch.randn(size, generator=chance)
        drawn = {
            "signs": 2 * torch.randint(2, (size,), generator=chance, dtype=torch.int8) - 1,
            "order": torch.randperm(size, generator=chance, dtype=torch.int32),
            "gauss": gauss / (size**0.5 * gauss.norm()),
        }
        for name, tensor in drawn.items():  # they follow from the seed
            self.register_buffer(name, tensor, persistent=False)

    def delta(self) -> Tensor:
        """reshape(M z): (d_out, d_in)"""
        padded = F.pad(self.z, (0, len(self.signs) - len(self.z)))
        spread = hadamard(self.gauss * hadamard(self.signs * padded)[self.order])
        return spread[: self.shape[0] * self.shape[1]].view(self.shape)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.delta())  # (..., d_in) -> (..., d_out)

    def merged_weights(self, W: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return W + self.delta(), b


@dataclass(frozen=True)
class Intrinsic(Method):
    dim: int = 1000
    targets: tuple[str, ...] = ("q", "k", "v", "proj", "fc1", "fc2")
    seed: int = 0  # of the subspace
    layer: int | None = omit_default(None)  # the only block, from 1; None: all of them

    family = "low-rank"
    paper = "Li et al. 2018, arXiv 1804.08838"
    aliases = "random_subspace fastfood"
    merges = True

    def __post_init__(self) -> None:
        if self.dim < 1 or not self.targets or len(set(self.targets)) < len(self.targets):
            raise ValueError(f"dim = {self.dim} must be at least 1, and targets = {self.targets} name each once")
        if self.layer is not None and self.layer < 1:
            raise ValueError(f"layer = {self.layer} must be at least 1")

    def attach(self, net: ModelView) -> None:
        z = nn.Parameter(torch.zeros(self.dim))
        if self.layer is not None and self.layer > len(net.blocks):
            raise Incompatible(f"layer = {self.layer} of a backbone of {len(net.blocks)} blocks.")
        blocks = net.blocks if self.layer is None else net.blocks[self.layer - 1 : self.layer]
        slots = [slot for block in blocks for slot in linears(block, self.targets)]
        for number, slot in enumerate(slots):
            slot.add(Fastfood(z, slot.d_out, slot.d_in, 1_000_003 * self.seed + number))

    def count(self, shape: Shape) -> int:
        return self.dim
