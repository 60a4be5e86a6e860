"""How one number is written for people, and rows of them as a table of text."""

from __future__ import annotations

import math
from collections.abc import Callable

import pandas as pd
from tabulate import tabulate  # type: ignore[import-untyped, unused-ignore]

DASH = "-"
LEFT = ("method", "variant")


def human(number: float) -> str:
    """12345 -> `12.3k`."""
    for unit, scale in (("", 1.0), ("k", 1e3), ("M", 1e6), ("G", 1e9)):
        if abs(number) < 999.5 * scale or unit == "G":
            return f"{number / scale:.3g}{unit}"
    raise AssertionError


def pipe(columns: dict[str, list[str]]) -> str:
    align = ["left" if name in LEFT else "right" for name in columns]
    return str(tabulate(columns, headers="keys", tablefmt="pipe", disable_numparse=True, colalign=align))


def aligned(columns: dict[str, list[str]]) -> str:
    """Columns two spaces apart; tabulate pads headings, which costs a terminal twenty characters."""
    width = {name: max(map(len, [name, *cells])) for name, cells in columns.items()}
    lines = [list(columns), ["-" * width[name] for name in columns], *zip(*columns.values(), strict=True)]
    padded = [[_pad(cell, name, width[name]) for cell, name in zip(line, columns, strict=True)] for line in lines]
    return "\n".join("  ".join(line).rstrip() for line in padded)


def _pad(cell: str, name: str, width: int) -> str:
    return cell.ljust(width) if name in LEFT else cell.rjust(width)


def column(rows: pd.DataFrame, name: str, show: Callable[[float], str]) -> list[str]:
    return [DASH if missing(value) else show(float(value)) for value in rows[name]]


def one(value: float) -> str:
    return f"{value:.1f}"


def whole(value: float) -> str:
    return f"{value:.0f}"


def thousandths(value: float) -> str:
    return f"{value:.3f}"


def three(value: float) -> str:
    """Three significant digits, without an exponent."""
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.6f}" if 0 < abs(value) < 1e-4 else f"{value:.3g}"


def unique(rows: pd.DataFrame, column: str) -> str:
    return ", ".join(str(value) for value in sorted(rows[column].dropna().unique())) or "none finished"


def short(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def safe(text: str) -> str:
    return text.replace("|", "\\|")


def missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
