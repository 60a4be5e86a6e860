"""bench run, plan and resume: from the command line to runs, here, in several processes or on a cluster."""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.cli import console, data
from bench.cli import plan as plans_of
from bench.core.errors import UsageError
from bench.core.spec import RunSpec
from bench.execution import grid

if TYPE_CHECKING:
    from bench.core.record import Record
    from bench.core.store import Store
    from bench.execution.launch import Array
    from bench.execution.plan import Plan
    from bench.execution.worker import Settings
    from bench.training.job import Job

Verb = Callable[[str, Callable[[argparse.Namespace], int], str], argparse.ArgumentParser]


def add_parser(verb: Verb, common: Callable[[argparse.ArgumentParser], None]) -> None:
    for name, action, text in (
        ("run", run_command, "train and score methods, then print the leaderboard"),
        (
            "plan",
            plans_of.plan_command,
            "what `bench run` would do: runs, bundles, their time, what is left out and why",
        ),
    ):
        command = verb(name, action, text)
        _add_grid(command)
        _add_launch(command)
        if name == "run":
            command.add_argument("--dry-run", action="store_true", help="the same as `bench plan`")
        command.add_argument("--json", action="store_true", help="print one JSON object instead of text")
        common(command)
    resume = verb("resume", resume_command, "run what the plans of a results folder lack, as they were launched")
    resume.add_argument("--jobs", type=console.positive, metavar="N", help="in N processes on this machine instead")
    _add_slurm(resume)
    resume.add_argument("--json", action="store_true")
    data.add_data_root(resume)
    resume.add_argument("--out", type=Path, default=Path("results"), metavar="DIR", help="default: results")


def _add_grid(run: argparse.ArgumentParser) -> None:
    run.add_argument("--method", required=True, metavar="NAME[,NAME...]|all")
    where = run.add_mutually_exclusive_group(required=True)
    where.add_argument("--suite", metavar="NAME", help="every dataset of a suite")
    where.add_argument("--dataset", metavar="SUITE/NAME[,...]", help="single datasets of suites")
    where.add_argument("--data", metavar="FOLDER", type=Path, help="your images: FOLDER/[train|val|test/]<class>/*.jpg")
    run.add_argument("--backbone", metavar="NAME[,NAME...]", help="default: the suite's own")
    run.add_argument("--weights", default="pretrained", metavar="pretrained|random|FILE", help="default: pretrained")
    run.add_argument("--protocol", metavar="NAME", help="default: the suite's own")
    run.add_argument("--epochs", type=console.positive, help="instead of the protocol's; the result is marked so")
    run.add_argument("--seeds", type=console.numbers, metavar="0,1,2", help="default: the protocol's")
    run.add_argument("--limit", type=console.positive, metavar="N", help="with --data: N images to train and validate")
    run.add_argument("--skip-missing", action="store_true", help="leave out datasets that are not on this machine")
    run.add_argument("--only-failed", action="store_true", help="of these runs, those whose last attempt failed")
    data.add_data_root(run)


def _add_launch(run: argparse.ArgumentParser) -> None:
    run.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    run.add_argument("--threads", type=console.positive, metavar="N", help="of a worker; default: as torch chooses")
    run.add_argument("--jobs", type=console.positive, metavar="N", help="in N processes on this machine")
    _add_slurm(run)
    run.add_argument("--config", type=Path, metavar="FILE", help="TOML with [slurm] and [[resources]]")
    run.add_argument("--bundle-minutes", type=console.natural, metavar="M", help="of runs in one task; 0: each alone")
    run.add_argument("--retries", type=console.natural, default=1, metavar="N", help="of failures that may pass: 1")
    run.add_argument("--checkpoint-seconds", type=console.natural, default=30, metavar="S", help="between two: 30")


def _add_slurm(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--slurm", nargs="?", const="", metavar="KEY=VALUE,...", help="as job arrays: partition=...,gpus=1,timeout=60"
    )


# run and plan --------------------------------------------------------------------------------------------------------


def run_command(args: argparse.Namespace) -> int:
    from bench.core.store import Store
    from bench.execution import plan as planning

    if args.dry_run:
        return plans_of.plan_command(args)
    console.say_loading(args.json)
    asked, store = grid.make(args, plans_of.device_of(args), console.warn), Store(args.out)
    known = planning.finished(store, (job.spec for job in asked.jobs))
    _warn_of_changed_methods(asked.jobs, known)
    pending, taken = plans_of.pending_of(asked.jobs, known, args)
    say = console.silent if args.json else print
    say(f"{len(asked.jobs)} runs, {_left(asked.jobs, pending, taken, args)}. Results go to {args.out}/.")
    troubles = 0
    if pending:
        plan = plans_of.plan_of(args, pending)[0]
        planning.write(plan, args.out)
        if args.slurm is not None:
            return _say_submitted(_submit(args.out, plan), plan, args)
        troubles = _launch_here(args, plan, pending, store)
        _drop_finished(args.out, store)
    elif taken:
        if args.json:
            print(json.dumps({"plan": None, "arrays": [], "runs": 0}))
        return 0
    return _conclude(args, store, [job.spec for job in asked.jobs], troubles, bool(asked.refused))


