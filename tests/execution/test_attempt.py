"""What a worker does with one run: tries again what may pass, gives up on what does not, and leaves others alone."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from helpers.images import paint
from helpers.jobs import job

from bench.core import lease
from bench.core.errors import BadData
from bench.core.lease import leased
from bench.core.record import Record
from bench.core.store import Store
from bench.data.readers import folder
from bench.execution import attempt
from bench.execution.attempt import Attempt, Preempted, Settings, perform, preemptible, read_starts, read_step
from bench.models.method import Method
from bench.models.view import ModelView
from bench.training import loop
from bench.training.execute import execute
from bench.training.job import Job


@pytest.fixture
def source(tmp_path: Path) -> folder.ImageFolder:
    return folder.divide(paint(tmp_path / "pets", {"cat": 10, "dog": 10}))


ERRORS: dict[str, Exception] = {
    "memory": torch.OutOfMemoryError("CUDA out of memory"),
    "system": OSError(116, "Stale file handle"),
    "error": RuntimeError("a bug"),
    "data": BadData("an image is torn"),
    "diverged": loop.Diverged("The loss was nan"),
}


@dataclass(frozen=True)
class Failing(Method):
    kind: str = "error"
    times: int = 1
    counter: str = ""  # a file, a line for each try

    def attach(self, net: ModelView) -> None:
        with open(self.counter, "a") as file:
            file.write("tried\n")
        if len(Path(self.counter).read_text().splitlines()) <= self.times:
            raise ERRORS[self.kind]


def failing(source: folder.ImageFolder, tmp_path: Path, kind: str, times: int) -> Job:
    return job(source, "failing", method=Failing(kind, times, str(tmp_path / "counter")))


@pytest.mark.parametrize("kind", ["memory", "system"])
def test_what_may_pass_is_tried_again(kind: str, source: folder.ImageFolder, tmp_path: Path) -> None:
    store = Store(tmp_path / "out")
    record = perform(failing(source, tmp_path, kind, 2), store, Settings(retries=2))
    assert record is not None and record.status == "done" and record.attempts == 3
    assert list(store.records()) == [record]


@pytest.mark.parametrize("kind", list(ERRORS))
def test_a_failure_is_a_record_of_its_kind(kind: str, source: folder.ImageFolder, tmp_path: Path) -> None:
    store, asked = Store(tmp_path / "out"), failing(source, tmp_path, kind, 9)
    record = perform(asked, store, Settings(retries=1))
    assert record is not None and (record.status, record.failure) == ("failed", kind)
    assert record.attempts == (2 if kind in attempt.MAY_PASS else 1)
    assert record.log and store.path(asked.spec).with_name(record.log).is_file()
    again = perform(asked, store, Settings(retries=0))
    assert again is not None and again.attempts == record.attempts + 1  # it adds to those of the failed record
    assert list((tmp_path / "out" / "state").iterdir()) == []


def test_a_run_whose_process_is_killed_again_and_again_fails(source: folder.ImageFolder, tmp_path: Path) -> None:
    store, asked = Store(tmp_path / "out"), job(source, "linear_probe")
    state = store.state(asked.spec)
    state.mkdir(parents=True)
    starts = [Attempt("node7", 1, None, "2026-01-01", ended) for ended in (None, "Preempted", None)]
    (state / "starts.json").write_text(json.dumps([vars(start) for start in starts]))
    record = perform(asked, store, Settings(retries=1))
    assert record is not None and (record.status, record.failure) == ("failed", "node")
    assert record.reason == "The worker died without an exit status 2 times, the last time on node7."
    assert record.attempts == 3
    done = perform(asked, store, Settings(retries=1))  # asked for anew, it is tried again
    assert done is not None and done.status == "done" and done.attempts == 4


def test_a_run_that_another_process_is_at_is_left_to_it(source: folder.ImageFolder, tmp_path: Path) -> None:
    store, asked = Store(tmp_path / "out"), job(source, "linear_probe")
    (tmp_path / "out" / "state").mkdir(parents=True)
    with leased(store.state(asked.spec)) as held:
        assert held is not None
        assert perform(asked, store, Settings()) is None
    assert store.find(asked.spec) is None


def test_a_worker_that_lost_its_lease_writes_nothing(
    source: folder.ImageFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It slept; another process took its run over, and finished it."""
    store, asked = Store(tmp_path / "out"), job(source, "linear_probe")
    other: list[Record] = []

    def meanwhile(_: object) -> None:
        path = lease.beside(store.state(asked.spec), ".lock")
        path.write_text("another's\n")
        if not other:
            other.append(execute(job(source, "linear_probe"), store))

    record = perform(asked, store, Settings(), meanwhile)
    assert record == other[0] and list(store.records()) == other
    assert lease.beside(store.state(asked.spec), ".lock").read_text() == "another's\n"


