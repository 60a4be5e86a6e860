"""The long frame into a leaderboard: one row a (method, variant, backbone), means that refuse missing cells."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import pandas as pd

from bench.core.errors import UsageError
from bench.report.frame import key_of, seen_in_pretraining, suite_of
from bench.report.statistics import bootstrap_interval, pe

Groups = Mapping[str, tuple[str, ...]]
Headline = Literal["mean_datasets", "mean_groups"]
Row = tuple[str, str, str]  # method, variant, backbone

NAMES = ("method", "variant", "backbone")
MEANS = ("mean_datasets", "mean_groups", "ci95_low", "ci95_high")
PARAMS = ("params_method", "params_deployed", "params_head", "params_trained", "trained_percent")
COSTS = (
    *PARAMS,
    "gflops_unmerged",
    "gflops_merged",
    "gflops_linear_conv",
    "storage_mb",
    "storage_mb_without_head",
    "pe",
)
COUNTS = ("coverage", "seeds", "failed", "skipped")
ORIGIN = ("rule", "protocol", "weights")
SEEN = "seen_in_pretraining"
MEASURED = (
    *("params_method", "params_deployed", "params_head", "params_total"),
    *("flops_unmerged", "flops_merged", "flops_linear_conv", "storage_with_head", "storage_without_head"),
)
FIXED = (*NAMES, *MEANS, *COSTS, *COUNTS, *ORIGIN, SEEN)


def leaderboard(frame: pd.DataFrame, groups: Groups, headline: Headline, mixed: bool = False) -> pd.DataFrame:
    """One row a (method, variant, backbone), best headline first, rows with a missing dataset last.

    Accuracies and intervals are in %. A dataset's number is the mean over its seeds; every other mean is over all
    datasets of `groups`, and missing where one of them is. `mixed` allows several protocols, rules or weights, which
    then stand in rows of their own. The last column names the datasets that a row's backbone was pretrained on; it is
    there only where some are.
    """
    keys = datasets(groups)
    _refuse_strangers(frame, keys)
    _refuse_mixtures(frame, mixed)
    by = [*NAMES, "weights", "protocol", "protocol_digest"]
    rows = [_row(part, groups, headline) for _, part in frame.groupby(by, sort=True)]
    marked = (SEEN,) if any(row[SEEN] for row in rows) else ()
    table = pd.DataFrame(rows, columns=[*NAMES, *keys, *MEANS, *COSTS, *COUNTS, *ORIGIN, *marked])
    # groupby has put the rows in the order of their names, and a stable sort keeps it among equals
    return table.sort_values(headline, ascending=False, na_position="last", kind="stable", ignore_index=True)


def intervals(frame: pd.DataFrame, groups: Groups, headline: Headline) -> dict[Row, tuple[float, float]]:
    """The 95 % interval in % of the headline of every row that has one; `ci95_*` of a table are of mean_datasets."""
    found: dict[Row, tuple[float, float]] = {}
    for _, part in frame.groupby(list(NAMES), sort=True):
        first = part.iloc[0]
        interval = bootstrap_interval(_scores(part, groups), weights=_weights(groups, headline))
        if interval is not None:
            row = (str(first["method"]), str(first["variant"]), str(first["backbone"]))
            found[row] = (100 * interval[0], 100 * interval[1])
    return found


def datasets(groups: Groups) -> tuple[str, ...]:
    """The short keys of a suite's datasets, in the order of its groups."""
    return tuple(key for keys in groups.values() for key in keys)


def mean(values: Mapping[str, float], groups: Groups, headline: Headline) -> float:
    """The headline mean of one number a dataset; NaN where a dataset's number is missing."""
    weights = _weights(groups, headline)
    return sum(weights[key] * values.get(key, math.nan) for key in weights)


def _weights(groups: Groups, headline: Headline) -> dict[str, float]:
    """Of each dataset in the headline mean."""
    if headline == "mean_datasets":
        keys = datasets(groups)
        return {key: 1 / len(keys) for key in keys}
    full = [keys for keys in groups.values() if keys]
    return {key: 1 / len(full) / len(keys) for keys in full for key in keys}


def _scores(part: pd.DataFrame, groups: Groups) -> dict[str, list[float]]:
    """Per dataset of the suite, the scores of the seeds that are done, by seed."""
    done = part[part["status"] == "done"].sort_values("seed")
    return {key: [float(s) for s in done.loc[done["dataset"].map(key_of) == key, "score"]] for key in datasets(groups)}


