"""Methods x datasets as a picture: every accuracy, coloured from the lowest to the highest of its column."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from bench.core.text import printable, shorten
from bench.report.cells import DASH, missing
from bench.report.labels import Array
from bench.report.plots import empty, row_names, save, title_of
from bench.report.standings import Groups, Headline, datasets

LONGEST = 16  # characters of a column's name
# pale enough for black figures to stand out everywhere
COLOURS = LinearSegmentedColormap.from_list("pale", colormaps["YlGnBu"](np.linspace(0.0, 0.55, 256)))


def heatmap(table: pd.DataFrame, path_stem: Path, groups: Groups, headline: Headline, suite: str = "") -> list[Path]:
    """PATH_STEM.png and .svg; see `heatmap_figure`."""
    return save(heatmap_figure(table, groups, headline, suite), path_stem)


def heatmap_figure(table: pd.DataFrame, groups: Groups, headline: Headline, suite: str = "") -> Figure:
    """Best method on top. The accuracy in % of every dataset, the mean that ranks, and n, the fewest seeds.

    What a cell prints is what its colour shows, each column on a scale of its own. A cell without a result is hatched.
    """
    keys, names = list(datasets(groups)), row_names(table)
    columns = [*keys, headline]
    shown = [shorten(printable(key), LONGEST) for key in keys]
    more = 0.1 * max(0, max(map(len, shown)) - 13)  # inches for long names of columns
    figure = empty(3.0 + 0.62 * len(columns) + 0.07 * max(map(len, names)), 1.9 + more + 0.27 * len(names))
    axes = figure.add_subplot()
    values = table[columns].to_numpy(dtype=float)
    axes.imshow(_within_columns(values), cmap=COLOURS, vmin=0, vmax=1, aspect="auto")
    _cells(axes, values, [int(n) for n in table["seeds"]])
    heads = [*shown, headline.replace("_", "\n").replace("mean\n", "mean, "), "n"]
    axes.set_xticks(range(len(heads)), heads, rotation=90, fontsize=8.5)
    axes.set_yticks(range(len(names)), names, fontsize=8.5)
    axes.tick_params(length=0)
    axes.set_xlim(-0.5, len(heads) - 0.5)
    axes.spines[:].set_visible(False)
    _groups(axes, groups, len(names))
    bar = figure.colorbar(ScalarMappable(cmap=COLOURS), ax=axes, aspect=35, pad=0.02, ticks=[0, 1])
    bar.ax.set_yticklabels(["lowest", "highest"], fontsize=8)
    bar.set_label("accuracy in %, each column on its own scale", fontsize=8)
    bar.outline.set_visible(False)
    figure.suptitle(title_of(table, suite), fontsize=10, x=0.01, ha="left")
    return figure


def _within_columns(values: Array) -> np.ma.MaskedArray:
    """Between 0 and 1, the lowest and the highest of a column; missing values masked."""
    known = np.ma.masked_invalid(values)
    low, high = known.min(axis=0), known.max(axis=0)
    return np.ma.masked_invalid((known - low) / np.where(high > low, high - low, 1.0))


def _cells(axes: Axes, values: Array, seeds: list[int]) -> None:
    for row, line in enumerate(values):
        for column, value in enumerate(line):
            if missing(float(value)):
                box = (column - 0.5, row - 0.5)
                axes.add_patch(Rectangle(box, 1, 1, facecolor="0.94", edgecolor="0.75", hatch="////", lw=0))
            else:
                weight = "bold" if column == len(line) - 1 else "normal"
                axes.text(column, row, f"{value:.1f}", ha="center", va="center", fontsize=8, weight=weight)
        axes.text(len(line), row, str(seeds[row]) if seeds[row] else DASH, ha="center", va="center", fontsize=8)


def _groups(axes: Axes, groups: Mapping[str, tuple[str, ...]], rows: int) -> None:
    """The groups' names above their columns, and lines between them."""
    start = 0
    for group, members in groups.items():
        if not members:
            continue
        axes.text(start + (len(members) - 1) / 2, -0.75, group, ha="center", va="bottom", fontsize=9, style="italic")
        start += len(members)
        axes.axvline(start - 0.5, color="black", lw=1.2)
    for row in range(rows - 1):
        axes.axhline(row + 0.5, color="white", lw=0.6)
