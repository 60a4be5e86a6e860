"""From a request to what is to be done about it: the runs that lack a result, in bundles, with their cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.core.errors import UsageError
from bench.core.record import Record
from bench.core.spec import RunSpec
from bench.core.store import Store
from bench.execution import estimate, executors, grid
from bench.execution import plan as planning
from bench.execution.attempt import Settings
from bench.execution.bundles import bundled
from bench.execution.executors import Executor
from bench.execution.grid import Warn
from bench.execution.plan import ExecutionContext, Plan, PlannedRun
from bench.execution.request import Launch, RunRequest
from bench.execution.resources import Config, read_config, resources_for
from bench.training.job import Job


@dataclass(frozen=True)
class Asked:
    """A request, worked out: every run, the records there are, and the plan of what is to be done."""

    jobs: tuple[Job, ...]
    refused: tuple[str, ...]  # datasets that are here, but are not what their cards say
    known: Mapping[str, Record]  # by digest
    queued: frozenset[str]  # digests of runs that another plan's job arrays have queued, or are running
    plan: Plan  # its `runs` are what is to be done
    estimated: int  # runs whose time is a rough estimate, because nothing like them has been run

    summary: tuple[str, ...] = ()  # what own images were taken for: classes and sizes of splits
    only_failed: bool = False

    @property
    def specs(self) -> tuple[RunSpec, ...]:
        """The runs that are accounted for at the end; with `only_failed` not those that have never been tried."""
        asked = (job.spec for job in self.jobs)
        return tuple(spec for spec in asked if not self.only_failed or spec.digest in self.known)


def work_out(
    request: RunRequest, launch: Launch, warn: Warn, on_progress: grid.Progresses, *, prepare: bool = True
) -> Asked:
    """Raises UsageError where the question is wrong, or where it cannot be known what is queued already."""
    executor, config, options = executor_of(launch)
    made = grid.make(request, executor.device(launch.device), warn, on_progress, prepare=prepare)
    store = Store(Path(request.out))
    known = planning.finished(store, (job.spec for job in made.jobs))
    left = [job for job in made.jobs if _is_left(known.get(job.spec.digest), request.only_failed)]
    queued = queued_elsewhere(Path(request.out), warn, sure=executor.detached)
    pending = [job for job in left if job.spec.digest not in queued]
    plan, estimated = _plan(request, launch, made, pending, executor, config, options)
    return Asked(
        jobs=made.jobs,
        refused=made.refused,
        known=known,
        queued=frozenset(queued & {job.spec.digest for job in left}),
        plan=plan,
        estimated=estimated,
        summary=made.summary,
        only_failed=request.only_failed,
    )


def _is_left(record: Record | None, only_failed: bool) -> bool:
    """All but what is done; what failed or did not fit is tried again."""
    status = record.status if record else None
    return status == "failed" if only_failed else status != "done"


def queued_elsewhere(root: Path, warn: Warn, *, sure: bool) -> set[str]:
    """Digests of the runs that detached jobs of this results folder have queued or are running.

    Where that cannot be known, an unanswered question is not the answer "none": with `sure` it raises UsageError.
    Without, it warns, as for runs on this machine, which the lease of each run keeps from being made twice.
    """
    plans = {path: plan for path, plan in planning.every(root, warn).items() if executors.is_detached(plan.executor)}
    states, silent = executors.states(plans)
    if silent:
        names = ", ".join(silent)
        unknown = f"{names} does not answer here, so what it still has of the plans in {root / 'plans'} is not known"
        if sure:
            raise UsageError(f"{unknown}, and runs could be submitted twice. Ask where it answers.")
        warn(f"{unknown}.")
    return {
        plans[path].runs[index].spec.digest
        for path, bundles in states.items()
        for number in bundles
        if number < len(plans[path].bundles)
        for index in plans[path].bundles[number].runs
    }


def executor_of(launch: Launch) -> tuple[Executor, Config, dict[str, object]]:
    """The executor with the options of the configuration file and those of the launch over them."""
    config = read_config(Path(launch.config) if launch.config else None, executors.names())
    options: dict[str, object] = dict(config.executors.get(launch.executor, {}))
    for name, value in launch.options.items():
        before = options.get(name)
        if isinstance(before, list) and isinstance(value, list):
            options[name] = [*before, *value]
        else:
            options[name] = {**before, **value} if isinstance(before, dict) and isinstance(value, dict) else value
    return executors.get(launch.executor, options), config, options


def _plan(
    request: RunRequest,
    launch: Launch,
    made: grid.Grid,
    jobs: Sequence[Job],
    executor: Executor,
    config: Config,
    options: dict[str, object],
) -> tuple[Plan, int]:
    """The plan, and the number of its runs whose time is a rough estimate."""
    out = Path(request.out)
    device = jobs[0].device if jobs else "cpu"
    threads = executor.threads(launch.threads)
    defaults = executor.defaults(device == "cuda")
    past = estimate.history(out, lambda _: None)
    known = [past.seconds(job.spec) for job in jobs]
    needs = [resources_for(job.spec, defaults, config.resources) for job in jobs]
    costs = [
        (estimate.seconds(job, threads or need.cpus) if seconds is None else seconds, need)
        for job, seconds, need in zip(jobs, known, needs, strict=True)
    ]
    total = sum(cost for cost, _ in costs)
    wanted = launch.bundle_minutes
    bundle_seconds = executor.bundle_seconds(total, defaults.minutes) if wanted is None else 60.0 * wanted
    plan = Plan(
        ExecutionContext(
            device,
            request.weights if request.weights in ("pretrained", "random") else str(Path(request.weights).resolve()),
            str(Path(request.data_root).resolve()) if request.data_root else None,
            made.folders,
            request.limit,
            tuple(str(Path(path).resolve()) for path in request.plugins),
            request.keep_delta,
        ),
        Settings(launch.retries, launch.checkpoint_seconds),
        cards={job.spec.dataset: job.card for job in jobs},
        runs=tuple(PlannedRun(job.spec, cost) for job, (cost, _) in zip(jobs, costs, strict=True)),
        bundles=tuple(bundled(costs, bundle_seconds)),
        threads=threads,
        executor=launch.executor,
        options=options,
    )
    return plan, sum(seconds is None for seconds in known)
