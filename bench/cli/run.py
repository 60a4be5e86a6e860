"""bench run and resume: a request or plans that are left, executed, with the outcome of every run."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.cli import arguments, console, plan
from bench.cli.data import add_data_root, progress_line

if TYPE_CHECKING:
    from bench.core.spec import RunSpec
    from bench.execution.planner import Asked
    from bench.execution.run import Executed

Verb = Callable[[str, Callable[[argparse.Namespace], int], str], argparse.ArgumentParser]


def add_parser(verb: Verb) -> None:
    for name, action, text in (
        ("run", run_command, "train and score methods, then print the leaderboard"),
        ("plan", plan.plan_command, "what `bench run` would do: runs, their time, what is left out and why"),
    ):
        command = verb(name, action, text)
        arguments.add_request(command)
        arguments.add_launch(command)
        if name == "run":
            command.add_argument("--dry-run", action="store_true", help="the same as `bench plan`")
        command.add_argument("--json", action="store_true", help="print one JSON object instead of text")
        arguments.add_out(command)
    resume = verb("resume", resume_command, "run what the plans of a results folder lack, as they were launched")
    arguments.add_executor(resume)
    add_data_root(resume)
    resume.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    arguments.add_out(resume)


def run_command(args: argparse.Namespace) -> int:
    if args.dry_run:
        return plan.plan_command(args)
    request, launch = arguments.request_of(args), arguments.launch_of(args)
    console.say_loading(args.json)

    from bench.cli.progress import showing
    from bench.execution.planner import work_out
    from bench.execution.run import execute

    with console.one_object(args.json):
        asked = work_out(request, launch, console.warn, progress_line)
        _warn_of_changed_methods(asked)
        say = console.silent if args.json else print
        for line in asked.summary:
            say(line)
        say(f"{console.counted(len(asked.jobs), 'run')}, {_left(asked, only_failed=args.only_failed)}.", end=" ")
        say(f"Results go to {args.out}/.")
        with showing(asked.plan, quiet=args.json) as report:
            done = execute(asked, args.out, report, console.warn)
    return _conclude(args, done, asked.specs)


def _left(asked: Asked, *, only_failed: bool) -> str:
    left, queued = len(asked.plan.runs), len(asked.queued)
    finished = len(asked.jobs) - left - queued
    text = f"{left} of them failed and are tried again" if only_failed else f"{finished} of them finished already"
    return text + (f", {queued} queued or running as job arrays" if queued else "")


def _warn_of_changed_methods(asked: Asked) -> None:
    """Says so where finished runs were made by another state of a method's file than the present one."""
    from bench.models import registry

    changed: Counter[str] = Counter()
    for job in asked.jobs:
        record = asked.known.get(job.spec.digest)
        if record is None or record.status != "done":
            continue
        if record.provenance.method_sha256 != registry.source_digest(type(job.method)):
            changed[job.spec.method] += 1
    if changed:
        names = ", ".join(f"{number} of {name}" for name, number in changed.items())
        console.warn(
            f"finished runs were made before the file of their method was changed ({names}). If its numbers change, "
            "raise its `version`: they are then run again."
        )


def resume_command(args: argparse.Namespace) -> int:
    from bench.cli.progress import showing
    from bench.execution.request import Launch
    from bench.execution.resume import left_of_plans
    from bench.execution.run import resume

    named = arguments.executor_of(args)
    root = str(args.data_root.resolve()) if args.data_root else None
    say = console.silent if args.json else print
    with console.one_object(args.json):
        left = left_of_plans(args.out, Launch(*named) if named else None, root, console.warn)
        for each in left:
            runs, rest = console.counted(len(each.plan.runs), "run"), len(each.rest.runs) if each.rest else 0
            if each.running:
                say(f"plan {each.plan.id}: {runs}, which a process is executing.", end=" ")
                say(f"'{console.hint('cancel ' + each.plan.id, args.out)}' ends it.")
            else:
                queued = f", {each.queued} queued or running as job arrays" if each.queued else ""
                say(f"plan {each.plan.id}: {runs}, {rest} to do{queued}.")
        rests = [each.rest for each in left if each.rest is not None]
        if not rests:
            return 0
        with showing(*rests, quiet=args.json) as report:
            done = resume(left, args.out, report, console.warn)
    return _conclude(args, done, [planned.spec for plan in rests for planned in plan.runs])


def _conclude(args: argparse.Namespace, done: Executed, specs: Sequence[RunSpec]) -> int:
    """The leaderboard of what was asked, and where every run of it stands. Exit code 0: everything is there, or was
    submitted; 1: runs have no result; 2: datasets were left out."""
    complete = done.detached or done.account.complete
    code = 2 if done.account.left_out else 0 if complete else 1
    if args.json:
        from bench.cli.output import run_as_data

        print(json.dumps(run_as_data(args.out, done, specs)))
        return code
    if done.detached:
        for plan_, submission in done.submissions:
            runs = console.counted(len(plan_.runs), "run")
            tasks = console.counted(len(plan_.bundles), "task")
            print(f"Submitted {runs} in {tasks}: {plan_.executor}'s {', '.join(submission.jobs)}, plan {plan_.id}.")
        print(f"This command need not stay. '{console.hint('status', args.out)}' shows how far they are.")
        return code
    from bench import report
    from bench.models import registry

    plugins = getattr(args, "plugin", ())
    made = report.load(args.out, console.warn, registry.families(plugins), registry.versions(plugins))
    paths = made.write(args.out, console.warn)
    tables = made.only({spec.digest for spec in specs}).terminal()
    shown = [f"  {path}" for path in [args.out / "runs", *paths] if Path(path).suffix != ".svg"]
    print("\n".join([*tables, "Files:", *shown]))
    print(done.account.summary())
    for line in done.account.reasons():
        print(f"  {console.printable(line)}")
    return code
