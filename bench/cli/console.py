"""What the commands share: reading numbers from the command line, printing rows, warning."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence


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
    print("\n".join(columns(rows)))


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """The first column to the left, the others to the right."""
    print("\n".join(table(rows)))


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines whose cells stand below each other, all to the left."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))] if rows else []
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def warn(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr)


def silent(_: str) -> None:
    """Tells nothing: where others print."""


def say_loading(quiet: bool) -> None:
    """torch takes seconds; the line that follows is longer, and covers this one."""
    if not quiet and sys.stderr.isatty():
        print("Loading torch ...", end="\r", file=sys.stderr, flush=True)


def counted(number: int, what: str) -> str:
    """`1 run`, `5 runs`"""
    return f"{number} {what}" + ("" if number == 1 else "s")


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3.5 h`, `5.7 days`"""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"
