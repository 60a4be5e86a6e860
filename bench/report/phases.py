"""What milestones say of methods that change while they train (MiMi's cycles of training and pruning)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.core.record import Milestone
from bench.report.aggregate import NAMES, Row, mean
from bench.report.columns import MEASURES, NAMED, measures_of_model
from bench.report.frame import key_of, milestones_of
from bench.report.plots import empty, save
from bench.report.standings import Groups, Headline, datasets

STYLES = {"after attention": "-", "after the MLP": "--"}  # of a block's adapters, in their order
Sizes = dict[str, dict[str, float]]  # name of a phase -> part -> its size, mean over seeds


class Run(NamedTuple):
    key: str  # of its dataset
    milestones: tuple[Milestone, ...]


def trails(
    frame: pd.DataFrame, groups: Groups, headline: Headline, cost: str
) -> dict[Row, list[tuple[float, float, str]]]:
    """Per row, at the end of each phase that every run has: (cost of what is left, headline in %, name)."""
    found: dict[Row, list[tuple[float, float, str]]] = {}
    for row, runs in _by_row(frame).items():
        by_key = {key: [run for run in runs if run.key == key] for key in datasets(groups)}
        if not all(by_key.values()):
            continue
        phases = min(len(run.milestones) for runs in by_key.values() for run in runs)
        points: list[tuple[float, float, str]] = []
        for phase in range(phases):
            ends = {key: [run.milestones[phase] for run in runs] for key, runs in by_key.items()}
            costs = {key: _average([_cost(end, cost) for end in of_seeds]) for key, of_seeds in ends.items()}
            scores = {key: _average([end.score for end in of_seeds]) for key, of_seeds in ends.items()}
            name = next(iter(ends.values()))[0].name
            points.append((mean(costs, groups, "mean_datasets"), 100 * mean(scores, groups, headline), name))
        if points and np.isfinite([point[:2] for point in points]).all():
            found[row] = points
    return found


def _by_row(frame: pd.DataFrame) -> dict[Row, list[Run]]:
    """The finished runs of every row that has milestones."""
    done = frame[frame["status"] == "done"]
    rows: dict[Row, list[Run]] = {}
    for names, runs in done.groupby(list(NAMES), sort=True):
        if runs["milestones"].notna().any():
            method, variant, backbone = map(str, names)
            cells = zip(runs["dataset"], runs["milestones"], strict=True)
            rows[method, variant, backbone] = [Run(key_of(dataset), milestones_of(text)) for dataset, text in cells]
    return rows


def _cost(milestone: Milestone, cost: str) -> float:
    """NaN where a milestone does not tell it, as of a merged model."""
    measures = {name: math.nan if value is None else value for name, value in measures_of_model(milestone).items()}
    return NAMED[cost].value({**dict.fromkeys(MEASURES, math.nan), **measures})


def neurons(frame: pd.DataFrame, path_stem: Path, suite: str = "", keys: Sequence[str] = ()) -> list[Path]:
    """Neurons left per adapter and cycle, one panel a dataset; nothing is written where no method changes its size."""
    figure = neurons_figure(frame, suite, keys)
    return save(figure, path_stem) if figure is not None else []


def neurons_figure(frame: pd.DataFrame, suite: str = "", keys: Sequence[str] = ()) -> Figure | None:
    """One panel a row and dataset, in the order of `keys`: a line a phase, the palest the first; dashed for MLPs."""
    panels = [
        (row, key, _sizes([run for run in runs if run.key == key]))
        for row, runs in _by_row(frame).items()
        for key in keys or sorted({run.key for run in runs})
    ]
    panels = [panel for panel in panels if panel[2]]
    if not panels:
        return None
    columns = min(4, len(panels))
    lines = -(-len(panels) // columns)
    most = max(len(_layers(sizes)) for _, _, sizes in panels)
    figure = empty(max(5.0, columns * max(2.5, 0.2 * most + 0.8)), 1.5 + 2.0 * lines)
    grid = figure.subplots(lines, columns, sharey=True, squeeze=False)
    phases = list(dict.fromkeys(phase for _, _, sizes in panels for phase in sizes))
    palette = [colormaps["viridis_r"](share) for share in np.linspace(0.25, 1.0, len(phases))]
    several = len({row for row, _, _ in panels}) > 1
    for axes, (row, key, sizes) in zip(grid.flat, panels, strict=False):
        _panel(axes, sizes, phases, palette)
        axes.set_title(f"{_label(row)}: {key}" if several else key, fontsize=9)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    for column in grid.T:
        last = [axes for axes in column if axes.get_visible()][-1]
        last.set_xlabel("block, in the model's order", fontsize=8)
    for line in grid:
        line[0].set_ylabel("neurons left", fontsize=8)
    marks = [Line2D([], [], color=colour, marker="o", ms=4, label=p) for colour, p in zip(palette, phases, strict=True)]
    if max(len(_slots(sizes)) for _, _, sizes in panels) == len(STYLES):
        marks += [Line2D([], [], color="0.3", ls=style, label=branch) for branch, style in STYLES.items()]
    figure.legend(
        handles=marks,
        loc="outside lower center",
        ncols=min(len(marks), int(figure.get_figwidth() // 1.6)),
        fontsize=8,
        frameon=False,
    )
    methods = ", ".join(dict.fromkeys(_label(row) for row, _, _ in panels))
    title = ", ".join([*[suite] * bool(suite), methods, panels[0][0][2], "mean over seeds"])
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    return figure


def _panel(axes: Axes, sizes: Sizes, phases: Sequence[str], palette: Sequence[tuple[float, ...]]) -> None:
    layers = _layers(sizes)
    for colour, phase in zip(palette, phases, strict=True):
        left = sizes.get(phase, {})
        for slot in _slots(sizes):
            parts = [layer[slot] if slot < len(layer) else None for layer in layers.values()]
            heights = [left.get(part, np.nan) if part else np.nan for part in parts]
            line = list(STYLES.values())[slot % len(STYLES)]
            axes.plot(range(len(layers)), heights, color=colour, ls=line, lw=1.2, marker="o", ms=3.2, gid=phase)
    axes.set_xticks(range(len(layers)), list(layers), fontsize=7, rotation=90 if max(map(len, layers)) > 2 else 0)
    axes.tick_params(axis="y", labelsize=7)
    axes.set_ylim(bottom=0)
    axes.grid(True, axis="y", color="0.93")
    axes.spines[["top", "right"]].set_visible(False)


def _parts(sizes: Sizes) -> list[str]:
    """In the order of the model, as the milestones give it."""
    return list(dict.fromkeys(part for phase in sizes.values() for part in phase))


def _layers(sizes: Sizes) -> dict[str, list[str]]:
    """The parts of every block by its numbers: `0.1` of `layers.0.blocks.1.attn`. A part without numbers is a block."""
    layers: dict[str, list[str]] = {}
    for part in _parts(sizes):
        layers.setdefault(".".join(re.findall(r"\d+", part)) or part, []).append(part)
    return layers


def _slots(sizes: Sizes) -> range:
    """Of the parts of a block: attention first, then the MLP."""
    return range(max(map(len, _layers(sizes).values())))


def _sizes(runs: Iterable[Run]) -> Sizes:
    """The mean over the runs that have the phase; milestones without sizes do not count."""
    seen: dict[str, dict[str, list[float]]] = {}
    for run in runs:
        for milestone in run.milestones:
            for part, size in milestone.sizes.items():
                seen.setdefault(milestone.name, {}).setdefault(part, []).append(float(size))
    return {phase: {part: _average(values) for part, values in parts.items()} for phase, parts in seen.items()}


def _average(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _label(row: Row) -> str:
    return row[0] if row[1] == "default" else f"{row[0]} ({row[1]})"
