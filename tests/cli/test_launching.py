"""bench plan, run, resume and cancel, as a person types them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.images import paint
from helpers.readme import PLUGIN

from bench import report
from bench.cli import arguments
from bench.cli.main import main, parser
from bench.core import lease
from bench.core.join import numbers
from bench.core.store import Store
from bench.execution import attempt, planner
from bench.execution import plan as planning
from bench.execution.executors import Submission, local, slurm
from bench.execution.plan import Plan

BROKEN = PLUGIN.replace("return self.s * y", "raise RuntimeError('broken on purpose')")


@pytest.fixture(autouse=True)
def _no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots take most of a short run's time, and are tested elsewhere."""
    monkeypatch.setattr(report.Report, "write_plots", lambda *_: [])


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The options of a run of one epoch on few images."""
    monkeypatch.chdir(tmp_path)
    pets = paint(tmp_path / "pets", {"cat": 15, "dog": 15})
    common = ["--data", str(pets), "--backbone", "pocket_swin", "--seeds", "0", "--epochs", "1", "--threads", "1"]
    return [*common, "--out", str(tmp_path / "out")]


def plans(root: Path) -> list[Plan]:
    return list(planning.every(root / "out").values())


def stopped(monkeypatch: pytest.MonkeyPatch, asked: list[str], *more: str) -> None:
    """`bench run` with a process that is killed before it does anything: its plan is left."""
    with monkeypatch.context() as patch:
        patch.setattr(local.Executor, "submit", lambda *_: Submission(waited=True))
        main(["run", *asked, *more])


# plan ----------------------------------------------------------------------------------------------------------------


def test_a_plan_is_told_and_nothing_is_written(
    asked: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", *asked, "--method", "linear_probe,lora", "--jobs", "2"]) == 0
    text = capsys.readouterr().out
    assert "\n2 runs: 2 to do, 0 finished. About " in text and ": 2 classes (cat, dog)\n" in text
    rows = [line.split()[:2] for line in text.splitlines()]
    assert (
        ["linear_probe", "1"] in rows
        and ["lora", "1"] in rows
        and any(row[0].startswith("folder/pets-") and row[1] == "2" for row in rows if row[1:])
    )
    assert "rough estimates" in text and "pocket_swin" not in text  # one backbone needs no table
    assert main(["run", *asked, "--method", "linear_probe,lora", "--jobs", "2", "--dry-run"]) == 0
    assert capsys.readouterr().out == text
    assert not (tmp_path / "out").exists()


def test_a_plan_for_a_cluster_tells_its_arrays_by_what_they_need(
    asked: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "cluster.toml"
    config.write_text('[slurm]\ncpus = 2\n[[resources]]\nmethod = "lora"\ngpus = 1\nmemory = 40\nminutes = 30\n')
    args = [*asked, "--method", "linear_probe,bitfit,lora", "--slurm", "timeout=7", "--config", str(config)]
    assert main(["plan", *args]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(
        line.startswith("array of 1 task, 2 runs") and line.endswith(": 2 CPU, time limit 7 min") for line in lines
    )
    assert any(line.endswith(": 1 GPU, 2 CPU, 40 GB, time limit 30 min") for line in lines)
    assert main(["plan", *args, "--slurm", "timeut=7"]) == 2
    assert "did you mean 'timeout'" in capsys.readouterr().err


def test_a_plan_as_json_has_every_digest(asked: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["run", *asked, "--method", "linear_probe"])
    capsys.readouterr()
    assert main(["plan", *asked, "--method", "linear_probe,lora", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    (record,) = Store(tmp_path / "out").records()
    assert [(run["digest"] == record.spec.digest, run["pending"]) for run in data["runs"]] == [
        (True, False),
        (False, True),
    ]
    assert data["runs"][1]["seconds"] == pytest.approx(record.provenance.seconds)  # of another method on these images
    assert [bundle["runs"] for bundle in data["bundles"]] == [[0]]
    assert main(["plan", *asked, "--method", "linear_probe,vpt_deep"]) == 0
    text = capsys.readouterr().out
    assert "left out: 1 run with a finished record" in text and "will be skipped: vpt_deep" not in text
    assert "estimate" not in text


# run -----------------------------------------------------------------------------------------------------------------


def test_two_processes_give_the_numbers_of_one(
    asked: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    methods = ["--method", "linear_probe,bitfit"]
    assert main(["run", *asked, *methods]) == 0
    assert main(["run", *asked, *methods, "--out", "other", "--jobs", "2", "--bundle-minutes", "1"]) == 0
    text = capsys.readouterr().out
    assert "[2/2] " in text
    ours, theirs = (
        {r.spec.digest: numbers(r) for r in Store(root).records()} for root in (tmp_path / "out", Path("other"))
    )
    assert ours == theirs and len(ours) == 2
    assert not list(Path("other/plans").iterdir()) and not list(Path("other/state").iterdir())


def test_only_what_failed_is_tried_again(asked: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plugin = tmp_path / "fragile_again.py"
    plugin.write_text(BROKEN)
    args = [*asked, "--plugin", str(plugin), "--method", "fragile_again,linear_probe"]
    assert main(["run", *asked, "--plugin", str(plugin), "--method", "fragile_again"]) == 1
    capsys.readouterr()
    assert main(["plan", *args, "--only-failed"]) == 0
    text = capsys.readouterr().out
    assert "\n2 runs: 1 to do, 0 finished." in text
    assert "left out: 1 run without a failed record (--only-failed)" in text
    plugin.write_text(PLUGIN)
    sys.modules.pop("petbench_plugin_fragile_again", None)
    assert main(["run", *args, "--only-failed"]) == 0
    assert "2 runs, 1 of them failed and are tried again" in capsys.readouterr().out
    (record,) = Store(tmp_path / "out").records()
    assert (record.spec.method, record.status, record.attempts) == ("fragile_again", "done", 2)
    assert main(["run", *args, "--only-failed"]) == 0
    assert len(list(Store(tmp_path / "out").records())) == 1


def test_a_signal_ends_a_run_in_one_line(
    asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def preempted(*_: object) -> None:
        assert local.coordinator(tmp_path / "out" / "plans" / plans(tmp_path)[0].id)  # `cancel` would find it
        raise attempt.Preempted("SIGTERM")

    monkeypatch.setattr("bench.execution.worker.perform", preempted)
    assert main(["run", *asked, "--method", "linear_probe"]) == 130
    assert "bench: ended by SIGTERM. What is finished is kept" in capsys.readouterr().err
    assert len(plans(tmp_path)) == 1 and not list((tmp_path / "out").rglob("coordinator.json"))


# Slurm, of which only the answers are made up ------------------------------------------------------------------------


def test_without_slurm_nothing_is_left_of_a_submission(
    asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert main(["run", *asked, "--method", "linear_probe", "--slurm"]) == 2
    assert "--jobs N runs on this machine" in capsys.readouterr().err
    assert plans(tmp_path) == []


def test_what_slurm_has_is_not_submitted_again(
    asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks, submitted = {"7_0": "PENDING"}, list[Plan]()

    def submit(_: slurm.Executor, root: Path, plan: Plan, report: object) -> Submission:
        submitted.append(plan)
        job = str(6 + len(submitted))
        (planning.folder(root) / plan.id / "arrays.json").write_text(json.dumps([{"job": job, "bundles": [0]}]))
        return Submission(waited=False, jobs=(job,))

    monkeypatch.setattr(slurm.Executor, "submit", submit)
    monkeypatch.setattr(slurm, "queue", lambda: tasks)
    assert main(["run", *asked, "--method", "linear_probe", "--slurm"]) == 0
    assert "Submitted 1 run in 1 task: slurm's 7, plan" in capsys.readouterr().out
    assert main(["run", *asked, "--method", "linear_probe,bitfit", "--slurm"]) == 0
    assert "2 runs, 0 of them finished already, 1 queued or running as job arrays." in capsys.readouterr().out
    assert [[run.spec.method for run in plan.runs] for plan in submitted] == [["linear_probe"], ["bitfit"]]
    assert main(["plan", *asked, "--method", "linear_probe,bitfit", "--slurm"]) == 0
    assert "left out: 1 run queued or running as job arrays" in capsys.readouterr().out
    assert main(["resume", "--out", str(tmp_path / "out")]) == 0  # task 8_0 has ended without a result
    assert [run.spec.method for run in submitted[2].runs] == ["bitfit"]
    monkeypatch.setattr(slurm, "queue", lambda: None)
    assert main(["resume", "--out", str(tmp_path / "out")]) == 2
    assert "slurm does not answer here" in capsys.readouterr().err
    assert len(submitted) == 3


# resume and cancel ---------------------------------------------------------------------------------------------------


def test_resume_runs_what_is_left(
    asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped(monkeypatch, asked, "--method", "linear_probe,bitfit")
    assert main(["run", *asked, "--method", "linear_probe"]) == 0
    (plan,) = plans(tmp_path)
    assert [run.spec.method for run in plan.runs] == ["linear_probe", "bitfit"]
    capsys.readouterr()
    assert main(["resume", "--out", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    assert f"plan {plan.id}: 2 runs, 1 to do." in text and "[1/1] bitfit" in text
    assert sorted(record.status for record in Store(tmp_path / "out").records()) == ["done", "done"]
    assert plans(tmp_path) == []
    assert main(["resume", "--out", str(tmp_path / "out")]) == 2
    assert "There are no plans under" in capsys.readouterr().err


def test_resume_says_what_it_cannot_run_and_leaves_what_another_process_is_at(
    asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped(monkeypatch, asked, "--method", "linear_probe")
    (home,) = (path.parent for path in planning.every(tmp_path / "out"))
    with local.coordinating(home):
        assert main(["resume", "--out", str(tmp_path / "out")]) == 0
    assert f"which a process is executing. 'bench cancel {home.name} --out" in capsys.readouterr().out
    for image in (tmp_path / "pets" / "cat").iterdir():
        image.unlink()
    assert main(["resume", "--out", str(tmp_path / "out")]) == 1
    assert "refused: " in capsys.readouterr().out
    assert len(plans(tmp_path)) == 1


def test_cancel_ends_the_process_of_a_plan_and_no_other(
    asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cancel", "--out", str(tmp_path / "out")]) == 0
    assert "Nothing is being executed." in capsys.readouterr().out
    stopped(monkeypatch, asked, "--method", "linear_probe")
    (home,) = (path.parent for path in planning.every(tmp_path / "out"))
    capsys.readouterr()
    assert main(["cancel", "0000", "--out", str(tmp_path / "out")]) == 2
    assert (
        f"No plan is called '0000' under {tmp_path / 'out' / 'plans'}. Known: {home.name}." in capsys.readouterr().err
    )

    sleeper = subprocess.Popen(["sleep", "60"])
    begun = f"{sleeper.pid}.{lease._started(sleeper.pid)} {lease._here()} abc\n"
    for token, told in (
        (f"{sleeper.pid}.1 {lease._here()} abc\n", "Nothing is being executed."),
        (f"{sleeper.pid}.1 elsewhere pid:[1] abc\n", f"process {sleeper.pid} runs on elsewhere, if it still does: cancel it there"),
        (begun, f"{home.name}: ended process {sleeper.pid}"),
    ):  # fmt: skip
        (home / "coordinator.json").write_text(json.dumps({"process": token}))
        assert sleeper.poll() is None
        assert main(["cancel", "--out", str(tmp_path / "out")]) == 0
        assert told in capsys.readouterr().out
    assert sleeper.wait(10) == -15
    assert os.getpid() != sleeper.pid and len(plans(tmp_path)) == 1


@pytest.mark.parametrize(("options", "device"), [("gpus=2", "cuda"), ("gpus=0", "cpu"), ("partition=x", "cpu")])
def test_the_device_of_job_arrays_is_that_of_the_nodes(
    options: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A login node need have no GPU."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    args = parser().parse_args(["plan", "--method", "lora", "--suite", "pocket", "--slurm", options])
    launch = arguments.launch_of(args)
    assert planner.executor_of(launch)[0].device(launch.device) == device


def test_a_method_that_the_protocol_does_not_fit_is_left_out_and_the_others_run(
    asked: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *asked, "--method", "linear_probe,mimi"]) == 2
    said = capsys.readouterr()
    assert "left out: mimi: 1 epochs cannot be divided among 3 cycles" in said.err
    assert [record.spec.method for record in Store(tmp_path / "out").records()] == ["linear_probe"]
    assert main(["run", *asked, "--method", "mimi"]) == 2
    assert "cannot be divided" in capsys.readouterr().err
    assert main(["plan", *asked, "--method", "mimi", "--protocol", "mimi@v1"]) == 0  # there each cycle has its own


def test_shots_are_part_of_the_question(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    ask = ["plan", "--method", "linear_probe", "--dataset", "pocket/digits", "--seeds", "0", "--out", str(tmp_path)]
    assert main([*ask, "--shots", "3", "--json"]) == 0
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    assert (run["spec"]["protocol"]["shots"], run["spec"]["protocol"]["name"]) == (3, "pocket@v1+shots=3")
