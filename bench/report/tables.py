"""A leaderboard for machines (CSV), for readers (Markdown) and for the terminal."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.core.store import write_atomically
from bench.core.text import csv_cell, shorten
from bench.core.text import markdown as safe
from bench.report.aggregate import MEANS, NAMES, ORIGIN, SEEN, SPREAD
from bench.report.aggregate import leaderboard as leaderboard
from bench.report.cells import (
    DASH,
    aligned,
    column,
    missing,
    one,
    pipe,
    unique,
    whole,
)
from bench.report.columns import COLUMNS, NAMED
from bench.report.frame import key_of
from bench.report.standings import Groups, Headline, Standings, score_array

WHOLE = ("seeds", "failed", "skipped", "tie_group", "rank_best", "rank_worst")
DECIMALS = {**dict.fromkeys(MEANS, ".4f"), **dict.fromkeys(WHOLE, ".0f"), "coverage": ".4f"}
DECIMALS |= {name: cost.digits for name, cost in NAMED.items()}
TEXT = ("method", "variant", "backbone", "ties_over", *ORIGIN, SEEN)
FIRST = ("params_trained", "trained_percent", "params_deployed", "params_method", "params_head")  # for readers
FOR_READERS = [*map(NAMED.__getitem__, FIRST), *(c for c in COLUMNS if c.heading and c.name not in FIRST)]
IN_A_TERMINAL = {"params": "params_trained", "GFLOPs": "gflops_unmerged", "MB": "storage_mb", "PE": "pe"}
SEEN_MARK = "‡"
MEAN_NAMES = {"mean_datasets": "mean (datasets)", "mean_groups": "mean (groups)"}
PRETRAINED = "pretrained on this data, so its scores there say nothing about transfer"


def write_csv(table: pd.DataFrame, path: Path) -> Path:
    write_atomically(path, lambda file: file.write_text(csv(table)))
    return path


def csv(table: pd.DataFrame) -> str:
    """Plain numbers in fixed formats, the same bytes for the same records; a missing number is an empty field."""
    plain = pd.DataFrame({name: [_csv(name, value, table) for value in table[name]] for name in table.columns})
    return plain.rename(columns=csv_cell).to_csv(index=False, lineterminator="\n")


def _csv(name: str, value: object, table: pd.DataFrame) -> str:
    if missing(value):
        return ""
    if name in TEXT:
        return csv_cell(value)
    percent = name in dataset_columns(table) or name.startswith(SPREAD)
    return format(value, ".4f" if percent else DECIMALS.get(name, ".10g"))


def dataset_columns(table: pd.DataFrame) -> list[str]:
    names = list(table.columns)
    return [str(name) for name in names[names.index("backbone") + 1 : names.index("mean_datasets")]]


def markdown(
    table: pd.DataFrame, frame: pd.DataFrame, groups: Groups, headline: Headline, title: str, note: str = ""
) -> str:
    """A page: one table a backbone, the first tie group bold, then what every column means and what went wrong.

    `frame` holds the records behind the table: it tells a failed cell from one that was skipped or never run.
    """
    protocol, rule = safe(unique(table, "protocol")), safe(unique(table, "rule"))
    parts = [f"# {safe(title)}", f"Protocol {protocol}; reported model: {rule}."]
    for backbone, rows in table.groupby("backbone", sort=True):
        runs = frame[frame["backbone"] == backbone]
        parts += [f"## {safe(backbone)}", f"Weights: {safe(unique(rows, 'weights'))}."]
        parts += map(safe, _seen_note(str(backbone), rows))
        parts += [_pipe(rows.reset_index(drop=True), runs, groups, headline), *_troubles(runs)]
    parts += ["## Columns", _legend(table, frame, groups, headline)]
    return "\n\n".join([*parts, safe(note)] if note else parts) + "\n"


def _pipe(rows: pd.DataFrame, runs: pd.DataFrame, groups: Groups, headline: Headline) -> str:
    columns: dict[str, list[str]] = {"method": [safe(name) for name in rows["method"]]}
    if (rows["variant"] != "default").any():
        columns["variant"] = [safe(name) for name in rows["variant"]]
    if rows["tie_group"].notna().any():
        columns["rank"] = ranks(rows)
        columns["tie group"] = column(rows, "tie_group", whole)
    failed, best = runs[runs["status"] == "failed"], best_cells(rows, runs, groups, headline)
    for place, name in enumerate(dataset_columns(rows)):
        cells = [_cell(row, name, failed) for row in rows.to_dict("records")]
        columns[safe(name) + _mark(name, rows)] = _bold(cells, list(best[:, place]))
    for name in ("mean_datasets", "mean_groups"):
        cells = with_interval(rows, name) if name == headline else column(rows, name, one)
        columns[MEAN_NAMES[name]] = _bold(cells, first_tied(rows, headline)) if name == headline else cells
    for cost in FOR_READERS:
        columns[cost.heading] = column(rows, cost.name, cost.show)
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


def with_interval(rows: pd.DataFrame, headline: str) -> list[str]:
    """The headline with half its interval; of a row that lacks a dataset, the bounds of what it may be."""
    columns = [rows[name] for name in (headline, "ci95_low", "ci95_high", "bound_low", "bound_high", "coverage")]
    return [_mean(*map(float, numbers)) for numbers in zip(*columns, strict=True)]


def _mean(value: float, low: float, high: float, least: float, greatest: float, coverage: float) -> str:
    if missing(value):
        return f"{least:.1f} to {greatest:.1f}" if coverage else DASH
    return one(value) if missing(low) else f"{value:.1f} ± {(high - low) / 2:.1f}"


def ranks(rows: pd.DataFrame) -> list[str]:
    """`2-5`: the ranks a row may have; `2` where there is one."""
    ends = zip(rows["rank_best"], rows["rank_worst"], strict=True)
    return [DASH if missing(a) else f"{a:.0f}" if a == b else f"{a:.0f}-{b:.0f}" for a, b in ends]


def first_tied(rows: pd.DataFrame, headline: str) -> list[bool]:
    """Which rows are of the first tie group; where ties are unknown, the best alone."""
    if rows["tie_group"].notna().any():
        return list(rows["tie_group"] == 1)
    return list(rows[headline] == rows[headline].max())


def best_cells(rows: pd.DataFrame, runs: pd.DataFrame, groups: Groups, headline: Headline) -> npt.NDArray[np.bool_]:
    """Of every dataset the best row, and those whose paired interval does not tell them from it, (rows, datasets)."""
    own = [*NAMES, "protocol", "weights"]
    parts = {names: part for names, part in runs.groupby(own, sort=False)}
    names = rows[own].itertuples(index=False, name=None)
    return Standings(score_array([parts[name] for name in names], groups), groups, headline).best_cells


def _bold(cells: list[str], which: Sequence[bool]) -> list[str]:
    return [f"**{cell}**" if bold else cell for cell, bold in zip(cells, which, strict=True)]


def _troubles(runs: pd.DataFrame) -> list[str]:
    """Reasons of what was failed or skipped, each once with the datasets and seeds it struck."""
    bad = runs[runs["status"] != "done"]
    lines: list[str] = []
    for names, part in bad.groupby(["status", "method", "variant", "reason"], sort=True):
        status, method, variant, reason = (str(name) for name in names)
        label = method if variant == "default" else f"{method} ({variant})"
        hit = {key: sorted(runs["seed"]) for key, runs in part.groupby(part["dataset"].map(key_of))}
        where = ", ".join(f"{key} (seed {', '.join(map(str, seeds))})" for key, seeds in hit.items())
        lines.append(f"- {status}: {safe(label)} on {safe(where)}: {safe(next(iter(reason.splitlines()), ''))}")
    return ["\n".join(lines)] if lines else []


def _legend(table: pd.DataFrame, frame: pd.DataFrame, groups: Groups, headline: Headline) -> str:
    counters = ", ".join(sorted(frame["flops_counter"].dropna().unique())) or "no counter"
    members = "; ".join(f"{safe(name)}: {', '.join(map(safe, keys))}" for name, keys in groups.items())
    bases = {str(backbone): rows["ties_over"].iloc[0] for backbone, rows in table.groupby("backbone", sort=True)}
    over = ", ".join(f"{base or 'nothing, for want of repeats'} ({safe(name)})" for name, base in bases.items())
    lines = (
        "a dataset: accuracy on its test split in %, mean over seeds. Bold: the best, and what the 95 % interval of "
        f"the difference, seed by seed, does not tell from it. {DASH} skipped or not run, `failed` no seed finished, "
        "† a mean without the seeds that failed",
        "mean (datasets): over the datasets, each a mean over its seeds",
        f"mean (groups): over the groups of the mean over their datasets ({members})",
        f"rows are ordered by the {MEAN_NAMES[headline]}; ± half its 95 % interval over seeds (Student's, Welch and "
        "Satterthwaite's degrees of freedom). A mean that lacks a dataset is not given: a to b is what it may be",
        "rank: the ranks a row may have; tie group: 1 holds the first row and all not told apart from it, 2 the first "
        "of the others, and so on; bold: group 1. Rows are told apart by their paired differences over "
        f"{over}, at 95 % for all pairs of a table at once (Holm)",
        *(f"{cost.heading}: {cost.meaning}" for cost in FOR_READERS),
        f"costs are means over datasets; operations were counted by {safe(counters)}",
        "seeds: the smallest number of finished seeds over the datasets that have any",
    )
    return "\n".join(f"- {line}." for line in lines)


def terminal(table: pd.DataFrame, headline: Headline = "mean_groups", width: int = 150) -> str:
    """One block a backbone, of the columns that fit `width` characters: first the datasets go, then the costs."""
    blocks: list[str] = []
    for backbone, rows in table.groupby("backbone", sort=True):
        columns, dispensable = _terminal_columns(rows, headline)
        text = aligned(columns)
        for names in dispensable:
            if max(map(len, text.splitlines())) <= width:
                break
            columns = {name: cells for name, cells in columns.items() if name not in names}
            text = aligned(columns)
        fewest, most = int(rows["seeds"].min()), int(rows["seeds"].max())
        seeds = f"{most} seed{'s' * (most != 1)} a dataset" if fewest == most else f"{fewest} to {most} seeds a dataset"
        heading = f"{backbone}, {unique(rows, 'protocol')}, {seeds}"
        blocks.append("\n".join([heading, text, *_ties_note(rows), *_seen_note(str(backbone), rows)]))
    return "\n\n".join(blocks)


def _terminal_columns(rows: pd.DataFrame, headline: Headline) -> tuple[dict[str, list[str]], list[list[str]]]:
    """All columns, and which of them to leave out first where they do not fit."""
    columns: dict[str, list[str]] = {"method": list(rows["method"])}
    if (rows["variant"] != "default").any():
        columns["variant"] = [shorten(name, 24) for name in rows["variant"]]
    if rows["tie_group"].notna().any():
        columns["rank"] = ranks(rows)
        columns["tie"] = column(rows, "tie_group", whole)
    names = [name for name in dataset_columns(rows) if rows[name].notna().any()]
    keys: list[str] = []
    for name in names if len(names) <= 10 else []:
        keys.append(_heading(name, columns) + _mark(name, rows))
        columns[keys[-1]] = column(rows, name, one)
    columns[headline] = with_interval(rows, headline)
    for heading, name in IN_A_TERMINAL.items():
        columns[heading] = column(rows, name, NAMED[name].show)
    if rows["seeds"].nunique() > 1:
        columns["seeds"] = [str(count) for count in rows["seeds"]]
    if rows["failed"].any():
        columns["failed"] = [str(count) for count in rows["failed"]]
    if (rows["coverage"] < 1).any():
        columns["coverage"] = [f"{100 * share:.0f} %" for share in rows["coverage"]]
    return columns, [keys, ["MB"], ["GFLOPs"], ["PE"], ["tie"]]


def _ties_note(rows: pd.DataFrame) -> list[str]:
    over = rows["ties_over"].iloc[0]
    if over:
        return [f"rank: what a row's may be, tie: its tie group, over {over} at 95 %."]
    return ["No ranks: that needs two seeds of every row, or groups of four datasets."]


def _heading(name: str, taken: dict[str, list[str]]) -> str:
    """At most ten characters, unlike the headings before it."""
    tries = (shorten(name, 10), *(f"{name[:8]}…{number}" for number in range(1, 10)))
    return next((heading for heading in tries if heading not in taken), name)
