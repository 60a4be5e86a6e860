"""Executes what was worked out, and accounts for every run of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.core.errors import UsageError
from bench.core.spec import RunSpec
from bench.core.store import Store
from bench.execution import executors
from bench.execution import plan as planning
from bench.execution.accounting import Account, account
from bench.execution.events import Report, RunEvent
from bench.execution.executors import Submission
from bench.execution.plan import Plan
from bench.execution.planner import Asked
from bench.execution.resume import Left, drop_finished

Warn = Callable[[str], object]


@dataclass(frozen=True)
class Executed:
    account: Account
    submissions: tuple[tuple[Plan, Submission], ...]  # of job arrays, which need no process to stay

    @property
    def detached(self) -> bool:
        return any(not submission.waited for _, submission in self.submissions)


def execute(asked: Asked, out: Path, report: Report, warn: Warn) -> Executed:
    """Runs, or submits, what a request still lacks."""
    planned = [asked.plan] if asked.plan.runs else []
    for plan in planned:
        planning.write(plan, out)
    return _launch(planned, asked.specs, out, report, warn, asked.queued, asked.refused)


def resume(left: Sequence[Left], out: Path, report: Report, warn: Warn) -> Executed:
    """Runs, or submits, what plans still lack; their plans are on disk already."""
    rest = [each.rest for each in left if each.rest is not None]
    return _launch(rest, [planned.spec for plan in rest for planned in plan.runs], out, report, warn)


def _launch(
    plans: Sequence[Plan],
    specs: Sequence[RunSpec],
    out: Path,
    report: Report,
    warn: Warn,
    queued: frozenset[str] = frozenset(),
    left_out: Sequence[str] = (),
) -> Executed:
    last: dict[str, RunEvent] = {}

    def note(event: RunEvent) -> None:
        last[event.spec.digest] = event
        report(event)

    submissions: list[tuple[Plan, Submission]] = []
    for plan in plans:
        submissions.append((plan, _submit(plan, out, note)))
        if not submissions[-1][1].waited:
            queued |= {planned.spec.digest for planned in plan.runs}
    drop_finished(out, warn)
    return Executed(account(Store(out), specs, last, queued, left_out), tuple(submissions))


def _submit(plan: Plan, out: Path, report: Report) -> Submission:
    """A plan of which nothing was submitted is not kept."""
    executor = executors.get(plan.executor, plan.options)
    home = planning.folder(out) / plan.id
    try:
        return executor.submit(out, plan, report)
    except UsageError:
        if executor.detached and [path.name for path in home.glob("*.json")] == ["plan.json"]:
            planning.remove(home)
        raise