def _left(jobs: Sequence[Job], pending: Sequence[Job], taken: int, args: argparse.Namespace) -> str:
    done = len(jobs) - len(pending) - taken
    told = (
        f"{len(pending)} of them failed and are tried again" if args.only_failed else f"{done} of them finished already"
    )
    return told + (f", {taken} queued or running on Slurm" if taken else "")


def _warn_of_changed_methods(jobs: Sequence[Job], known: dict[str, Record]) -> None:
    """Says so where finished runs were made by another state of a method's file than the present one."""
    from bench.models import registry

    changed: Counter[str] = Counter()
    for job in jobs:
        record = known.get(job.spec.digest)
        done = record is not None and record.status == "done"
        if record and done and record.provenance.method_sha256 != registry.source_digest(type(job.method)):
            changed[job.spec.method] += 1
    for name, number in changed.items():
        remedy = "Raise its `version` to run them again if its numbers change"
        console.warn(f"{number} finished runs of {name} were made before its file was changed. {remedy}.")


# launching -----------------------------------------------------------------------------------------------------------


def _launch_here(args: argparse.Namespace, plan: Plan, jobs: Sequence[Job], store: Store) -> int:
    """Runs it on this machine; the number of runs, or of bundles, in which something failed."""
    from bench.execution import launch
    from bench.execution import plan as planning

    if args.jobs and args.jobs > 1:
        return launch.processes(args.out, plan, console.silent if args.json else _told(len(plan.runs)))
    if plan.threads:
        import torch

        torch.set_num_threads(plan.threads)
    with launch.present(planning.folder(args.out) / plan.id):
        return _one_by_one(store, jobs, plan.settings, quiet=args.json)


def _told(total: int) -> Callable[[str], None]:
    """Prints a line, numbered if it tells the outcome of a run."""
    told = [0]

    def say(line: str) -> None:
        if " · seed " in line:
            told[0] += 1
            line = f"[{told[0]}/{total}] {line}"
        print(line, flush=True)

    return say


