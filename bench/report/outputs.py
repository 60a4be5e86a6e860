"""The table of one part of a report: DIR/leaderboards/<part>.csv and .md for all backbones of a suite, what others
report of it in <suite>-reported.csv and .md, and as text."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

from bench.core import text
from bench.core.store import write_atomically
from bench.report import floors, reported, tables
from bench.report.latex import latex
from bench.report.parts import Part, ReportedPart

Export = Literal["csv", "markdown", "latex"]


def write_tables(root: Path, part: Part) -> list[Path]:
    page = root / "leaderboards" / f"{part.name}.md"
    written = tables.markdown(part.table, part.runs, part.groups, part.headline, part.title, part.note)
    written += floors.markdown(part.suite)
    write_atomically(page, lambda file: file.write_text(written))
    return [tables.write_csv(part.table, page.parent / f"{part.name}.csv"), page]


def write_reported(root: Path, part: ReportedPart) -> list[Path]:
    csv, page = (root / "leaderboards" / f"{part.name}-reported{ending}" for ending in (".csv", ".md"))
    written = reported.markdown(part.table, part.groups, part.headline, part.title)
    write_atomically(csv, lambda file: file.write_text(reported.csv(part.table)))
    write_atomically(page, lambda file: file.write_text(written))
    return [csv, page]


def export(kind: Export, part: Part, backbone: str) -> str:
    table, runs = part.table, part.runs
    if backbone:
        table = table[table["backbone"] == backbone].reset_index(drop=True)
        runs = runs[runs["backbone"] == backbone].reset_index(drop=True)
    if table.empty:
        return ""
    if kind == "csv":
        return tables.csv(table)
    if kind == "latex":
        return latex(table, runs, part.groups, part.headline, part.title)
    return tables.markdown(table, runs, part.groups, part.headline, part.title, part.note) + floors.markdown(part.suite)


def terminal(part: Part) -> list[str]:
    shown = tables.terminal(part.table, part.headline, shutil.get_terminal_size((150, 24)).columns)
    return [text.printable_lines("\n".join(filter(None, (shown, floors.terminal(part.suite), part.note))))]
