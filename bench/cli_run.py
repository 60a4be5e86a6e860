"""bench run, plan and resume: from the command line to runs, here, in several processes or on a cluster."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import console, grid
from bench.errors import UsageError
from bench.spec import RunSpec

if TYPE_CHECKING:
    from bench.config import Config
    from bench.launch import Array
    from bench.plan import Plan, Resources, Slurm
    from bench.record import Record
    from bench.run import Job
    from bench.store import Store
    from bench.work import Settings

ALIKE = 6  # rows of one table of times that are worth their lines though their numbers are all the same

Verb = Callable[[str, Callable[[argparse.Namespace], int], str], argparse.ArgumentParser]


def add_parser(verb: Verb, common: Callable[[argparse.ArgumentParser], None]) -> None:
    for name, action, text in (
        ("run", run_command, "train and score methods, then print the leaderboard"),
        ("plan", plan_command, "what `bench run` would do: runs, bundles, estimated time, what is left out and why"),
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
    run.add_argument("--data-root", type=Path, metavar="DIR", help="prepared and downloaded data; default: BENCH_DATA")


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
    from bench import plan as planning
    from bench.store import Store

    if args.dry_run:
        return plan_command(args)
    _say_loading(args.json)
    asked, store = grid.make(args, _device(args), console.warn), Store(args.out)
    known = planning.finished(store, (job.spec for job in asked.jobs))
    _warn_of_changed_methods(asked.jobs, known)
    pending, taken = _pending(asked.jobs, known, args)
    say = _silent if args.json else print
    say(f"{len(asked.jobs)} runs, {_left(asked.jobs, pending, taken, args)}. Results go to {args.out}/.")
    troubles = 0
    if pending:
        plan = _plan_of(args, pending)[0]
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


def plan_command(args: argparse.Namespace) -> int:
    from bench import plan as planning
    from bench.store import Store

    _say_loading(args.json)
    args.dry_run = True  # nothing is prepared, nothing written
    asked, store = grid.make(args, _device(args), console.warn), Store(args.out)
    known = planning.finished(store, (job.spec for job in asked.jobs))
    pending, taken = _pending(asked.jobs, known, args)
    plan, guessed = _plan_of(args, pending)
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
        from bench.parse import plain

        print(json.dumps({"runs": runs, "bundles": plain(plan.bundles)}))
        return 0
    _say_plan(plan, asked.jobs, known, guessed, args)
    for line in _left_out(asked.jobs, known, taken, args):
        print(line)
    return 0


def _say_loading(quiet: bool) -> None:
    if not quiet and sys.stderr.isatty():  # the line that follows is longer, and covers it
        print("Loading torch ...", end="\r", file=sys.stderr, flush=True)


def _silent(_: str) -> None:
    pass


def _pending(jobs: Sequence[Job], known: dict[str, Record], args: argparse.Namespace) -> tuple[list[Job], int]:
    """What is to be run: all but what is done; what failed or did not fit is tried again. And the number of runs that
    are left to the job arrays which have them already."""
    states = {digest: record.status for digest, record in known.items()}
    taken = _submitted(args.out) if args.slurm is not None else set()
    open_ones = [
        job
        for job in jobs
        if (states.get(job.spec.digest) == "failed" if args.only_failed else states.get(job.spec.digest) != "done")
    ]
    pending = [job for job in open_ones if job.spec.digest not in taken]
    return pending, len(open_ones) - len(pending)


def _submitted(root: Path) -> set[str]:
    """Digests of the runs that Slurm has queued or is at."""
    from bench import launch
    from bench import plan as planning

    plans = {path: plan for path, plan in planning.every(root).items() if plan.slurm}
    tasks = (launch.queue() if plans else None) or {}
    return {
        plan.runs[index].spec.digest
        for path, plan in plans.items()
        for number in launch.bundle_states(path.parent, tasks)
        for index in plan.bundles[number].runs
    }


def _left(jobs: Sequence[Job], pending: Sequence[Job], taken: int, args: argparse.Namespace) -> str:
    done = len(jobs) - len(pending) - taken
    told = (
        f"{len(pending)} of them failed and are tried again" if args.only_failed else f"{done} of them finished already"
    )
    return told + (f", {taken} queued or running on Slurm" if taken else "")


def _device(args: argparse.Namespace) -> str:
    """What the runs compute on. With --slurm it is the nodes' that counts: a login node need have no GPU."""
    if args.slurm is None:
        return grid.device(args.device)
    gpus = _config(args).slurm.gpus
    if args.device == "auto" and gpus is not None:
        return "cuda" if gpus else "cpu"
    return grid.device("auto") if args.device == "auto" else str(args.device)


def _config(args: argparse.Namespace, usual: Slurm | None = None) -> Config:
    """The configuration file with the options of --slurm over it, or over the usual ones."""
    import dataclasses

    from bench import config

    found = config.read(getattr(args, "config", None))
    return dataclasses.replace(found, slurm=config.with_options(usual or found.slurm, args.slurm or ""))


