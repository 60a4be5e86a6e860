"""Figures of one suite on one backbone: accuracy against a cost, and what the other figures share.

Each function `x(..., path_stem)` writes PATH_STEM.png (150 dpi) and PATH_STEM.svg, the same bytes for the same records;
`x_figure(...)` gives the figure itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from bench.core.store import write_atomically
from bench.report.aggregate import Row
from bench.report.cells import unique
from bench.report.columns import NAMED
from bench.report.labels import Array, place
from bench.report.looks import COLOURS, Families, family, look
from bench.report.standings import Headline
from bench.report.statistics import pareto

Trail = Sequence[tuple[float, float, str]]  # (cost, headline in %, name) at the end of each phase

DPI = 150
SCALES = (1.0, 1.25, 1.5, 1.8, 2.2)  # of a figure of 8 x 5.2 inches
REFERENCES = {"full": "full", "linear_probe": "linear\nprobe"}  # methods whose means are lines across the figure
OVERHEAD = "gflops_overhead"
OVERHEAD_AXIS = "GFLOPs over the backbone's own in %, nothing merged; linear up to 1 %, then logarithmic"
HEADLINES = {"mean_datasets": "accuracy in %, mean over datasets", "mean_groups": "accuracy in %, mean over groups"}


def tradeoff(
    table: pd.DataFrame,
    cost: str,
    path_stem: Path,
    suite: str = "",
    headline: Headline = "mean_datasets",
    trails: Mapping[Row, Trail] | None = None,
    families: Families | None = None,
) -> list[Path]:
    """The headline accuracy against a cost column; arguments as in `tradeoff_figure`."""
    return save(tradeoff_figure(table, cost, suite, headline, trails, families), path_stem)


def tradeoff_figure(
    table: pd.DataFrame,
    cost: str,
    suite: str = "",
    headline: Headline = "mean_datasets",
    trails: Mapping[Row, Trail] | None = None,
    families: Families | None = None,  # of every known method: colours and markers
) -> Figure:
    """Drawn larger the more there is to show, and still larger until every name has a place of its own.

    `cost` is a column of the leaderboard, or `gflops_overhead`: what `with_overhead` adds.
    """
    shown = table[table[headline].notna() & table[cost].notna()].reset_index(drop=True)
    left_out = sorted(row_names(table[table[headline].isna() | table[cost].isna()]))
    for scale in SCALES[min(len(shown) // 12, 2) :]:
        figure = empty(8.0 * scale, 5.2 * scale)
        axes = figure.add_subplot()
        lines = _points(axes, shown, cost, headline, trails or {}, families or {})
        lines += _references(axes, shown, headline)
        axes.set_xlabel(OVERHEAD_AXIS if cost == OVERHEAD else NAMED[cost].axis)
        axes.set_ylabel(HEADLINES[headline])
        axes.set_title(title_of(table, suite), fontsize=10, loc="left")
        _footer(figure, shown, left_out, bool(trails), families or {})
        figure.draw_without_rendering()  # type: ignore[no-untyped-call, unused-ignore]
        figure.set_layout_engine("none")
        points = list(zip(shown[cost].astype(float), shown[headline].astype(float), strict=True))
        phases = [phase for row in rows_of(shown) for phase in (trails or {}).get(row, ())[:-1]]
        points += [(x, y) for x, y, _ in phases]
        if place(axes, points, [*row_names(shown), *(name for *_, name in phases)], lines, 8):
            break
    return figure


def with_overhead(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of one backbone with `gflops_overhead`: % of GFLOPs over the backbone's own, nothing merged.

    The backbone's are those of linear probing; without it, the fewest of any row, merged where it merges.
    """
    probe = rows.loc[(rows["method"] == "linear_probe") & (rows["variant"] == "default"), "gflops_unmerged"].dropna()
    counts = probe if len(probe) else rows[["gflops_unmerged", "gflops_merged"]]
    own = float(np.nanmin(counts.to_numpy(dtype=float), initial=np.inf))
    return rows.assign(gflops_overhead=100 * (rows["gflops_unmerged"] / own - 1).clip(lower=0))


