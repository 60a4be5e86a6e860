"""A paper's table with three numbers in each cell: printed, measured here, and their difference.

Measured is the mean over seeds, and over datasets where the paper prints a mean, with Student's interval
(bench.report.statistics.weighted_mean). A verdict is computed, never written by hand:

agrees      the printed number lies in the interval of ours; of a cost, within half a percent or its last digit
differs     it does not
one seed    ours has no interval
unmeasured  runs of this cell are missing
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from bench.core.recipes import UNITS, Measure, Printed, Recipe, Row
from bench.core.record import pe
from bench.core.store import write_atomically
from bench.core.text import markdown
from bench.core.text import table as text_table
from bench.report.aggregate import refuse_mixtures
from bench.report.cells import pipe
from bench.report.frame import key_of, milestones_of
from bench.report.statistics import weighted_mean

Verdict = Literal["agrees", "differs", "one seed", "unmeasured", "not printed"]
CLOSE = 0.005  # of a cost's printed value
COLUMNS = (
    "row",
    "measure",
    "dataset",
    "printed",
    "measured",
    "low",
    "high",
    "difference",
    "seeds",
    "verdict",
    "erratum",
)


@dataclass(frozen=True)
class Model:
    """One run's model as a row means it: at the end, or at the end of one of its phases."""

    key: str  # of its dataset
    seed: int
    score: float
    trained: float  # parameters, head included
    flops: float  # of linears and convolutions, as papers count
    stored: float  # bytes of one task


def models(row: Row, runs: pd.DataFrame) -> list[Model]:
    """The models of a row among its runs. `runs` are finished, and of one method, settings and protocol."""
    found = []
    for run in runs.to_dict("records"):
        if row.milestone:
            ends = [end for end in milestones_of(run["milestones"]) if end.name == row.milestone]
            if not ends:
                continue
            end = ends[0]
            score, trained = end.score, end.params.deployed + end.params.head
            flops, stored, total = end.unmerged.flops_linear_conv, end.storage_bytes.with_head, end.params.total
        else:
            score, trained = run["score"], run["params_deployed"] + run["params_head"]
            flops, stored, total = run["flops_linear_conv"], run["storage_with_head"], run["params_total"]
        whole = 4.0 * total  # bytes of fp32
        numbers = (score, trained, math.nan if flops is None else flops, whole if row.store == "model" else stored)
        found.append(Model(key_of(run["dataset"]), run["seed"], *map(float, numbers)))
    return found


def own_runs(runs: pd.DataFrame, method: str, settings: str, backbone: str, protocol: str, suite: str) -> pd.DataFrame:
    """The finished runs of one row, with pretrained weights. `settings` as bench.report.frame writes them.

    Raises UsageError where they are of different data, or do not compare with each other.
    """
    found = runs[
        (runs["status"] == "done")
        & (runs["method"] == method)
        & (runs["settings"] == settings)
        & (runs["backbone"] == backbone)
        & (runs["protocol"] == protocol)
        & (runs["weights"] == "pretrained")
        & runs["dataset"].astype(str).str.startswith(f"{suite}/")
    ]
    refuse_mixtures(found, mixed=False)
    return found


def compare(
    recipe: Recipe,
    parts: Sequence[tuple[Row, pd.DataFrame]],
    printed: Sequence[Mapping[tuple[str, str], Printed]],
) -> pd.DataFrame:
    """COLUMNS, a line a cell: of every row, every measure, the mean over the recipe's datasets and each of them.

    `parts` are the rows with their runs, `printed` what the paper has of each.
    """
    lines, keys = [], recipe.keys
    for (row, runs), numbers in zip(parts, printed, strict=True):
        own = models(row, runs)
        for measure in recipe.measures:
            for dataset in (*keys, "mean") if measure == "accuracy" else ("mean",):
                value, low, high, seeds = _measured(own, measure, keys if dataset == "mean" else [dataset])
                # a cost, and a mean of one dataset, may be printed under the dataset's name
                number = numbers.get((measure, dataset)) or (
                    numbers.get((measure, keys[0])) if dataset == "mean" and len(keys) == 1 else None
                )
                lines.append(
                    {
                        "row": row.label,
                        "measure": measure,
                        "dataset": dataset,
                        "printed": number.value if number else math.nan,
                        "measured": value,
                        "low": low,
                        "high": high,
                        "difference": value - number.value if number else math.nan,
                        "seeds": seeds,
                        "verdict": verdict(measure, number.value if number else math.nan, value, low, high),
                        "erratum": number.erratum if number else "",
                    }
                )
    return pd.DataFrame(lines, columns=list(COLUMNS))


def _measured(own: Sequence[Model], measure: Measure, keys: Sequence[str]) -> tuple[float, float, float, int]:
    """Value, interval and the smallest number of seeds of a dataset; NaN where a dataset has no run."""
    by_key = {key: [model for model in own if model.key == key] for key in keys}
    seeds = min(map(len, by_key.values()))
    if not seeds:
        return math.nan, math.nan, math.nan, 0
    if measure in ("accuracy", "pe"):
        width = max(map(len, by_key.values()))
        scores = np.full((len(keys), width), np.nan)
        for line, models_ in zip(scores, by_key.values(), strict=True):
            line[: len(models_)] = [100 * model.score for model in models_]
        mean = weighted_mean(scores, np.full(len(keys), 1 / len(keys)))
        if measure == "accuracy":
            return float(mean.value), float(mean.low), float(mean.high), seeds
        trained = _mean_of("trained", by_key)
        return pe(float(mean.value) / 100, trained), math.nan, math.nan, seeds
    attribute, unit = {"params": ("trained", 1e6), "gflops": ("flops", 1e9), "storage_mb": ("stored", 1e6)}[measure]
    return _mean_of(attribute, by_key) / unit, math.nan, math.nan, seeds


