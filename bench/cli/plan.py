"""bench plan: from the command line to a plan, and what is told of it. `bench run` and `resume` ask here for theirs."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.cli import console
from bench.execution import grid

if TYPE_CHECKING:
    from bench.core.record import Record
    from bench.execution.plan import Plan, Resources, Slurm
    from bench.execution.resources import Config
    from bench.training.job import Job

ALIKE = 6  # rows of one table of times that are worth their lines though their numbers are all the same


def plan_command(args: argparse.Namespace) -> int:
    from bench.core.store import Store
    from bench.execution import plan as planning

    console.say_loading(args.json)
    args.dry_run = True  # nothing is prepared, nothing written
    asked, store = grid.make(args, device_of(args), console.warn), Store(args.out)
    known = planning.finished(store, (job.spec for job in asked.jobs))
    pending, taken = pending_of(asked.jobs, known, args)
    plan, guessed = plan_of(args, pending)
    if args.json:
        waiting = {job.spec.digest: cost.seconds for job, cost in zip(pending, plan.runs, strict=True)}
        runs = [
            {
                "digest": job.spec.digest,
                "spec": json.loads(job.spec.canonical()),
                "pending": job.spec.digest in waiting,
                "seconds": waiting.get(job.spec.digest),
            }
            for job in asked.jobs
        ]
        from bench.core.schema import plain

        print(json.dumps({"runs": runs, "bundles": plain(plan.bundles)}))
        return 0
    _say_plan(plan, asked.jobs, known, guessed, args)
    for line in _left_out(asked.jobs, known, taken, args):
        print(line)
    return 0


def pending_of(jobs: Sequence[Job], known: dict[str, Record], args: argparse.Namespace) -> tuple[list[Job], int]:
    """What is to be run: all but what is done; what failed or did not fit is tried again. And the number of runs that
    are left to the job arrays which have them already."""
    from bench.execution import launch
    from bench.execution import plan as planning

    states = {digest: record.status for digest, record in known.items()}
    plans = {} if args.slurm is None else {path: plan for path, plan in planning.every(args.out).items() if plan.slurm}
    taken = submitted(plans, launch.queue()) if plans else set()
    open_ones = [
        job
        for job in jobs
        if (states.get(job.spec.digest) == "failed" if args.only_failed else states.get(job.spec.digest) != "done")
    ]
    pending = [job for job in open_ones if job.spec.digest not in taken]
    return pending, len(open_ones) - len(pending)


def submitted(plans: Mapping[Path, Plan], tasks: Mapping[str, str] | None) -> set[str]:
    """Digests of the runs that Slurm has queued or is at; `tasks` as it tells them, None where it does not answer."""
    from bench.execution import launch

    return {
        plan.runs[index].spec.digest
        for path, plan in plans.items()
        for number in launch.bundle_states(path.parent, tasks or {})
        for index in plan.bundles[number].runs
    }


def device_of(args: argparse.Namespace) -> str:
    """What the runs compute on. With --slurm it is the nodes' that counts: a login node need have no GPU."""
    if args.slurm is None:
        return grid.device(args.device)
    gpus = config_of(args).slurm.gpus
    if args.device == "auto" and gpus is not None:
        return "cuda" if gpus else "cpu"
    return grid.device("auto") if args.device == "auto" else str(args.device)


def config_of(args: argparse.Namespace, usual: Slurm | None = None) -> Config:
    """The configuration file with the options of --slurm over it, or over the usual ones."""
    import dataclasses

    from bench.execution import resources

    found = resources.read(getattr(args, "config", None))
    return dataclasses.replace(found, slurm=resources.with_options(usual or found.slurm, args.slurm or ""))


def plan_of(args: argparse.Namespace, jobs: Sequence[Job]) -> tuple[Plan, int]:
    """The plan, and the number of its runs whose time is guessed because nothing like them has been run."""
    from bench.execution import estimate
    from bench.execution import plan as planning
    from bench.execution.worker import Settings

    settings = Settings(args.retries, float(args.checkpoint_seconds))
    config = config_of(args)
    device = jobs[0].device if jobs else "cpu"
    usual = config.slurm.defaults(device == "cuda")
    past = planning.history(args.out, console.silent)
    known = [past.seconds(job.spec) for job in jobs]
    needs = [planning.resources_for(job.spec, usual, config.resources) for job in jobs]
    costs = [
        (estimate.seconds(job, _threads(args) or need.cpus) if cost is None else cost, need)
        for job, cost, need in zip(jobs, known, needs, strict=True)
    ]
    bundles = planning.bundled(costs, _bundle_seconds(args, sum(cost for cost, _ in costs), usual.minutes))
    place = planning.ExecutionContext(
        device,
        args.weights if args.weights in ("pretrained", "random") else str(Path(args.weights).resolve()),
        str(args.data_root.resolve()) if args.data_root else None,
        str(args.data.resolve()) if args.data else None,
        args.limit,
        tuple(str(path.resolve()) for path in args.plugin),
    )
    plan = planning.Plan(
        place,
        settings,
        cards={job.spec.dataset: job.card for job in jobs},
        runs=tuple(planning.PlannedRun(job.spec, cost) for job, (cost, _) in zip(jobs, costs, strict=True)),
        bundles=tuple(bundles),
        threads=_threads(args),
        jobs=args.jobs or 1,
        slurm=None if args.slurm is None else config.slurm,
    )
    return plan, sum(cost is None for cost in known)


