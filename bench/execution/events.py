"""What a worker reports of its runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.core.spec import RunSpec

if TYPE_CHECKING:
    from bench.training.loop import Progress


@dataclass(frozen=True)
class RunEvent:
    """What a worker reports of one run: that it has ended, was refused or is held by another process; or a step of it.

    `outcome` is None while it is under way.
    """

    spec: RunSpec
    outcome: str | None  # "done", "failed", "skipped", "refused", "held"
    text: str = ""  # a score, or the reason
    seconds: float = 0.0
    progress: Progress | None = None


Report = Callable[[RunEvent], object]
