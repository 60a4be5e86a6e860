"""Full fine-tuning: every parameter of the backbone is trained together with the head.

It takes a smaller learning rate than methods that train few or new parameters: `lr_factor` times the protocol's.
"""

from dataclasses import dataclass

from bench.models.method import Method, Phase
from bench.models.view import ModelView


@dataclass(frozen=True)
class Full(Method):
    lr_factor: float = 0.2

    family = "baseline"
    merges = True

    def __post_init__(self) -> None:
        if self.lr_factor <= 0:
            raise ValueError(f"lr_factor = {self.lr_factor} must be positive")

    def attach(self, net: ModelView) -> None:
        net.unfreeze(lambda name: True)

    def phases(self, epochs: int) -> tuple[Phase, ...]:
        return (Phase(epochs, lr_factor=self.lr_factor),)
