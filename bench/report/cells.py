"""How one number is written for people, and rows of them as a table of text."""

from __future__ import annotations

import math
from collections.abc import Callable

import pandas as pd
from tabulate import tabulate  # type: ignore[import-untyped, unused-ignore]

from bench.core import text

DASH = "-"
LEFT = ("method", "variant", "dataset", "cost")


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
    """Columns two spaces apart, names to the left."""
    left = sum(1 for name in columns if name in LEFT)
    return "\n".join(text.table([list(columns), *map(list, zip(*columns.values(), strict=True))], left, rule=True))


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


def missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
