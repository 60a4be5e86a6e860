"""What the commands share: reading numbers from the command line, and printing rows."""

from __future__ import annotations

import argparse
from collections.abc import Sequence


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def print_rows(rows: Sequence[Sequence[str]]) -> None:
    """In columns as wide as their widest cell."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
