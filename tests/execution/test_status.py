"""What is planned, queued, running, done, failed and skipped, and what a run has left behind."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from pathlib import Path

import pytest
from helpers.specs import SPEC
from helpers.stored import DONE, FAILED

from bench.cli.main import main
from bench.cli.status import overview_text
from bench.core import configs, lease
from bench.core.lease import leased
from bench.core.record import Record
from bench.core.spec import RunSpec
from bench.core.store import Store
from bench.execution import attempt, inspect, status
from bench.execution import plan as planning
from bench.execution.attempt import Attempt, Settings, Step
from bench.execution.executors import local
from bench.execution.executors import slurm as slurm_executor
from bench.execution.plan import Bundle, ExecutionContext, Plan, PlannedRun
from bench.execution.resources import Resources

START = Attempt("here", 7, "42_1", "2026-01-02T03:04:05+00:00")


def spec(seed: int, method: str = "lora") -> RunSpec:
    return dataclasses.replace(SPEC, seed=seed, method=method)


def planned(root: Path, *specs: RunSpec, executor: str = "local") -> Path:
    """The folder of a plan of these runs, 60 seconds each, a bundle each."""
    bundles = tuple(Bundle((index,), 60.0, Resources()) for index in range(len(specs)))
    runs = tuple(PlannedRun(own, 60.0) for own in specs)
    plan = Plan(
        ExecutionContext("cpu"),
        Settings(),
        {SPEC.dataset: configs.dataset(SPEC.dataset)},
        runs,
        bundles,
        executor=executor,
    )
    return planning.write(plan, root).parent


def recorded(root: Path, record: Record, seed: int, **change: object) -> Path:
    return Store(root).write(dataclasses.replace(record, spec=spec(seed), **change))  # type: ignore[arg-type]


def states(root: Path) -> dict[int, str]:
    return {run.seed: run.state for run in status.look(root, pytest.fail).runs}


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What Slurm says of its tasks."""
    tasks: dict[str, str] = {}
    monkeypatch.setattr(slurm_executor, "queue", lambda: tasks)
    return tasks


def test_six_states(tmp_path: Path, slurm: dict[str, str]) -> None:
    home = planned(tmp_path, *map(spec, range(6)), executor="slurm")
    (home / "arrays.json").write_text(json.dumps([{"job": "42", "bundles": [0, 1, 2, 3, 4, 5]}]))
    recorded(tmp_path, DONE, 0)
    recorded(tmp_path, FAILED, 1)
    recorded(tmp_path, FAILED, 2, status="skipped", reason="does not fit")
    slurm.update({"42_3": "RUNNING", "42_4": "PENDING"})
    state = Store(tmp_path).state(spec(3))
    state.mkdir(parents=True)
    (state / "progress.json").write_text(json.dumps(dataclasses.asdict(Step(START, "train", 1, 3, 99.6))))
    with leased(state):
        assert states(tmp_path) == {0: "done", 1: "failed", 2: "skipped", 3: "running", 4: "queued", 5: "planned"}
        seen = status.look(tmp_path, pytest.fail)
        text = overview_text(seen, tmp_path)
    assert seen.waiting
    assert text.startswith(
        "6 runs: 1 done, 1 failed, 1 skipped, 1 running, 1 queued, 1 planned. About 3 min left at 1 at"
    )
    here = os.uname().nodename
    running = (
        f"  {spec(3).digest[:8]}  lora  pocket/digits  pocket_vit  seed 3  epoch 1/3  100 images/s  {here}, job 42_1"
    )
    assert running in text.splitlines()
    assert "  it broke" in text.splitlines()
    assert "not being executed" not in text


def test_a_run_without_a_plan_is_shown_too(tmp_path: Path) -> None:
    recorded(tmp_path, DONE, 5)
    text = overview_text(status.look(tmp_path, pytest.fail), tmp_path)
    assert text.startswith("1 run: 1 done.\n") and "bench table" in text
    assert overview_text(status.look(tmp_path / "empty", pytest.fail), tmp_path / "empty").startswith("0 runs: none.")


@pytest.mark.parametrize(("age", "state"), [(0.0, "running"), (2 * lease.STALE, "planned")])
def test_the_lease_of_another_machine_counts_while_it_is_touched(age: float, state: str, tmp_path: Path) -> None:
    planned(tmp_path, spec(0))
    held = lease.beside(Store(tmp_path).state(spec(0)), ".lock")
    held.parent.mkdir(parents=True)
    held.write_text("1.1 elsewhere pid:[1] abc\n")
    os.utime(held, (time.time() - age,) * 2)
    run = status.look(tmp_path, pytest.fail).runs[0]
    assert (run.state, run.host) == (state, "elsewhere" if state == "running" else None)
    assert list(held.parent.iterdir()) == [held]  # looking leaves nothing behind


