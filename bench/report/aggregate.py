"""The long frame into a leaderboard: one row a (method, variant, backbone), means that refuse missing cells."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from bench.core.errors import UsageError
from bench.report.columns import MEASURES, NAMED
from bench.report.frame import key_of, seen_in_pretraining, suite_of
from bench.report.standings import Groups, Headline, Standings, datasets, score_array, weights

Row = tuple[str, str, str]  # method, variant, backbone

NAMES = ("method", "variant", "backbone")
MEANS = ("mean_datasets", "mean_groups", "ci95_low", "ci95_high", "bound_low", "bound_high")
RANKS = ("tie_group", "rank_best", "rank_worst", "ties_over")
COSTS = tuple(NAMED)
COUNTS = ("coverage", "seeds", "failed", "skipped")
ORIGIN = ("rule", "protocol", "weights")
SEEN = "seen_in_pretraining"
FIXED = (*NAMES, *MEANS, *RANKS, *COSTS, *COUNTS, *ORIGIN, SEEN)
MIXED = {  # what changes numbers and no question names, by column of the frame
    "method_sha256": "states of the method's code",
    "harness_sha256": "states of the harness",
    "weights_sha256": "weights of the backbone",
    "transform": "transforms of images",
    "torch": "versions of torch",
    "device": "devices",
    "dtype": "precisions",
}
OF_A_DATASET = ("weights_sha256", "transform")  # of which each dataset of a row has its own
SPREAD = "std_"  # before a dataset's key: the standard deviation over its seeds


def leaderboard(frame: pd.DataFrame, groups: Groups, headline: Headline, mixed: bool = False) -> pd.DataFrame:
    """One row a (method, variant, backbone), best headline first, rows with a missing dataset last.

    Accuracies and intervals are in %. A dataset's number is the mean over its seeds; every other mean is over all
    datasets of `groups`, and missing where one of them is: `bound_low` and `bound_high` then say what the headline may
    be. `ci95_*` is the interval of the headline over seeds; tie groups and ranks are those of a backbone's rows, see
    bench.report.standings. `mixed` allows several protocols, rules or weights, which then stand in rows of their own.
    Last come the spread over seeds of each dataset and, where there are some, the datasets that a row's backbone was
    pretrained on.
    """
    keys = datasets(groups)
    _refuse_strangers(frame, keys)
    refuse_mixtures(frame, mixed)
    by = [*NAMES, "weights", "protocol", "protocol_digest"]
    blocks: list[pd.DataFrame] = []
    for _, runs in frame.groupby("backbone", sort=True):
        parts = [part for _, part in runs.groupby(by, sort=True)]
        rows = [_row(part, groups, headline) for part in parts]
        blocks.append(pd.DataFrame(rows).assign(**_standing(parts, groups, headline)))
    table = pd.concat(blocks, ignore_index=True)
    marked = (SEEN,) if (table[SEEN] != "").any() else ()
    spread = [SPREAD + key for key in keys]
    table = table[[*NAMES, *keys, *MEANS, *RANKS, *COSTS, *COUNTS, *ORIGIN, *spread, *marked]]
    # the blocks are in the order of their names, and a stable sort keeps it among equals
    order = table.sort_values([*NAMES], kind="stable")
    return order.sort_values(headline, ascending=False, na_position="last", kind="stable", ignore_index=True)


def mean(values: Mapping[str, float], groups: Groups, headline: Headline) -> float:
    """The headline mean of one number a dataset; NaN where a dataset's number is missing."""
    shares = weights(groups, headline)
    return sum(shares[key] * values.get(key, math.nan) for key in shares)


def _standing(parts: list[pd.DataFrame], groups: Groups, headline: Headline) -> dict[str, Any]:
    """The columns that say where the rows of one backbone stand."""
    stand = Standings(score_array(parts, groups), groups, headline)
    columns = {
        "ci95_low": stand.mean.low,
        "ci95_high": stand.mean.high,
        "bound_low": stand.bounds[0],
        "bound_high": stand.bounds[1],
        "tie_group": stand.tie_group,
        "rank_best": stand.ranks[0],
        "rank_worst": stand.ranks[1],
        "ties_over": stand.over,
    }
    return columns | {SPREAD + key: stand.spread[:, place] for place, key in enumerate(datasets(groups))}


def _scores(done: pd.DataFrame, groups: Groups) -> dict[str, list[float]]:
    """Per dataset of the suite, the scores of the seeds that are done."""
    keys, scores = done["dataset"].map(key_of), done["score"].to_numpy(dtype=float)
    return {key: [float(score) for score in scores[keys == key]] for key in datasets(groups)}


