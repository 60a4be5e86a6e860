"""The papers' tables at pocket scale are functions of the committed records."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.cli.main import main
from bench.core.store import Store

FOLDER = Path(__file__).parents[2] / "results" / "papers"
NAMES = sorted(path.stem.removesuffix("-pocket") for path in FOLDER.glob("tables/*.csv"))


@pytest.mark.parametrize("name", NAMES)
def test_a_committed_table_is_whole_and_rebuilt_byte_for_byte(name: str, tmp_path: Path) -> None:
    (tmp_path / "runs").symlink_to(FOLDER / "runs")
    assert main(["paper", name, "--scale", "pocket", "--table", "--out", str(tmp_path)]) == 0
    for ending in (".csv", ".md"):
        made, committed = (root / "tables" / f"{name}-pocket{ending}" for root in (tmp_path, FOLDER))
        assert made.read_text(encoding="utf-8") == committed.read_text(encoding="utf-8")


def test_the_committed_runs_are_of_one_state_and_three_seeds() -> None:
    records = list(Store(FOLDER).records())
    wanted = {"mimi-table1", "mimi-table2", "mimi-figure4", "mimi-figure5"}
    assert set(NAMES) == wanted | {"pevit-table2", "pevit-table3", "pevit-figure3"}
    assert {record.status for record in records} == {"done"}
    assert {record.spec.seed for record in records} == {0, 1, 2}
    assert {record.spec.protocol.name for record in records} == {"pocket@v2"}
    assert len({(r.provenance.harness_sha256, r.provenance.versions["torch"]) for r in records}) == 1