def _one_by_one(store: Store, pending: Sequence[Job], settings: Settings, quiet: bool) -> int:
    """Runs what is pending in this process; the number of failed runs."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from bench.execution.launch import outcome, title
    from bench.execution.worker import perform, preemptible

    terminal = Console(stderr=quiet, highlight=False)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(10),
        MofNCompleteColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    failed = 0
    shown = Progress(*columns, console=terminal, disable=quiet or not terminal.is_terminal, transient=True)
    with preemptible(), shown as bar:
        task = bar.add_task("", total=len(pending))
        for number, job in enumerate(pending, 1):
            short = f"{job.spec.method} {job.spec.dataset}"  # with rate and time left it fits 80 columns

            def watch(p: Any, short: str = short) -> None:
                rate = f"{p.images_per_second:.0f} images/s"
                bar.update(task, description=f"{short} epoch {p.epoch}/{p.epochs} {rate}")

            bar.update(task, description=short)
            start = time.perf_counter()
            record = perform(job, store, settings, watch)
            failed += record is not None and record.status == "failed"
            if not quiet:
                told = outcome(record) if record else "another process is at it"
                line = f"[{number}/{len(pending)}] {title(job.spec)}  {told}  {time.perf_counter() - start:.1f} s"
                terminal.print(line, markup=False, soft_wrap=True)
            bar.advance(task)
    return failed


def _submit(root: Path, plan: Plan) -> list[Array]:
    """A plan of which Slurm takes nothing is not kept."""
    from bench.execution import launch
    from bench.execution import plan as planning

    home = planning.folder(root) / plan.id
    try:
        return launch.submit(root, plan)
    except UsageError:
        if not launch.arrays(home):
            planning.remove(home)
        raise


def _say_submitted(arrays: Sequence[Array], plan: Plan, args: argparse.Namespace) -> int:
    ids = [array.job for array in arrays]
    if args.json:
        print(json.dumps({"plan": plan.id, "arrays": ids, "runs": len(plan.runs)}))
        return 0
    runs, tasks = console.counted(len(plan.runs), "run"), console.counted(len(plan.bundles), "task")
    print(f"Submitted {runs} in {tasks}: Slurm's {', '.join(ids)}, plan {plan.id}.")
    print(f"This command need not stay. 'bench status --out {args.out}' tells how far they are.")
    return 0


def _conclude(args: argparse.Namespace, store: Store, specs: Sequence[RunSpec], troubles: int, refused: bool) -> int:
    """Tables and plots of everything, printed for what was asked. Exit code 2: data were left out; 1: a run failed."""
    from bench import report
    from bench.models import registry

    made = report.load(args.out, console.warn, registry.families(getattr(args, "plugin", ())))
    paths = made.write(args.out, console.warn)
    if args.json:
        from bench.core.schema import plain

        records = [record for spec in specs if (record := store.find(spec))]
        print(json.dumps({"records": [plain(record) for record in records], "files": [str(path) for path in paths]}))
    else:
        shown = [f"  {path}" for path in [args.out / "runs", *paths] if path.suffix != ".svg"]
        print("\n".join([*made.only({spec.digest for spec in specs}).terminal(), "Files:", *shown]))
    return 2 if refused else 1 if troubles else 0


# resume --------------------------------------------------------------------------------------------------------------


def resume_command(args: argparse.Namespace) -> int:
    from bench.core import lease
    from bench.core.store import Store
    from bench.execution import launch
    from bench.execution import plan as planning

    store, say = Store(args.out), console.silent if args.json else print
    plans = planning.every(args.out)
    if not plans:
        raise UsageError(f"There are no plans under {args.out / 'plans'}: 'bench run' makes them.")
    tasks = launch.queue()
    if tasks is None and args.jobs is None and any(plan.slurm for plan in plans.values()):
        raise UsageError("Slurm does not answer ('squeue'), so what it still has is not known. Ask where it does.")
    taken = plans_of.submitted(plans, tasks)
    troubles, specs, queued = 0, list[RunSpec](), False
    for path, plan in plans.items():
        if token := launch.front(path.parent):
            say(f"plan {plan.id}: a process on {lease.host(token)} is at it; 'bench cancel {plan.id}' ends it.")
            continue
        rest = _rest(args, plan, store, taken)
        live = bool(launch.bundle_states(path.parent, tasks or {}))
        held = sum(planned.spec.digest in taken for planned in plan.runs)
        say(
            f"plan {plan.id}: {console.counted(len(plan.runs), 'run')}, {len(rest.runs) if rest else 0} to do"
            + (f", {held} with Slurm or another plan." if held else ".")
        )
        if rest is None:
            continue
        planning.write(rest, args.out)
        if not live and rest.id != plan.id:
            planning.remove(path.parent)
        taken |= {planned.spec.digest for planned in rest.runs}
        specs += [planned.spec for planned in rest.runs]
        if rest.slurm:
            queued = True
            _say_submitted(launch.submit(args.out, rest), rest, args)
        else:
            troubles += launch.processes(args.out, rest, console.silent if args.json else _told(len(rest.runs)))
    _drop_finished(args.out, store)
    return 0 if queued or not specs else _conclude(args, store, specs, troubles, False)


def _rest(args: argparse.Namespace, plan: Plan, store: Store, taken: set[str]) -> Plan | None:
    """The plan of what is neither finished nor taken, in bundles of its own; None where nothing is left.

    It is launched as the plan was, unless the arguments say otherwise.
    """
    import dataclasses

    from bench.execution import plan as planning

    known = planning.finished(store, (planned.spec for planned in plan.runs))
    over = {digest for digest, record in known.items() if record.status in ("done", "skipped")} | taken
    keep = [index for index, planned in enumerate(plan.runs) if planned.spec.digest not in over]
    if not keep:
        return None
    need = {index: bundle.resources for bundle in plan.bundles for index in bundle.runs}
    costs = [(plan.runs[index].seconds, need[index]) for index in keep]
    rest = plan.without(keep, planning.bundled(costs, max(bundle.seconds for bundle in plan.bundles)))
    if args.data_root:
        rest = dataclasses.replace(rest, place=dataclasses.replace(rest.place, data_root=str(args.data_root.resolve())))
    if args.jobs:
        return dataclasses.replace(rest, jobs=args.jobs, slurm=None)
    if args.slurm is not None:
        return dataclasses.replace(rest, slurm=plans_of.config_of(args, plan.slurm).slurm)
    return rest


def _drop_finished(root: Path, store: Store) -> None:
    """Removes the plans whose runs are all done, or do not fit: nothing is left to ask of them."""
    from bench.execution import plan as planning

    for path, plan in planning.every(root).items():
        known = planning.finished(store, (planned.spec for planned in plan.runs))
        if sum(record.status in ("done", "skipped") for record in known.values()) == len(plan.runs):
            planning.remove(path.parent)
