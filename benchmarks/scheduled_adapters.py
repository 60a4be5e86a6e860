"""Adapters trained in the schedules of other rows: what tells MiMi's selection of neurons from its schedule.

restarts    in as many stretches as MiMi with `removals` has, each with its own warm-up and cosine
floor       the first of those stretches; in the others, of one cosine, a hundredth of the rate: the released code of
            MiMi trains its baselines so (their rate is at its floor from epoch 100 of 500)
"""

from dataclasses import dataclass
from typing import Literal

from bench.models.method import Phase
from methods.adapters import Adapters
from methods.mimi import MiMi


@dataclass(frozen=True)
class ScheduledAdapters(Adapters):
    removals: int = 2
    schedule: Literal["restarts", "floor"] = "restarts"

    def phases(self, epochs: int) -> tuple[Phase, ...]:
        stretches = [phase.epochs for phase in MiMi(cycles=self.removals).phases(epochs)]
        if self.schedule == "restarts":
            return tuple(Phase(n, f"cycle {k}") for k, n in enumerate(stretches))
        return (Phase(stretches[0], "cycle 0"), Phase(epochs - stretches[0], "floor", lr_factor=0.01))
