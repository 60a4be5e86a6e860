"""LoRA+: LoRA whose B learns faster than its A.

    y = W x + (alpha / r) B A x      rate of B = ratio x rate of A      A: (r, d_in)  B: (d_out, r)

The rate of A, and of the head, is the protocol's; ratio is 16. Start, scale and merging are LoRA's.

Hayou, Ghosh, Yu, "LoRA+: Efficient Low Rank Adaptation of Large Models", ICML 2024, arXiv 2402.12354: with one rate for
both, features of a wide network learn too slowly; section 4 recommends 2^4.
"""

from dataclasses import dataclass

from bench.models.method import ParamGroup
from bench.models.view import ModelView
from methods.lora import LoRA


@dataclass(frozen=True)
class LoRAPlus(LoRA):
    ratio: float = 16.0

    paper = "Hayou et al. 2024, arXiv 2402.12354"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ratio <= 0:
            raise ValueError(f"ratio = {self.ratio} must be positive")

    def param_groups(self, net: ModelView) -> tuple[ParamGroup, ...]:
        return (ParamGroup(lambda name: name.startswith("pet.") and name.endswith(".B"), lr_factor=self.ratio),)
