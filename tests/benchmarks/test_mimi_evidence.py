"""results/mimi and docs/mimi.md are functions of the committed records."""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import pytest
from helpers import scripts

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results" / "mimi"


script = scripts.load("mimi")


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.csv")), ids=lambda path: path.stem)
def test_a_committed_table_is_that_of_the_records(path: Path) -> None:
    experiment = script.EXPERIMENTS[path.stem]()
    asked = argparse.Namespace(out=RESULTS, dataset=script.TASKS, seeds=(0, 1, 2), epochs=None)
    made = [{k: str(v) for k, v in line.items()} for line in script.table(experiment, experiment.backbone, asked)]
    with path.open(encoding="utf-8") as file:
        assert made == list(csv.DictReader(file))


def test_the_page_has_the_numbers_of_the_table() -> None:
    page = (ROOT / "docs" / "mimi.md").read_text(encoding="utf-8")
    with (RESULTS / "schedule.csv").open(encoding="utf-8") as file:
        for line in csv.DictReader(file):
            mean, low, high = (f"{float(line[name]):.1f}" for name in ("mean", "low", "high"))
            row = f"| {line['size']} | {line['row']} | {int(line['params']):,} | {mean} ({low} to {high}) |"
            assert row in page, row
