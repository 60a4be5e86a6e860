"""A paper's figures of accuracy: against a size, a line a series, area by trained parameters; against trained
parameters, colour by PE. Printed beside measured."""

from __future__ import annotations

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.core.recipes import Recipe
from bench.report.looks import PALETTE
from bench.report.plots import empty

AREAS = (30, 420)  # of the smallest and the largest point, square points


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


def efficiency(recipe: Recipe, table: pd.DataFrame) -> Figure | None:
    """Mean accuracy against millions of trained parameters, every point coloured by its PE; squares are printed.

    None where nothing is printed or measured.
    """
    means = table[table["dataset"] == "mean"].pivot_table(
        index="row", columns="measure", values=["printed", "measured"], sort=False, dropna=False
    )
    kinds = [
        (kind, mark, own)
        for kind, mark in (("measured", "o"), ("printed", "s"))
        if kind in means
        and len(own := pd.DataFrame(means[kind]).reindex(columns=["params", "accuracy", "pe"]).dropna())
    ]
    if not kinds:
        return None
    every = pd.concat([own for *_, own in kinds])
    colours = {"vmin": every["pe"].min(), "vmax": every["pe"].max(), "cmap": "viridis"}
    figure = empty(7.2, 4.8)
    axes = figure.add_subplot()
    for _, mark, own in kinds:
        drawn = axes.scatter(own["params"], own["accuracy"], c=own["pe"], marker=mark, s=60, **colours)
        for name, line in own.iterrows():
            place = (line["params"], line["accuracy"])
            axes.annotate(f"{name}, {line['pe']:.3f}", place, (5, 3), textcoords="offset points", fontsize=7)
    figure.colorbar(drawn, ax=axes, label="PE")
    axes.set_xscale("log")
    axes.set_xlabel("trained parameters in millions, head included")
    axes.set_ylabel("accuracy in %, mean over datasets")
    axes.set_title(f"{recipe.item}: {recipe.title}", fontsize=10, loc="left")
    keys = [Line2D([], [], color="0.4", marker=mark, ls="", label=kind) for kind, mark, _ in kinds]
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
