"""Local intrinsic dimension: the smallest d whose random subspace reaches a share of the full score, by submodule.

Each run with a random subspace (method `intrinsic`) is paired with the run on the same dataset and seed that trains the
whole model; its share is the ratio of the two scores. A d is as good as its mean share, with the interval of
bench.report.statistics; where a submodule was measured in several layers, their scores are averaged first.

Li et al., ICLR 2018, section 2 (the bar is 90 % of the full score); He et al. (PEViT), AAAI 2023, section 3.2 and
figure 3 (one submodule at a time, and KAdaptation where the dimension is lowest).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure

from bench.core.recipes import Recipe, Row
from bench.core.store import write_atomically
from bench.report.cells import pipe
from bench.report.looks import PALETTE
from bench.report.papers import models
from bench.report.plots import empty, save
from bench.report.statistics import weighted_mean

Array = npt.NDArray[np.float64]
Parts = Sequence[tuple[Row, pd.DataFrame]]

HEAD, FULL = "head alone", "full"
COLUMNS = ("submodule", "d", "measured", "share", "low", "high", "seeds")


@dataclass(frozen=True)
class Dimension:
    """Of one submodule, among the d that were tried. None: no d does."""

    submodule: str
    smallest: float | None  # whose mean share reaches the bar
    largest_below: float | None  # of the smaller ones, none of which reaches it
    low: float | None  # the smallest whose 95 % interval reaches the bar
    high: float | None  # the smallest whose interval lies at or above it as a whole
    unmeasured: tuple[float, ...]  # d of which runs are missing


def shares(parts: Parts, keys: Sequence[str]) -> pd.DataFrame:
    """COLUMNS, a line for each submodule and d, the head alone (d = 0) and the full score (d missing); in %.

    `parts` are the rows of a recipe with their runs, `keys` its datasets. What has a run missing has no numbers.
    """
    full = _scores([part for part in parts if part[0].x is None], keys)
    lines = []
    for (name, d), own in _grouped(parts).items():
        scores = _scores(own, keys)
        columns = sorted(set(scores) & set(full))
        score = _matrix([scores[seed] for seed in columns], len(keys))
        whole = _matrix([full[seed] for seed in columns], len(keys))
        with np.errstate(divide="ignore", invalid="ignore"):
            share = weighted_mean(100 * np.where(whole > 0, score / whole, np.nan), np.full(len(keys), 1 / len(keys)))
        mean = 100 * score.mean() if score.size else np.nan
        numbers = (mean, *map(float, (share.value, share.low, share.high)))
        lines.append((name, d, *numbers, len(columns)))
    return pd.DataFrame(lines, columns=list(COLUMNS))


def dimensions(table: pd.DataFrame, bar: float) -> list[Dimension]:
    """Of every submodule, from what `shares` gives; `bar` is a share of the full score between 0 and 1.

    The head alone counts as d = 0 of each: where it reaches the bar, no weight of the backbone has to move.
    """
    head = table[table["submodule"] == HEAD]
    found = []
    for name, own in table[~table["submodule"].isin((HEAD, FULL))].groupby("submodule", sort=False):
        tried = pd.concat([head, own]).sort_values("d")
        known = tried[tried["share"].notna()]
        smallest = _first(known["d"][known["share"] >= 100 * bar])
        below = known["d"] if smallest is None else known["d"][known["d"] < smallest]
        found.append(
            Dimension(
                submodule=str(name),
                smallest=smallest,
                largest_below=float(below.max()) if len(below) else None,
                low=_first(known["d"][known["high"] >= 100 * bar]),
                high=_first(known["d"][known["low"] >= 100 * bar]),
                unmeasured=tuple(tried["d"][tried["share"].isna()]),
            )
        )
    return found


def chosen(found: Sequence[Dimension]) -> Dimension | None:
    """The submodule of the lowest dimension, where KAdaptation goes; None where two share it, or none has one."""
    known = sorted((each for each in found if each.smallest is not None), key=lambda each: each.smallest or 0.0)
    if not known or (len(known) > 1 and known[0].smallest == known[1].smallest):
        return None
    return known[0]


def told_apart(first: Dimension, found: Sequence[Dimension]) -> bool:
    """Whether a dimension lies below those of all others by the intervals of the shares."""
    others = [each for each in found if each is not first]
    return all(first.high is not None and (each.low is None or first.high < each.low) for each in others)


def lines(found: Sequence[Dimension], bar: float, targets: Mapping[str, tuple[str, ...]]) -> list[str]:
    """What was found, in words. `targets`: where KAdaptation adapts, by submodule."""
    told = [_told(each, bar) for each in found]
    if any(one.unmeasured for one in found):
        return [*told, "KAdaptation: runs are missing, so no submodule is chosen yet."]
    best = chosen(found)
    if best is None:
        return [*told, "KAdaptation: no submodule has a lower dimension than all others, so none is chosen."]
    sure = (
        "" if told_apart(best, found) else " The intervals do not tell it apart from the next: more seeds, or more d."
    )
    place = ",".join(targets[best.submodule])
    return [*told, f"KAdaptation goes to the {best.submodule}: --method kadaptation --set targets={place}.{sure}"]


def _told(one: Dimension, bar: float) -> str:
    missing = f"; runs are missing of d = {_list(one.unmeasured)}" if one.unmeasured else ""
    if one.smallest is None:
        up_to = f"none up to {one.largest_below:g} does" if one.largest_below else "none was measured"
        return f"{one.submodule}: no d reaches {bar:.0%} of the full score, {up_to}{missing}."
    if one.smallest == 0:
        return f"{one.submodule}: 0, the head alone reaches {bar:.0%} of the full score{missing}."
    above = f"above {one.largest_below:g}, at most " if one.largest_below is not None else "at most "
    band = (
        f"; by the 95 % interval {one.low:g} to {'more' if one.high is None else f'{one.high:g}'}"
        if one.low is not None
        else ""
    )
    return f"{one.submodule}: {above}{one.smallest:g}{band}{missing}."


def cells(table: pd.DataFrame) -> dict[str, list[str]]:
    """The table as columns of text."""
    return {
        "submodule": [str(name) for name in table["submodule"]],
        "d": ["-" if pd.isna(d) else f"{d:g}" for d in table["d"]],
        "accuracy, %": [_one(value) for value in table["measured"]],
        "of full, %": [
            _one(line["share"]) + ("" if pd.isna(line["low"]) else f" ± {(line['high'] - line['low']) / 2:.1f}")
            for line in table.to_dict("records")
        ],
        "seeds": [str(seeds) for seeds in table["seeds"]],
    }


def write(recipe: Recipe, table: pd.DataFrame, told: Sequence[str], stem: Path) -> list[Path]:
    """STEM.csv, .md, and .png and .svg where something was measured. The paths."""
    paths = [stem.parent / f"{stem.name}{ending}" for ending in (".csv", ".md")]
    text = "\n".join([f"# {recipe.item}: {recipe.title}", "", pipe(cells(table)), "", *(f"{line}  " for line in told)])
    write_atomically(paths[0], lambda file: table.to_csv(file, index=False, lineterminator="\n", float_format="%.10g"))
    write_atomically(paths[1], lambda file: file.write_text(text + "\n", encoding="utf-8"))
    figure = figure_of(recipe, table)
    return paths if figure is None else [*paths, *save(figure, stem)]


def figure_of(recipe: Recipe, table: pd.DataFrame) -> Figure | None:
    """Share of the full score against d, a line a submodule; None where no share was measured."""
    known = table[table["share"].notna()]
    curves = known[~known["submodule"].isin((HEAD, FULL))]
    if curves.empty:
        return None
    figure = empty(7.2, 4.8)
    axes = figure.add_subplot()
    head = known[known["submodule"] == HEAD]
    for colour, (name, own) in zip(PALETTE, curves.groupby("submodule", sort=False), strict=False):
        line = pd.concat([head, own]).sort_values("d")
        ends = [(line["share"] - line["low"]).fillna(0), (line["high"] - line["share"]).fillna(0)]
        axes.errorbar(
            line["d"], line["share"], yerr=ends, color=colour, marker="o", ms=4, lw=1.2, capsize=2, label=name
        )
    axes.axhline(
        100 * recipe.share, color="0.45", lw=0.9, ls=(0, (4, 3)), label=f"{recipe.share:.0%} of the full score"
    )
    for colour, one in zip(PALETTE, dimensions(table, recipe.share), strict=False):
        if one.smallest is not None:
            axes.axvline(one.smallest, color=colour, lw=0.9, ls=":")
    axes.set_xlabel("d, trained numbers beside the head")
    axes.set_ylabel("share of the full score in %, 95 % interval")
    axes.set_title(f"{recipe.item}: {recipe.title}", fontsize=10, loc="left")
    axes.legend(fontsize=8, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _grouped(parts: Parts) -> dict[tuple[str, float], list[tuple[Row, pd.DataFrame]]]:
    """The rows of one submodule and d: its layers."""
    found: dict[tuple[str, float], list[tuple[Row, pd.DataFrame]]] = {}
    for row, runs in parts:
        name = row.series or (FULL if row.x is None else HEAD)
        found.setdefault((name, np.nan if row.x is None else row.x), []).append((row, runs))
    return found


def _scores(own: Parts, keys: Sequence[str]) -> dict[int, list[float]]:
    """By seed, the scores on `keys`, means over the rows; seeds of which every row has every dataset."""
    by_row = [{(model.key, model.seed): model.score for model in models(row, runs)} for row, runs in own]
    seeds = sorted({seed for scores in by_row for _, seed in scores})
    complete = [seed for seed in seeds if all((key, seed) in scores for scores in by_row for key in keys)]
    return {seed: [float(np.mean([scores[key, seed] for scores in by_row])) for key in keys] for seed in complete}


def _matrix(by_seed: Sequence[Sequence[float]], datasets: int) -> Array:
    """(datasets, seeds)"""
    return np.asarray(by_seed, dtype=float).reshape(-1, datasets).T


def _first(values: pd.Series) -> float | None:
    return float(values.iloc[0]) if len(values) else None


def _list(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _one(value: float) -> str:
    return "-" if pd.isna(value) else f"{value:.1f}"
