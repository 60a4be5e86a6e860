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
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def warn(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr)


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3.5 h`"""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
