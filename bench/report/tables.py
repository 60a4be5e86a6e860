"""A leaderboard for machines (CSV), for readers (Markdown) and for the terminal."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from bench.core.store import write_atomically
from bench.report.aggregate import MEANS, ORIGIN, SEEN, Groups, Headline
from bench.report.aggregate import leaderboard as leaderboard
from bench.report.cells import DASH, aligned, column, human, missing, one, pipe, safe, short, thousandths, three, unique
from bench.report.frame import key_of

WHOLE = ("seeds", "failed", "skipped")
DECIMALS = {**dict.fromkeys(MEANS, ".4f"), **dict.fromkeys(WHOLE, ".0f"), "coverage": ".4f", "pe": ".6f"}
TEXT = ("method", "variant", "backbone", *ORIGIN, SEEN)
SEEN_MARK = "‡"
PRETRAINED = "pretrained on this data, so its scores there say nothing about transfer"


def write_csv(table: pd.DataFrame, path: Path) -> Path:
    """Plain numbers in fixed formats, the same bytes for the same records; a missing number is an empty field."""
    plain = pd.DataFrame({name: [_csv(name, value, table) for value in table[name]] for name in table.columns})
    write_atomically(path, lambda file: file.write_text(plain.to_csv(index=False, lineterminator="\n")))
    return path


def _csv(name: str, value: object, table: pd.DataFrame) -> str:
    if missing(value):
        return ""
    if name in TEXT:
        return str(value)
    return format(value, ".4f" if name in dataset_columns(table) else DECIMALS.get(name, ".10g"))


def dataset_columns(table: pd.DataFrame) -> list[str]:
    names = list(table.columns)
    return [str(name) for name in names[names.index("backbone") + 1 : names.index("mean_datasets")]]


def markdown(
    table: pd.DataFrame, frame: pd.DataFrame, groups: Groups, headline: Headline, title: str, note: str = ""
) -> str:
    """A page: one table a backbone, the best of each column bold, then what every column means and what went wrong.

    `frame` holds the records behind the table: it tells a failed cell from one that was skipped or never run.
    """
    parts = [f"# {title}", f"Protocol {unique(table, 'protocol')}; reported model: {unique(table, 'rule')}."]
    for backbone, rows in table.groupby("backbone", sort=True):
        runs = frame[frame["backbone"] == backbone]
        parts += [f"## {backbone}", f"Weights: {unique(rows, 'weights')}.", *_seen_note(str(backbone), rows)]
        parts += [_pipe(rows.reset_index(drop=True), runs), *_troubles(runs)]
    parts += ["## Columns", _legend(frame, groups, headline)]
    return "\n\n".join([*parts, note] if note else parts) + "\n"


def _pipe(rows: pd.DataFrame, runs: pd.DataFrame) -> str:
    columns: dict[str, list[str]] = {"method": [safe(name) for name in rows["method"]]}
    if (rows["variant"] != "default").any():
        columns["variant"] = [safe(name) for name in rows["variant"]]
    failed = runs[runs["status"] == "failed"]
    for name in dataset_columns(rows):
        cells = [_cell(row, name, failed) for row in rows.to_dict("records")]
        columns[name + _mark(name, rows)] = _bold(cells, [round(float(value), 1) for value in rows[name]])
    columns["mean (datasets)"] = _bold_ties(_with_interval(rows), rows)
    means = [round(float(value), 1) for value in rows["mean_groups"]]
    columns["mean (groups)"] = _bold(column(rows, "mean_groups", one), means)
    columns["trained"] = column(rows, "params_trained", human)
    columns["% of all"] = column(rows, "trained_percent", three)
    columns["method only"] = column(rows, "params_deployed", human)
    columns["at most"] = column(rows, "params_method", human)
    columns["head"] = column(rows, "params_head", human)
    columns["GFLOPs"] = column(rows, "gflops_unmerged", three)
    columns["merged"] = column(rows, "gflops_merged", three)
    columns["MB"] = column(rows, "storage_mb", three)
    columns["MB, no head"] = column(rows, "storage_mb_without_head", three)
    columns["PE"] = column(rows, "pe", thousandths)
    columns["seeds"] = [str(count) for count in rows["seeds"]]
    if (rows["coverage"] < 1).any():
        columns["coverage"] = [f"{100 * share:.0f} %" for share in rows["coverage"]]
    return pipe(columns)


def seen(rows: pd.DataFrame) -> list[str]:
    """The datasets on which the backbone of some row was pretrained."""
    return sorted({key for keys in rows[SEEN] for key in keys.split()}) if SEEN in rows.columns else []


def _seen_note(backbone: str, rows: pd.DataFrame) -> list[str]:
    return [f"{SEEN_MARK} {', '.join(seen(rows))}: {backbone} was {PRETRAINED}."] if seen(rows) else []


def _mark(name: str, rows: pd.DataFrame) -> str:
    return SEEN_MARK if name in seen(rows) else ""


def _cell(row: Mapping[Hashable, Any], name: str, failed: pd.DataFrame) -> str:
    here = failed[(failed["method"] == row["method"]) & (failed["variant"] == row["variant"])]
    here = here[(here["protocol"] == row["protocol"]) & (here["weights"] == row["weights"])]
    some = any(key_of(dataset) == name for dataset in here["dataset"])
    if missing(row[name]):
        return "failed" if some else DASH
    return f"{row[name]:.1f}" + ("†" if some else "")


def _with_interval(rows: pd.DataFrame) -> list[str]:
    halves = (rows["ci95_high"] - rows["ci95_low"]) / 2
    cells = column(rows, "mean_datasets", one)
    return [cell if missing(half) else f"{cell} ± {half:.1f}" for cell, half in zip(cells, halves, strict=True)]


def _bold(cells: list[str], values: list[float]) -> list[str]:
    """The best in bold, with all that equal it at the precision shown."""
    best = max((value for value in values if not missing(value)), default=math.nan)
    return [f"**{cell}**" if value == best else cell for cell, value in zip(cells, values, strict=True)]


def _bold_ties(cells: list[str], rows: pd.DataFrame) -> list[str]:
    """The best mean in bold, with every row whose 95 % interval meets that of the best."""
    means = rows["mean_datasets"]
    if means.isna().all():
        return cells
    low = rows["ci95_low"].fillna(means)
    high = rows["ci95_high"].fillna(means)
    tied = high >= float(low.iloc[int(means.argmax())])
    return [f"**{cell}**" if tie else cell for cell, tie in zip(cells, tied, strict=True)]


def _troubles(runs: pd.DataFrame) -> list[str]:
    """Reasons of what was failed or skipped, each once with the datasets and seeds it struck."""
    bad = runs[runs["status"] != "done"]
    lines: list[str] = []
    for names, part in bad.groupby(["status", "method", "variant", "reason"], sort=True):
        status, method, variant, reason = (str(name) for name in names)
        label = method if variant == "default" else f"{method} ({variant})"
        hit = {key: sorted(runs["seed"]) for key, runs in part.groupby(part["dataset"].map(key_of))}
        where = ", ".join(f"{key} (seed {', '.join(map(str, seeds))})" for key, seeds in hit.items())
        lines.append(f"- {status}: {safe(label)} on {safe(where)}: {safe(reason.splitlines()[0])}")
    return ["\n".join(lines)] if lines else []


def _legend(frame: pd.DataFrame, groups: Groups, headline: Headline) -> str:
    counters = ", ".join(sorted(frame["flops_counter"].dropna().unique())) or "no counter"
    members = "; ".join(f"{name}: {', '.join(keys)}" for name, keys in groups.items())
    lines = (
        "a dataset: accuracy on its test split in %, mean over seeds; best in bold. "
        f"{DASH} skipped or not run, `failed` no seed finished, † a mean without the seeds that failed",
        "mean (datasets): over the datasets, each a mean over its seeds; ± half the 95 % interval of a bootstrap over "
        "seeds within each dataset. Bold: the best and every row whose interval meets its interval",
        f"mean (groups): over the groups of the mean over their datasets ({members})",
        f"rows are ordered by {headline.replace('_', ' over ')}; a mean that would lack a dataset is not given",
        "trained: trained parameters of the final model, head included; % of all: of the whole model's; method only: "
        "without the head; at most: the most the method had while training, which is more where it prunes; head: the "
        "classifier. This and all below: means over datasets",
        f"GFLOPs: 1e9 floating-point operations of one image's forward pass (1 MAC = 2 FLOPs), counted by {counters}; "
        f"merged: with the method folded into the backbone, {DASH} where it cannot be",
        "MB: 1e6 bytes of the safetensors file that turns the backbone into the model; with and without head",
        f"PE: {headline} x exp(-log10(P / 1e8 + 1)), the mean in [0, 1], P = trained (ELEVATER, Li et al. 2022)",
        "seeds: the smallest number of finished seeds over the datasets",
    )
    return "\n".join(f"- {line}." for line in lines)


def terminal(table: pd.DataFrame) -> str:
    """The few columns that fit a terminal, one block a backbone: datasets with results, beyond ten only their mean."""
    blocks: list[str] = []
    for backbone, rows in table.groupby("backbone", sort=True):
        columns: dict[str, list[str]] = {"method": list(rows["method"])}
        if (rows["variant"] != "default").any():
            columns["variant"] = [short(name, 24) for name in rows["variant"]]
        names = [name for name in dataset_columns(rows) if rows[name].notna().any()]
        for name in names if len(names) <= 10 else []:
            columns[_heading(name, columns) + _mark(name, rows)] = column(rows, name, one)
        columns["mean_groups"] = column(rows, "mean_groups", one)
        columns["params"] = column(rows, "params_trained", human)
        columns["GFLOPs"] = column(rows, "gflops_unmerged", three)
        columns["MB"] = column(rows, "storage_mb", three)
        columns["PE"] = column(rows, "pe", thousandths)
        if rows["failed"].any():
            columns["failed"] = [str(count) for count in rows["failed"]]
        if (rows["coverage"] < 1).any():
            columns["coverage"] = [f"{100 * share:.0f} %" for share in rows["coverage"]]
        heading = f"{backbone}, {unique(rows, 'protocol')}, seeds: {unique(rows, 'seeds')}"
        blocks.append("\n".join([heading, aligned(columns), *_seen_note(str(backbone), rows)]))
    return "\n\n".join(blocks)


def _heading(name: str, taken: dict[str, list[str]]) -> str:
    """At most ten characters, unlike the headings before it."""
    tries = (short(name, 10), *(f"{name[:8]}…{number}" for number in range(1, 10)))
    return next((heading for heading in tries if heading not in taken), name)
