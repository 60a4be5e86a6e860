"""What the commands share: reading numbers from the command line, printing rows, warning."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from bench.core.text import columns, counted, duration, printable_lines, table, terminal_width

__all__ = ["counted", "duration"]


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    return int(text)


def numbers(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of whole numbers like 0,1,2")
    return tuple(dict.fromkeys(int(part) for part in parts))


def print_rows(rows: Sequence[Sequence[str]]) -> None:
    """In columns as wide as their widest cell."""
    print("\n".join(columns(rows, width=terminal_width())))


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """The first column to the left, the others to the right."""
    print("\n".join(table(rows, width=terminal_width())))


def warn(text: str) -> None:
    """One message on standard error. Only the first of its lines begins with `bench:`, whatever it quotes."""
    print("bench: " + printable_lines(text).replace("\n", "\n  "), file=sys.stderr)


def silent(_: str) -> None:
    """Tells nothing: where others print."""


def say_loading(quiet: bool) -> None:
    """torch takes seconds; the line that follows is longer, and covers this one."""
    if not quiet and sys.stderr.isatty():
        print("Loading torch ...", end="\r", file=sys.stderr, flush=True)
