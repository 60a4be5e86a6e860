"""The Slurm executor, of which only Slurm's own answers are made up."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.plans import SMALL, job, plan_of

from bench.core.errors import UsageError
from bench.execution import executors
from bench.execution import plan as planning
from bench.execution.executors import slurm
from bench.execution.plan import Bundle, Plan


class FakeExecutor:
    """What submitit gives back, with ids that count up; `refuse_from` is the number of the array that is refused."""

    arrays: list[int] = []
    refuse_from = 10**9

    def __init__(self, *_: object, **__: object) -> None:
        self.tasks = 0

    def update_parameters(self, **_: object) -> None:
        """Any parameters are taken."""

    def batch(self) -> Any:
        import contextlib

        @contextlib.contextmanager
        def batch() -> Any:
            yield
            if len(self.arrays) >= self.refuse_from:
                raise OSError("sbatch: error: QOSMaxSubmitJobPerUserLimit")
            self.arrays.append(self.tasks)

        return batch()

    def submit(self, *_: object) -> Any:
        self.tasks += 1
        number, task = 70 + len(self.arrays), self.tasks - 1
        return type("Job", (), {"job_id": f"{number}_{task}"})()


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> dict[str, Callable[[], str]]:
    """What the commands of Slurm print; one that is not there fails."""
    found: dict[str, Callable[[], str]] = {}

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        if command[0] not in found:
            raise subprocess.CalledProcessError(1, command)
        return subprocess.CompletedProcess(command, 0, found[command[0]](), "")

    monkeypatch.setattr(subprocess, "run", run)
    submitit: Any = pytest.importorskip("submitit")
    monkeypatch.setattr(submitit, "AutoExecutor", FakeExecutor)
    monkeypatch.setattr(slurm, "_submitit", lambda root: submitit)
    monkeypatch.setattr(FakeExecutor, "arrays", [])
    monkeypatch.setattr(FakeExecutor, "refuse_from", 10**9)
    return found


def written(root: Path, bundles: int) -> Plan:
    plan = plan_of(job())
    import dataclasses

    plan = dataclasses.replace(plan, executor="slurm", bundles=tuple(Bundle((0,), 5.0, SMALL) for _ in range(bundles)))
    planning.write(plan, root)
    return plan


def test_arrays_are_no_larger_than_the_site_takes(answers: dict[str, Callable[[], str]], tmp_path: Path) -> None:
    answers["scontrol"] = lambda: "MaxArraySize            = 4\nMaxJobCount = 10000\n"
    plan = written(tmp_path, 10)
    done = executors.get("slurm").submit(tmp_path, plan, lambda _: None)
    assert FakeExecutor.arrays == [4, 4, 2] and done.jobs == ("70", "71", "72") and not done.waited
    home = planning.folder(tmp_path) / plan.id
    assert [len(array.bundles) for array in slurm.read_arrays(home)] == [4, 4, 2]


def test_all_arrays_are_taken_or_none(
    answers: dict[str, Callable[[], str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancelled: list[bool] = []
    answers["scontrol"] = lambda: "MaxArraySize = 4\n"
    answers["scancel"] = lambda: str(cancelled.append(True))
    monkeypatch.setattr(FakeExecutor, "refuse_from", 2)
    plan = written(tmp_path, 10)
    with pytest.raises(UsageError, match="Slurm refused the jobs, and nothing stays submitted: .*QOSMaxSubmit"):
        executors.get("slurm").submit(tmp_path, plan, lambda _: None)
    assert cancelled == [True]


def test_a_queue_that_does_not_answer_is_not_an_empty_one(
    answers: dict[str, Callable[[], str]], tmp_path: Path
) -> None:
    plan = written(tmp_path, 1)
    home = planning.folder(tmp_path) / plan.id
    (home / "arrays.json").write_text(json.dumps([{"job": "70", "bundles": [0]}]))
    executor = executors.get("slurm")
    assert executor.state([home]) is None
    answers["squeue"] = lambda: "70|0|PENDING\n"
    assert executor.state([home]) == {home: {0: "PENDING"}}
    answers["squeue"] = lambda: ""
    assert executor.state([home]) == {home: {}}


@pytest.mark.parametrize("text", ["{", "7", '[{"job": "1; rm", "bundles": [0]}]', "[" * 100_000, '[{"jb": "1"}]'])
def test_a_damaged_list_of_arrays_is_unknown_not_empty(
    text: str, answers: dict[str, Callable[[], str]], tmp_path: Path
) -> None:
    plan = written(tmp_path, 1)
    home = planning.folder(tmp_path) / plan.id
    (home / "arrays.json").write_text(text)
    with pytest.raises(UsageError, match="arrays.json"):
        executors.get("slurm").state([home])
    path = home / "plan.json"
    assert executors.states({path: plan}) == ({}, ["slurm"])


def test_a_percent_in_the_path_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: "/usr/bin/sbatch")
    with pytest.raises(UsageError, match="Slurm expands the %"):
        slurm._submitit(tmp_path / "%j")
