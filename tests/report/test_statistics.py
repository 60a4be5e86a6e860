"""bench.report.statistics: intervals that cover what they say, and differences, ties and ranks against oracles."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import scipy.stats

from bench.core.record import pe
from bench.report import statistics
from bench.report.statistics import Estimate, pairwise, separated, weighted_mean

ROOT = Path(__file__).parents[2]
OSU = ROOT / "results" / "published" / "osu_vtab1k.csv"
VTAB = {"natural": 7, "specialized": 4, "structured": 8}
SPREADS = {  # standard deviations of the datasets, and their weights in the mean
    "one dataset": ([1.0], [1.0]),
    "eight alike": ([1.0] * 8, [1 / 8] * 8),
    "pocket, by groups": ([0.5, 1, 1, 0.8, 1, 3, 1, 1], [1 / 6] * 4 + [1 / 12] * 4),
    "one to ten": (list(np.geomspace(1, 10, 8)), [1 / 8] * 8),
    "one rules the mean": ([10.0] + [0.5] * 7, [1 / 8] * 8),
    "VTAB, by groups": (list(np.geomspace(0.3, 5, 19)), [1 / 3 / n for n in VTAB.values() for _ in range(n)]),
}


def coverage(estimate: Estimate, truth: float) -> float:
    return float(((estimate.low <= truth) & (truth <= estimate.high)).mean())


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("name", SPREADS)
def test_95_percent_intervals_of_the_mean_cover_93_to_97_percent(name: str, seeds: int) -> None:
    spread, weights = (np.asarray(values) for values in SPREADS[name])
    levels = np.linspace(30, 90, len(spread))
    rng = np.random.default_rng(seeds)
    scores = levels[:, None] + spread[:, None] * rng.normal(size=(20_000, len(spread), seeds))
    assert 0.93 <= coverage(weighted_mean(scores, weights), float(weights @ levels)) <= 0.97


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_95_percent_intervals_of_paired_differences_cover_93_to_97_percent(seeds: int) -> None:
    """The two rows share what a seed decides, and have spreads of their own besides."""
    spread, weights = (np.asarray(values) for values in SPREADS["pocket, by groups"])
    rng = np.random.default_rng(seeds)
    shared, one, other = spread[:, None] * rng.normal(size=(3, 20_000, len(spread), seeds))
    difference = weighted_mean((70 + shared + one) - (69 + shared + 2 * other), weights)
    assert 0.93 <= coverage(difference, 1.0) <= 0.97


@pytest.mark.parametrize("sizes", [(7, 4, 8), (2, 2, 4), (19,)])
def test_95_percent_intervals_over_datasets_cover_93_to_97_percent(sizes: tuple[int, ...]) -> None:
    keys = [f"{group}.{index}" for group, size in enumerate(sizes) for index in range(size)]
    groups = {str(group): [key for key in keys if key.startswith(f"{group}.")] for group in range(len(sizes))}
    values = np.random.default_rng(0).normal(size=(20_000, len(keys)))
    strata = statistics.by_groups(values, keys, groups)
    assert 0.93 <= coverage(weighted_mean(strata, [1 / len(sizes)] * len(sizes)), 0.0) <= 0.97


def test_a_percentile_bootstrap_would_cover_less() -> None:
    """Why the interval is Student's: of three seeds, SciPy's bootstrap covers far less than it says."""
    scores = np.random.default_rng(0).normal(size=(400, 8, 3))
    samples = tuple(scores[:, dataset] for dataset in range(8))
    found = scipy.stats.bootstrap(
        samples,
        lambda *parts, axis: sum(part.mean(axis) for part in parts) / 8,
        axis=-1,
        method="percentile",
        n_resamples=500,
        rng=0,
    ).confidence_interval
    assert 0.8 < ((found.low <= 0) & (found.high >= 0)).mean() < 0.91


def test_one_stratum_gives_the_interval_and_p_of_scipys_t_test() -> None:
    sample = np.random.default_rng(1).normal(0.3, 1, 7)
    test = scipy.stats.ttest_1samp(sample, 0)
    found = weighted_mean(sample[None], [1])
    assert (found.low, found.high) == pytest.approx(tuple(test.confidence_interval(0.95)))
    assert (found.p, found.df) == pytest.approx((test.pvalue, 6))


def test_two_strata_give_scipys_welch_test() -> None:
    """A difference of two means is a sum of two strata with the weights 1 and -1."""
    rng = np.random.default_rng(2)
    one, other = rng.normal(0, 1, 6), rng.normal(0.5, 4, 4)
    scores = np.full((2, 6), np.nan)
    scores[0], scores[1, :4] = one, other
    found = weighted_mean(scores, [1, -1])
    test = scipy.stats.ttest_ind(one, other, equal_var=False)
    assert (found.p, found.df) == pytest.approx((test.pvalue, test.df))
    assert (found.low, found.high) == pytest.approx(tuple(test.confidence_interval(0.95)))


def test_pairs_are_paired_seed_by_seed_over_those_that_both_have() -> None:
    rng = np.random.default_rng(3)
    scores = rng.normal(size=(3, 1, 6))
    scores[2, 0, 4] = np.nan
    found = pairwise(scores, [1])
    whole = scipy.stats.ttest_rel(scores[0, 0], scores[1, 0])
    shared = scipy.stats.ttest_rel(np.delete(scores[0, 0], 4), np.delete(scores[2, 0], 4))
    assert (found.p[0, 1], found.p[0, 2]) == pytest.approx((whole.pvalue, shared.pvalue))
    assert found.value == pytest.approx(-found.value.T)
    assert found.low == pytest.approx(-found.high.T)


def test_one_repeat_has_a_value_and_no_interval() -> None:
    found = weighted_mean([[[60.0, 62.0], [50.0, np.nan]], [[60.0, 62.0], [np.nan, np.nan]]], [0.5, 0.5])
    assert found.value[0] == 55.5
    assert np.isnan(found.value[1])
    assert np.isnan([found.low, found.high, found.p]).all()


def test_repeats_that_agree_leave_nothing_open() -> None:
    found = weighted_mean([[[0.7, 0.7, 0.7]], [[0.0, 0.0, 0.0]], [[0.1 + 0.2, 0.3, 0.3]]], [1])
    assert found.low == pytest.approx(found.value)
    assert found.high == pytest.approx(found.value)
    assert list(found.p) == [0, 1, 0]


def test_the_weights_are_those_of_the_mean_that_ranks() -> None:
    values = np.asarray([90.0, 80, 60, 40, 30, 50, 20, 40])
    keys = list("abcdefgh")
    groups = {"natural": "ab", "specialized": "cd", "structured": "efgh"}
    strata = statistics.by_groups(values, keys, groups)
    assert strata.shape == (3, 4)
    assert weighted_mean(strata, [1 / 3] * 3).value == pytest.approx((85 + 50 + 35) / 3)
    assert weighted_mean(statistics.by_groups(values, keys, {"all": keys}), [1]).value == pytest.approx(values.mean())


# The best public data: 14 methods on the 19 tasks of VTAB-1k, one number each (OSU-MLB/ViT_PEFT_Vision, CVPR 2025).


@pytest.fixture(scope="module")
def osu() -> pd.DataFrame:
    """Methods x datasets, best mean first."""
    rows = pd.read_csv(OSU).pivot(index="method", columns="dataset", values="accuracy_last_epoch")
    rows = rows.drop(index=["full", "linear"])
    return rows.loc[rows.mean(axis=1).sort_values(ascending=False).index]


def counts(means: npt.ArrayLike, apart: npt.NDArray[np.bool_]) -> tuple[int, int, int]:
    """Neighbouring ranks that are ties, pairs told apart, and methods tied for the first place."""
    neighbours = sum(not apart[row, row + 1] for row in range(len(apart) - 1))
    first = statistics.tie_groups(means, apart) == 1
    return neighbours, int(np.triu(apart, 1).sum()), int(first.sum())


@pytest.mark.parametrize("seed", [0, 1])
def test_the_bootstrap_over_datasets_gives_the_published_ties_of_osu(osu: pd.DataFrame, seed: int) -> None:
    apart = separated(statistics.bootstrap_pairs(osu, seed=seed), adjust="none")
    assert apart.shape == (14, 14) and len(osu) * (len(osu) - 1) // 2 == 91
    assert counts(osu.mean(axis=1), apart) == (12, 53, 8)


def test_intervals_that_cover_tell_fewer_pairs_of_osu_apart(osu: pd.DataFrame) -> None:
    strata = statistics.by_groups(osu, list(osu.columns), {"all": list(osu.columns)})
    pairs = pairwise(strata, [1])
    one, other = osu.iloc[0], osu.iloc[3]
    assert pairs.p[0, 3] == pytest.approx(scipy.stats.ttest_rel(one, other).pvalue)
    assert counts(osu.mean(axis=1), separated(pairs, adjust="none")) == (12, 41, 8)
    assert counts(osu.mean(axis=1), separated(pairs)) == (13, 10, 13)


def test_the_bootstrap_is_antisymmetric_and_centred(osu: pd.DataFrame) -> None:
    found = statistics.bootstrap_pairs(osu.iloc[:4], draws=999)
    assert found.value == pytest.approx(np.subtract.outer(*[osu.iloc[:4].mean(axis=1).to_numpy()] * 2))
    assert found.low == pytest.approx(-found.high.T)
    assert (found.low <= found.value).all() and (found.value <= found.high).all()


# ties and ranks ------------------------------------------------------------------------------------------------------


def test_holm_is_the_sharpest_bonferroni_of_every_subset() -> None:
    """The closed test: p of one claim is the largest, over sets that hold it, of the set's size times its smallest p."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        p = rng.uniform(0, 0.3, 5)
        sets = [s for size in range(1, 6) for s in itertools.combinations(range(5), size)]
        closed = [max(min(1, len(s) * min(p[i] for i in s)) for s in sets if claim in s) for claim in range(5)]
        assert statistics.holm(p) == pytest.approx(closed)
    with_gap = statistics.holm([0.01, np.nan, 0.02])
    assert with_gap == pytest.approx([0.02, np.nan, 0.02], nan_ok=True)


