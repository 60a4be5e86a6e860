"""A paper's figures of what happens from cycle to cycle: neurons left a layer, and the loss of training.

Marouf et al. 2024, figure 5; its preprint, figures 4 and 6 to 10. Means over seeds; what was not run is not drawn.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.core.recipes import Recipe, Row
from bench.core.record import Epoch
from bench.report.frame import key_of, milestones_of
from bench.report.looks import PALETTE
from bench.report.plots import empty

Parts = Sequence[tuple[Row, pd.DataFrame]]


def neurons(recipe: Recipe, parts: Parts, *, share: bool) -> Figure | None:
    """Bars of the neurons left in every adapter at each row's milestone, rows side by side, a panel a dataset.

    With `share` in % of what the adapter has at the first milestone. None where nothing was run.
    """
    found = {
        key: {row.label: sizes for row, runs in parts if (sizes := _sizes(row, runs, key, share=share))}
        for key in recipe.keys
    }
    panels = {key: rows for key, rows in found.items() if rows}
    if not panels:
        return None
    figure, grid = _panels(recipe, list(panels), "% of neurons left" if share else "neurons left")
    for axes, rows in zip(grid, panels.values(), strict=True):
        names = list(next(iter(rows.values())))
        width = 0.8 / len(rows)
        for number, (label, sizes) in enumerate(rows.items()):
            places = np.arange(len(names)) + (number - (len(rows) - 1) / 2) * width
            axes.bar(places, [sizes[name] for name in names], width, color=PALETTE[number % len(PALETTE)], label=label)
        axes.set_xticks(range(len(names)), [_short(name) for name in names], fontsize=6, rotation=90)
        axes.set_xlabel("adapter, in the model's order; a attention, m MLP", fontsize=8)
    grid[0].legend(fontsize=8, frameon=False)
    return figure


def losses(recipe: Recipe, parts: Parts, epochs: Mapping[str, Sequence[Epoch]]) -> Figure | None:
    """The training loss of every epoch, a line a row, a panel a dataset; dotted where a phase ends.

    `epochs` are those of each run, by its digest. None where nothing was run.
    """
    curves = {
        key: {row.label: own for row, runs in parts if (own := _curves(runs, key, epochs))} for key in recipe.keys
    }
    panels = {key: rows for key, rows in curves.items() if rows}
    if not panels:
        return None
    figure, grid = _panels(recipe, list(panels), "training loss, mean over seeds")
    for axes, rows in zip(grid, panels.values(), strict=True):
        for number, (label, own) in enumerate(rows.items()):
            colour, length = PALETTE[number % len(PALETTE)], min(map(len, own))
            mean = np.mean([[epoch.loss for epoch in run[:length]] for run in own], axis=0)
            axes.plot(range(1, length + 1), mean, color=colour, lw=1.2, label=label)
            for end in range(1, length):
                if own[0][end].phase != own[0][end - 1].phase:
                    axes.axvline(end + 0.5, color=colour, lw=0.7, ls=":")
        axes.set_yscale("log")
        axes.set_xlabel("epoch", fontsize=8)
    grid[0].legend(fontsize=8, frameon=False)
    return figure


def _panels(recipe: Recipe, keys: Sequence[str], unit: str) -> tuple[Figure, list[Axes]]:
    figure = empty(max(5.0, 4.6 * len(keys)), 3.8)
    grid = list(figure.subplots(1, len(keys), squeeze=False)[0])
    for axes, key in zip(grid, keys, strict=True):
        axes.set_title(key, fontsize=9)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    grid[0].set_ylabel(unit, fontsize=8)
    figure.suptitle(f"{recipe.item}: {recipe.title}", fontsize=10, x=0.01, ha="left")
    return figure, grid


def _sizes(row: Row, runs: pd.DataFrame, key: str, *, share: bool) -> dict[str, float]:
    """Of every adapter, the mean over the runs that have the row's milestone; nothing where none has."""
    seen: dict[str, list[float]] = {}
    for run in runs.to_dict("records"):
        ends = milestones_of(run["milestones"]) if run["milestones"] and key_of(run["dataset"]) == key else ()
        for end in (each for each in ends if each.name == row.milestone):
            for part, size in end.sizes.items():
                whole = ends[0].sizes[part] if share else 100
                seen.setdefault(part, []).append(100 * size / whole if whole else 0.0)
    return {part: float(np.mean(values)) for part, values in seen.items()}


def _curves(runs: pd.DataFrame, key: str, epochs: Mapping[str, Sequence[Epoch]]) -> list[Sequence[Epoch]]:
    own = runs[[key_of(dataset) == key for dataset in runs["dataset"]]]
    return [found for digest in own["digest"] if (found := epochs.get(digest))]


def _short(part: str) -> str:
    """`0.1 a` of layers.0.blocks.1.attn"""
    return ".".join(re.findall(r"\d+", part)) + (" a" if "attn" in part else " m")
