"""How far the plans of a results folder are: every run of a plan or with a record, in one of six states."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bench import launch, lock, work
from bench import plan as planning
from bench.console import duration
from bench.errors import UsageError
from bench.launch import title as title
from bench.parse import plain
from bench.spec import RunSpec
from bench.store import Store

State = Literal["done", "failed", "skipped", "running", "queued", "planned"]
STATES: tuple[State, ...] = ("done", "failed", "skipped", "running", "queued", "planned")
SHOWN = 12  # lines of one kind on a screen

Warn = Callable[[str], object]


@dataclass(frozen=True)
class Seen:
    """One run. `seconds` is what it is estimated to need; what its worker last said is in `step`."""

    digest: str
    method: str
    dataset: str
    backbone: str
    seed: int
    state: State
    reason: str | None = None
    seconds: float = 0.0
    step: work.Step | None = None
    host: str | None = None

    @property
    def title(self) -> str:
        return f"{self.method} · {self.dataset} · {self.backbone} · seed {self.seed}"


@dataclass(frozen=True)
class Overview:
    runs: tuple[Seen, ...]
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
        digest: Seen(digest, method, dataset, backbone, int(seed), status, reason if isinstance(reason, str) else None)
        for digest, method, dataset, backbone, seed, status, reason in zip(*(frame[n] for n in names), strict=True)
    }
    plans = planning.every(root)
    asked = any(plan.slurm for plan in plans.values())
    tasks = launch.queue() if asked else {}
    runs = dict(recorded)
    for path, plan in plans.items():
        queued = launch.bundle_states(path.parent, tasks or {})
        at = {index: queued[number] for number in queued for index in plan.bundles[number].runs}
        for number, planned in enumerate(plan.runs):
            spec, known = planned.spec, recorded.get(planned.spec.digest)
            state: State = known.state if known else "queued" if number in at else "planned"
            step, host = None, None
            if (known is None or known.state == "failed") and (holder := alive(Store(root).state(spec))):
                state, step, host = "running", work.read_step(Store(root).state(spec)), holder
            reason = known.reason if known and known.state == state else None
            runs[spec.digest] = Seen(
                *(spec.digest, spec.method, spec.dataset, spec.backbone, spec.seed, state, reason),
                *(planned.seconds, step, host),
            )
    return Overview(tuple(runs.values()), len(plans), tasks is not None)


def alive(state: Path) -> str | None:
    """The host of the process that is at a run; None where there is none. Times are compared by the clock of the disk
    that both of them were written to."""
    path = lock.beside(state, ".lock")
    try:
        token, touched = path.read_text(errors="replace"), path.stat().st_mtime
    except FileNotFoundError:
        return None
    lives = lock.alive(token)
    if lives is None:
        lives = _now(state.parent) - touched < lock.STALE
    host = token.split(" ")[1] if token.count(" ") > 1 else "unknown"
    return host if lives else None


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
    lines = [f"{len(seen.runs)} runs: {counts or 'none'}." + _time_left(seen)]
    if not seen.slurm:
        lines.append("Slurm does not answer (squeue): what it has queued counts as planned here.")
    for kind in ("method", "dataset"):
        lines += ["", *_table(seen.runs, kind)]
    running = [run for run in seen.runs if run.state == "running"]
    lines += _section("running", [f"{run.digest}  {run.title}  {_progress(run)}" for run in running])
    failed = [run for run in seen.runs if run.state == "failed"]
    reasons = [f"{run.digest}  {run.title}: {(run.reason or '').splitlines()[0]}" for run in failed]
    lines += _section("failed ('bench logs RUN' tells more, 'bench run --only-failed' tries again)", reasons)
    if states["planned"] and not seen.waiting:
        lines += ["", f"Nobody is at the {states['planned']} planned runs: 'bench resume' makes them."]
    return "\n".join(lines)


def _time_left(seen: Overview) -> str:
    left = sum(run.seconds * (1 - _share(run)) for run in seen.runs if run.state in ("running", "queued", "planned"))
    workers = sum(run.state == "running" for run in seen.runs)
    if not left:
        return ""
    return f" About {duration(left / max(workers, 1))} left" + (f" at {workers} at a time." if workers else " of work.")


def _share(run: Seen) -> float:
    return run.step.epoch / run.step.epochs if run.step else 0.0


def _progress(run: Seen) -> str:
    where = f"on {run.host}"
    if run.step is None:
        return f"in its first epoch, {where}"
    job = f" (job {run.step.start.job})" if run.step.start.job else ""
    rate = f"{run.step.images_per_second:.0f} images/s"
    return f"{run.step.phase}, epoch {run.step.epoch}/{run.step.epochs}, {rate}, {where}{job}"


def _table(runs: Sequence[Seen], kind: str) -> Iterator[str]:
    present = [state for state in STATES if any(run.state == state for run in runs)]
    counts: dict[str, Counter[str]] = {}
    for run in runs:
        counts.setdefault(getattr(run, kind), Counter())[run.state] += 1
    rows = [(kind, *present)] + [(name, *(str(n[state] or "·") for state in present)) for name, n in counts.items()]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        yield "  ".join([row[0].ljust(widths[0]), *cells])


def _section(name: str, lines: Sequence[str]) -> list[str]:
    more = [f"  ... and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return ["", f"{name}:", *(f"  {line}" for line in lines[:SHOWN]), *more] if lines else []


def as_data(seen: Overview) -> dict[str, Any]:
    states = Counter(run.state for run in seen.runs)
    return {"plans": seen.plans, **{state: states[state] for state in STATES}, "runs": plain(seen.runs)}


# one run -------------------------------------------------------------------------------------------------------------


def find(root: Path, run: str, warn: Warn) -> RunSpec:
    """The spec of the run whose digest begins so. Raises UsageError where there is none, or more than one."""
    from bench.record import from_json

    specs = {p.spec.digest: p.spec for plan in planning.every(root).values() for p in plan.runs}
    found = {digest: spec for digest, spec in specs.items() if digest.startswith(run)}
    for path in (root / "runs").rglob(f"seed*-{_plain(run)}*.json"):
        record = from_json(path.read_text(), str(path))
        found[record.spec.digest] = record.spec
    if len(found) != 1:
        known = "no run" if not found else f"{len(found)} runs"
        raise UsageError(f"{known} under {root} has a digest that begins with {run!r}. 'bench status' shows digests.")
    return next(iter(found.values()))


def _plain(run: str) -> str:
    """Raises UsageError where it is no beginning of a digest."""
    if not run or set(run) - set("0123456789abcdef"):
        raise UsageError(f"{run!r} is not the beginning of a run's digest, like 3f2a9c. 'bench status' shows digests.")
    return run


def logs(root: Path, run: str, warn: Warn) -> Iterator[str]:
    """What a run has left behind, for a person who asks what happened to it."""
    spec = find(root, run, warn)
    store = Store(root)
    state, path = store.state(spec), store.path(spec)
    yield f"{spec.digest}  {title(spec)}"
    record = store.find(spec)
    if record:
        host = f"on {record.provenance.host}" + (f", job {record.provenance.job}" if record.provenance.job else "")
        yield f"record: {path} ({record.status}, attempt {record.attempts}, {host})"
        if record.reason:
            yield f"reason: {record.reason}" + (f" [{record.failure}]" if record.failure else "")
    for number, start in enumerate(work.read_starts(state), 1):
        job = f", job {start.job}" if start.job else ""
        ended = start.ended or "no word since"
        yield f"start {number}: {start.time} on {start.host}, process {start.pid}{job}: {ended}"
    if (log := path.with_suffix(".log")).is_file():
        yield from ("", f"{log}:", log.read_text().rstrip())
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