def _plan_of(args: argparse.Namespace, jobs: Sequence[Job]) -> tuple[Plan, int]:
    """The plan, and the number of its runs whose time is guessed because nothing like them has been run."""
    from bench import guess
    from bench import plan as planning
    from bench.work import Settings

    settings: Settings = Settings(args.retries, float(args.checkpoint_seconds))
    config = _config(args)
    device = jobs[0].device if jobs else "cpu"
    usual = config.slurm.usual(device == "cuda")
    past = planning.history(args.out, _silent)
    known = [past.seconds(job.spec) for job in jobs]
    needs = [planning.needs(job.spec, usual, config.resources) for job in jobs]
    costs = [
        (guess.seconds(job, _threads(args) or need.cpus) if cost is None else cost, need)
        for job, cost, need in zip(jobs, known, needs, strict=True)
    ]
    bundles = planning.bundled(costs, _bundle_seconds(args, sum(cost for cost, _ in costs), usual.minutes))
    place = planning.Place(
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
        runs=tuple(planning.Planned(job.spec, cost) for job, (cost, _) in zip(jobs, costs, strict=True)),
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
    from bench import run

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
        if refusal := run.check_fit(method, backbone):
            lines.append(f"will be skipped: {name} on {backbone}: {refusal}")
    return lines


def _warn_of_changed_methods(jobs: Sequence[Job], known: dict[str, Record]) -> None:
    """Says so where finished runs were made by another state of a method's file than the present one."""
    from bench import registry

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
    from bench import launch
    from bench import plan as planning

    if args.jobs and args.jobs > 1:
        return launch.processes(args.out, plan, _silent if args.json else _told(len(plan.runs)))
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

    from bench.launch import outcome, title
    from bench.work import perform, preemptible

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
    from bench import launch
    from bench import plan as planning

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

    made = report.load(args.out, console.warn)
    paths = made.write(args.out, console.warn)
    if args.json:
        from bench.parse import plain

        records = [record for spec in specs if (record := store.find(spec))]
        print(json.dumps({"records": [plain(record) for record in records], "files": [str(path) for path in paths]}))
    else:
        shown = [f"  {path}" for path in [args.out / "runs", *paths] if path.suffix != ".svg"]
        print("\n".join([*made.only({spec.digest for spec in specs}).terminal(), "Files:", *shown]))
    return 2 if refused else 1 if troubles else 0


# resume --------------------------------------------------------------------------------------------------------------


def resume_command(args: argparse.Namespace) -> int:
    from bench import launch, lock
    from bench import plan as planning
    from bench.store import Store

    store, say = Store(args.out), _silent if args.json else print
    plans = planning.every(args.out)
    if not plans:
        raise UsageError(f"There are no plans under {args.out / 'plans'}: 'bench run' makes them.")
    tasks = launch.queue()
    if tasks is None and args.jobs is None and any(plan.slurm for plan in plans.values()):
        raise UsageError("Slurm does not answer ('squeue'), so what it still has is not known. Ask where it does.")
    taken = {
        plan.runs[index].spec.digest
        for path, plan in plans.items()
        for number in launch.bundle_states(path.parent, tasks or {})
        for index in plan.bundles[number].runs
    }
    troubles, specs, submitted = 0, list[RunSpec](), False
    for path, plan in plans.items():
        if token := launch.front(path.parent):
            say(f"plan {plan.id}: a process on {lock.host(token)} is at it; 'bench cancel {plan.id}' ends it.")
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
            submitted = True
            _say_submitted(launch.submit(args.out, rest), rest, args)
        else:
            troubles += launch.processes(args.out, rest, _silent if args.json else _told(len(rest.runs)))
    _drop_finished(args.out, store)
    return 0 if submitted or not specs else _conclude(args, store, specs, troubles, False)


def _rest(args: argparse.Namespace, plan: Plan, store: Store, taken: set[str]) -> Plan | None:
    """The plan of what is neither finished nor taken, in bundles of its own; None where nothing is left.

    It is launched as the plan was, unless the arguments say otherwise.
    """
    import dataclasses

    from bench import plan as planning

    known = planning.finished(store, (planned.spec for planned in plan.runs))
    over = {digest for digest, record in known.items() if record.status in ("done", "skipped")} | taken
    keep = [index for index, planned in enumerate(plan.runs) if planned.spec.digest not in over]
    if not keep:
        return None
    need = {index: bundle.resources for bundle in plan.bundles for index in bundle.runs}
    costs = [(plan.runs[index].seconds, need[index]) for index in keep]
    rest = plan.without(keep, planning.bundled(costs, max(bundle.seconds for bundle in plan.bundles)))
    if args.jobs:
        return dataclasses.replace(rest, jobs=args.jobs, slurm=None)
    if args.slurm is not None:
        return dataclasses.replace(rest, slurm=_config(args, plan.slurm).slurm)
    return rest


def _drop_finished(root: Path, store: Store) -> None:
    """Removes the plans whose runs are all done, or do not fit: nothing is left to ask of them."""
    from bench import plan as planning

    for path, plan in planning.every(root).items():
        known = planning.finished(store, (planned.spec for planned in plan.runs))
        if sum(record.status in ("done", "skipped") for record in known.values()) == len(plan.runs):
            planning.remove(path.parent)
