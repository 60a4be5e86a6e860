"""Full fine-tuning: every parameter of the backbone is trained together with the head."""

from dataclasses import dataclass

from bench.anatomy import Anatomy
from bench.method import Method


@dataclass(frozen=True)
class Full(Method):
    family = "baseline"

    def attach(self, net: Anatomy) -> None:
        net.unfreeze(lambda name: True)
