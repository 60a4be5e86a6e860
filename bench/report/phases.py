"""What milestones say of methods that change while they train (MiMi's cycles of training and pruning)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import seaborn as sns  # type: ignore[import-untyped, unused-ignore]
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from bench.core.record import Milestone
from bench.report.aggregate import NAMES, Row, mean
from bench.report.columns import MEASURES, NAMED, measures_of_model
from bench.report.frame import key_of, milestones_of
from bench.report.plots import empty, save
from bench.report.standings import Groups, Headline, datasets

Sizes = dict[str, dict[str, float]]  # name of a phase -> part -> its size, mean over seeds


class Run(NamedTuple):
    key: str  # of its dataset
    milestones: tuple[Milestone, ...]


def trails(frame: pd.DataFrame, groups: Groups, headline: Headline, cost: str) -> dict[Row, list[tuple[float, float]]]:
    """Per row, at the end of each phase that every run has: (cost of what is left, headline in %)."""
    found: dict[Row, list[tuple[float, float]]] = {}
    for row, runs in _by_row(frame).items():
        by_key = {key: [run for run in runs if run.key == key] for key in datasets(groups)}
        if not all(by_key.values()):
            continue
        phases = min(len(run.milestones) for runs in by_key.values() for run in runs)
        points: list[tuple[float, float]] = []
        for phase in range(phases):
            ends = {key: [run.milestones[phase] for run in runs] for key, runs in by_key.items()}
            costs = {key: _average([_cost(end, cost) for end in of_seeds]) for key, of_seeds in ends.items()}
            scores = {key: _average([end.score for end in of_seeds]) for key, of_seeds in ends.items()}
            points.append((mean(costs, groups, "mean_datasets"), 100 * mean(scores, groups, headline)))
        if points and np.isfinite(points).all():
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
    """Bars within bars, the palest the first phase, the darkest the last; panels in the order of `keys`."""
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
    parts = max(len(_parts(sizes)) for _, _, sizes in panels)
    figure = empty(columns * max(2.6, 0.16 * parts + 0.8), 1.2 + 1.9 * lines)
    grid = figure.subplots(lines, columns, sharey=True, squeeze=False)
    phases = list(dict.fromkeys(phase for _, _, sizes in panels for phase in sizes))
    palette = sns.color_palette("YlGnBu", len(phases) + 1)[1:]
    several = len({row for row, _, _ in panels}) > 1
    for axes, (row, key, sizes) in zip(grid.flat, panels, strict=False):
        _panel(axes, sizes, phases, palette)
        axes.set_title(f"{_label(row)}: {key}" if several else key, fontsize=9)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    for line in grid:
        line[0].set_ylabel("neurons left", fontsize=8)
    patches = [Patch(color=colour, label=phase) for colour, phase in zip(palette, phases, strict=True)]
    figure.legend(handles=patches, loc="outside lower center", ncols=min(len(patches), 8), fontsize=8, frameon=False)
    methods = ", ".join(dict.fromkeys(_label(row) for row, _, _ in panels))
    title = ", ".join([*[suite] * bool(suite), methods, panels[0][0][2], "mean over seeds"])
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    return figure


def _panel(axes: Axes, sizes: Sizes, phases: Sequence[str], palette: Sequence[tuple[float, float, float]]) -> None:
    parts = _parts(sizes)
    for colour, phase in zip(palette, phases, strict=True):
        if phase in sizes:
            axes.bar(range(len(parts)), [sizes[phase].get(part, 0) for part in parts], width=0.82, color=colour)
    axes.set_xticks(range(len(parts)), _shortened(parts), rotation=90, fontsize=7)
    axes.tick_params(axis="y", labelsize=7)
    axes.tick_params(axis="x", length=0, pad=1)
    sns.despine(ax=axes)


def _parts(sizes: Sizes) -> list[str]:
    """In the order of the model, as the milestones give it."""
    return list(dict.fromkeys(part for phase in sizes.values() for part in phase))


def _shortened(parts: Sequence[str]) -> list[str]:
    """Without the words that all share at one place: `0.1.attn` of `layers.0.blocks.1.attn`."""
    words = [part.split(".") for part in parts]
    if len({len(word) for word in words}) > 1:
        return list(parts)
    telling = [place for place, found in enumerate(zip(*words, strict=True)) if len(set(found)) > 1]
    return [".".join(word[place] for place in telling) or part for word, part in zip(words, parts, strict=True)]


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
