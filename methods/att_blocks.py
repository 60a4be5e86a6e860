"""Att-blocks: only the attention operator of every block is trained.

    x + attn(norm1(x))      all of attn trained: q, k, v, the projection, relative-position tables; norm1 frozen

The model starts as the frozen one and keeps its shape, so there is nothing to merge after training. Like full
fine-tuning it takes a smaller learning rate than methods that train few or new parameters: `lr_factor` times the
protocol's.

A baseline of Marouf et al., "MiMi", WACV 2024, table 1, which does not define it; its count on Swin-T is that of all
parameters of attn, tables included. "Attention tuning" in He et al., "Parameter-efficient Model Adaptation for Vision
Transformers", AAAI 2023, arXiv 2203.16329.
"""

from dataclasses import dataclass

from bench.models.method import Method, Phase
from bench.models.view import ModelView


@dataclass(frozen=True)
class AttBlocks(Method):
    lr_factor: float = 0.2

    family = "baseline"
    paper = "Marouf et al. 2024, WACV"
    merges = True

    def __post_init__(self) -> None:
        if self.lr_factor <= 0:
            raise ValueError(f"lr_factor = {self.lr_factor} must be positive")

    def attach(self, net: ModelView) -> None:
        operators = tuple(f"{block.attn.op}." for block in net.blocks)
        net.unfreeze(lambda name: name.startswith(operators))

    def phases(self, epochs: int) -> tuple[Phase, ...]:
        return (Phase(epochs, lr_factor=self.lr_factor),)
