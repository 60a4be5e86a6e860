"""A worker: the runs of a bundle, one after another, each reported as it ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.core.errors import BenchError
from bench.core.lease import beside
from bench.core.record import Record
from bench.core.store import Store
from bench.execution.attempt import perform
from bench.execution.events import Report, RunEvent
from bench.execution.plan import Plan, job_builder

if TYPE_CHECKING:
    from bench.training.job import Job
    from bench.training.loop import Progress


def run_bundle(root: Path, plan: Plan, runs: Sequence[int], report: Report) -> None:
    """Makes runs of a plan, one after another, and reports each as it ends.

    One that another process holds is left to it, and looked for once more at the end. One that cannot be asked any
    more is refused, and the others go on.
    """
    import torch

    if plan.threads:
        torch.set_num_threads(plan.threads)
    build, store = job_builder(plan), Store(root)
    held = [index for index in runs if not _run(store, plan, index, build, report, last=False)]
    for index in held:
        _run(store, plan, index, build, report, last=True)


def _run(store: Store, plan: Plan, index: int, build: Callable[[int], Job], report: Report, *, last: bool) -> bool:
    """Whether the run has been dealt with: False where another process holds it."""
    spec, begun = plan.runs[index].spec, time.perf_counter()
    found, state = store.find(spec), store.state(spec)
    if found is not None and found.status == "done" and not state.exists() and not beside(state, ".lock").exists():
        report(RunEvent(spec, "done", score_text(found)))
        return True
    report(RunEvent(spec, None))

    def step(progress: Progress) -> None:
        report(RunEvent(spec, None, progress=progress))

    try:  # one that is done, but whose process died before it had tidied up, is tidied by it
        record = perform(build(index), store, plan.settings, step)
    except BenchError as error:
        report(RunEvent(spec, "refused", str(error), time.perf_counter() - begun))
        return True
    except SystemExit as error:  # of a method: the other runs of the bundle go on
        reason = f"its method ended the process (exit status {error.code})"
        report(RunEvent(spec, "refused", reason, time.perf_counter() - begun))
        return True
    if record is not None:
        report(RunEvent(spec, record.status, score_text(record), time.perf_counter() - begun))
    elif last:
        report(RunEvent(spec, "held", "locked by another process", time.perf_counter() - begun))
    return record is not None


def score_text(record: Record) -> str:
    """`91.20%`, or why there is no score."""
    return f"{record.scores.test:.2%}" if record.scores else record.reason or record.status
