"""One run from its beginning to its record, on whatever machine, and the state on disk while it is under way.

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
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

from bench.core.errors import BenchError, Conflict, UnreadableFile
from bench.core.files import read_start
from bench.core.lease import LARGEST, STALE, Held, alive, beside, host, leased
from bench.core.record import Failure, Record
from bench.core.schema import Damaged, plain, read_json
from bench.core.store import Store, write_json

if TYPE_CHECKING:
    from bench.training.job import Job
    from bench.training.loop import Progress

T = TypeVar("T")

MAY_PASS: tuple[Failure, ...] = ("memory", "system", "node")
"""Failures that another try may not meet again: a neighbour's memory, a disk, a node. The others would come again."""


ASKING = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
"""Signals by which a batch system asks a process to end."""


class Preempted(KeyboardInterrupt):
    """The machine is wanted back: a batch system has sent SIGTERM, SIGUSR1 or SIGUSR2. Not an error of the run."""


class LostLease(BenchError):
    """Another process took this one for dead and is at its run now."""


@dataclass(frozen=True)
class Settings:
    retries: int = 1  # further tries after a failure that may pass
    checkpoint_seconds: float = 30.0  # of training between two checkpoints


@dataclass(frozen=True)
class Attempt:
    """One beginning of a run. `ended` is how its process let go of it; None after one that died without an exit
    status."""

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

    A run that was interrupted goes on from its checkpoint. One whose process died more than `retries` times without an
    exit status fails. Raises UsageError where the question is wrong, Preempted where the machine is wanted back.
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
            times = f"{len(killed)} times, the last time on {killed[-1].host}"
            reason = f"The worker died without an exit status {times}."
            record = lost(job, reason, before + len(starts))
            store.write(record)
            break
        mine = Attempt(
            socket.gethostname(), os.getpid(), provenance.batch_job(), datetime.now(UTC).isoformat(timespec="seconds")
        )
        with _noted(state, starts, mine):
            record = execute(
                job,
                store,
                _recording(state, mine, check_lease, on_progress),
                checkpoints=checkpoints,
                attempts=before + len(starts) + 1,
                check_lease=check_lease,
            )
        if record.failure not in MAY_PASS or tries > settings.retries:
            break
    shutil.rmtree(state, ignore_errors=True)
    return record


@contextlib.contextmanager
def _noted(state: Path, before: Sequence[Attempt], mine: Attempt) -> Iterator[None]:
    """Notes that a run was begun, and how that ended unless the process is killed without a word."""
    try:
        _write_starts(state, [*before, mine])
        yield
    except BaseException as error:
        with _undisturbed():
            if state.is_dir():
                _write_starts(state, [*before, dataclasses.replace(mine, ended=type(error).__name__)])
        raise
    _write_starts(state, [*before, dataclasses.replace(mine, ended="recorded")])


def _recording(
    state: Path, start: Attempt, check_lease: Callable[[], None], on_progress: Callable[[Progress], None]
) -> Callable[[Progress], None]:
    """At every epoch: asks whether the run is still this process's, which also guards the checkpoint that follows, and
    writes down its progress, once a second at most."""
    written = 0.0

    def record(progress: Progress) -> None:
        nonlocal written
        check_lease()
        if time.monotonic() - written > 1.0:
            written = time.monotonic()
            step = Step(start, progress.phase, progress.epoch, progress.epochs, progress.images_per_second)
            write_json(state / "progress.json", plain(step))
        on_progress(progress)

    return record


def read_starts(state: Path, warn: Callable[[str], object] = lambda _: None) -> list[Attempt]:
    """The attempts at a run. A damaged file counts as none, and is named to `warn`: the run is begun anew."""
    return list(_read(state / "starts.json", tuple[Attempt, ...], warn) or ())


def _write_starts(state: Path, starts: Sequence[Attempt]) -> None:
    write_json(state / "starts.json", plain(starts))


def read_step(state: Path, warn: Callable[[str], object] = lambda _: None) -> Step | None:
    """How far a run is; None where that is not known."""
    return _read(state / "progress.json", Step, warn)


def _read(path: Path, kind: type[T], warn: Callable[[str], object]) -> T | None:
    try:
        found = read_json(path, kind)
    except FileNotFoundError:
        return None
    if isinstance(found, Damaged):
        warn(str(found))
        return None
    return found


def holder_of(state: Path) -> str | None:
    """The host of the process that is running a run; None where there is none. Times are compared by the clock of the
    disk that both of them were written to."""
    path = beside(state, ".lock")
    try:
        token, touched = read_start(path, LARGEST).decode("utf-8", errors="replace"), path.stat().st_mtime
    except (FileNotFoundError, UnreadableFile):  # something else under that name holds nothing; `leased` names it
        return None
    lives = alive(token)
    if lives is None:
        lives = _now(state.parent) - touched < STALE
    return host(token) if lives else None


def _now(folder: Path) -> float:
    """The time by the clock that stamps files there."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".clock-") as file:
            return os.stat(file.name).st_mtime
    except OSError:
        return time.time()


@contextlib.contextmanager
def preemptible() -> Iterator[None]:
    """Turns the signals by which a batch system asks for its machine into Preempted, once whatever else answers them
    has done so: submitit has a task queued again, and would then exit, which looks like a method that ends its process.
    """

    def answer(former: Any) -> Callable[[int, FrameType | None], None]:
        def stop(number: int, frame: FrameType | None) -> None:
            name = signal.Signals(number).name
            if callable(former):
                try:
                    former(number, frame)
                except (Exception, SystemExit) as error:  # submitit says why in the task's log
                    raise Preempted(name) from error
            raise Preempted(name)

        return stop

    with _handlers(answer):
        yield


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Signals wait: a batch system sends the next one while a process still puts away its work after the first."""
    if threading.current_thread() is not threading.main_thread():  # where Python runs no handler of a signal
        yield
        return
    came: list[int] = []
    with _handlers(lambda _: lambda number, frame: came.append(number)):
        yield
    for number in came[:1]:
        signal.raise_signal(number)


@contextlib.contextmanager
def _handlers(answer: Callable[[Any], Callable[[int, FrameType | None], None]]) -> Iterator[None]:
    """Has the signals of a batch system answered by `answer` of the handler that each has had, and puts that back."""
    before = {number: signal.getsignal(number) for number in ASKING}
    for number, former in before.items():
        signal.signal(number, answer(former))
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)
