"""Linear probing: the backbone is frozen, only the classification head is trained."""

from dataclasses import dataclass

from bench.models.method import Method, Shape
from bench.models.view import ModelView


@dataclass(frozen=True)
class LinearProbe(Method):
    family = "baseline"
    merges = True

    def attach(self, net: ModelView) -> None:
        pass

    def count(self, shape: Shape) -> int:
        return 0
