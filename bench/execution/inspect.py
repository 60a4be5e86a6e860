"""One run of a results folder: found by the beginning of its digest, with what it has left behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from bench.core.errors import UsageError
from bench.core.files import read_end
from bench.core.spec import RunSpec
from bench.core.store import Store
from bench.execution import executors
from bench.execution import plan as planning
from bench.execution.attempt import holder_of, read_starts, read_step

Warn = Callable[[str], object]


def title(spec: RunSpec) -> str:
    return f"{spec.method} · {spec.dataset} · {spec.backbone} · seed {spec.seed}"


def find(root: Path, run: str, warn: Warn) -> RunSpec:
    """The spec of the run whose digest begins so. Raises UsageError where there is none, or more than one."""
    if not run or set(run) - set("0123456789abcdef"):
        raise UsageError(f"{run!r} is not the beginning of a run's digest, like 3f2a9c. {WHERE}")
    found = {p.spec.digest: p.spec for plan in planning.every(root, warn).values() for p in plan.runs}
    found = {digest: spec for digest, spec in found.items() if digest.startswith(run)}
    for record in Store(root).records(warn, lambda name: name.rpartition("-")[2].startswith(run)):
        found[record.spec.digest] = record.spec
    if not found:
        raise UsageError(f"No run under {root} has a digest that begins with {run!r}. {WHERE}")
    if len(found) > 1:
        few = ", ".join(sorted(found)[:5]) + (", ..." if len(found) > 5 else "")
        raise UsageError(f"{len(found)} runs under {root} have a digest that begins with {run!r}: {few}.")
    return next(iter(found.values()))


ENDED = {"Preempted": "ended by a signal", "recorded": "with a record"}
WHERE = "'bench status --runs' shows the digest of every run."


def logs(root: Path, run: str, warn: Warn) -> Iterator[str]:
    """What a run has left behind, for a person who asks what happened to it."""
    spec = find(root, run, warn)
    store = Store(root)
    state, path = store.state(spec), store.path(spec)
    yield f"{spec.digest}  {title(spec)}"
    record, holder = store.find(spec), holder_of(state)
    if record:
        host = f"on {record.provenance.host}" + (f", job {record.provenance.job}" if record.provenance.job else "")
        yield f"{record.status} at attempt {record.attempts}, {host}: {path}"
        if record.reason:
            yield f"{record.failure or 'reason'}: {record.reason}"
    starts = read_starts(state, warn)
    for number, start in enumerate(starts, 1):
        job = f", job {start.job}" if start.job else ""
        last = number == len(starts) and holder
        ended = ENDED.get(start.ended or "", start.ended) or ("under way" if last else "died without an exit status")
        begun = start.time.replace("T", " ")[:19]
        yield f"attempt {number}: {begun} UTC on {start.host}, process {start.pid}{job}: {ended}"
    if holder and (step := read_step(state, warn)):
        yield f"now: {step.phase}, epoch {step.epoch}/{step.epochs}, {step.images_per_second:.0f} images/s"
    if not record and not starts:
        yield "It has not begun."
    if record and record.log and (log := path.with_suffix(".log")).is_file():
        yield from ("", f"{log}:", read_end(log).rstrip())
    for file in _outputs(root, spec, warn):
        yield from (
            "",
            f"{file} (its last lines):",
            *read_end(file).splitlines()[-20:],
        )


def _outputs(root: Path, spec: RunSpec, warn: Warn) -> Iterator[Path]:
    """What the workers printed whose bundle holds this run."""
    for path, plan in planning.every(root, warn).items():
        for number, bundle in enumerate(plan.bundles):
            if any(plan.runs[index].spec.digest == spec.digest for index in bundle.runs):
                try:
                    yield from executors.get(plan.executor, plan.options).logs(path.parent, number)
                except UsageError as error:
                    warn(str(error))
