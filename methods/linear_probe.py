"""Linear probing: the backbone is frozen, only the classification head is trained."""

from dataclasses import dataclass

from bench.anatomy import Anatomy
from bench.method import Method, Shape


@dataclass(frozen=True)
class LinearProbe(Method):
    family = "baseline"
    merges = True

    def attach(self, net: Anatomy) -> None:
        pass

    def count(self, shape: Shape) -> int:
        return 0
