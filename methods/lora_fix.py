"""LoRA-Fix: LoRA of which only B is trained, A stays at its random start.

    y = W x + (alpha / r) B A x      A: (r, d_in), fixed  B: (d_out, r), trained

B starts at zero, so the model starts as the frozen one; A is Kaiming-uniform (a = sqrt 5), drawn once for each linear
and stored with what is trained. After training the update merges into W exactly.

He et al., "Parameter-efficient Model Adaptation for Vision Transformers", AAAI 2023, arXiv 2203.16329, baselines.
The paper gives neither rank nor scale: its counts are those of r = 4 on q and v; ours starts at alpha / r = 1.
"""

from dataclasses import dataclass

from bench.models.method import Method, Shape
from bench.models.view import ModelView
from methods._lowrank import LowRank, ends, linears


@dataclass(frozen=True)
class LoRAFix(Method):
    rank: int = 4
    alpha: float = 4.0
    targets: tuple[str, ...] = ("q", "v")  # of q, k, v, qkv, proj, fc1, fc2

    family = "low-rank"
    paper = "He et al. 2023, arXiv 2203.16329"
    merges = True

    def __post_init__(self) -> None:
        if self.rank < 1 or not self.targets or len(set(self.targets)) < len(self.targets):
            raise ValueError(f"rank = {self.rank} must be at least 1, and targets = {self.targets} name each once")

    def attach(self, net: ModelView) -> None:
        for block in net.blocks:
            for slot in linears(block, self.targets):
                slot.add(LowRank(slot.d_in, slot.d_out, self.rank, self.alpha / self.rank, fixed=True))

    def count(self, shape: Shape) -> int:
        return sum(self.rank * ends(target, dim, shape.mlp_ratio)[1] for dim in shape.dims for target in self.targets)
