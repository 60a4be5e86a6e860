"""Every run that was asked for is accounted for, and the exit code says so."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from helpers.images import paint
from helpers.readme import PLUGIN

from bench import report
from bench.cli.main import main
from bench.core.lease import leased
from bench.core.store import Store
from bench.execution import plan as planning
from bench.execution.attempt import Attempt, read_starts, read_step

ENDINGS = {
    "sys_exit": "raise SystemExit(0)",
    "os_exit": "os._exit(0)",
    "usage": "raise UsageError('a question of its own')",
}


@pytest.fixture(autouse=True)
def _no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report.Report, "write_plots", lambda *_: [])


@pytest.fixture
def asked(tmp_path: Path) -> list[str]:
    pets = paint(tmp_path / "pets", {"cat": 15, "dog": 15})
    common = ["--data", str(pets), "--backbone", "pocket_swin", "--seeds", "0", "--epochs", "1", "--threads", "1"]
    return [*common, "--out", str(tmp_path / "out")]


def ending(tmp_path: Path, name: str) -> Path:
    """A plugin that ends its run in another way than a method should: while it looks at the training data."""
    plugin = tmp_path / f"{name}.py"
    calibrate = f"    def calibrate(self, model, batches):\n        {ENDINGS[name]}\n\n"
    source = PLUGIN.replace("    def count(", calibrate + "    def count(")
    plugin.write_text(
        source.replace("import torch\n", "import os\n\nimport torch\n\nfrom bench.core.errors import UsageError\n")
    )
    return plugin


@pytest.mark.parametrize("name", ["sys_exit", "usage"])
def test_a_method_that_ends_its_run_ends_no_other(
    name: str, asked: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plugin = ending(tmp_path, name)
    code = main(["run", *asked, "--method", f"{name},linear_probe", "--plugin", str(plugin)])
    out = capsys.readouterr().out
    assert code == 1 and "2 runs: 1 done, 1 " in out
    assert [r.spec.method for r in Store(tmp_path / "out").records() if r.status == "done"] == ["linear_probe"]
    assert f"{name} on folder/pets" in out


def test_a_worker_that_exits_in_the_middle_is_no_success(
    asked: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plugin = ending(tmp_path, "os_exit")
    more = ["--jobs", "2", "--retries", "0", "--bundle-minutes", "60"]
    code = main(["run", *asked, "--method", "os_exit,linear_probe", "--plugin", str(plugin), *more])
    out = capsys.readouterr().out
    assert code == 1 and "1 done, 1 failed" in out and "died without an exit status" in out


def test_a_run_that_another_process_holds_is_named_and_is_no_success(
    asked: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["plan", *asked, "--method", "linear_probe", "--json"])
    import json

    (run,) = json.loads(capsys.readouterr().out)["runs"]
    state = tmp_path / "out" / "state" / run["digest"]
    state.parent.mkdir(parents=True)
    with leased(state):
        assert main(["run", *asked, "--method", "linear_probe"]) == 1
    out = capsys.readouterr().out
    assert "1 run: 1 locked by another process." in out and "is running it" in out
    assert main(["run", *asked, "--method", "linear_probe"]) == 0
    assert "1 run: 1 done." in capsys.readouterr().out


def test_a_damaged_plan_stops_no_other(asked: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    main(["run", *asked, "--method", "linear_probe"])
    for name, text in (("a", "{"), ("b", "[" * 100_000), ("c", '{"schema": "x"}'), ("d", "\x00")):
        (out / "plans" / name).mkdir(parents=True)
        (out / "plans" / name / "plan.json").write_text(text)
    capsys.readouterr()
    for command in (["status"], ["cancel"], ["run", *asked, "--method", "linear_probe"]):
        assert main([*command, *(["--out", str(out)] if len(command) == 1 else [])]) == 0
        errors = capsys.readouterr().err
        assert errors.count("plan.json") >= 4 and "Traceback" not in errors


@pytest.mark.parametrize("text", ["{", "[1]", "[" * 100_000, '[{"host": 3}]', "7", "null", "\x00"])
def test_damaged_bookkeeping_of_a_run_counts_as_none(text: str, tmp_path: Path) -> None:
    for name in ("starts.json", "progress.json"):
        (tmp_path / name).write_text(text)
    assert read_starts(tmp_path) == [] and read_step(tmp_path) is None


def test_starts_survive_their_file(tmp_path: Path) -> None:
    (tmp_path / "starts.json").write_text('[{"host": "h", "pid": 1, "job": null, "time": "t", "ended": null}]')
    assert read_starts(tmp_path) == [Attempt("h", 1, None, "t")]


def test_no_plan_is_left_where_everything_is_done(asked: list[str], tmp_path: Path) -> None:
    main(["run", *asked, "--method", "linear_probe"])
    assert planning.every(tmp_path / "out") == {}
    assert os.path.isdir(tmp_path / "out") and sys.getdefaultencoding() == "utf-8"


def test_runs_in_one_process_are_made_in_the_order_of_the_question(
    asked: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Seed by seed, whatever each is estimated to cost: an interrupted suite is a whole smaller one."""
    args = [*asked, "--method", "linear_probe,bitfit", "--seeds", "0,1", "--bundle-minutes", "0"]
    assert main(["run", *args]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("[")]
    names = [(line.split()[1], line.split("seed ")[1][0]) for line in lines]
    assert names == [("linear_probe", "0"), ("bitfit", "0"), ("linear_probe", "1"), ("bitfit", "1")]