def _threads(args: argparse.Namespace) -> int | None:
    """Processes side by side share the cores, unless it is said otherwise."""
    import os

    if args.threads or not args.jobs or args.jobs == 1 or args.slurm is not None:
        return args.threads
    return max(1, (os.cpu_count() or 1) // args.jobs)


def _bundle_seconds(args: argparse.Namespace, total: float, minutes: int) -> float:
    """How long a bundle should take: an array task half its time limit; a process a small share of the whole, so that
    all end together."""
    if args.bundle_minutes is not None:
        return 60.0 * args.bundle_minutes
    if args.slurm is not None:
        return 60.0 * min(30, minutes / 2)
    return max(60.0, total / (4 * (args.jobs or 1)))


# what is told of a plan -----------------------------------------------------------------------------------------------


def _say_plan(
    plan: Plan, jobs: Sequence[Job], known: dict[str, Record], guessed: int, args: argparse.Namespace
) -> None:
    """A screen for a few runs or for thousands: sums, times by method and dataset, and what one worker gets."""
    done = sum(record.status == "done" for record in known.values())
    print(f"{len(jobs)} runs: {len(plan.runs)} to do, {done} finished.", end="")
    if not plan.runs:
        print()
        return
    total = sum(planned.seconds for planned in plan.runs)
    count = len(plan.bundles) if args.slurm is not None else min(len(plan.bundles), plan.jobs)
    workers = f", {console.duration(total / count)} on {count} workers" if count > 1 else ""
    print(f" About {console.duration(total)} of work{workers}.")
    for kind in ("method", "dataset", "backbone"):
        names = list(dict.fromkeys(getattr(planned.spec, kind) for planned in plan.runs))
        if kind == "backbone" and len(names) == 1:
            continue
        rows = [_sums(plan, kind, name) for name in names]
        if len(rows) > ALIKE and len({row[1:] for row in rows}) == 1:  # all are guesses: one line says as much
            rows = [(f"({len(rows)} of them)", str(len(plan.runs)), rows[0][2], console.duration(total))]
        print()
        console.print_table([(kind, "runs", "each", "in all"), *rows])
    print()
    if args.slurm is not None or args.jobs:
        for line in _bundles_told(plan):
            print(line)
    if guessed:
        some = "Times are" if guessed == len(plan.runs) else f"The times of {guessed} runs are"
        print(f"{some} rough guesses: nothing like it has been run here.")


def _sums(plan: Plan, kind: str, name: str) -> tuple[str, ...]:
    seconds = [planned.seconds for planned in plan.runs if getattr(planned.spec, kind) == name]
    return name, str(len(seconds)), console.duration(sum(seconds) / len(seconds)), console.duration(sum(seconds))


def _bundles_told(plan: Plan) -> Iterator[str]:
    """A line for each kind of resources."""
    for resources in dict.fromkeys(bundle.resources for bundle in plan.bundles):
        own = [bundle for bundle in plan.bundles if bundle.resources == resources]
        sizes, longest = sorted(len(bundle.runs) for bundle in own), max(bundle.seconds for bundle in own)
        runs = f"{sizes[0]} to {sizes[-1]}" if sizes[0] < sizes[-1] else f"{sizes[0]}"
        what = f"array of {console.counted(len(own), 'task')}" if plan.slurm else console.counted(len(own), "bundle")
        upto = f"{runs} {'run' if runs == '1' else 'runs'} and up to {console.duration(longest)} each"
        yield f"{what}, {upto}" + (f": {_needs(resources)}" if plan.slurm else "")


def _needs(need: Resources) -> str:
    gpus = f"{need.gpus} GPU, " if need.gpus else ""
    memory = f", {need.memory:g} GB" if need.memory else ""
    return f"{gpus}{need.cpus} CPU{memory}, time limit {need.minutes} min"


def _left_out(jobs: Sequence[Job], known: dict[str, Record], taken: int, args: argparse.Namespace) -> list[str]:
    """Why runs that were asked for are not planned, and which are expected to be skipped."""
    from bench.models import static_cost

    lines = []
    states = Counter(record.status for record in known.values())
    if states["done"]:
        lines.append(f"left out: {console.counted(states['done'], 'run')} with a finished record ('bench why RUN')")
    if taken:
        lines.append(f"left out: {console.counted(taken, 'run')} that Slurm has queued or is at ('bench status')")
    if args.only_failed:
        fine = len(jobs) - states["failed"] - states["done"]
        lines.append(f"left out: {console.counted(fine, 'run')} without a failed record (--only-failed)")
    elif states["failed"]:
        lines.append(f"tried again: {console.counted(states['failed'], 'run')} that failed")
    fits = {(job.spec.method, job.spec.backbone): job.method for job in jobs}
    for (name, backbone), method in fits.items():
        if refusal := static_cost.check_fit(method, backbone):
            lines.append(f"will be skipped: {name} on {backbone}: {refusal}")
    return lines
