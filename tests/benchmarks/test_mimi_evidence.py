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


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.csv")), ids=lambda path: path.stem)
def test_the_page_has_the_numbers_of_the_table(path: Path) -> None:
    page = (ROOT / "docs" / "mimi.md").read_text(encoding="utf-8")
    with path.open(encoding="utf-8") as file:
        for line in csv.DictReader(file):
            mean, low, high = (f"{float(line[name]):.1f}" for name in ("mean", "low", "high"))
            row = f"| {line['size']} | {line['row']} | {int(line['params']):,} | {mean} ({low} to {high}) |"
            assert row in page, row


def test_neurons_are_counted_in_the_stage_of_their_block() -> None:
    """Local removal halves every adapter by itself, which is arithmetic: sigma = 8 of 48, 96 and 192 channels, halved
    two and three times and rounded down, two adapters in each of two blocks a stage."""
    with (RESULTS / "allocation.csv").open(encoding="utf-8") as file:
        found = {
            line["size"]: line["neurons_by_stage"] for line in csv.DictReader(file) if line["row"] == "local removal"
        }
    assert found == {
        f"{k} removals": " ".join(f"{4 * (dim // 8 // 2**k):.1f}" for dim in (48, 96, 192)) for k in (2, 3)
    }
