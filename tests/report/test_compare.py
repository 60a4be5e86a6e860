"""bench.report.compare: differences seed by seed against SciPy's paired tests, and what differs in cost."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from helpers.records import GROUPS, KEYS, PROVENANCE, make

from bench import report
from bench.cli.main import main
from bench.core.errors import UsageError
from bench.core.record import Record
from bench.report.compare import Comparison, compare
from bench.report.frame import frame
from bench.report.standings import Headline

POCKET = Path(__file__).parents[2] / "results" / "pocket-v1"
SEEDS = range(4)


def scores(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shared = rng.normal(0.5, 0.05, (len(KEYS), len(SEEDS)))
    return {name: shared + rng.normal(level, 0.02, shared.shape) for name, level in (("lora", 0.03), ("mimi", 0.0))}


def records(found: dict[str, np.ndarray]) -> list[Record]:
    trained = {"lora": 2000, "mimi": 500}
    return [
        make(
            name, key, seed, float(values[place, seed]), trained=trained[name], merged=10**9 if name == "lora" else None
        )
        for name, values in found.items()
        for place, key in enumerate(KEYS)
        for seed in SEEDS
    ]


def compared(headline: Headline = "mean_datasets") -> tuple[Comparison, dict[str, np.ndarray]]:
    found = scores()
    return compare(frame(records(found)), GROUPS, headline, "lora", "mimi", "Pocket"), found


def test_each_dataset_has_scipys_paired_test() -> None:
    comparison, found = compared()
    for place, row in comparison.by_dataset.iterrows():
        one, other = 100 * found["lora"][place], 100 * found["mimi"][place]
        test = scipy.stats.ttest_rel(one, other)
        interval = test.confidence_interval(0.95)
        assert row["difference"] == pytest.approx((one - other).mean())
        assert (row["p"], row["low"], row["high"]) == pytest.approx((test.pvalue, interval.low, interval.high))
        assert row["seeds"] == len(SEEDS)
    assert (comparison.by_dataset["p_holm"] >= comparison.by_dataset["p"]).all()


def test_over_datasets_is_scipys_paired_test_of_their_means() -> None:
    comparison, found = compared()
    test = scipy.stats.ttest_rel(100 * found["lora"].mean(axis=1), 100 * found["mimi"].mean(axis=1))
    assert comparison.over_datasets.p == pytest.approx(test.pvalue)
    assert comparison.bootstrap.low < comparison.over_datasets.value < comparison.bootstrap.high


@pytest.mark.parametrize("headline", ["mean_datasets", "mean_groups"])
def test_the_difference_is_that_of_the_means_that_rank(headline: Headline) -> None:
    comparison, found = compared(headline)
    means = pd.DataFrame({name: 100 * values.mean(axis=1) for name, values in found.items()}, index=list(KEYS))
    if headline == "mean_groups":
        means = means.groupby({key: group for group, keys in GROUPS.items() for key in keys}).mean()
    expected = means["lora"].mean() - means["mimi"].mean()
    assert comparison.over_seeds.value == pytest.approx(expected)
    assert comparison.over_seeds.low < expected < comparison.over_seeds.high
    last = comparison.to_frame().iloc[-2:]
    assert list(last["dataset"]) == [f"{headline}, over seeds", f"{headline}, over datasets"]
    assert list(last["difference"]) == pytest.approx([expected, expected])


def test_what_differs_in_cost_is_a_ratio() -> None:
    comparison, _ = compared()
    costs = comparison.costs.set_index("cost")
    assert costs.loc["params_trained", ["first", "second", "ratio"]].tolist() == pytest.approx([2200, 700, 2200 / 700])
    assert np.isnan(costs.loc["gflops_merged", "ratio"])


def test_only_seeds_that_both_have_are_paired() -> None:
    runs = frame([r for r in records(scores()) if (r.spec.method, r.spec.seed) != ("mimi", 2)])
    comparison = compare(runs, GROUPS, "mean_datasets", "lora", "mimi")
    assert set(comparison.by_dataset["seeds"]) == {3}


def test_one_seed_gives_a_difference_without_an_interval() -> None:
    runs = frame([r for r in records(scores()) if r.spec.seed == 0])
    comparison = compare(runs, GROUPS, "mean_datasets", "lora", "mimi")
    assert not np.isnan(comparison.over_seeds.value) and np.isnan(comparison.over_seeds.low)
    assert not np.isnan(comparison.over_datasets.low)
    assert f"over seeds     {comparison.over_seeds.value:+.2f}\n" in comparison.text()


def test_a_missing_dataset_leaves_a_bound_and_no_difference() -> None:
    runs = frame([r for r in records(scores()) if (r.spec.method, r.spec.dataset) != ("mimi", "pocket/count")])
    comparison = compare(runs, GROUPS, "mean_datasets", "lora", "mimi")
    assert np.isnan([comparison.over_seeds.value, comparison.over_datasets.value]).all()
    assert "mimi lacks count: its mean may be " in comparison.text()
    assert comparison.count.wins + comparison.count.losses == 7


def test_times_of_different_devices_do_not_compare() -> None:
    other = dataclasses.replace(PROVENANCE, device_name="a gpu")
    found = [dataclasses.replace(r, provenance=other) if r.spec.method == "mimi" else r for r in records(scores())]
    comparison = compare(frame(found), GROUPS, "mean_datasets", "lora", "mimi")
    assert "Times and memory do not compare: they were measured on a cpu and on a gpu." in comparison.text()


def test_what_two_rows_were_made_with_is_compared() -> None:
    other = dataclasses.replace(PROVENANCE, harness_sha256="5" * 64)
    found = [dataclasses.replace(r, provenance=other) if r.spec.method == "mimi" else r for r in records(scores())]
    assert (
        "Made with different states of the harness."
        in compare(frame(found), GROUPS, "mean_datasets", "lora", "mimi").notes
    )
    assert compare(frame(records(scores())), GROUPS, "mean_datasets", "lora", "mimi").notes == ()


def test_a_variant_is_named_after_its_method() -> None:
    runs = [make("lora", key, 0, 0.5, variant=variant) for key in KEYS for variant in ("", "rank=4", "rank=8")]
    table = frame(runs)
    assert compare(table, GROUPS, "mean_datasets", "lora", "lora:rank=4").second == "lora (rank=4)"
    for names, words in ((("lora", "lora"), "the same row"), (("lora", "mimi"), "'mimi' names no row")):
        with pytest.raises(UsageError, match=words):
            compare(table, GROUPS, "mean_datasets", *names)
    with pytest.raises(UsageError, match="several rows"):
        compare(frame(r for r in runs if r.variant), GROUPS, "mean_datasets", "lora", "lora:rank=4")


def test_two_committed_methods_compare_on_every_backbone_that_has_both(capsys: pytest.CaptureFixture[str]) -> None:
    found = report.load(POCKET).compare("lora", "mimi")
    assert [comparison.board.split(", ")[-2] for comparison in found] == ["pocket_swin", "pocket_vit"]
    assert main(["compare", "lora", "mimi", "--out", str(POCKET), "--backbone", "pocket_vit"]) == 0
    assert capsys.readouterr().out == found[1].text() + "\n"
    assert main(["compare", "lora", "lroa", "--out", str(POCKET)]) == 2
    assert "No leaderboard has both 'lora' and 'lroa'" in capsys.readouterr().err
