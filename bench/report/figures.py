"""The figures of one part of a report: DIR/plots/<part>-<backbone>-{params,gflops,heatmap,neurons}.png and .svg."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bench.core import text
from bench.report import heatmap, phases, plots
from bench.report.parts import Part
from bench.report.standings import datasets


def write_plots(root: Path, part: Part, families: Mapping[str, str]) -> list[Path]:
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
