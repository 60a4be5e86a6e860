"""One run after another, on whatever machine: what a worker does, and the trace it leaves while it does it.

    DIR/state/<digest>.lock            the lease: one process at a time is at a run, and touches this while it is
    DIR/state/<digest>/starts.json     every time it was begun, and how that ended
    DIR/state/<digest>/progress.json   how far it is
    DIR/state/<digest>/*.safetensors   where it would go on (bench.training.checkpoint, bench.training.state)

All of it goes when the run has its record.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from bench.core.errors import BenchError, Conflict
from bench.core.lease import Held, leased
from bench.core.record import Failure, Record
from bench.core.schema import parse, plain
from bench.core.store import Store, write_json

if TYPE_CHECKING:
    from bench.training.job import Job
    from bench.training.loop import Progress

MAY_PASS: tuple[Failure, ...] = ("memory", "system", "node")
"""Failures that another try may not meet again: a neighbour's memory, a disk, a node. The others would come again."""


class Preempted(BaseException):
    """The machine is wanted back: SIGTERM, or SIGUSR1 of a batch system. Not an error of the run."""


class LostLease(BenchError):
    """Another process took this one for dead and is at its run now."""


@dataclass(frozen=True)
class Settings:
    retries: int = 1  # further tries after a failure that may pass
    checkpoint_seconds: float = 30.0  # of training between two checkpoints


@dataclass(frozen=True)
class Attempt:
    """One beginning of a run. `ended` is how the process let go of it; None after it was killed without a word."""

    host: str
    pid: int
    job: str | None  # of the batch system
    time: str  # UTC, ISO 8601
    ended: str | None = None


@dataclass(frozen=True)
class Step:
    """How far a run is, as its worker last said."""

    start: Attempt
    phase: str
    epoch: int
    epochs: int
    images_per_second: float


def perform(
    job: Job, store: Store, settings: Settings, on_progress: Callable[[Progress], None] = lambda _: None
) -> Record | None:
    """The run's final record, made here or found; None where another process is at this run.

    A run that was interrupted goes on from its checkpoint. One whose process was killed more than `retries` times
    without a word fails. Raises UsageError where the question is wrong, Preempted where the machine is wanted back.
    """
    state = store.state(job.spec)
    state.parent.mkdir(parents=True, exist_ok=True)
    with leased(state) as held:
        if held is None:
            return None
        found = store.find(job.spec)
        if found is not None and found.status == "done":
            shutil.rmtree(state, ignore_errors=True)  # its process was killed between record and tidying
            return found
        for left in store.path(job.spec).parent.glob(f".{store.path(job.spec).stem}-*.part"):
            left.unlink(missing_ok=True)  # of a process that was killed while it wrote
        try:
            return _hold(job, store, settings, on_progress, held, found.attempts if found else 0)
        except (LostLease, Conflict):
            return store.find(job.spec)  # the other process's, if it has finished


def _hold(
    job: Job, store: Store, settings: Settings, on_progress: Callable[[Progress], None], held: Held, before: int
) -> Record:
    """The run, tried again as often as the settings say; `before` counts the attempts of earlier, failed records."""
    from bench.training import provenance
    from bench.training.checkpoint import Checkpoints
    from bench.training.execute import execute, lost

    def check_lease() -> None:
        if not held.mine():
            raise LostLease(f"{held.lock} was taken over by another process while this one slept.")

    state = store.state(job.spec)
    checkpoints = Checkpoints(state, provenance.compatibility_key(job), settings.checkpoint_seconds)
    for tries in itertools.count(1):
        starts = read_starts(state)
        killed = [start for start in starts if start.ended is None]
        if len(killed) > settings.retries:
            reason = f"Its process was killed {len(killed)} times without a word, last on {killed[-1].host}."
            record = lost(job, reason, before + len(starts))
            store.write(record)
            break
        mine = Attempt(
            socket.gethostname(), os.getpid(), provenance.batch_job(), datetime.now(UTC).isoformat(timespec="seconds")
        )
        _write_starts(state, [*starts, mine])
        with _ending(state, starts, mine):
            record = execute(
                job,
                store,
                _telling(state, mine, on_progress),
                checkpoints=checkpoints,
                attempts=before + len(starts) + 1,
                check_lease=check_lease,
            )
        if record.failure not in MAY_PASS or tries > settings.retries:
            break
    shutil.rmtree(state, ignore_errors=True)
    return record


@contextlib.contextmanager
def _ending(state: Path, before: Sequence[Attempt], mine: Attempt) -> Iterator[None]:
    """Notes how a start ended, unless the process is killed without a word."""
    try:
        yield
    except BaseException as error:
        if state.is_dir():
            _write_starts(state, [*before, dataclasses.replace(mine, ended=type(error).__name__)])
        raise
    _write_starts(state, [*before, dataclasses.replace(mine, ended="recorded")])


def _telling(state: Path, start: Attempt, on_progress: Callable[[Progress], None]) -> Callable[[Progress], None]:
    """Passes progress on, and puts it down once a second at most."""
    told = [0.0]

    def tell(progress: Progress) -> None:
        if time.monotonic() - told[0] > 1.0:
            told[0] = time.monotonic()
            step = Step(start, progress.phase, progress.epoch, progress.epochs, progress.images_per_second)
            write_json(state / "progress.json", plain(step))
        on_progress(progress)

    return tell


def read_starts(state: Path) -> list[Attempt]:
    return [parse(Attempt, start, "starts.json") for start in _read(state / "starts.json") or []]


def _write_starts(state: Path, starts: Sequence[Attempt]) -> None:
    write_json(state / "starts.json", plain(starts))


def read_step(state: Path) -> Step | None:
    data = _read(state / "progress.json")
    return parse(Step, data, "progress.json") if data else None


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None


@contextlib.contextmanager
def preemptible() -> Iterator[None]:
    """Turns the signals by which a batch system asks for its machine into Preempted."""

    def stop(number: int, _: FrameType | None) -> None:
        raise Preempted(signal.Signals(number).name)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
