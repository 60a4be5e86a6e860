"""A paper's table: numbers against SciPy's interval, verdicts that follow from them, milestones as rows."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from helpers.records import cycle, make

from bench.core.errors import UsageError
from bench.core.recipes import Printed, Recipe, Row
from bench.report import papers
from bench.report.frame import frame

RECIPE = Recipe(
    "Title", "Item", "table", "pocket", "pocket_vit", "pocket@v1", (Row("LoRA", "lora"),), datasets=("digits", "textures"),
    measures=("accuracy", "params", "gflops", "storage_mb"),
)  # fmt: skip
SCORES = {"digits": (0.50, 0.52, 0.57), "textures": (0.40, 0.41, 0.45)}


def printed(metric: str, dataset: str, value: float) -> dict[tuple[str, str], Printed]:
    return {(metric, dataset): Printed("mimi", "table1", "swin-t", "lora", "", dataset, metric, value, "%", "")}


def runs(**extra: object) -> pd.DataFrame:
    records = [
        make("lora", key, seed, score, **extra) for key, scores in SCORES.items() for seed, score in enumerate(scores)
    ]  # type: ignore[arg-type]
    return frame(records)


def cell(table: pd.DataFrame, measure: str, dataset: str) -> pd.Series:
    return table[(table["measure"] == measure) & (table["dataset"] == dataset)].iloc[0]


def test_a_cell_is_the_mean_over_seeds_with_students_interval() -> None:
    table = papers.compare(RECIPE, [(RECIPE.rows[0], runs())], [printed("accuracy", "digits", 52.0)])
    found = cell(table, "accuracy", "digits")
    scores = 100 * np.array(SCORES["digits"])
    low, high = scipy.stats.t.interval(0.95, 2, scores.mean(), scipy.stats.sem(scores))
    assert [found["measured"], found["low"], found["high"]] == pytest.approx([scores.mean(), low, high])
    assert found["difference"] == pytest.approx(scores.mean() - 52.0) and found["verdict"] == "agrees"
    assert cell(table, "accuracy", "mean")["measured"] == pytest.approx(100 * np.mean(list(SCORES.values())))


def test_costs_are_those_of_the_records_in_the_papers_units() -> None:
    table = papers.compare(RECIPE, [(RECIPE.rows[0], runs(trained=1_000_000, head=200))], [{}])
    assert cell(table, "params", "mean")["measured"] == pytest.approx(1.0002)
    assert cell(table, "storage_mb", "mean")["measured"] == pytest.approx(4 * 1_000_200 / 1e6)


def test_a_whole_model_a_task_is_stored_whole() -> None:
    row = Row("LoRA", "lora", store="model")
    table = papers.compare(RECIPE, [(row, runs())], [{}])
    assert cell(table, "storage_mb", "mean")["measured"] == pytest.approx(4 * 1_000_000 / 1e6)


def test_a_milestone_is_a_row_with_its_own_score_and_count() -> None:
    ends = (cycle(0, 0.6, 800), cycle(1, 0.3, 400))
    found = frame([make("mimi", "digits", 0, 0.3, milestones=ends), make("mimi", "textures", 0, 0.2, milestones=ends)])
    rows = [Row("MiMi 0", "mimi", milestone="cycle 0"), Row("MiMi 9", "mimi", milestone="cycle 9")]
    table = papers.compare(RECIPE, [(row, found) for row in rows], [{}, {}])
    first, gone = (table[table["row"] == row.label] for row in rows)
    assert cell(first, "accuracy", "digits")["measured"] == pytest.approx(60.0)
    assert cell(first, "params", "mean")["measured"] == pytest.approx((800 + 200) / 1e6)
    assert gone["measured"].isna().all()


@pytest.mark.parametrize(
    ("measure", "number", "value", "low", "high", "expected"),
    [
        ("accuracy", 50.0, 50.5, 49.9, 51.1, "agrees"),
        ("accuracy", 49.8, 50.5, 49.9, 51.1, "differs"),
        ("accuracy", 50.0, 50.0, math.nan, math.nan, "one seed"),
        ("accuracy", 50.0, math.nan, math.nan, math.nan, "unmeasured"),
        ("accuracy", math.nan, 50.0, 49.0, 51.0, "not printed"),
        ("gflops", 4.35, 4.37, math.nan, math.nan, "agrees"),  # within half a percent
        ("gflops", 4.35, 4.38, math.nan, math.nan, "differs"),
        ("params", 0.3, 0.34, math.nan, math.nan, "agrees"),  # rounds to what is printed
        ("params", 0.3, 0.36, math.nan, math.nan, "differs"),
    ],
)
def test_a_verdict_follows_from_the_numbers(
    measure: papers.Measure, number: float, value: float, low: float, high: float, expected: str
) -> None:
    assert papers.verdict(measure, number, value, low, high) == expected


def test_a_dataset_without_a_run_leaves_the_mean_blank() -> None:
    part = runs()
    table = papers.compare(RECIPE, [(RECIPE.rows[0], part[part["dataset"] == "pocket/digits"])], [{}])
    assert math.isnan(cell(table, "accuracy", "mean")["measured"])
    assert not math.isnan(cell(table, "accuracy", "digits")["measured"])


def test_only_finished_runs_with_pretrained_weights_and_these_settings_count() -> None:
    ours, other = make("lora", "digits", 0, 0.5), make("lora", "digits", 1, 0.5, variant="rank=2")
    loose = [make("lora", "digits", 2, 0.9, weights="random"), make("lora", "digits", 3, None)]
    both = frame([ours, other, *loose])
    settings = both[both["seed"] == 0]["settings"].iloc[0]
    found = papers.own_runs(both, "lora", settings, "pocket_vit", "pocket@v1", "pocket")
    assert list(found["seed"]) == [0]


def test_runs_on_different_data_are_not_averaged() -> None:
    both = frame([make("lora", "digits", 0, 0.5), make("lora", "digits", 1, 0.6, fingerprint="02" * 32)])
    with pytest.raises(UsageError, match="different data"):
        papers.own_runs(both, "lora", both["settings"].iloc[0], "pocket_vit", "pocket@v1", "pocket")
