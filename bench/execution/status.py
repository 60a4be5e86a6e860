"""How far the plans of a results folder are: every run of a plan or with a record, in one of six states."""

from __future__ import annotations

import dataclasses
import os
import tempfile
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bench.core import lease
from bench.core.errors import BenchError, UsageError
from bench.core.schema import plain
from bench.core.spec import RunSpec
from bench.core.store import Store, read
from bench.core.text import columns, counted, duration, table
from bench.execution import launch, worker
from bench.execution import plan as planning
from bench.execution.launch import title as title

State = Literal["done", "failed", "skipped", "running", "queued", "planned"]
STATES: tuple[State, ...] = ("done", "failed", "skipped", "running", "queued", "planned")
SHOWN = 12  # lines of one kind on a screen
ALIKE = 3  # failed runs that are shown of those with one reason
DIGITS = 8  # of a digest on a screen; commands take any beginning of it that only one run has

Warn = Callable[[str], object]


@dataclass(frozen=True)
class RunStatus:
    """One run. `seconds` is what it is estimated to need; what its worker last said is in `step`."""

    digest: str
    method: str
    dataset: str
    backbone: str
    seed: int
    state: State
    reason: str | None = None
    seconds: float = 0.0
    step: worker.Step | None = None
    host: str | None = None  # of its worker


@dataclass(frozen=True)
class Overview:
    runs: tuple[RunStatus, ...]
    plans: int
    slurm: bool  # whether Slurm answered, where a plan was submitted to it

    @property
    def waiting(self) -> bool:
        """Whether something is under way."""
        return any(run.state in ("running", "queued") for run in self.runs)


def look(root: Path, warn: Warn) -> Overview:
    from bench.report import index

    frame = index.load(root, warn)
    names = ("digest", "method", "dataset", "backbone", "seed", "status", "reason")
    recorded = {
        digest: RunStatus(
            digest, method, dataset, backbone, int(seed), status, reason if isinstance(reason, str) else None
        )
        for digest, method, dataset, backbone, seed, status, reason in zip(*(frame[n] for n in names), strict=True)
    }
    plans = planning.every(root)
    asked = any(plan.slurm for plan in plans.values())
    tasks = launch.queue() if asked else {}
    runs = dict(recorded)
    for path, plan in plans.items():
        for planned in plan.runs:
            runs[planned.spec.digest] = _of_plan(root, planned, recorded.get(planned.spec.digest))
        for number in _queued(path.parent, plan, tasks or {}):
            run = runs[plan.runs[number].spec.digest]
            if run.state == "planned" or (run.state == "failed" and _older(root, plan.runs[number].spec, path.parent)):
                runs[run.digest] = dataclasses.replace(run, state="queued", reason=None)
    return Overview(tuple(runs.values()), len(plans), tasks is not None)


def _of_plan(root: Path, planned: planning.PlannedRun, known: RunStatus | None) -> RunStatus:
    spec, seconds = planned.spec, planned.seconds
    found = known or RunStatus(spec.digest, spec.method, spec.dataset, spec.backbone, spec.seed, "planned")
    if found.state in ("planned", "failed") and (holder := alive(Store(root).state(spec))):
        step = worker.read_step(Store(root).state(spec))
        return dataclasses.replace(found, state="running", reason=None, seconds=seconds, step=step, host=holder)
    return dataclasses.replace(found, seconds=seconds)


def _queued(home: Path, plan: planning.Plan, tasks: Mapping[str, str]) -> Iterator[int]:
    """The runs of a plan that a task of Slurm or a process has been given, by their places."""
    numbers = range(len(plan.bundles)) if launch.front(home) else launch.bundle_states(home, tasks)
    for number in numbers:
        yield from plan.bundles[number].runs


def _older(root: Path, spec: RunSpec, home: Path) -> bool:
    """Whether a run's record was there before its plan was launched, which is to try it again."""
    launched = [path.stat().st_mtime for name in ("arrays.json", "front.json") if (path := home / name).is_file()]
    try:
        return Store(root).path(spec).stat().st_mtime < max(launched, default=0.0)
    except FileNotFoundError:
        return False


