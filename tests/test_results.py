"""The committed results are functions of the committed records."""

from __future__ import annotations

import csv
import re
from pathlib import Path

from bench import report
from bench.cli import main
from bench.store import Store

ROOT = Path(__file__).parents[1]
POCKET = ROOT / "results" / "pocket"
WHOLE = ("bitfit", "full", "linear_probe", "adapters", "mimi", "lora")  # methods with every seed on both backbones


def test_the_committed_leaderboard_is_rebuilt_byte_for_byte(tmp_path: Path) -> None:
    paths = report.write_tables(tmp_path, list(Store(POCKET).records()))
    assert [path.name for path in paths] == ["pocket.csv", "pocket.md"]
    for path in paths:
        assert path.read_text() == (POCKET / "leaderboards" / path.name).read_text()


def test_the_readme_shows_the_committed_leaderboard() -> None:
    readme = (ROOT / "README.md").read_text()
    shown = dict(re.findall(r"^\| (\w+) \|.*\| \*\*([\d.]+)\*\* \|", readme, re.MULTILINE))
    rows = list(csv.DictReader((POCKET / "leaderboards" / "pocket.csv").read_text().splitlines()))
    assert shown == {
        row["method"]: f"{float(row['mean_groups']):.1f}"
        for row in rows
        if row["backbone"] == "pocket_vit" and row["seeds"] == "3"
    }


def test_every_run_of_the_protocol_is_there_and_done_or_refused() -> None:
    records = list(Store(POCKET).records())
    refused = {(record.spec.method, record.spec.backbone) for record in records if record.status == "skipped"}
    assert {record.status for record in records} == {"done", "skipped"} and refused == {("dtl", "pocket_swin")}
    whole = [record for record in records if record.spec.method in WHOLE]
    assert len(whole) == len(WHOLE) * 8 * 2 * 3
    assert {record.provenance.source for record in records} == {"measured"}


def test_the_committed_runs_count_as_finished(capsys) -> None:  # type: ignore[no-untyped-def]
    """The specs of today's code are those of the records: nothing would be run again."""
    names = ",".join(WHOLE)
    args = ["--suite", "pocket", "--seeds", "0,1,2", "--backbone", "pocket_vit,pocket_swin", "--out", str(POCKET)]
    assert main(["run", "--method", names, *args, "--dry-run"]) == 0
    captured = capsys.readouterr()
    assert "288 runs: 0 to do, 288 finished." in captured.out
    assert "before its file was changed" not in captured.err