def _row(part: pd.DataFrame, groups: Groups, headline: Headline) -> dict[str, object]:
    first, done = part.iloc[0], part[part["status"] == "done"]
    scores = _scores(part, groups)
    accuracy = {key: 100 * sum(values) / len(values) for key, values in scores.items() if values}
    interval = bootstrap_interval(scores) or (math.nan, math.nan)
    means = {name: mean(accuracy, groups, name) for name in ("mean_datasets", "mean_groups")}
    cost = {name: _mean_cost(done, name, groups) for name in MEASURED}
    trained = cost["params_deployed"] + cost["params_head"]
    rules = sorted(done["rule"].unique())
    return {
        **{name: first[name] for name in (*NAMES, "protocol", "weights")},
        **accuracy,
        **means,
        "ci95_low": 100 * interval[0],
        "ci95_high": 100 * interval[1],
        "params_method": cost["params_method"],
        "params_deployed": cost["params_deployed"],
        "params_head": cost["params_head"],
        "params_trained": trained,
        "trained_percent": 100 * trained / cost["params_total"] if cost["params_total"] else math.nan,
        "gflops_unmerged": cost["flops_unmerged"] / 1e9,
        "gflops_merged": cost["flops_merged"] / 1e9,
        "gflops_linear_conv": cost["flops_linear_conv"] / 1e9,
        "storage_mb": cost["storage_with_head"] / 1e6,
        "storage_mb_without_head": cost["storage_without_head"] / 1e6,
        "pe": pe(means[headline] / 100, trained),
        "coverage": len(accuracy) / len(scores),
        "seeds": min(len(values) for values in scores.values()),
        "failed": int((part["status"] == "failed").sum()),
        "skipped": int((part["status"] == "skipped").sum()),
        "rule": rules[0] if rules else None,
        SEEN: " ".join(_seen(part)),
    }


def _seen(part: pd.DataFrame) -> list[str]:
    """The datasets among those of the records on which their backbone was pretrained."""
    pairs = zip(part["dataset"], part["pretrained_on"], strict=True)
    return sorted({key_of(name) for name, data in pairs if isinstance(data, str) and seen_in_pretraining(name, data)})


def _mean_cost(done: pd.DataFrame, name: str, groups: Groups) -> float:
    """The mean over datasets of the mean over seeds; NaN where a run of them lacks the number."""
    per_dataset = {str(key): _mean_seeds(runs[name]) for key, runs in done.groupby(done["dataset"].map(key_of))}
    return mean(per_dataset, groups, "mean_datasets")


def _mean_seeds(values: pd.Series) -> float:
    numbers = [float(value) for value in values]
    return sum(numbers) / len(numbers)


def _refuse_strangers(frame: pd.DataFrame, keys: tuple[str, ...]) -> None:
    names = sorted(frame["dataset"].unique())
    if clash := sorted(set(keys) & set(FIXED)):
        raise UsageError(f"The dataset key {clash[0]!r} is also a column of the table; name the dataset differently.")
    if len({suite_of(name) for name in names}) > 1:
        raise UsageError(f"One table holds one suite, these are datasets of several: {', '.join(names)}.")
    if strange := [name for name in names if key_of(name) not in keys]:
        raise UsageError(f"Records of {', '.join(strange)}, which the suite's groups do not name: {', '.join(keys)}.")


def _refuse_mixtures(frame: pd.DataFrame, mixed: bool) -> None:
    """Raises UsageError where numbers that do not compare would stand in one table or be averaged in one cell."""
    for name, prints in frame.groupby("dataset")["fingerprint"]:
        if prints.nunique() > 1:
            fault = f"{prints.nunique()} fingerprints among the records: these are different data"
            raise UsageError(f"{name} has {fault}. Give each its own --out.")
    row = [*NAMES, "weights", "protocol", "protocol_digest"]
    for names, part in frame.groupby(row):
        title = " ".join(str(name) for name in list(names)[:3])
        if part["settings"].nunique() > 1:
            raise UsageError(f"{title} was run with different hyper-parameters or versions under one name.")
        if part["rule"].nunique() > 1:
            raise UsageError(f"{title} mixes the rules {', '.join(sorted(part['rule'].dropna().unique()))} in one row.")
        if (twice := part[part.duplicated(["dataset", "seed"])]).size:
            cell = f"{twice['dataset'].iloc[0]}, seed {twice['seed'].iloc[0]}"
            raise UsageError(f"{title} has more than one record of {cell}.")
    if mixed:
        return
    remedy = "compare them in separate tables, or ask for a mixed one"
    for column in ("rule", "protocol"):
        if (found := sorted(frame[column].dropna().unique()))[1:]:
            raise UsageError(f"The records follow different {column}s, {', '.join(found)}: {remedy}.")
    if frame["protocol_digest"].nunique() > 1:
        name = frame["protocol"].iloc[0]
        raise UsageError(f"The records follow different protocols under the name {name}: {remedy}.")
    for backbone, weights in frame.groupby("backbone")["weights"]:
        if weights.nunique() > 1:
            raise UsageError(f"{backbone} has different weights, {', '.join(sorted(weights.unique()))}: {remedy}.")