def _points(
    axes: Axes,
    shown: pd.DataFrame,
    cost: str,
    headline: Headline,
    trails: Mapping[Row, Trail],
    families: Families,
) -> list[Array]:
    """Draws points, whiskers, trails and the front, and returns the lines that no name may cover."""
    lines: list[Array] = []
    x, y = [float(value) for value in shown[cost]], [float(value) for value in shown[headline]]
    _scale(axes, cost, x)
    for index, row in enumerate(rows_of(shown)):
        colour, marker = look(row[0], families)
        whisker = float(shown["ci95_low"].iloc[index]), float(shown["ci95_high"].iloc[index])
        if np.isfinite(whisker).all():
            lines.append(np.asarray([(x[index], end) for end in whisker]))
            axes.vlines(x[index], *whisker, color=colour, lw=1.3, alpha=0.8, zorder=2)
        if len(trails.get(row, ())) > 1:
            lines.append(np.asarray([point[:2] for point in trails[row]]))
            _trail(axes, trails[row], colour)
        axes.plot(x[index], y[index], marker, color=colour, ms=8, mec="white", mew=0.6, zorder=4, gid="point")
    axes.margins(0.14, 0.12)
    front = pareto(x, y)
    if front:
        axes.set_xlim(axes.get_xlim())
        ends = [*(x[i] for i in front[1:]), axes.get_xlim()[1]]
        steps = np.asarray([(at, y[i]) for i, end in zip(front, ends, strict=True) for at in (x[i], end)])
        axes.plot(*steps.T, color="0.6", lw=1, zorder=1)
        lines.append(steps)
    axes.grid(True, color="0.93")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return lines


def _scale(axes: Axes, cost: str, x: Sequence[float]) -> None:
    """Logarithmic for parameters; for an overhead too, but linear near zero, where many rows stand."""
    if cost.startswith("params") and min(x, default=0) > 0:
        axes.set_xscale("log")
    elif cost == OVERHEAD:
        axes.set_xscale("symlog", linthresh=1.0)
        ticks = [tick for tick in (0, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if tick <= 1.5 * max(x, default=1)]
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.xaxis.set_minor_locator(NullLocator())


def _trail(axes: Axes, trail: Trail, colour: str) -> None:
    """An arrow from each phase to the next, in the order of training."""
    for (x, y, _), (to_x, to_y, _) in pairwise(trail):
        arrow = {"arrowstyle": "-|>", "color": colour, "lw": 1.0, "shrinkA": 2, "shrinkB": 3, "mutation_scale": 9}
        axes.annotate("", (to_x, to_y), (x, y), arrowprops=arrow, zorder=2, gid="trail")
        axes.plot(x, y, "o", color=colour, ms=3.5, zorder=2)


def _references(axes: Axes, shown: pd.DataFrame, headline: Headline) -> list[Array]:
    """Lines at the means of full fine-tuning and linear probing, and their names in the margin."""
    lines: list[Array] = []
    for method, name in REFERENCES.items():
        means = shown.loc[(shown["method"] == method) & (shown["variant"] == "default"), headline]
        for mean in means:
            axes.axhline(mean, color="0.45", lw=0.9, ls=(0, (4, 3)), zorder=0)
            axes.annotate(
                name,
                (1, mean),
                (3, 0),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                va="center",
                fontsize=7.5,
                color="0.3",
                gid="reference",
            )
            lines.append(np.asarray([(x, mean) for x in axes.get_xlim()]))
    return lines


def _footer(figure: Figure, shown: pd.DataFrame, left_out: list[str], trails: bool, families: Families) -> None:
    present = {family(method, families) for method in shown["method"]}
    keys = [
        Line2D([], [], color=colour, marker="o", ls="none", ms=7, label=name)
        for name, colour in COLOURS.items()
        if name in present and len(present) > 1
    ]
    keys.append(Line2D([], [], color="0.6", lw=1, label="Pareto front"))
    if shown["ci95_low"].notna().any():
        keys.append(Line2D([], [], color="0.3", lw=1.3, marker="|", ls="none", ms=10, label="95 % interval over seeds"))
    if trails:
        keys.append(Line2D([], [], color="0.3", lw=1, marker=">", ms=4, label="from phase to phase of training"))
    title = fill(f"not shown, incomplete or without this cost: {', '.join(left_out)}", 110) if left_out else None
    style: dict[str, Any] = {
        "loc": "outside lower left",
        "ncols": 4,
        "fontsize": 8,
        "frameon": False,
        "alignment": "left",
    }
    figure.legend(handles=keys, title=title, title_fontsize=8, **style)


def empty(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=DPI, layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.08))
    FigureCanvasAgg(figure)
    return figure


def rows_of(table: pd.DataFrame) -> list[Row]:
    names = zip(table["method"], table["variant"], table["backbone"], strict=True)
    return [(str(method), str(variant), str(backbone)) for method, variant, backbone in names]


def row_names(table: pd.DataFrame) -> list[str]:
    return [method if variant == "default" else f"{method} ({variant})" for method, variant, _ in rows_of(table)]


def title_of(table: pd.DataFrame, suite: str) -> str:
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
