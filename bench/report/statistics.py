"""What the mean of a few runs says, and what it leaves open: intervals, differences, ties, ranks; on arrays.

Scores stand in arrays of shape (..., strata, repeats), NaN where there is none. What a stratum is decides which
question an interval answers:

    over seeds      a stratum is a dataset, its repeats are the seeds: would other trainings on these datasets agree?
    over datasets   a stratum is a group, its repeats are its datasets: would other datasets like these agree?

Both are a weighted sum of means of independent strata with unequal variances, whose interval is Student's with the
degrees of freedom of Welch and Satterthwaite. A simulation chose it (tests/report/test_statistics.py): where it says
95 % it covers 93 to 97 % with 3, 5 and 10 seeds, and the percentile bootstrap 72 to 89 % with 3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import special

from bench.core.record import pe

Array = npt.NDArray[np.float64]
Booleans = npt.NDArray[np.bool_]
Adjust = Literal["holm", "none"]

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean or a difference, in the unit of the scores; every field has the shape of the scores without its last two.

    `value` is NaN where a stratum has no repeat; the interval and p are NaN where one has fewer than two.
    """

    value: Array
    low: Array
    high: Array
    p: Array  # two-sided, of the value being zero
    df: Array  # degrees of freedom; NaN where all repeats of every stratum agree


