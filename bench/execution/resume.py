"""What the plans of a results folder lack, as plans of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.core.errors import UsageError
from bench.core.store import Store
from bench.execution import executors
from bench.execution import plan as planning
from bench.execution.bundles import bundled
from bench.execution.plan import Plan
from bench.execution.planner import queued_elsewhere
from bench.execution.request import Launch

Warn = Callable[[str], object]


@dataclass(frozen=True)
class Left:
    """What is left of one plan: None where nothing is, or where it is being executed."""

    plan: Plan
    rest: Plan | None
    running: bool  # it is being executed
    queued: int  # runs of it that are queued or running elsewhere


def left_of_plans(root: Path, launch: Launch | None, data_root: str | None, warn: Warn) -> list[Left]:
    """Of every plan what is neither finished nor queued, in bundles of its own, to be launched as the plan was, or as
    `launch` says. Plans that are taken over are removed once theirs is written.

    Raises UsageError where there is no plan, or where it cannot be known what is queued.
    """
    plans = planning.every(root, warn)
    if not plans:
        raise UsageError(f"There are no plans under {root / 'plans'}: 'bench run' makes them.")
    detached = any(
        executors.is_detached(plan.executor if launch is None else launch.executor) for plan in plans.values()
    )
    queued = queued_elsewhere(root, warn, sure=detached)
    bundles, _ = executors.states(plans)
    store, found = Store(root), list[Left]()
    for path, plan in plans.items():
        here = not executors.is_detached(plan.executor) and bool(bundles.get(path))
        rest = None if here else _rest(store, plan, queued, launch, data_root)
        held = sum(planned.spec.digest in queued for planned in plan.runs)
        found.append(Left(plan, rest, here, held))
        if rest is None:
            continue
        planning.write(rest, root)
        if not bundles.get(path) and rest.id != plan.id:
            planning.remove(path.parent)
        queued |= {planned.spec.digest for planned in rest.runs}
    return found


def _rest(store: Store, plan: Plan, queued: set[str], launch: Launch | None, data_root: str | None) -> Plan | None:
    known = planning.finished(store, (planned.spec for planned in plan.runs))
    over = {digest for digest, record in known.items() if record.status in ("done", "skipped")} | queued
    keep = [index for index, planned in enumerate(plan.runs) if planned.spec.digest not in over]
    if not keep:
        return None
    need = {index: bundle.resources for bundle in plan.bundles for index in bundle.runs}
    costs = [(plan.runs[index].seconds, need[index]) for index in keep]
    rest = plan.of_runs(keep, bundled(costs, max(bundle.seconds for bundle in plan.bundles)))
    if data_root:
        rest = dataclasses.replace(rest, context=dataclasses.replace(rest.context, data_root=data_root))
    if launch is None:
        return rest
    options: Mapping[str, object] = launch.options
    if launch.executor == plan.executor:
        options = {**plan.options, **options}
    executors.get(launch.executor, options)  # what makes no sense is refused before anything is written
    return dataclasses.replace(rest, executor=launch.executor, options=options)


def drop_finished(root: Path, warn: Warn) -> None:
    """Removes the plans whose runs are all done, or do not fit: nothing is left to ask of them."""
    store = Store(root)
    for path, plan in planning.every(root, warn).items():
        known = planning.finished(store, (planned.spec for planned in plan.runs))
        if sum(record.status in ("done", "skipped") for record in known.values()) == len(plan.runs):
            planning.remove(path.parent)
