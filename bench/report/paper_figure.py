"""A paper's figure of accuracy against a size: a line a series, printed beside measured, area by trained parameters."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.core.recipes import Recipe
from bench.report.looks import COLOURS
from bench.report.plots import empty, save

PALETTE = (COLOURS["low-rank"], COLOURS["adapters"], COLOURS["prompts"], COLOURS["scale and shift"])
AREAS = (30, 420)  # of the smallest and the largest point, square points


def draw(recipe: Recipe, table: pd.DataFrame, path_stem: Path) -> list[Path]:
    """PATH_STEM.png and .svg; none where nothing is printed or measured."""
    figure = figure_of(recipe, table)
    return [] if figure is None else save(figure, path_stem)


def figure_of(recipe: Recipe, table: pd.DataFrame) -> Figure | None:
    """`table` as bench.report.papers.compare gives it. The bars are 95 % intervals over seeds."""
    points = _points(recipe, table)
    if points.empty:
        return None
    figure = empty(7.2, 4.8)
    axes = figure.add_subplot()
    colours = dict(zip(dict.fromkeys(points["series"]), PALETTE, strict=False))
    measured, printed = points.dropna(subset=["measured"]), points.dropna(subset=["printed"])
    shared = {"x": "x", "hue": "series", "palette": colours, "ax": axes, "legend": False}
    if len(measured):
        sns.lineplot(measured, y="measured", errorbar=None, lw=1.2, **shared)
        sns.scatterplot(measured, y="measured", size="params", sizes=AREAS, alpha=0.85, zorder=3, **shared)
        for name, own in measured.groupby("series"):
            ends = [(own["measured"] - own["low"]).fillna(0), (own["high"] - own["measured"]).fillna(0)]
            axes.errorbar(own["x"], own["measured"], yerr=ends, fmt="none", ecolor=colours[name], lw=1, capsize=2)
    for name, own in printed.groupby("series", sort=False):
        axes.plot(own["x"], own["printed"], "--o", color=colours[name], mfc="white", lw=1)
    axes.set_xscale("log", base=2)
    axes.set_xticks(sorted(points["x"].unique()), [f"{x:g}" for x in sorted(points["x"].unique())])
    axes.minorticks_off()
    axes.set_xlabel(recipe.across)
    axes.set_ylabel("accuracy in %, mean over datasets")
    axes.set_title(f"{recipe.item}: {recipe.title}", fontsize=10, loc="left")
    keys = [Line2D([], [], color=colour, marker="o", ls="", label=name) for name, colour in colours.items()]
    if len(measured):
        keys.append(Line2D([], [], color="0.3", label="measured here, area by parameters"))
    if len(printed):
        keys.append(Line2D([], [], color="0.3", ls="--", marker="o", mfc="white", label="printed"))
    axes.legend(handles=keys, fontsize=8, frameon=False)
    sns.despine(figure)
    return figure


def _points(recipe: Recipe, table: pd.DataFrame) -> pd.DataFrame:
    cells = table[(table["measure"] == "accuracy") & (table["dataset"] != "mean")]
    printed = {label: float(own["printed"].mean(skipna=False)) for label, own in cells.groupby("row")}
    means = {(line["row"], line["measure"]): line for line in table[table["dataset"] == "mean"].to_dict("records")}
    found = []
    for row in recipe.rows:
        score, params = means[row.label, "accuracy"], means.get((row.label, "params"))
        own = printed[row.label] if pd.isna(score["printed"]) else score["printed"]
        size = params["measured"] if params else 1.0
        found.append((row.series, row.x, own, score["measured"], score["low"], score["high"], size))
    points = pd.DataFrame(found, columns=["series", "x", "printed", "measured", "low", "high", "params"])
    return points.dropna(subset=["printed", "measured"], how="all")
