"""Where the rows of one leaderboard stand: the mean that ranks them, its interval, their ties and possible ranks.

Scores are arrays (rows, datasets, seeds) in %, NaN where a run is missing; datasets stand in the order of the groups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.report import statistics
from bench.report.frame import key_of
from bench.report.statistics import Array, Booleans, Estimate

Groups = Mapping[str, tuple[str, ...]]
Headline = Literal["mean_datasets", "mean_groups"]
Over = Literal["seeds", "datasets", ""]
FEWEST = 4  # datasets of a group, without which their spread says too little


def datasets(groups: Groups) -> tuple[str, ...]:
    """The short keys of a suite's datasets, in the order of its groups."""
    return tuple(key for keys in groups.values() for key in keys)


def weights(groups: Groups, headline: Headline) -> dict[str, float]:
    """Of each dataset in the headline mean; they sum to one."""
    if headline == "mean_datasets":
        keys = datasets(groups)
        return {key: 1 / len(keys) for key in keys}
    full = [keys for keys in groups.values() if keys]
    return {key: 1 / len(full) / len(keys) for keys in full for key in keys}


def score_array(parts: Sequence[pd.DataFrame], groups: Groups) -> Array:
    """The scores of finished runs in %, (parts, datasets, seeds), one part of the long frame a row.

    The seeds are those of all parts together, in ascending order, so that a place in the array is the same seed in
    every row.
    """
    keys = {key: place for place, key in enumerate(datasets(groups))}
    done = [part[part["status"] == "done"] for part in parts]
    seeds = {seed: place for place, seed in enumerate(sorted({int(s) for part in done for s in part["seed"]}))}
    scores = np.full((len(parts), len(keys), len(seeds)), np.nan)
    for row, part in enumerate(done):
        places = [keys[key_of(str(name))] for name in part["dataset"]]
        scores[row, places, [seeds[int(seed)] for seed in part["seed"]]] = 100 * part["score"].to_numpy(dtype=float)
    return scores


@dataclass(frozen=True)
class Standings:
    """The rows of one leaderboard, which share datasets, groups, backbone and protocol."""

    scores: Array  # (rows, datasets, seeds) in %
    groups: Groups
    headline: Headline

    @property
    def weights(self) -> list[float]:
        """Of each dataset in the mean that ranks."""
        return list(weights(self.groups, self.headline).values())

    @cached_property
    def mean(self) -> Estimate:
        """The mean that ranks, in %, its interval over seeds; both missing where a dataset is."""
        return statistics.weighted_mean(self.scores, self.weights)

    @cached_property
    def over(self) -> Over:
        """What ties and ranks allow for: other seeds, where every complete row has two; else other datasets.

        Empty where neither is repeated enough for anything to be said.
        """
        complete = np.isfinite(self.mean.value)
        if not complete.any():
            return ""
        if np.isfinite(self.mean.low[complete]).all():
            return "seeds"
        return "datasets" if min(map(len, strata(self.groups, self.headline).values())) >= FEWEST else ""

    @cached_property
    def pairs(self) -> Estimate:
        """The difference of every two rows in the mean that ranks, (rows, rows), over seeds or datasets."""
        if self.over != "datasets":
            return statistics.pairwise(self.scores, self.weights)
        return over_datasets(self.scores, self.groups, self.headline)

    @cached_property
    def apart(self) -> Booleans:
        """Which rows are told apart, at 95 % for all pairs of the leaderboard at once (Holm)."""
        return statistics.separated(self.pairs)

    @cached_property
    def tie_group(self) -> Array:
        return statistics.tie_groups(self.mean.value, self.apart) if self.over else self._unknown

    @cached_property
    def ranks(self) -> tuple[Array, Array]:
        """The best and the worst rank each row may have."""
        unknown = self._unknown
        return statistics.rank_intervals(self.mean.value, self.apart) if self.over else (unknown, unknown)

    @property
    def _unknown(self) -> Array:
        return np.full(len(self.scores), np.nan)

    @cached_property
    def cells(self) -> Estimate:
        """Of each row and dataset the mean over seeds in %, (rows, datasets), with its interval."""
        return statistics.weighted_mean(self.scores[:, :, None, :], [1.0])

    @cached_property
    def spread(self) -> Array:
        """The standard deviation over seeds in %, (rows, datasets); NaN with fewer than two."""
        count = np.isfinite(self.scores).sum(axis=-1, keepdims=True)
        means = np.nansum(self.scores, axis=-1, keepdims=True) / np.maximum(count, 1)
        squares = np.nansum((self.scores - means) ** 2, axis=-1)
        return np.sqrt(squares / np.where(count[..., 0] > 1, count[..., 0] - 1, np.nan))

    @cached_property
    def best_cells(self) -> npt.NDArray[np.bool_]:
        """The best of every dataset, and what its paired 95 % interval does not tell from it, (rows, datasets).

        The best alone where a run without a second seed leaves that open.
        """
        values = self.cells.value
        best = np.zeros(values.shape, dtype=bool)
        for column in np.flatnonzero(np.isfinite(values).any(axis=0)):
            leader = int(np.nanargmax(values[:, column]))
            pairs = statistics.weighted_mean((self.scores[leader] - self.scores)[:, column, None, :], [1.0])
            known = np.isfinite(pairs.low[np.isfinite(values[:, column])]).all()
            best[:, column] = (values[:, column] == values[leader, column]) | (known & (pairs.low <= 0))
        return best

    @cached_property
    def bounds(self) -> tuple[Array, Array]:
        """The least and the greatest mean in % that a row with missing datasets may have; the mean of a whole row."""
        return statistics.bounds(self.cells.value, self.weights)


def strata(groups: Groups, headline: Headline) -> Groups:
    """Within which datasets are alike: the groups of a mean over groups; all of them of a mean over datasets."""
    if headline == "mean_groups":
        return {name: keys for name, keys in groups.items() if keys}
    return {"all": datasets(groups)}


def over_datasets(scores: Array, groups: Groups, headline: Headline) -> Estimate:
    """The differences (rows, rows) of the mean that ranks, its interval over datasets.

    Of every dataset two rows differ by the mean over the seeds that both have.
    """
    alike = strata(groups, headline)
    shares = [1 / len(alike)] * len(alike)

    def differences(row: Array) -> Estimate:
        means = statistics.weighted_mean((row - scores)[:, :, None, :], [1.0]).value
        # a mean over the datasets that are there would be another mean
        whole = np.where(np.isfinite(means).all(axis=1, keepdims=True), means, np.nan)
        return statistics.weighted_mean(statistics.by_groups(whole, datasets(groups), alike), shares)

    return statistics.stacked([differences(row) for row in scores])
