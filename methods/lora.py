"""LoRA: a low-rank update beside frozen linears.

    y = W x + (alpha / r) B A x      A: (r, d_in)  B: (d_out, r)

B starts at zero, so the model starts as the frozen one; A is Kaiming-uniform (a = sqrt 5). Dropout acts on what A
reads. After training the update merges into W exactly.

    scale=rslora     alpha / sqrt r instead of alpha / r
    start=pissa      y = W x + s (B A - B_0 A_0) x; both products start as the principal part of W, U_r S_r V_r^T / s
    magnitude=true   W' = m (W + s B A) / |W + s B A|, norms of rows, constant in the gradient; m starts as |W|

Hu et al., "LoRA", ICLR 2022, arXiv 2106.09685, eq. 3; q and v as in its section 4.2. Each target has its own A and B
(one A for a fused qkv is another method of the same size). `bias=lora_only` also trains the bias vector of every
linear that has an update, all of a fused qkv's: counts published for Swin (0.42 M on Swin-T with a 345-class head)
include it. Kalajdzievski, "rsLoRA", arXiv 2312.03732, theorem 3.2. Meng, Wang, Zhang, "PiSSA", NeurIPS 2024, arXiv
2404.02948, section 3: W keeps its values here, so that A_0 and B_0 are stored beside A and B. Liu et al., "DoRA", ICML
2024, arXiv 2402.09353, eq. 5 and section 4.3.
"""

from dataclasses import dataclass
from typing import Literal

from bench.core.errors import Incompatible
from bench.models.method import Method, Shape, omit_default
from bench.models.view import ModelView
from methods._lowrank import LowRank, Magnitude, Principal, ends, linears


@dataclass(frozen=True)
class LoRA(Method):
    rank: int = 8
    alpha: float = 8.0
    targets: tuple[str, ...] = ("q", "v")  # of q, k, v, qkv, proj, fc1, fc2
    bias: Literal["none", "lora_only"] = omit_default("none")
    dropout: float = omit_default(0.0)
    scale: Literal["lora", "rslora"] = omit_default("lora")
    start: Literal["lora", "pissa"] = omit_default("lora")
    magnitude: bool = omit_default(False)

    family = "low-rank"
    paper = "Hu et al. 2022, arXiv 2106.09685"
    merges = True

    def __post_init__(self) -> None:
        if self.rank < 1 or not self.targets or len(set(self.targets)) < len(self.targets):
            raise ValueError(f"rank = {self.rank} must be at least 1, and targets = {self.targets} name each once")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout = {self.dropout} must lie in [0, 1)")
        if self.magnitude and self.start == "pissa":
            raise ValueError("magnitude = True and start = 'pissa' are two methods: choose one")

    def attach(self, net: ModelView) -> None:
        slots = [slot for block in net.blocks for slot in linears(block, self.targets)]
        s = self.alpha / (self.rank if self.scale == "lora" else self.rank**0.5)
        for slot in slots:
            update = LowRank(slot.d_in, slot.d_out, self.rank, s, self.dropout)
            slot.add(Principal(slot, update) if self.start == "pissa" else update)
            if self.magnitude:
                slot.then(Magnitude(slot, update))
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
            + self.magnitude * sum(ends(target, dim, shape.mlp_ratio)[1] for target in self.targets)
            + (self.bias == "lora_only") * sum(ends(layer, dim, shape.mlp_ratio)[1] for layer in layers)
            for dim in shape.dims
        )