def test_signals_of_a_batch_system_let_go_and_keep_the_checkpoint(source: folder.ImageFolder, tmp_path: Path) -> None:
    store, asked = Store(tmp_path / "out"), job(source, "lora")
    state = store.state(asked.spec)

    def leave(progress: loop.Progress) -> None:
        if progress.epoch == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Preempted, match="SIGTERM"), preemptible():
        perform(asked, store, Settings(checkpoint_seconds=0.0), leave)
    assert [start.ended for start in read_starts(state)] == ["Preempted"]
    step = read_step(state)
    assert step is not None and (step.epoch, step.epochs, step.start.pid) == (1, 4, os.getpid())
    assert not lease.beside(state, ".lock").exists()  # let go at once: the next one need not wait
    epochs: list[int] = []
    record = perform(asked, store, Settings(), lambda progress: epochs.append(progress.epoch))
    assert record is not None and record.status == "done" and epochs == [3, 4]


def test_a_task_that_submitit_ends_at_its_time_limit_keeps_its_run(
    source: folder.ImageFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Submitit answers SIGUSR2 by queueing the task again and an exit; that is no failure of the method. Slurm then
    sends SIGTERM to what it queues again, here while the end is written down: it must not count as killed."""
    store, asked = Store(tmp_path / "out"), job(source, "lora")
    answered: list[int] = []

    def submitit(number: int, frame: FrameType | None) -> None:
        answered.append(number)
        raise SystemExit(-1)

    def leave(progress: loop.Progress) -> None:
        os.kill(os.getpid(), signal.SIGUSR2)

    write = attempt.write_json

    def interrupted(path: Path, value: Any) -> None:
        if "Preempted" in json.dumps(value):
            os.kill(os.getpid(), signal.SIGTERM)
        write(path, value)

    monkeypatch.setattr(attempt, "write_json", interrupted)
    before = signal.signal(signal.SIGUSR2, submitit)
    try:
        with pytest.raises(Preempted, match="SIGTERM"), preemptible():
            perform(asked, store, Settings(checkpoint_seconds=0.0), leave)
        assert signal.getsignal(signal.SIGUSR2) is submitit
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert answered == [signal.SIGUSR2]
    assert store.find(asked.spec) is None
    assert [start.ended for start in read_starts(store.state(asked.spec))] == ["Preempted"]


def test_what_a_killed_process_left_half_written_is_tidied(source: folder.ImageFolder, tmp_path: Path) -> None:
    store, asked = Store(tmp_path / "out"), job(source, "linear_probe")
    path = store.path(asked.spec)
    path.parent.mkdir(parents=True)
    torn = path.parent / f".{path.stem}-abc.part"
    torn.write_text('{"half')
    foreign = path.parent / ".seed7-0123456789abcdef-x.part"  # another run's, which may be being written
    foreign.write_text("")
    perform(asked, store, Settings())
    assert not torn.exists() and foreign.exists()
