"""bench paper: what the papers print, against what is here."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import sys
from collections.abc import Iterable

from bench.cli import console
from bench.tools.published import Compared, Row, buildable, compare, read, summary


def paper_command(args: argparse.Namespace) -> int:
    """Exit code 1 where a published number is unexplained."""
    rows = read()
    compared = compare(filter(buildable, rows))
    if len(compared) < len(rows):
        left = f"{len(rows) - len(compared)} rows on a CvT are left out"
        console.warn(f"{left}, which needs Hugging Face transformers: pip install 'petbench[cvt]'.")
    if args.csv:
        _write_csv(compared)
    else:
        _print_table(compared)
    return 1 if any(c.verdict == "unexplained" for c in compared) else 0


def _write_csv(compared: Iterable[Compared]) -> None:
    names = [field.name for field in dataclasses.fields(Row)]
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow([*names[:-2], "ours", "agreement", "verdict", "note"])
    for c in compared:
        fields = [getattr(c.row, name) for name in names[:-2]]
        out.writerow([*fields, f"{c.ours:f}", c.agreement, c.verdict, c.row.note])


def _print_table(compared: Iterable[Compared]) -> None:
    head = ("source", "row", "method", "published", "ours", "verdict")
    table = [head]
    for c in compared:
        row = c.row
        verdict = f"{c.verdict}, {c.agreement}" if c.verdict == "match" else c.verdict
        printed = f"{row.published} M" if row.unit == "M" else f"{int(row.published):,}"
        ours = f"{c.ours:,.0f}"
        settings = "(mean of several)" if "|" in row.settings else row.settings
        table.append((f"{row.paper} {row.table}", row.row, f"{row.method} {settings}".strip(), printed, ours, verdict))
    widths = [max(len(line[i]) for line in table) for i in range(len(head))]
    right = {"published", "ours"}
    for line in table:
        cells = zip(head, line, widths, strict=True)
        print("  ".join(cell.rjust(w) if name in right else cell.ljust(w) for name, cell, w in cells).rstrip())
    print(f"{summary(compared)}. Reasons: column `note` of --csv.")
