"""LoRA: a low-rank update beside frozen linears.

    y = W x + (alpha / r) B A x      A: (r, d_in)  B: (d_out, r)

B starts at zero, so the model starts as the frozen one; A is Kaiming-uniform (a = sqrt 5). Dropout acts on what A
reads. After training the update merges into W exactly.

Hu et al., "LoRA", ICLR 2022, arXiv 2106.09685, eq. 3; q and v as in its section 4.2. Each target has its own A and B
(one A for a fused qkv is another method of the same size). `bias=lora_only` also trains the bias vector of every
linear that has an update, all of a fused qkv's: counts published for Swin (0.42 M on Swin-T with a 345-class head)
include it.
"""

from dataclasses import dataclass
from typing import Literal

from bench.core.errors import Incompatible
from bench.models.method import Method, Shape, omit_default
from bench.models.view import ModelView
from methods._lowrank import LowRank, ends, linears


@dataclass(frozen=True)
class LoRA(Method):
    rank: int = 8
    alpha: float = 8.0
    targets: tuple[str, ...] = ("q", "v")  # of q, k, v, qkv, proj, fc1, fc2
    bias: Literal["none", "lora_only"] = omit_default("none")
    dropout: float = omit_default(0.0)

    family = "low-rank"
    paper = "Hu et al. 2022, arXiv 2106.09685"
    merges = True

    def __post_init__(self) -> None:
        if self.rank < 1 or not self.targets or len(set(self.targets)) < len(self.targets):
            raise ValueError(f"rank = {self.rank} must be at least 1, and targets = {self.targets} name each once")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout = {self.dropout} must lie in [0, 1)")

    def attach(self, net: ModelView) -> None:
        slots = [slot for block in net.blocks for slot in linears(block, self.targets)]
        for slot in slots:
            slot.add(LowRank(slot.d_in, slot.d_out, self.rank, self.alpha / self.rank, self.dropout))
        if self.bias == "lora_only":
            without = [slot.path for slot in slots if slot.module.bias is None]
            if without:
                raise Incompatible(f"bias = 'lora_only' needs linears with a bias, which {without[0]} has not.")
            net.unfreeze({f"{slot.path}.bias" for slot in slots}.__contains__)

    def count(self, shape: Shape) -> int:
        """The biases as where q, k and v are one fused linear."""
        layers = {"qkv" if target in ("q", "k", "v") else target for target in self.targets}
        return sum(
            self.rank * sum(sum(ends(target, dim, shape.mlp_ratio)) for target in self.targets)
            + (self.bias == "lora_only") * sum(ends(layer, dim, shape.mlp_ratio)[1] for layer in layers)
            for dim in shape.dims
        )
