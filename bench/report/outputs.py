"""What is made of one part of a report: its table as files and as text, and its figures.

DIR/leaderboards/<part>.csv, .md                                      all backbones of a suite
DIR/leaderboards/<suite>-reported.csv, .md                            what others report of the suite
DIR/plots/<part>-<backbone>-{params,gflops,heatmap,neurons}.png, .svg
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from bench.core import text
from bench.core.store import write_atomically
from bench.report.parts import Part, ReportedPart

Export = Literal["csv", "markdown", "latex"]


def write_tables(root: Path, part: Part) -> list[Path]:
    from bench.report import floors, tables

    page = root / "leaderboards" / f"{part.name}.md"
    written = tables.markdown(part.table, part.runs, part.groups, part.headline, part.title, part.note)
    written += floors.markdown(part.suite)
    write_atomically(page, lambda file: file.write_text(written))
    return [tables.write_csv(part.table, page.parent / f"{part.name}.csv"), page]


def write_reported(root: Path, part: ReportedPart) -> list[Path]:
    from bench.report import reported

    csv, page = (root / "leaderboards" / f"{part.name}-reported{ending}" for ending in (".csv", ".md"))
    written = reported.markdown(part.table, part.groups, part.headline, part.title)
    write_atomically(csv, lambda file: file.write_text(reported.csv(part.table)))
    write_atomically(page, lambda file: file.write_text(written))
    return [csv, page]


def export(kind: Export, part: Part, backbone: str) -> str:
    from bench.report import floors, tables
    from bench.report.latex import latex

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
    from bench.report import floors, tables

    shown = tables.terminal(part.table, part.headline, shutil.get_terminal_size((150, 24)).columns)
    return [text.printable_lines("\n".join(filter(None, (shown, floors.terminal(part.suite), part.note))))]


def write_plots(root: Path, part: Part, families: Mapping[str, str]) -> list[Path]:
    from bench.report import heatmap, phases, plots
    from bench.report.standings import datasets

    paths: list[Path] = []
    for backbone, rows in part.table.groupby("backbone", sort=True):
        stem = root / "plots" / f"{part.name}-{text.file_name(str(backbone))}"
        own = part.runs[part.runs["backbone"] == backbone]
        rows = plots.with_overhead(rows.reset_index(drop=True))
        if rows[part.headline].notna().any():
            trails = phases.trails(own, part.groups, part.headline, "params_trained")
            for short, cost, steps in (("params", "params_trained", trails), ("gflops", "gflops_overhead", None)):
                file = stem.parent / f"{stem.name}-{short}"
                paths += plots.tradeoff(rows, cost, file, part.title, part.headline, steps, families)
        if (rows["coverage"] > 0).any():
            file = stem.parent / f"{stem.name}-heatmap"
            paths += heatmap.heatmap(rows, file, part.groups, part.headline, part.title)
        paths += phases.neurons(own, stem.parent / f"{stem.name}-neurons", part.title, datasets(part.groups))
    return paths
