"""How far the plans of a results folder are: every run of a plan or with a record, in one of six states."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bench.core.schema import plain
from bench.core.spec import RunSpec
from bench.core.store import Store
from bench.execution import executors
from bench.execution import plan as planning
from bench.execution.attempt import Step, holder_of, read_step
from bench.execution.plan import PlannedRun

State = Literal["done", "failed", "skipped", "running", "queued", "planned"]
STATES: tuple[State, ...] = ("done", "failed", "skipped", "running", "queued", "planned")

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
    step: Step | None = None
    host: str | None = None  # of its worker


@dataclass(frozen=True)
class Overview:
    runs: tuple[RunStatus, ...]
    plans: int
    silent: tuple[str, ...]  # executors that do not answer: what they have counts as planned

    @property
    def waiting(self) -> bool:
        """Whether something is under way."""
        return any(run.state in ("running", "queued") for run in self.runs)


def look(root: Path, warn: Warn) -> Overview:
    """Every run with a record or a plan. Files that are damaged are named to `warn`."""
    from bench.report import index

    frame = index.load(root, warn)
    names = ("digest", "method", "dataset", "backbone", "seed", "status", "reason")
    recorded = {
        digest: RunStatus(
            digest, method, dataset, backbone, int(seed), status, reason if isinstance(reason, str) else None
        )
        for digest, method, dataset, backbone, seed, status, reason in zip(*(frame[n] for n in names), strict=True)
    }
    plans = planning.every(root, warn)
    bundles, silent = executors.states(plans, warn)
    runs = dict(recorded)
    for path, plan in plans.items():
        for planned in plan.runs:
            runs[planned.spec.digest] = _of_plan(root, planned, recorded.get(planned.spec.digest), warn)
        taken = [
            index
            for number in bundles.get(path, {})
            if number < len(plan.bundles)
            for index in plan.bundles[number].runs
        ]
        for number in taken:
            run = runs[plan.runs[number].spec.digest]
            if run.state == "planned" or (run.state == "failed" and _older(root, plan.runs[number].spec, path.parent)):
                runs[run.digest] = dataclasses.replace(run, state="queued", reason=None)
    return Overview(tuple(runs.values()), len(plans), tuple(silent))


def _of_plan(root: Path, planned: PlannedRun, known: RunStatus | None, warn: Warn) -> RunStatus:
    spec, seconds = planned.spec, planned.seconds
    found = known or RunStatus(spec.digest, spec.method, spec.dataset, spec.backbone, spec.seed, "planned")
    state = Store(root).state(spec)
    if found.state in ("planned", "failed") and (holder := holder_of(state)):
        return dataclasses.replace(
            found, state="running", reason=None, seconds=seconds, step=read_step(state, warn), host=holder
        )
    return dataclasses.replace(found, seconds=seconds)


def _older(root: Path, spec: RunSpec, home: Path) -> bool:
    """Whether a run's record was there before its plan was launched, which is to try it again."""
    launched = [path.stat().st_mtime for path in home.iterdir() if path.name != "plan.json" and path.suffix == ".json"]
    try:
        return Store(root).path(spec).stat().st_mtime < max(launched, default=0.0)
    except FileNotFoundError:
        return False


def as_data(seen: Overview) -> dict[str, Any]:
    """For a program: how many runs are in each state, and each run."""
    states = Counter(run.state for run in seen.runs)
    return {"plans": seen.plans, **{state: states[state] for state in STATES}, "runs": plain(seen.runs)}