def test_few_equal_methods_are_told_apart_wrongly_when_all_pairs_are_tested() -> None:
    scores = np.random.default_rng(0).normal(size=(400, 6, 4, 3))
    pairs = [pairwise(board, [0.25] * 4) for board in scores]
    assert np.mean([separated(pair).any() for pair in pairs]) < 0.07
    assert np.mean([separated(pair, adjust="none").any() for pair in pairs]) > 0.2


def test_rank_intervals_hold_the_true_ranks() -> None:
    truth, rng = np.arange(8) * 0.7, np.random.default_rng(0)
    held = []
    for _ in range(300):
        scores = truth[:, None, None] + rng.normal(size=(8, 4, 3))
        means = scores.mean(axis=(1, 2))
        best, worst = statistics.rank_intervals(means, separated(pairwise(scores, [0.25] * 4)))
        ranks = 8 - np.arange(8)
        held.append(((best <= ranks) & (ranks <= worst)).all())
    assert np.mean(held) > 0.93


def test_ranks_and_groups_of_four_by_hand() -> None:
    """The fourth row is so uncertain that it ties with all; the third is told apart from the first alone."""
    apart = np.zeros((5, 5), dtype=bool)
    apart[0, 2] = apart[2, 0] = True
    values = [90, 85, 80, 70, math.nan]
    best, worst = statistics.rank_intervals(values, apart)
    assert list(best[:4]) == [1, 1, 2, 1] and list(worst[:4]) == [3, 4, 4, 4]
    assert list(statistics.tie_groups(values, apart)[:4]) == [1, 1, 2, 1]
    assert np.isnan([best[4], worst[4], statistics.tie_groups(values, apart)[4]]).all()