def _mean_of(attribute: str, by_key: Mapping[str, Sequence[Model]]) -> float:
    return float(np.mean([np.mean([getattr(model, attribute) for model in own]) for own in by_key.values()]))


def verdict(measure: Measure, printed: float, measured: float, low: float, high: float) -> Verdict:
    if math.isnan(printed):
        return "not printed"
    if math.isnan(measured):
        return "unmeasured"
    if measure != "accuracy":
        return "agrees" if abs(measured - printed) <= max(CLOSE * printed, _last_digit(printed) / 2) else "differs"
    if math.isnan(low):
        return "one seed"
    return "agrees" if low <= printed <= high else "differs"


def _last_digit(printed: float) -> float:
    """One in the last digit that is printed: 0.01 of 4.35."""
    return float(10.0 ** -len(f"{printed:.10g}".partition(".")[2]))


def write(recipe: Recipe, table: pd.DataFrame, root: Path) -> list[Path]:
    """ROOT/tables/NAME.csv and .md. The paths."""
    stem = stem_of(recipe, root)
    paths = [stem.parent / f"{stem.name}{ending}" for ending in (".csv", ".md")]
    text = "\n".join([f"# {recipe.item}: {recipe.title}", "", *_markdown(recipe, table)]) + "\n"
    write_atomically(paths[0], lambda file: table.to_csv(file, index=False, lineterminator="\n", float_format="%.10g"))
    write_atomically(paths[1], lambda file: file.write_text(text, encoding="utf-8"))
    return paths


def stem_of(recipe: Recipe, root: Path) -> Path:
    """Of its files, without the ending."""
    return root / "tables" / recipe.name


def lines(recipe: Recipe, table: pd.DataFrame, width: int | None = None) -> list[str]:
    """The table for a terminal: printed / measured / difference in each cell; else measured alone."""
    return [*text_table(_cells(recipe, table), width=width), "", *_legend(recipe, table)]


def _markdown(recipe: Recipe, table: pd.DataFrame) -> list[str]:
    head, *body = [[markdown(cell) for cell in row] for row in _cells(recipe, table)]
    columns = {name or "row": [row[i] for row in body] for i, name in enumerate(head)}
    return [pipe(columns), "", *(f"{line}  " for line in _legend(recipe, table))]


def _cells(recipe: Recipe, table: pd.DataFrame) -> list[list[str]]:
    """The table as text, headings first; a row has one label."""
    names = list(dict.fromkeys((m, d) for m, d in zip(table["measure"], table["dataset"], strict=True)))
    body = [["", *(_heading(measure, dataset) for measure, dataset in names)]]
    for label, part in table.groupby("row", sort=False):
        cells = {(m, d): i for i, (m, d) in enumerate(zip(part["measure"], part["dataset"], strict=True))}
        body.append([str(label), *(_cell(part.iloc[cells[name]], bool(recipe.printed_in)) for name in names)])
    return body


def _heading(measure: str, dataset: str) -> str:
    unit = UNITS[measure]  # type: ignore[index]
    what = dataset if measure == "accuracy" else measure.removesuffix("_mb")
    return f"{what}, {unit}" if unit else what


def _cell(line: pd.Series, printed_too: bool) -> str:
    digits = 1 if line["measure"] == "accuracy" else 3
    if not printed_too:
        spread = "" if math.isnan(line["low"]) else f" ± {(line['high'] - line['low']) / 2:.{digits}f}"
        return "-" if math.isnan(line["measured"]) else f"{line['measured']:.{digits}f}{spread}"
    if math.isnan(line["printed"]) and math.isnan(line["measured"]):
        return "-"
    printed = "-" if math.isnan(line["printed"]) else f"{line['printed']:g}"
    if math.isnan(line["measured"]):
        return f"{printed} / - / -"
    difference = "-" if math.isnan(line["difference"]) else f"{line['difference']:+.{digits}f}"
    mark = "*" if line["verdict"] == "differs" else ""
    return f"{printed} / {line['measured']:.{digits}f} / {difference}{mark}"


def _legend(recipe: Recipe, table: pd.DataFrame) -> list[str]:
    counts = table["verdict"].value_counts()
    told = ", ".join(f"{number} {name}" for name, number in counts.items() if name != "not printed")
    found = ["printed / measured / difference; * the printed number lies outside the interval of ours."]
    return [
        *(found if recipe.printed_in else []),
        *([f"{told}."] if told else []),
        *protocols_differ(recipe),
        *([f"Not made: {recipe.missing}."] if recipe.missing else []),
    ]


def protocols_differ(recipe: Recipe) -> list[str]:
    """What stands between what is measured and what is printed."""
    return [f"Protocols differ: {text}" for text in recipe.differences]