def test_the_lease_of_a_process_that_died_here_does_not_count(tmp_path: Path) -> None:
    planned(tmp_path, spec(0))
    held = lease.beside(Store(tmp_path).state(spec(0)), ".lock")
    held.parent.mkdir(parents=True)
    held.write_text(f"{os.getpid()}.1 {lease._here()} abc\n")  # this number, but an earlier process
    assert states(tmp_path) == {0: "planned"}


def test_a_failed_run_that_is_launched_again_is_queued_until_it_fails_again(
    tmp_path: Path, slurm: dict[str, str]
) -> None:
    path = recorded(tmp_path, FAILED, 0)
    os.utime(path, (time.time() - 100,) * 2)
    home = planned(tmp_path, spec(0), executor="slurm")
    assert states(tmp_path) == {0: "failed"}
    (home / "arrays.json").write_text(json.dumps([{"job": "42", "bundles": [0]}]))
    slurm["42_0"] = "RUNNING"
    assert states(tmp_path) == {0: "queued"}
    os.utime(path, (time.time() + 100,) * 2)
    assert states(tmp_path) == {0: "failed"}


def test_what_a_process_here_has_before_it_is_queued_until_it_ends(tmp_path: Path) -> None:
    home = planned(tmp_path, spec(0), spec(1))
    text = overview_text(status.look(tmp_path, pytest.fail), tmp_path)
    assert f"2 planned runs are not being executed: 'bench resume --out {tmp_path}' runs what is left." in text
    assert "About 2 min of work left." in text
    with local.coordinating(home):
        assert states(tmp_path) == {0: "queued", 1: "queued"}
    assert states(tmp_path) == {0: "planned", 1: "planned"}
    (home / "coordinator.json").write_text(json.dumps({"process": f"{os.getpid()}.1 {lease._here()} abc\n"}))
    assert states(tmp_path) == {0: "planned", 1: "planned"}  # another process has its number by now


def test_where_slurm_does_not_answer_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm_executor, "queue", lambda: None)
    home = planned(tmp_path, spec(0), executor="slurm")
    (home / "arrays.json").write_text(json.dumps([{"job": "42", "bundles": [0]}]))
    assert "slurm does not answer here" in overview_text(status.look(tmp_path, pytest.fail), tmp_path)
    planned(tmp_path / "b", spec(0))
    assert "does not answer" not in overview_text(status.look(tmp_path / "b", pytest.fail), tmp_path / "b")


def test_time_left_is_that_of_what_is_to_do_by_those_who_are_at_it(tmp_path: Path) -> None:
    planned(tmp_path, *map(spec, range(4)))
    recorded(tmp_path, DONE, 0)
    first, second = (Store(tmp_path).state(spec(seed)) for seed in (1, 2))
    for state in (first, second):
        state.mkdir(parents=True)
    (first / "progress.json").write_text(json.dumps(dataclasses.asdict(Step(START, "train", 2, 4, 1.0))))
    with leased(first), leased(second):  # half of 60 s, 60 s, 60 s by two workers
        assert " About 75 s left at 2 at a time." in overview_text(status.look(tmp_path, pytest.fail), tmp_path)


def test_hundreds_of_runs_fit_on_a_screen(tmp_path: Path) -> None:
    def run(number: int) -> status.RunStatus:
        method = f"method{number % 40}"
        state: status.State = "failed" if method == "method7" else "done" if number % 40 < 30 else "planned"
        return status.RunStatus(f"{number:016x}", method, "pocket/digits", "pocket_vit", 0, state, "it broke\nbadly")

    text = overview_text(status.Overview(tuple(map(run, range(800))), 1, ()), Path("results"))
    lines = text.splitlines()
    assert len(lines) < 40 and max(map(len, lines)) <= 100
    assert "(29 finished)   580       ·        ·" in lines
    assert lines.count("  it broke") == 1 and "    and 17 more" in lines