def test_wins_ties_and_losses_and_the_sign_test() -> None:
    found = statistics.win_tie_loss([1, 2, 0.5, 3, -1, 0, math.nan])
    assert (found.wins, found.ties, found.losses) == (4, 1, 1)
    assert found.p == pytest.approx(2 * (5 + 1) / 2**5)
    assert statistics.win_tie_loss([0, 0]).p == 1


def test_a_missing_dataset_leaves_bounds() -> None:
    low, high = statistics.bounds([[80, np.nan, 50], [80, 70, 50]], [0.5, 0.25, 0.25])
    assert list(low) == [52.5, 70] and list(high) == [77.5, 70]


# cost ----------------------------------------------------------------------------------------------------------------


def test_pe_is_that_of_elevater() -> None:
    assert pe(1.0, 0) == 1.0
    assert pe(0.8, 100e6) == pytest.approx(0.8 * 0.7401, abs=1e-4)


def test_the_constant_of_pe_alone_can_turn_the_order() -> None:
    table, tau = statistics.pe_sensitivity([0.80, 0.78, 0.7], [20e6, 1e5, 1e4], (1e7, 1e8, 1e9))
    assert table[1, 0] == pytest.approx(0.80 * math.exp(-math.log10(1.2)))
    assert tau[1] == 1
    assert [int(np.argmax(row)) for row in table] == [1, 1, 0]
    assert tau[2] == pytest.approx(scipy.stats.kendalltau(table[1], table[2]).statistic) and tau[2] < 1
    assert np.isnan(statistics.pe_sensitivity([0.5], [1e5])[1]).all()


def test_the_front_is_what_brute_force_finds() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        cost, score = rng.integers(0, 6, 12).tolist(), rng.integers(0, 6, 12).tolist()
        free = [
            i
            for i in range(12)
            if not any(
                cost[j] <= cost[i] and score[j] >= score[i] and (cost[j], score[j]) != (cost[i], score[i])
                for j in range(12)
            )
        ]
        found = statistics.pareto(cost, score)
        assert sorted(found) == free
        assert [cost[i] for i in found] == sorted(cost[i] for i in free)
    assert statistics.pareto([1, math.nan, 2], [0.5, 0.9, math.nan]) == [0]


def test_a_point_ties_with_the_front_unless_something_no_dearer_is_told_apart_above_it() -> None:
    cost, score = [1, 2, 3, 2, math.nan], [50, 60, 58, 40, 90]
    apart = np.zeros((5, 5), dtype=bool)
    apart[1, 3] = apart[3, 1] = True
    assert statistics.pareto(cost, score) == [0, 1]
    assert statistics.tied_with_front(cost, score, apart) == [2]
