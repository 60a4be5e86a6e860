"""Runs, plans and leaderboards of suite files and of several image folders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.images import paint

import bench
from bench import report
from bench.cli.main import main
from bench.core.errors import UsageError
from bench.core.store import Store
from bench.data.readers import folder
from bench.execution.executors import Submission, local
from bench.execution.request import read_request

FILE = """
[suite]
name = "pacs"
title = "Three styles"
backbone = "pocket_swin"
headline = "mean_groups"
[suite.groups]
real = ["photo"]
drawn = ["sketch", "cartoon"]
[protocol]
name = "pacs@v1"
base = "own@v1"
epochs = 1
seeds = [0]
[datasets]
photo.source = "folder:images/photo"
sketch.source = "folder:images/sketch"
cartoon.source = "folder:images/cartoon"
"""


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(report.Report, "write_plots", lambda *_: [])
    for name, classes in (("photo", {"cat": 10, "dog": 10}), ("sketch", {"cat": 8, "dog": 7, "emu": 9})):
        paint(tmp_path / "images" / name, classes)
    paint(tmp_path / "images/cartoon", {"Training/cat": 8, "Training/dog": 8, "Testing/cat": 3, "Testing/dog": 3})
    path = tmp_path / "pacs.toml"
    path.write_text(FILE, encoding="utf-8")
    return path


def test_a_suite_of_ones_own_from_run_to_page(
    suite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    asked = ["--suite", str(suite), "--method", "linear_probe", "--threads", "1", "--out", str(out)]
    assert main(["plan", *asked]) == 0 and not out.exists()
    assert "pacs/photo" in capsys.readouterr().out
    with monkeypatch.context() as patch:  # a process that is killed before it does anything: its plan is left
        patch.setattr(local.Executor, "submit", lambda *_: Submission(waited=True))
        assert main(["run", *asked]) == 1
    monkeypatch.chdir("/")  # paths of the file do not depend on where one stands
    assert main(["resume", "--out", str(out)]) == 0
    specs = {record.spec.dataset: record.spec for record in Store(out).records()}
    contents = folder.divide(suite.parent / "images/photo").fingerprint
    assert sorted(specs) == ["pacs/cartoon", "pacs/photo", "pacs/sketch"]
    assert specs["pacs/photo"].fingerprint == contents and specs["pacs/photo"].protocol.name == "pacs@v1"
    capsys.readouterr()
    assert main(["run", *asked]) == 0
    assert "3 of them finished already" in capsys.readouterr().out
    (part,) = bench.load(out).report.parts
    assert (part.name, part.headline, part.suite) == ("pacs", "mean_groups", "pacs")
    row = part.table.iloc[0]
    assert row["mean_groups"] == pytest.approx((row["photo"] + (row["sketch"] + row["cartoon"]) / 2) / 2)
    for command in (["table"], ["status"], ["page"], ["verify", str(out)]):
        more = [] if command[0] == "verify" else ["--out", str(out)]
        assert main([*command, *more]) == 0, command
    assert main(["join", str(out), "--out", str(tmp_path / "joined")]) == 0
    (joined,) = bench.load(tmp_path / "joined").report.parts
    assert joined.table.equals(part.table) and joined.title == "Three styles"


def test_changed_images_are_another_question_and_the_page_says_so(suite: Path, tmp_path: Path) -> None:
    asked = {"suite": suite, "out": tmp_path / "out"}
    first = bench.run("linear_probe", **asked)
    (tmp_path / "images/photo/cat/009.png").unlink()
    second = bench.run("linear_probe", **asked)
    changed = {d: (a, b) for d, a, b in _prints(first, second) if a != b}
    assert list(changed) == ["pacs/photo"] and len(bench.load(tmp_path / "out")) == 4
    (part,) = bench.load(tmp_path / "out").report.parts
    assert len(part.runs) == 3 and "images that have changed since: 1 of pacs/photo" in part.note


def _prints(first: bench.Results, second: bench.Results) -> list[tuple[str, str, str]]:
    a, b = ({r.spec.dataset: r.spec.fingerprint for r in results.records()} for results in (first, second))
    return [(name, a[name], b[name]) for name in a]


def test_a_request_file_names_a_suite_beside_it_and_a_protocol(suite: Path, tmp_path: Path) -> None:
    (tmp_path / "how.toml").write_text('[protocol]\nname = "how"\nbase = "pocket@v1"\n')
    sweep = tmp_path / "sweep.toml"
    sweep.write_text('suite = "pacs.toml"\nprotocol = "how.toml"\nmethods = [{ name = "bitfit" }]\n')
    planned = bench.plan(read_request(sweep, out=str(tmp_path / "out")))
    assert {spec.protocol.name for spec in planned.specs} == {"how"} and len(planned.specs) == 9


def test_what_is_not_here_is_told_whole_planned_from_the_card_or_left_out(suite: Path, tmp_path: Path) -> None:
    text = FILE.replace("images/photo", "gone").replace("folder:images/sketch", "hub:some/body")
    suite.write_text(text, encoding="utf-8")
    asked = {"suite": suite, "out": tmp_path / "out", "warn": lambda _: None}
    with pytest.raises(UsageError, match=r"(?s)2 of 3 .*there is no folder .*gone.*bench data fetch hub:some/body"):
        bench.run("linear_probe", **asked)
    assert not (tmp_path / "out").exists()
    assert len(bench.plan("linear_probe", skip_missing=True, **asked).specs) == 1
    sizes = "classes = 2\nsizes = { train = 10, val = 2, test = 3 }\n"
    own = "\n".join(f'[datasets.{key}]\nsource = "folder:{key}"\n{sizes}' for key in ("photo", "sketch", "cartoon"))
    suite.write_text(text.partition("[datasets]")[0] + own, encoding="utf-8")
    assert len(bench.plan("linear_probe", **asked).specs) == 3


def test_images_that_are_not_what_the_file_says_are_left_out_by_name(suite: Path, tmp_path: Path) -> None:
    suite.write_text(FILE.replace("photo.source", "photo.classes = 3\nphoto.source", 1), encoding="utf-8")
    told: list[str] = []
    results = bench.run("linear_probe", suite=suite, out=tmp_path / "out", warn=told.append)
    assert len(results) == 2 and results.account is not None and results.account.left_out
    assert any("pacs/photo" in line and "2, the suite file says 3" in line for line in told)
    suite.write_text(FILE.replace("images/sketch", "images/photo"), encoding="utf-8")
    with pytest.raises(UsageError, match="pacs/sketch and pacs/photo hold the same images"):
        bench.run("linear_probe", suite=suite, out=tmp_path / "out", warn=told.append)


def test_folders_that_are_asked_for_together_stand_in_one_leaderboard(
    suite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, images = tmp_path / "out", tmp_path / "images"
    small = ["--method", "linear_probe", "--backbone", "pocket_swin", "--epochs", "1", "--seeds", "0", "--threads", "1"]
    both = ["--data", str(images / "photo"), "--data", str(images / "sketch")]
    assert main(["run", *both, *small, "--json", "--out", str(out)]) == 0
    capsys.readouterr()
    (part,) = bench.load(out).report.parts
    row = part.table.iloc[0]
    keys = [name for name in part.table.columns if name.startswith(("photo-", "sketch-"))]
    assert row["mean_datasets"] == pytest.approx(sum(row[key] for key in keys) / 2) and len(keys) == 2
    one = bench.run("linear_probe", data=images / "photo", backbones="pocket_swin", epochs=1, seeds=1, out=out)
    assert [part.suite.partition("-")[0] for part in one.report.parts] == ["folder/photo"]
    third = bench.run("linear_probe", data=images / "cartoon", backbones="pocket_swin", epochs=1, seeds=1, out=out)
    assert len(third) == 1 and len(bench.load(out).report.parts) == 2
    assert json.loads(next((out / "suites").iterdir()).read_text())["suite"]["name"] == "folder"