def test_the_command_prints_text_lines_or_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    planned(tmp_path, spec(0), spec(1))
    recorded(tmp_path, DONE, 0)
    assert main(["status", "--out", str(tmp_path), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["plans"], data["done"], data["planned"], data["failed"]) == (1, 1, 1, 0)
    assert [run["digest"] for run in data["runs"]] == [spec(0).digest, spec(1).digest]
    assert main(["status", "--out", str(tmp_path), "--runs"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"done     {spec(0).digest[:8]}  lora  pocket/digits  pocket_vit  seed 0",
        f"planned  {spec(1).digest[:8]}  lora  pocket/digits  pocket_vit  seed 1",
    ]
    assert main(["status", "--out", str(tmp_path), "--watch"]) == 0  # nothing is under way: it ends
    assert "2 runs: 1 done, 1 planned." in capsys.readouterr().out


# logs ----------------------------------------------------------------------------------------------------------------


def logs(root: Path, seed: int) -> list[str]:
    return list(inspect.logs(root, spec(seed).digest[:6], pytest.fail))


def test_logs_of_a_failed_run_show_its_reason_its_traceback_and_its_worker(tmp_path: Path) -> None:
    home = planned(tmp_path, spec(0), spec(1), executor="slurm")
    path = Store(tmp_path).path(spec(1))
    recorded(tmp_path, FAILED, 1, failure="system", attempts=2, log=f"{path.stem}.log")
    path.with_suffix(".log").write_text("Traceback\n  the line\n")
    (home / "arrays.json").write_text(json.dumps([{"job": "42", "bundles": [0, 1]}]))
    (home / "slurm").mkdir()
    (home / "slurm" / "42_0_0_log.out").write_text("another worker\n")
    (home / "slurm" / "42_1_0_log.out").write_text("".join(f"line {number}\n" for number in range(50)))
    lines = logs(tmp_path, 1)
    assert lines[1] == f"failed at attempt 2, on here: {path}"
    assert lines[2] == "system: it broke"
    assert "Traceback\n  the line" in lines
    assert "line 49" in lines and "line 29" not in lines and "another worker" not in lines


def test_logs_of_a_run_here_show_what_its_worker_printed(tmp_path: Path) -> None:
    home = planned(tmp_path, spec(0), spec(1))
    (home / "logs").mkdir()
    (home / "logs" / "1.log").write_text("a worker here\n")
    assert "a worker here" in logs(tmp_path, 1) and "a worker here" not in logs(tmp_path, 0)


def test_logs_of_a_run_that_is_not_finished_show_its_starts(tmp_path: Path) -> None:
    planned(tmp_path, spec(0))
    assert logs(tmp_path, 0)[1:] == ["It has not begun."]
    state = Store(tmp_path).state(spec(0))
    state.mkdir(parents=True)
    attempt._write_starts(state, [dataclasses.replace(START, ended="Preempted"), START])
    begun = "2026-01-02 03:04:05 UTC on here, process 7, job 42_1"
    assert logs(tmp_path, 0)[1:] == [
        f"attempt 1: {begun}: ended by a signal",
        f"attempt 2: {begun}: died without an exit status",
    ]
    (state / "progress.json").write_text(json.dumps(dataclasses.asdict(Step(START, "train", 1, 3, 99.6))))
    with leased(state):
        assert logs(tmp_path, 0)[2:] == [f"attempt 2: {begun}: under way", "now: train, epoch 1/3, 100 images/s"]


def test_a_run_is_named_by_a_beginning_of_its_digest_that_no_other_has(tmp_path: Path) -> None:
    digests = sorted(spec(seed).digest for seed in range(40))
    twins = next((a, b) for a, b in zip(digests, digests[1:], strict=False) if a[0] == b[0])
    for seed in range(40):
        if spec(seed).digest in twins:
            recorded(tmp_path, DONE, seed)
    for wrong, told in (
        (
            twins[0][0],
            f"2 runs under {tmp_path} have a digest that begins with '{twins[0][0]}': {twins[0]}, {twins[1]}.",
        ),
        ("0" * 17, "No run under"),
        ("xyz", "is not the beginning of a run's digest"),
        ("", "is not the beginning of a run's digest"),
        ("../*", "is not the beginning of a run's digest"),
    ):
        with pytest.raises(inspect.UsageError) as error:
            inspect.find(tmp_path, wrong, pytest.fail)
        assert told in str(error.value)
    assert inspect.find(tmp_path, twins[0], pytest.fail).digest == twins[0]
    Store(tmp_path).path(inspect.find(tmp_path, twins[1], pytest.fail)).write_text("{")
    warned: list[str] = []
    assert inspect.find(tmp_path, twins[0][0], warned.append).digest == twins[0] and twins[1] in warned[0]
