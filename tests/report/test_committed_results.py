"""The committed results are functions of the committed records."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

import bench
from bench import report
from bench.cli.main import main
from bench.core import configs
from bench.core.store import Store
from bench.models import registry

ROOT = Path(__file__).parents[2]
POCKET, POCKET2 = ROOT / "results" / "pocket-v1", ROOT / "results" / "pocket"
CHANGED = {"compacter", "dtl", "mimi", "rlrr"}
"""Methods whose version was raised since the committed runs were made: empty again when they are made anew."""
THRICE = ("bitfit", "full", "linear_probe", "adapters", "mimi", "lora")  # with three seeds on pocket_swin too


@pytest.mark.parametrize(("results", "suite"), [(POCKET, "pocket"), (POCKET2, "pocket2")])
def test_the_committed_leaderboard_is_rebuilt_byte_for_byte(results: Path, suite: str, tmp_path: Path) -> None:
    paths = report.write_tables(tmp_path, list(Store(results).records()))
    assert [path.name for path in paths] == [f"{suite}.csv", f"{suite}.md"]
    for path in paths:
        assert path.read_text() == (results / "leaderboards" / path.name).read_text()


def test_the_second_grid_is_whole_and_each_row_of_one_harness() -> None:
    """A method may still be without runs; one that has some has all, at the rate that the card gives it."""
    records = list(Store(POCKET2).records())
    methods = {(record.spec.method, record.spec.backbone) for record in records}
    rates = configs.rates()["pocket@v2"]
    assert len(methods) >= 60 and {record.status for record in records} == {"done"}
    cells = Counter((record.spec.method, record.spec.backbone, record.spec.dataset) for record in records)
    assert cells == {(*pair, card.name): 3 for pair in methods for card in configs.suite("pocket2").datasets}
    assert {record.spec.protocol.name for record in records} == {"pocket@v2-tuned"}
    assert all(record.spec.protocol.lr == rates[record.spec.backbone][record.spec.method] for record in records)
    harnesses = {(r.spec.method, r.spec.backbone, r.provenance.harness_sha256) for r in records}
    assert len(harnesses) == len(methods)  # a row that came later may be of a later state; none is of two
    assert len({record.provenance.versions["torch"] for record in records}) == 1


def test_every_run_of_the_protocol_is_there_and_done_or_refused() -> None:
    records = list(Store(POCKET).records())
    refused = {(record.spec.method, record.spec.backbone) for record in records if record.status == "skipped"}
    assert {record.status for record in records} == {"done", "skipped"} and refused == {("dtl", "pocket_swin")}
    assert len({record.spec.method for record in records}) >= 34
    runs = Counter((record.spec.method, record.spec.backbone) for record in records)
    assert runs == {
        (name, backbone): 8 * (3 if backbone == "pocket_vit" or name in THRICE else 1)
        for name in {record.spec.method for record in records}  # a new method may still be without runs
        for backbone in ("pocket_vit", "pocket_swin")
    }
    assert {record.provenance.source for record in records} == {"measured"}


@pytest.mark.parametrize(("backbone", "seeds"), [("pocket_vit", "0,1,2"), ("pocket_swin", "0")])
def test_the_committed_runs_count_as_finished(backbone: str, seeds: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The specs of today's code are those of the records: nothing would be run again."""
    found = {folder.name for folder in POCKET.glob("runs/pocket/*/*/*") if folder.name in registry.entries()}
    assert len(found) >= 34  # a new method may still be without runs
    methods = found - CHANGED
    asked = ["--method", ",".join(sorted(methods)), "--suite", "pocket", "--seeds", seeds, "--backbone", backbone]
    assert main(["run", *asked, "--out", str(POCKET), "--dry-run"]) == 0
    captured = capsys.readouterr()
    refused = 8 * (backbone == "pocket_swin" and "dtl" in methods)
    finished = 8 * len(methods) * len(seeds.split(",")) - refused
    assert f"{finished + refused} runs: {refused} to do, {finished} finished." in captured.out


def test_the_methods_that_have_changed_are_those_that_are_named() -> None:
    versions = {(record.spec.method, record.spec.method_version) for record in Store(POCKET).records()}
    assert {name for name, version in versions if version != registry.load(name).version} == CHANGED


@pytest.mark.slow
@pytest.mark.parametrize("method", ["linear_probe", "lora", "mimi"])
def test_today_s_code_makes_a_committed_run_again(method: str, tmp_path: Path) -> None:
    """To the same bits on the machine that made it; elsewhere floating-point sums differ, and little else may."""
    committed = next(
        record
        for record in Store(POCKET2).records()
        if (record.spec.method, record.spec.backbone) == (method, "pocket_vit_patch8")
        and (record.spec.dataset, record.spec.seed) == ("pocket2/digits", 0)
    )
    (record,) = bench.run(
        method,
        datasets="pocket2/digits",
        backbones="pocket_vit_patch8",
        protocol="pocket@v2-tuned",
        seeds=[0],
        out=tmp_path / "out",
    ).records()
    assert record.spec == committed.spec and record.scores and committed.scores
    assert record.epochs[0].loss == pytest.approx(committed.epochs[0].loss, rel=1e-3)
    assert record.scores.test == pytest.approx(committed.scores.test, abs=0.02)