def _row(part: pd.DataFrame, groups: Groups, headline: Headline) -> dict[str, object]:
    first, done = part.iloc[0], part[part["status"] == "done"]
    scores = _scores(done, groups)
    accuracy = {key: 100 * sum(values) / len(values) if values else math.nan for key, values in scores.items()}
    means = {name: mean(accuracy, groups, name) for name in ("mean_datasets", "mean_groups")}
    cost = {**_mean_costs(done, groups), "score": means[headline] / 100}
    rules = sorted(done["rule"].unique())
    return {
        **{name: first[name] for name in (*NAMES, "protocol", "weights")},
        **accuracy,
        **means,
        **{name: column.value(cost) for name, column in NAMED.items()},
        "coverage": sum(map(bool, scores.values())) / len(scores),
        "seeds": min((len(values) for values in scores.values() if values), default=0),
        "failed": int((part["status"] == "failed").sum()),
        "skipped": int((part["status"] == "skipped").sum()),
        "rule": rules[0] if rules else None,
        SEEN: " ".join(_seen(part)),
    }


def _seen(part: pd.DataFrame) -> list[str]:
    """The datasets among those of the records on which their backbone was pretrained."""
    pairs = zip(part["dataset"], part["pretrained_on"], strict=True)
    return sorted({key_of(name) for name, data in pairs if isinstance(data, str) and seen_in_pretraining(name, data)})


def _mean_costs(done: pd.DataFrame, groups: Groups) -> dict[str, float]:
    """The mean over the datasets that have results of the mean over seeds; NaN where a run of them lacks the number.

    Of a part of a suite it is the mean over that part, which `coverage` tells; scores alone are never averaged so.
    """
    numbers, keys = done[list(MEASURES)].to_numpy(dtype=float), done["dataset"].map(key_of).to_numpy()
    per_dataset = {key: numbers[keys == key].mean(axis=0) for key in set(keys)}
    present = [per_dataset[key] for key in datasets(groups) if key in per_dataset]
    means = np.mean(present, axis=0) if present else np.full(len(MEASURES), math.nan)
    return dict(zip(MEASURES, map(float, means), strict=True))


def _refuse_strangers(frame: pd.DataFrame, keys: tuple[str, ...]) -> None:
    names = sorted(frame["dataset"].unique())
    if clash := sorted(set(keys) & set(FIXED)):
        raise UsageError(f"The dataset key {clash[0]!r} is also a column of the table; name the dataset differently.")
    if len({suite_of(name) for name in names}) > 1:
        raise UsageError(f"One table holds one suite, these are datasets of several: {', '.join(names)}.")
    if strange := [name for name in names if key_of(name) not in keys]:
        raise UsageError(f"Records of {', '.join(strange)}, which the suite's groups do not name: {', '.join(keys)}.")


def mixtures(frame: pd.DataFrame) -> str:
    """What changes numbers and differs among the runs that a row averages, a sentence for each kind; empty without any.

    Of runs made before a thing was recorded it is unknown, which is not the same as any that is known.
    """
    scored, sentences = frame[frame["score"].notna()], list[str]()
    for column, things in MIXED.items():
        row = [*NAMES, "dataset"] if column in OF_A_DATASET else list(NAMES)
        count = scored.groupby(row)[column].nunique(dropna=False)
        if methods := sorted({str(method) for method in count[count > 1].index.get_level_values("method")}):
            sentences.append(f"Made with different {things}: the runs of {', '.join(methods)}.")
    return " ".join(sentences)


def twins(frame: pd.DataFrame) -> str:
    """The rows that look like one network: as many parameters, and the same score in every run. Empty without any.

    Two methods may be the same at the size they have here: what tells them apart is not reached, or is worth nothing.
    """
    found = defaultdict[tuple[object, ...], list[str]](list)
    for names, part in frame[frame["score"].notna()].groupby([*NAMES, "weights", "protocol_digest"]):
        method, variant, *where = map(str, names)
        runs = tuple(sorted(zip(part["dataset"], part["seed"], part["score"], part["params_method"], strict=True)))
        if part["score"].nunique() > 1:
            found[(*where, runs)].append(method if variant == "default" else f"{method} {variant}")
    return " ".join(
        f"Like one network on {row[0]}, the same score in every run and as many parameters: {', '.join(names)}."
        for row, names in found.items()
        if len(names) > 1
    )


def refuse_mixtures(frame: pd.DataFrame, mixed: bool) -> None:
    """Raises UsageError where numbers that do not compare would stand in one table or be averaged in one cell."""
    for name, prints in frame.groupby("dataset")["fingerprint"]:
        if prints.nunique() > 1:
            fault = f"{prints.nunique()} fingerprints among the records: these are different data"
            raise UsageError(f"{name} has {fault}. Give each its own --out.")
    for pair, texts in frame.groupby(["dataset", "backbone"])["texts_sha256"]:
        if texts.nunique() > 1:
            fault = f"{texts.nunique()} sets of texts among the records: their heads start from different classifiers"
            raise UsageError(f"{' with '.join(map(str, pair))} has {fault}. Give each its own --out.")
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
        if (several := sorted(frame[column].dropna().unique()))[1:]:
            raise UsageError(f"The records follow different {column}s, {', '.join(several)}: {remedy}.")
    if frame["protocol_digest"].nunique() > 1:
        name = frame["protocol"].iloc[0]
        raise UsageError(f"The records follow different protocols under the name {name}: {remedy}.")
    for backbone, found in frame.groupby("backbone")["weights"]:
        if found.nunique() > 1:
            raise UsageError(f"{backbone} has different weights, {', '.join(sorted(found.unique()))}: {remedy}.")
