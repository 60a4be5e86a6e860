"""Two rows of a leaderboard compared: what differs in accuracy, seed by seed, and what differs in cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bench.core.errors import UsageError
from bench.report import statistics
from bench.report.aggregate import MIXED, leaderboard
from bench.report.cells import DASH, aligned, missing, one, three
from bench.report.columns import NAMED
from bench.report.standings import Groups, Headline, Standings, datasets, over_datasets, score_array
from bench.report.statistics import Estimate, WinTieLoss

OF_DEVICE = (
    "train_seconds",
    "train_images_per_second",
    "inference_images_per_second",
    "merged_images_per_second",
    "peak_mb",
    "peak_inference_mb",
)
SHOWN = ("params_trained", "gflops_unmerged", "gflops_merged", "storage_mb", "train_mb", "inference_mb", *OF_DEVICE)


@dataclass(frozen=True)
class Difference:
    """Of two means in percentage points, first less second; NaN where too little was repeated."""

    value: float
    low: float  # of the 95 % interval
    high: float
    p: float  # two-sided

    def __str__(self) -> str:
        if missing(self.value):
            return DASH
        interval = "" if missing(self.low) else f" [{self.low:+.2f}, {self.high:+.2f}]"
        return f"{self.value:+.2f}{interval}" + ("" if missing(self.p) else f", {p_value(self.p)}")


@dataclass(frozen=True)
class Comparison:
    """What `first` has over `second`, in percentage points of accuracy."""

    first: str
    second: str
    board: str  # title of the suite, backbone, protocol
    headline: Headline
    over_seeds: Difference  # of the headline: would other trainings on these datasets agree?
    over_datasets: Difference  # would other datasets like these agree?
    bootstrap: Difference  # over datasets, of mean_datasets, as many papers give it; its interval is too narrow
    by_dataset: pd.DataFrame  # dataset, first, second, difference, low, high, p, p_holm, seeds
    count: WinTieLoss  # of datasets
    costs: pd.DataFrame  # cost, first, second, ratio (first / second)
    notes: tuple[str, ...] = ()

    def to_frame(self) -> pd.DataFrame:
        """A row a dataset, then one a mean, of dataset, first, second, difference, low, high, p, p_holm and seeds."""
        kinds = {"over seeds": self.over_seeds, "over datasets": self.over_datasets}
        means = [
            {"dataset": f"{self.headline}, {kind}", "difference": d.value, "low": d.low, "high": d.high, "p": d.p}
            for kind, d in kinds.items()
        ]
        return pd.concat([self.by_dataset, pd.DataFrame(means)], ignore_index=True)

    def text(self) -> str:
        """For a terminal, of whole sentences and two tables."""
        count = f"{self.first} wins on {self.count.wins}, ties on {self.count.ties}, loses on {self.count.losses}"
        lines = [
            f"{self.first} less {self.second}: {self.board}",
            "",
            f"{self.headline.replace('_', ' over ')}, in points of accuracy with 95 % intervals:",
            f"  over seeds     {self.over_seeds}",
            f"  over datasets  {self.over_datasets}",
            *([] if missing(self.bootstrap.low) else [f"  bootstrap of the mean over datasets  {self.bootstrap}"]),
            f"{count}; sign test {p_value(self.count.p)}.",
            *self.notes,
            "",
            aligned({name: _cells(self.by_dataset, name) for name in self.by_dataset.columns}),
            "",
            aligned({name: _cells(self.costs, name) for name in self.costs.columns}),
        ]
        return "\n".join(lines)


def p_value(p: float) -> str:
    """`p = 0.012`; of what rounds to nothing, `p < 0.001`."""
    return "p < 0.001" if p < 0.0005 else f"p = {p:.3f}"


def _p_cell(p: float) -> str:
    return p_value(p).removeprefix("p ").removeprefix("= ")


def compare(
    runs: pd.DataFrame, groups: Groups, headline: Headline, first: str, second: str, title: str = ""
) -> Comparison:
    """Compares two rows of one leaderboard; `runs` is the long frame of one suite, protocol and backbone.

    A row is named by its method, or METHOD:VARIANT. Differences are taken seed by seed over the seeds both have. Raises
    UsageError where a name fits no row or several, or both the same.
    """
    names = rows_of(runs)
    chosen = [choose(name, names) for name in (first, second)]
    if chosen[0] == chosen[1]:
        raise UsageError(f"{first} and {second} are the same row, {label(chosen[0])}.")
    parts = [runs[(runs["method"] == method) & (runs["variant"] == variant)] for method, variant in chosen]
    stand = Standings(score_array(parts, groups), groups, headline)
    labels = label(chosen[0]), label(chosen[1])
    table = _by_dataset(stand)
    return Comparison(
        first=labels[0],
        second=labels[1],
        board=", ".join(name for name in (title, *_said(runs, ("backbone", "protocol"))) if name),
        headline=headline,
        over_seeds=_first_pair(statistics.pairwise(stand.scores, stand.weights)),
        over_datasets=_first_pair(over_datasets(stand.scores, groups, headline)),
        bootstrap=_bootstrap(table),
        by_dataset=table,
        count=statistics.win_tie_loss(table["difference"]),
        costs=_costs(parts, groups, headline),
        notes=tuple(_notes(stand, parts, labels)),
    )


def rows_of(runs: pd.DataFrame) -> list[tuple[str, str]]:
    """Method and variant of every row, sorted."""
    return sorted({(str(m), str(v)) for m, v in zip(runs["method"], runs["variant"], strict=True)})


def choose(name: str, rows: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """The row that METHOD or METHOD:VARIANT names. Raises UsageError where there is none, or more than one."""
    method, _, variant = name.partition(":")
    found = [row for row in rows if row[0] == method and (not variant or row[1] == variant)]
    if (method, "default") in found and not variant:
        return method, "default"
    if len(found) == 1:
        return found[0]
    known = ", ".join(f"{m}:{v}" if v != "default" else m for m, v in (found or rows))
    raise UsageError(f"{name!r} names {'several rows' if found else 'no row'}: choose among {known}.")


def has(runs: pd.DataFrame, name: str) -> bool:
    """Whether some row's method, and its variant where one is given, are those of METHOD or METHOD:VARIANT."""
    method, _, variant = name.partition(":")
    return any(row[0] == method and (not variant or row[1] == variant) for row in rows_of(runs))


