"""bench plan: what a request comes to, before anything is run."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bench.cli import arguments, console

if TYPE_CHECKING:
    from bench.execution.plan import Plan
    from bench.execution.planner import Asked
    from bench.execution.resources import Resources

ALIKE = 6  # rows of one table of times that are worth their lines though their numbers are all the same


def plan_command(args: argparse.Namespace) -> int:
    from bench.cli.data import progress_line
    from bench.execution.planner import work_out

    request, launch = arguments.request_of(args), arguments.launch_of(args)
    console.say_loading(args.json)
    with console.one_object(args.json):
        asked = work_out(request, launch, console.warn, progress_line, prepare=False)
    if args.json:
        _print_json(asked)
        return 0
    for line in asked.summary:
        print(line)
    print_plan(asked)
    for line in _left_out(asked, args):
        print(line)
    return 0


def _print_json(asked: Asked) -> None:
    from bench.core.schema import plain

    seconds = {planned.spec.digest: planned.seconds for planned in asked.plan.runs}
    runs = [
        {
            "digest": job.spec.digest,
            "spec": json.loads(job.spec.canonical()),
            "pending": job.spec.digest in seconds,
            "seconds": seconds.get(job.spec.digest),
        }
        for job in asked.jobs
    ]
    print(json.dumps({"runs": runs, "bundles": plain(asked.plan.bundles)}))


def print_plan(asked: Asked) -> None:
    """A screen for a few runs or for thousands: sums, times by method and dataset, and what one worker gets."""
    from bench.execution import executors

    plan = asked.plan
    done = sum(record.status == "done" for record in asked.known.values())
    print(f"{console.counted(len(asked.jobs), 'run')}: {len(plan.runs)} to do, {done} finished.", end="")
    if not plan.runs:
        print()
        return
    total = sum(planned.seconds for planned in plan.runs)
    count = executors.get(plan.executor, plan.options).workers(len(plan.bundles))
    workers = f", {console.duration(total / count)} on {count} workers" if count > 1 else ""
    print(f" About {console.duration(total)} of work{workers}.")
    for kind in ("method", "dataset", "backbone"):
        names = list(dict.fromkeys(getattr(planned.spec, kind) for planned in plan.runs))
        if kind == "backbone" and len(names) == 1:
            continue
        rows = [_sums(plan, kind, name) for name in names]
        if len(rows) > ALIKE and len({row[1:] for row in rows}) == 1:  # all are estimates: one line says as much
            rows = [(f"({len(rows)} of them)", str(len(plan.runs)), rows[0][2], console.duration(total))]
        print()
        console.print_table([(kind, "runs", "each", "in all"), *rows])
    print()
    if count > 1 or executors.is_detached(plan.executor):
        for line in _bundle_lines(plan):
            print(line)
    if asked.estimated:
        some = "Times are" if asked.estimated == len(plan.runs) else f"The times of {asked.estimated} runs are"
        print(f"{some} rough estimates: nothing like it has been run here.")


def _sums(plan: Plan, kind: str, name: str) -> tuple[str, ...]:
    seconds = [planned.seconds for planned in plan.runs if getattr(planned.spec, kind) == name]
    return name, str(len(seconds)), console.duration(sum(seconds) / len(seconds)), console.duration(sum(seconds))


def _bundle_lines(plan: Plan) -> Iterator[str]:
    """A line for each kind of resources."""
    from bench.execution import executors

    arrays = executors.is_detached(plan.executor)
    for resources in dict.fromkeys(bundle.resources for bundle in plan.bundles):
        own = [bundle for bundle in plan.bundles if bundle.resources == resources]
        sizes, longest = sorted(len(bundle.runs) for bundle in own), max(bundle.seconds for bundle in own)
        runs = f"{sizes[0]} to {sizes[-1]}" if sizes[0] < sizes[-1] else f"{sizes[0]}"
        what = f"array of {console.counted(len(own), 'task')}" if arrays else console.counted(len(own), "bundle")
        upto = f"{runs} {'run' if runs == '1' else 'runs'} and up to {console.duration(longest)} each"
        yield f"{what}, {upto}" + (f": {_resource_text(resources)}" if arrays else "")


def _resource_text(need: Resources) -> str:
    gpus = f"{need.gpus} GPU, " if need.gpus else ""
    memory = f", {need.memory:g} GB" if need.memory else ""
    return f"{gpus}{need.cpus} CPU{memory}, time limit {need.minutes} min"


def _left_out(asked: Asked, args: argparse.Namespace) -> list[str]:
    """Why runs that were asked for are not planned, and which are expected to be skipped."""
    from bench.models import static_cost

    lines = []
    states = Counter(record.status for record in asked.known.values())
    if states["done"]:
        why = console.hint("why RUN", args.out)
        lines.append(f"left out: {console.counted(states['done'], 'run')} with a finished record ('{why}')")
    if asked.queued:
        status = console.hint("status", args.out)
        lines.append(
            f"left out: {console.counted(len(asked.queued), 'run')} queued or running as job arrays ('{status}')"
        )
    if args.only_failed:
        fine = len(asked.jobs) - states["failed"] - states["done"]
        lines.append(f"left out: {console.counted(fine, 'run')} without a failed record (--only-failed)")
    elif states["failed"]:
        lines.append(f"tried again: {console.counted(states['failed'], 'run')} that failed")
    fits = {(job.spec.method, job.spec.backbone): job.method for job in asked.jobs}
    for (name, backbone), method in fits.items():
        if refusal := static_cost.check_fit(method, backbone):
            lines.append(f"will be skipped: {name} on {backbone}: {refusal}")
    return lines
