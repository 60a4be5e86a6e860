"""How a long stage of work on data tells how far it is; the command line draws it."""

from __future__ import annotations

from collections.abc import Callable

OnProgress = Callable[[str, int, int], object]
"""on_progress(stage, done, total): "decode train", 256 and 1000. The last call of a stage has done == total."""


def silent(stage: str, done: int, total: int) -> None:
    """Draws nothing."""