def label(row: tuple[str, str]) -> str:
    return row[0] if row[1] == "default" else f"{row[0]} ({row[1]})"


def _by_dataset(stand: Standings) -> pd.DataFrame:
    difference = statistics.weighted_mean((stand.scores[0] - stand.scores[1])[:, None, :], [1.0])
    return pd.DataFrame(
        {
            "dataset": datasets(stand.groups),
            "first": stand.cells.value[0],
            "second": stand.cells.value[1],
            "difference": difference.value,
            "low": difference.low,
            "high": difference.high,
            "p": difference.p,
            "p_holm": statistics.holm(difference.p),
            "seeds": np.isfinite(stand.scores[0] - stand.scores[1]).sum(axis=1),
        }
    )


def _bootstrap(by_dataset: pd.DataFrame) -> Difference:
    differences = by_dataset["difference"].to_numpy(dtype=float)
    if not np.isfinite(differences).all() or len(differences) < 3 or np.ptp(differences) == 0:
        return Difference(*[float("nan")] * 4)
    return _first_pair(statistics.bootstrap_pairs([differences, np.zeros(len(differences))]))


def _first_pair(pairs: Estimate) -> Difference:
    return Difference(*(float(numbers[0, 1]) for numbers in (pairs.value, pairs.low, pairs.high, pairs.p)))


def _costs(parts: Sequence[pd.DataFrame], groups: Groups, headline: Headline) -> pd.DataFrame:
    rows = [leaderboard(part, groups, headline).iloc[0] for part in parts]
    first, second = ([float(row[name]) for name in SHOWN] for row in rows)
    costs = pd.DataFrame({"cost": SHOWN, "first": first, "second": second})
    return costs.assign(ratio=costs["first"] / costs["second"].where(costs["second"] != 0))


def _notes(stand: Standings, parts: Sequence[pd.DataFrame], labels: Sequence[str]) -> list[str]:
    notes: list[str] = []
    for row, name in enumerate(labels):
        if gone := [
            key for key, value in zip(datasets(stand.groups), stand.cells.value[row], strict=True) if missing(value)
        ]:
            low, high = stand.bounds[0][row], stand.bounds[1][row]
            notes.append(f"{name} lacks {', '.join(gone)}: its mean may be {low:.1f} to {high:.1f}.")
    devices = [set(part["device_name"].dropna()) for part in parts]
    if devices[0] != devices[1]:
        names = " and on ".join(", ".join(sorted(names)) or "an unknown device" for names in devices)
        notes.append(f"Times and memory do not compare: they were measured on {names}.")
    for column, things in MIXED.items():
        of_each = [set(part.loc[part["score"].notna(), column].fillna("unknown")) for part in parts]
        if column != "method_sha256" and of_each[0] != of_each[1]:
            notes.append(f"Made with different {things}.")
    return notes


def _said(runs: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    return [", ".join(sorted(map(str, runs[column].unique()))) for column in columns]


def _cells(rows: pd.DataFrame, name: str) -> list[str]:
    if name in ("dataset", "cost"):
        return [str(value) for value in rows[name]]
    if name == "seeds":
        return [f"{value:.0f}" for value in rows[name]]
    if "cost" in rows.columns:
        shows = [three if name == "ratio" else NAMED[cost].show for cost in rows["cost"]]
        return [DASH if missing(value) else show(value) for show, value in zip(shows, rows[name], strict=True)]
    shown = {"first": one, "second": one, "p": _p_cell, "p_holm": _p_cell}.get(name, "{:+.2f}".format)
    return [DASH if missing(value) else shown(float(value)) for value in rows[name]]