def weighted_mean(scores: npt.ArrayLike, weights: npt.ArrayLike, level: float = LEVEL) -> Estimate:
    """The weighted sum over strata of the mean over repeats, with its interval.

    `scores`: (..., strata, repeats); `weights`: (strata,), summing to one for a mean. The variance of the sum is the
    weighted sum of the variances of the means, its degrees of freedom those of Satterthwaite, "An Approximate
    Distribution of Estimates of Variance Components", Biometrics Bulletin 2 (1946), and Welch, "The Generalization of
    Student's Problem", Biometrika 34 (1947). With one stratum this is Student's interval.
    """
    values, shares = np.asarray(scores, dtype=float), np.asarray(weights, dtype=float)
    count = np.isfinite(values).sum(axis=-1)
    filled = np.where(np.isfinite(values), values, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = filled.sum(axis=-1) / np.where(count > 0, count, np.nan)
        squares = np.where(np.isfinite(values), values - means[..., None], 0.0) ** 2
        parts = shares**2 * squares.sum(axis=-1) / np.where(count > 1, (count - 1) * count, np.nan)
        value, variance = (shares * means).sum(axis=-1), parts.sum(axis=-1)
        df = variance**2 / (parts**2 / (count - 1)).sum(axis=-1)
        # rounding alone tells repeats that agree apart by some 1e-16 of their size
        certain = variance <= (1e-14 * np.abs(filled).max(axis=(-2, -1), initial=0.0)) ** 2
        df = np.where(certain, np.nan, df)
        error = np.sqrt(variance)
        half = np.where(certain, 0.0, special.stdtrit(df, (1 + level) / 2) * error)
        p = np.where(certain, np.where(value == 0, 1.0, 0.0), 2 * special.stdtr(df, -np.abs(value) / error))
    return Estimate(value, value - half, value + half, p, df)


def pairwise(scores: npt.ArrayLike, weights: npt.ArrayLike, level: float = LEVEL) -> Estimate:
    """The differences of all rows, paired repeat by repeat: element (i, j) is row i less row j.

    `scores`: (rows, strata, repeats). A repeat that one of two rows lacks is left out of their difference. Runs of one
    seed share the order of the data and the start of the head, so pairs differ by less than the rows' own spread.
    """
    values = np.asarray(scores, dtype=float)
    return stacked(
        [weighted_mean(row - values, weights, level) for row in values]
    )  # at once they would fill the memory


def stacked(rows: Sequence[Estimate]) -> Estimate:
    """Estimates of one shape as one, a new first axis before theirs."""
    return Estimate(*(np.stack([getattr(row, field.name) for row in rows]) for field in fields(Estimate)))


def by_groups(values: npt.ArrayLike, keys: Sequence[str], groups: Mapping[str, Sequence[str]]) -> Array:
    """Values (..., datasets), in the order of `keys`, as (..., groups, datasets of a group), padded with NaN.

    This makes groups the strata and datasets the repeats, each group with the weight 1 / groups; the flat mean over
    datasets is that of one group.
    """
    array = np.asarray(values, dtype=float)
    full = [members for members in groups.values() if members]
    strata = np.full((*array.shape[:-1], len(full), max(map(len, full))), np.nan)
    place = {key: index for index, key in enumerate(keys)}
    for index, members in enumerate(full):
        strata[..., index, : len(members)] = array[..., [place[key] for key in members]]
    return strata


def bootstrap_pairs(values: npt.ArrayLike, draws: int = 10_000, seed: int = 0) -> Estimate:
    """The differences of all rows of (rows, datasets) with the bootstrap interval over datasets that papers use.

    Datasets are drawn anew, the same for both rows; the interval is SciPy's BCa (Efron, "Better Bootstrap Confidence
    Intervals", JASA 82, 1987). Over 19 datasets it covers about 91 to 93 % where it says 95, over 8 about 88: it is
    here to compare with published analyses, and `pairwise` is what leaderboards use. It gives no p.
    """
    from scipy import stats

    array = np.asarray(values, dtype=float)
    rows = len(array)
    upper = np.triu_indices(rows, 1)
    differences = array[upper[0]] - array[upper[1]]
    value, low, high = np.zeros((rows, rows)), np.zeros((rows, rows)), np.zeros((rows, rows))
    if len(differences):
        found = stats.bootstrap((differences,), np.mean, axis=-1, n_resamples=draws, rng=seed, batch=1000)
        value[upper] = differences.mean(axis=-1)
        low[upper], high[upper] = found.confidence_interval.low, found.confidence_interval.high
    missing = np.full((rows, rows), np.nan)
    return Estimate(value - value.T, low - high.T, high - low.T, missing, missing)


def holm(p: npt.ArrayLike) -> Array:
    """P values (n,) adjusted for their number, so that any false claim among them has the stated probability.

    Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of Statistics 6 (1979). NaN
    stays NaN and does not count.
    """
    values = np.asarray(p, dtype=float)
    adjusted = np.full(values.shape, np.nan)
    known = np.flatnonzero(np.isfinite(values))
    order = known[np.argsort(values[known], kind="stable")]
    steps = np.arange(len(order), 0, -1) * values[order]
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def separated(pairs: Estimate, level: float = LEVEL, adjust: Adjust = "holm") -> Booleans:
    """Which pairs of rows are told apart, (rows, rows), symmetric; a pair of which too little is known is not.

    By default for all pairs at once (Holm); with "none" each pair alone, by its interval.
    """
    if adjust == "none":
        return np.asarray((pairs.low > 0) | (pairs.high < 0))
    apart = np.zeros(pairs.p.shape, dtype=bool)
    upper = np.triu_indices(len(apart), 1)
    apart[upper] = holm(pairs.p[upper]) < 1 - level
    return apart | apart.T


def tie_groups(values: npt.ArrayLike, apart: Booleans) -> Array:
    """The number of each row's tie group, (rows,), 1 for the first; NaN for a row without a value.

    The best row leads the first group, which holds every row not told apart from it; the best of the others leads the
    next. Being tied is not transitive: rows of one group are tied with its leader, not always with one another.
    """
    numbers = np.asarray(values, dtype=float)
    groups = np.full(len(numbers), np.nan)
    left = [int(row) for row in np.argsort(-numbers, kind="stable") if np.isfinite(numbers[row])]
    group = 0
    while left:
        group += 1
        leader = left[0]
        groups[[row for row in left if row == leader or not apart[leader, row]]] = group
        left = [row for row in left if np.isnan(groups[row])]
    return groups


def rank_intervals(values: npt.ArrayLike, apart: Booleans) -> tuple[Array, Array]:
    """The best and the worst rank that each row may have, (rows,) each, 1 for the first; NaN for a row without a value.

    The best is one more than the rows told apart above it, the worst the number of rows less those told apart below.
    With pairs told apart all at once, all rank intervals hold at once: Al Mohamad, Goeman and van Zwet, "Simultaneous
    Confidence Intervals for Ranks", Journal of Multivariate Analysis 188 (2022); Mogstad et al., "Inference for Ranks",
    Review of Economic Studies 91 (2024).
    """
    numbers = np.asarray(values, dtype=float)
    known = np.isfinite(numbers)
    above = apart & (numbers[None, :] > numbers[:, None])
    below = apart & (numbers[None, :] < numbers[:, None])
    best = np.where(known, 1.0 + above.sum(axis=1), np.nan)
    worst = np.where(known, known.sum() - below.sum(axis=1), np.nan)
    return best, worst


@dataclass(frozen=True)
class WinTieLoss:
    """On how many datasets the one is ahead of, equal to and behind the other, and the sign test's two-sided p."""

    wins: int
    ties: int
    losses: int
    p: float


def win_tie_loss(differences: npt.ArrayLike) -> WinTieLoss:
    """Of differences (datasets,) of means; a missing one does not count.

    Counted by sign alone: counting only what is significant on its own dataset loses power (Demšar, "Statistical
    Comparisons of Classifiers over Multiple Data Sets", JMLR 7, 2006, section 3.1.4). The sign test leaves out ties.
    """
    from scipy import stats

    signs = np.sign(np.asarray(differences, dtype=float))
    wins, ties, losses = (int((signs == sign).sum()) for sign in (1, 0, -1))
    p = float(stats.binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0
    return WinTieLoss(wins, ties, losses, p)


def bounds(values: npt.ArrayLike, weights: npt.ArrayLike, low: float = 0.0, high: float = 100.0) -> tuple[Array, Array]:
    """The least and the greatest weighted mean of values (..., datasets) whatever the missing ones (NaN) are.

    Missing values lie between `low` and `high`, in the unit of the values; nothing is filled in (Manski,
    "Nonparametric Bounds on Treatment Effects", American Economic Review 80, 1990).
    """
    array, shares = np.asarray(values, dtype=float), np.asarray(weights, dtype=float)
    worst, best = (np.where(np.isfinite(array), array, end) for end in (low, high))
    return (shares * worst).sum(axis=-1), (shares * best).sum(axis=-1)


def pe_sensitivity(
    scores: Sequence[float], trained: Sequence[float], scales: Sequence[float] = (1e6, 1e7, 1e8, 1e9)
) -> tuple[Array, Array]:
    """How much of the order by PE is due to its constant: PE (scales, rows), and Kendall's tau (scales,) to 1e8.

    The literature divides P by 1e8 (ELEVATER) and by 1e7 (V-PETL Bench's PPT); a tau below one says that the constant
    alone reorders the rows. Kendall, "A New Measure of Rank Correlation", Biometrika 30 (1938). Tau is NaN where fewer
    than two rows have a score, or all are equal.
    """
    from scipy import stats

    def row(scale: float) -> list[float]:
        return [pe(score, count, scale) for score, count in zip(scores, trained, strict=True)]

    usual = np.asarray(row(1e8))
    table = np.asarray([row(scale) for scale in scales]).reshape(len(scales), len(usual))
    known = np.isfinite(usual)
    if known.sum() < 2:
        return table, np.full(len(scales), np.nan)
    return table, np.asarray([float(stats.kendalltau(usual[known], each[known]).statistic) for each in table])


def pareto(cost: Sequence[float], score: Sequence[float]) -> list[int]:
    """Indices, least cost first, of the points that none beats: by costing no more and scoring no less."""
    finite = [i for i in range(len(cost)) if math.isfinite(cost[i]) and math.isfinite(score[i])]
    front: list[int] = []
    for i in sorted(finite, key=lambda i: (cost[i], -score[i])):
        if not front or score[i] > score[front[-1]] or (cost[i], score[i]) == (cost[front[-1]], score[front[-1]]):
            front.append(i)
    return front


def tied_with_front(cost: Sequence[float], score: Sequence[float], apart: Booleans) -> list[int]:
    """Indices of the points off the front that no point of at most their cost is told apart from above."""
    costs, scores = np.asarray(cost, dtype=float), np.asarray(score, dtype=float)
    beaten = apart & (costs[None, :] <= costs[:, None]) & (scores[None, :] > scores[:, None])
    known = np.isfinite(costs) & np.isfinite(scores)
    front = set(pareto(cost, score))
    return [int(i) for i in np.flatnonzero(known & ~beaten.any(axis=1)) if int(i) not in front]
