"""Figures of one suite on one backbone: accuracy against a cost, methods x datasets, and what pruning leaves.

Each function `x(..., path_stem)` writes PATH_STEM.png (150 dpi) and PATH_STEM.svg, the same bytes for the same records;
`x_figure(...)` gives the figure itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns  # type: ignore[import-untyped, unused-ignore]
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from bench.core.store import write_atomically
from bench.report.aggregate import Row
from bench.report.cells import unique
from bench.report.columns import NAMED
from bench.report.labels import Array, place
from bench.report.standings import Groups, Headline, datasets
from bench.report.statistics import pareto

Trail = Sequence[tuple[float, float]]  # (cost, headline in %) at the end of each phase

DPI = 150
SCALES = (1.0, 1.25, 1.5, 1.8, 2.2)  # of a figure of 8 x 5.2 inches
MARKERS = "os^DvPX<>p"
HEADLINES = {"mean_datasets": "accuracy in %, mean over datasets", "mean_groups": "accuracy in %, mean over groups"}


def tradeoff(
    table: pd.DataFrame,
    cost: str,
    path_stem: Path,
    suite: str = "",
    headline: Headline = "mean_datasets",
    trails: Mapping[Row, Trail] | None = None,
) -> list[Path]:
    """The headline accuracy against a cost column; arguments as in `tradeoff_figure`."""
    return save(tradeoff_figure(table, cost, suite, headline, trails), path_stem)


def tradeoff_figure(
    table: pd.DataFrame,
    cost: str,
    suite: str = "",
    headline: Headline = "mean_datasets",
    trails: Mapping[Row, Trail] | None = None,
) -> Figure:
    """Drawn larger the more there is to show, and still larger until every name has a place of its own."""
    shown = table[table[headline].notna() & table[cost].notna()].reset_index(drop=True)
    left_out = sorted(_names(table[table[headline].isna() | table[cost].isna()]))
    for scale in SCALES[min(len(shown) // 12, 2) :]:
        figure = empty(8.0 * scale, 5.2 * scale)
        with mpl.rc_context(_style("ticks")):
            axes = figure.add_subplot()
            lines = _points(axes, shown, cost, headline, trails or {})
        axes.set_xlabel(NAMED[cost].axis)
        axes.set_ylabel(HEADLINES[headline])
        axes.set_title(_title(table, suite), fontsize=10, loc="left")
        _footer(figure, left_out, bool(shown["ci95_low"].notna().any()), bool(trails))
        figure.draw_without_rendering()  # type: ignore[no-untyped-call, unused-ignore]
        figure.set_layout_engine("none")
        points = list(zip(shown[cost].astype(float), shown[headline].astype(float), strict=True))
        if place(axes, points, _names(shown), lines, 8):
            break
    return figure


def _points(
    axes: Axes,
    shown: pd.DataFrame,
    cost: str,
    headline: Headline,
    trails: Mapping[Row, Trail],
) -> list[Array]:
    """Draws points, whiskers, trails and the front, and returns the lines that no name may cover."""
    lines: list[Array] = []
    x, y = [float(value) for value in shown[cost]], [float(value) for value in shown[headline]]
    colours = sns.color_palette("colorblind", 10)
    if cost.startswith("params") and min(x, default=0) > 0:
        axes.set_xscale("log")
    for index, row in enumerate(_rows(shown)):
        colour, marker = colours[index % 10], MARKERS[(index + index // 10) % 10]
        whisker = float(shown["ci95_low"].iloc[index]), float(shown["ci95_high"].iloc[index])
        if np.isfinite(whisker).all():
            lines.append(np.asarray([(x[index], end) for end in whisker]))
            axes.vlines(x[index], *whisker, color=colour, lw=1.3, alpha=0.8, zorder=2)
        if len(trails.get(row, ())) > 1:
            lines.append(np.asarray(trails[row]))
            axes.plot(*zip(*trails[row], strict=True), color=colour, lw=0.9, marker=marker, ms=3.5, alpha=0.8, zorder=2)
        axes.plot(x[index], y[index], marker, color=colour, ms=8, mec="white", mew=0.6, zorder=4)
    axes.margins(0.14, 0.12)
    front = pareto(x, y)
    if front:
        edge = axes.get_xlim()[1]
        axes.set_xlim(axes.get_xlim())
        ends = [*(x[i] for i in front[1:]), edge]
        steps = np.asarray([(at, y[i]) for i, end in zip(front, ends, strict=True) for at in (x[i], end)])
        axes.plot(*steps.T, color="0.6", lw=1, zorder=1)
        lines.append(steps)
    axes.grid(True, color="0.93")
    sns.despine(ax=axes)
    return lines


def _footer(figure: Figure, left_out: list[str], whiskers: bool, trails: bool) -> None:
    keys = [Line2D([], [], color="0.6", lw=1, label="Pareto front")]
    if whiskers:
        keys.append(Line2D([], [], color="0.3", lw=1.3, marker="|", ls="none", ms=10, label="95 % interval over seeds"))
    if trails:
        keys.append(Line2D([], [], color="0.3", lw=0.9, marker="o", ms=3.5, label="what is left after each phase"))
    title = fill(f"not shown, incomplete or without this cost: {', '.join(left_out)}", 110) if left_out else None
    style: dict[str, Any] = {
        "loc": "outside lower left",
        "ncols": 3,
        "fontsize": 8,
        "frameon": False,
        "alignment": "left",
    }
    figure.legend(handles=keys, title=title, title_fontsize=8, **style)


def heatmap(table: pd.DataFrame, path_stem: Path, groups: Groups, suite: str = "") -> list[Path]:
    """Methods x datasets, best method on top; see `heatmap_figure`."""
    return save(heatmap_figure(table, groups, suite), path_stem)


def heatmap_figure(table: pd.DataFrame, groups: Groups, suite: str = "") -> Figure:
    """Accuracy in %; the colour is the difference to linear_probe, each column in units of its largest, if it ran."""
    keys, names = list(datasets(groups)), _names(table)
    values = table[keys].to_numpy(dtype=float)
    probe = table.index[(table["method"] == "linear_probe") & (table["variant"] == "default")]
    baseline = values[probe[0]] if len(probe) else np.full(len(keys), np.nan)
    figure = empty(2.6 + 0.78 * len(keys) + 0.055 * max(map(len, names)), 1.9 + 0.3 * len(names))
    with mpl.rc_context(_style("white")):
        axes = figure.add_subplot()
    axes.set_facecolor("0.9")
    axes.patch.set(hatch="////", edgecolor="0.7")
    compared = bool(np.isfinite(baseline).all())
    if compared:
        largest = np.nanmax(np.abs(values - baseline), axis=0)
        colours = (values - baseline) / np.where(largest > 0, largest, 1)
    sns.heatmap(
        pd.DataFrame(colours if compared else values, names, keys),
        annot=values,
        fmt=".1f",
        annot_kws={"fontsize": 8},
        cmap="RdBu" if compared else "crest",
        vmin=-1.15 if compared else None,  # short of the ends of the colours, which are too dark to tell apart
        vmax=1.15 if compared else None,
        linewidths=0.5,
        cbar_kws={"aspect": 30, "pad": 0.02},
        ax=axes,
    )
    bar = axes.collections[0].colorbar
    assert bar is not None
    bar.ax.tick_params(labelsize=8)
    bar.set_label("difference to linear_probe,\nlargest of the column = 1" if compared else "accuracy in %", fontsize=8)
    if compared:
        bar.ax.set_ylim(min(0.0, float(np.nanmin(colours))), 1)
    axes.tick_params(labelsize=8.5, length=0)
    axes.set_xticklabels(keys, rotation=35, ha="right", rotation_mode="anchor")
    axes.set_yticklabels(names, rotation=0)
    start = 0
    for group, members in groups.items():
        if start:
            axes.axvline(start, color="black", lw=1.5)
        axes.text(start + len(members) / 2, -0.15, group, ha="center", va="bottom", fontsize=9, style="italic")
        start += len(members)
    figure.suptitle(_title(table, suite), fontsize=10, x=0.01, ha="left")
    return figure


def empty(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=DPI, layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.08))
    FigureCanvasAgg(figure)
    return figure


def _style(name: str) -> Any:
    return sns.axes_style(name)


def _rows(table: pd.DataFrame) -> list[Row]:
    names = zip(table["method"], table["variant"], table["backbone"], strict=True)
    return [(str(method), str(variant), str(backbone)) for method, variant, backbone in names]


def _names(table: pd.DataFrame) -> list[str]:
    return [method if variant == "default" else f"{method} ({variant})" for method, variant, _ in _rows(table)]


def _title(table: pd.DataFrame, suite: str) -> str:
    counts = table.loc[table["seeds"] > 0, "seeds"]  # of rows that lack no dataset
    fewest, most = (int(counts.min()), int(counts.max())) if len(counts) else (0, 0)
    seeds = f"{most} seed{'s' * (most != 1)}" if fewest == most else f"{fewest} to {most} seeds"
    return ", ".join([*[suite] * bool(suite), unique(table, "backbone"), unique(table, "protocol"), seeds])


def save(figure: Figure, stem: Path) -> list[Path]:
    paths = [stem.parent / f"{stem.name}.{kind}" for kind in ("png", "svg")]
    with mpl.rc_context({"svg.hashsalt": "bench"}):
        for path in paths:
            write_atomically(path, partial(_print, figure, path.suffix[1:]))
    return paths


def _print(figure: Figure, kind: str, file: Path) -> None:
    figure.savefig(file, format=kind, dpi=DPI, metadata={"Date": None} if kind == "svg" else {})