def alive(state: Path) -> str | None:
    """The host of the process that is at a run; None where there is none. Times are compared by the clock of the disk
    that both of them were written to."""
    path = lease.beside(state, ".lock")
    try:
        token, touched = path.read_text(errors="replace"), path.stat().st_mtime
    except FileNotFoundError:
        return None
    lives = lease.alive(token)
    if lives is None:
        lives = _now(state.parent) - touched < lease.STALE
    return lease.host(token) if lives else None


def _now(folder: Path) -> float:
    """The time by the clock that stamps files there."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".clock-") as file:
            return os.stat(file.name).st_mtime
    except OSError:
        import time

        return time.time()


# told ----------------------------------------------------------------------------------------------------------------


def told(seen: Overview) -> str:
    states = Counter(run.state for run in seen.runs)
    counts = ", ".join(f"{states[state]} {state}" for state in STATES if states[state])
    lines = [f"{counted(len(seen.runs), 'run')}: {counts or 'none'}." + _time_left(seen)]
    if not seen.slurm:
        lines.append("Slurm does not answer (squeue): what it has queued counts as planned here.")
    for kind in ("method", "dataset"):
        lines += ["", *_table(seen.runs, kind)]
    running = [run for run in seen.runs if run.state == "running"]
    lines += _section("running:", columns([(*_names(run), *_progress(run)) for run in running]))
    lines += _failures([run for run in seen.runs if run.state == "failed"])
    if states["planned"] and not seen.waiting:
        lines += ["", f"Nobody is at the {states['planned']} planned runs: 'bench resume' makes them."]
    if seen.runs and states["done"] == len(seen.runs):
        lines += ["", "'bench table' shows the leaderboards."]
    return "\n".join(lines)


def each(seen: Overview) -> str:
    """A line for every run."""
    return "\n".join(columns([(run.state, *_names(run)) for run in seen.runs]))


def _names(run: RunStatus) -> tuple[str, ...]:
    return run.digest[:DIGITS], run.method, run.dataset, run.backbone, f"seed {run.seed}"


def _time_left(seen: Overview) -> str:
    left = sum(run.seconds * (1 - _share(run)) for run in seen.runs if run.state in ("running", "queued", "planned"))
    workers = sum(run.state == "running" for run in seen.runs)
    if not left:
        return ""
    if not workers:
        return f" About {duration(left)} of work left."
    return f" About {duration(left / workers)} left at {workers} at a time."


def _share(run: RunStatus) -> float:
    return run.step.epoch / run.step.epochs if run.step else 0.0


def _progress(run: RunStatus) -> tuple[str, ...]:
    if run.step is None:
        return "begins", "", run.host or ""
    phase = "" if run.step.phase == "train" else f"{run.step.phase}, "  # what most methods call their only one
    where = f"{run.host}, job {run.step.start.job}" if run.step.start.job else run.host or ""
    return f"{phase}epoch {run.step.epoch}/{run.step.epochs}", f"{run.step.images_per_second:.0f} images/s", where


def _failures(runs: Sequence[RunStatus]) -> Iterator[str]:
    """By their reasons, the most frequent first: of hundreds of failed runs most have one in common."""
    reasons: dict[str, list[RunStatus]] = {}
    for run in runs:
        reasons.setdefault(next(iter((run.reason or "").splitlines()), ""), []).append(run)
    if reasons:
        yield from ("", "failed ('bench logs RUN' tells more, 'bench resume' tries again):")
    for reason, own in sorted(reasons.items(), key=lambda item: -len(item[1]))[:SHOWN]:
        yield f"  {textwrap.shorten(reason, 90, placeholder=' ...')}"
        yield from (f"    {line}" for line in columns([_names(run) for run in own[:ALIKE]]))
        if len(own) > ALIKE:
            yield f"    and {len(own) - ALIKE} more"
    if len(reasons) > SHOWN:
        yield f"  and {len(reasons) - SHOWN} other reasons"


def _table(runs: Sequence[RunStatus], kind: str) -> list[str]:
    """A line for each name; in a long table those that are done share one."""
    present = [state for state in STATES if any(run.state == state for run in runs)]
    counts: dict[str, Counter[State]] = {}
    for run in runs:
        counts.setdefault(getattr(run, kind), Counter())[run.state] += 1
    over = [name for name, n in counts.items() if set(n) == {"done"}]
    if len(counts) > SHOWN and len(over) > 1:
        counts = {f"({len(over)} finished)": sum((counts.pop(name) for name in over), Counter()), **counts}
    rows = [(kind, *present)] + [(name, *(str(n[state] or "·") for state in present)) for name, n in counts.items()]
    return table(rows)


def _section(name: str, lines: Sequence[str]) -> list[str]:
    more = [f"  and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return ["", name, *(f"  {line}" for line in lines[:SHOWN]), *more] if lines else []


def as_data(seen: Overview) -> dict[str, Any]:
    states = Counter(run.state for run in seen.runs)
    return {"plans": seen.plans, **{state: states[state] for state in STATES}, "runs": plain(seen.runs)}


# one run -------------------------------------------------------------------------------------------------------------


def find(root: Path, run: str, warn: Warn) -> RunSpec:
    """The spec of the run whose digest begins so. Raises UsageError where there is none, or more than one."""
    if not run or set(run) - set("0123456789abcdef"):
        raise UsageError(f"{run!r} is not the beginning of a run's digest, like 3f2a9c. {WHERE}")
    found = {p.spec.digest: p.spec for plan in planning.every(root).values() for p in plan.runs}
    found = {digest: spec for digest, spec in found.items() if digest.startswith(run)}
    for path in (root / "runs").rglob(f"seed*-{run}*.json"):
        try:
            found[path.stem.rpartition("-")[2]] = read(path).spec
        except BenchError as error:
            warn(str(error))
    if not found:
        raise UsageError(f"No run under {root} has a digest that begins with {run!r}. {WHERE}")
    if len(found) > 1:
        few = ", ".join(sorted(found)[:5]) + (", ..." if len(found) > 5 else "")
        raise UsageError(f"{len(found)} runs under {root} have a digest that begins with {run!r}: {few}.")
    return next(iter(found.values()))


ENDED = {"Preempted": "ended by a signal", "SystemExit": "ended at the time limit", "recorded": "with a record"}
WHERE = "'bench status --runs' shows the digest of every run."


def logs(root: Path, run: str, warn: Warn) -> Iterator[str]:
    """What a run has left behind, for a person who asks what happened to it."""
    spec = find(root, run, warn)
    store = Store(root)
    state, path = store.state(spec), store.path(spec)
    yield f"{spec.digest}  {title(spec)}"
    record, holder = store.find(spec), alive(state)
    if record:
        host = f"on {record.provenance.host}" + (f", job {record.provenance.job}" if record.provenance.job else "")
        yield f"{record.status} at attempt {record.attempts}, {host}: {path}"
        if record.reason:
            yield f"{record.failure or 'reason'}: {record.reason}"
    starts = worker.read_starts(state)
    for number, start in enumerate(starts, 1):
        job = f", job {start.job}" if start.job else ""
        last = number == len(starts) and holder
        ended = ENDED.get(start.ended or "", start.ended) or ("under way" if last else "killed without a word")
        begun = start.time.replace("T", " ")[:19]
        yield f"start {number}: {begun} UTC on {start.host}, process {start.pid}{job}: {ended}"
    if holder and (step := worker.read_step(state)):
        yield f"now: {step.phase}, epoch {step.epoch}/{step.epochs}, {step.images_per_second:.0f} images/s"
    if not record and not starts:
        yield "It has not begun."
    if record and record.log and (log := path.with_suffix(".log")).is_file():
        yield from ("", f"{log}:", log.read_text(errors="replace").rstrip())
    for file in _outputs(root, spec):
        yield from ("", f"{file} (its last lines):", *file.read_text(errors="replace").splitlines()[-20:])


def _outputs(root: Path, spec: RunSpec) -> Iterator[Path]:
    """What the workers printed whose bundle holds this run."""
    for path, plan in planning.every(root).items():
        numbers = [
            number
            for number, bundle in enumerate(plan.bundles)
            if any(plan.runs[index].spec.digest == spec.digest for index in bundle.runs)
        ]
        for number in numbers:
            yield from filter(Path.is_file, [path.parent / "logs" / f"{number}.log"])
            for array in launch.arrays(path.parent):
                if number in array.bundles:
                    task = array.bundles.index(number)
                    yield from sorted((path.parent / "slurm").glob(f"{array.job}_{task}_*_log.out"))
