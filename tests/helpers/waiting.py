"""Waiting in tests: always for so many seconds at most, for what never comes must not keep all other tests waiting."""

from __future__ import annotations

import time
from collections.abc import Callable

LONG = 120.0  # seconds: far more than anything takes, on a busy machine too


def until(condition: Callable[[], object], seconds: float = LONG) -> None:
    """Returns as soon as the condition holds; fails where it does not in time. A condition may fail earlier itself."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} seconds in vain"
        time.sleep(0.01)
