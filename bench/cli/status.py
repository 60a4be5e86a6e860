"""bench status, show, logs, why and cancel: how far runs are, and what is known of one."""

from __future__ import annotations

import argparse
import json
import shutil
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.cli import arguments, console, show
from bench.core.errors import UsageError
from bench.core.text import columns, counted, duration, table

if TYPE_CHECKING:
    from bench.execution.status import Overview, RunStatus, State

Verb = Callable[[str, Callable[[argparse.Namespace], int], str], argparse.ArgumentParser]
SHOWN = 12  # lines of one kind on a screen
ALIKE = 3  # failed runs that are shown of those with one reason
DIGITS = 8  # of a digest on a screen; commands take any beginning of it that only one run has


def add_parser(verb: Verb) -> None:
    status = verb("status", status_command, "what is planned, queued, running, done, failed and skipped")
    status.add_argument(
        "--watch", action="store_true", help="again every two seconds, until nothing is left to wait for"
    )
    status.add_argument("--runs", action="store_true", help="a line for every run, with its digest")
    status.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    logs = verb("logs", logs_command, "what a run has left: its attempts, its traceback, its worker's output")
    why = verb("why", why_command, "why a record does, or does not, count for what would be asked today")
    arguments.add_plugin(why)
    for command in (logs, why):
        command.add_argument(
            "run", metavar="RUN", help="the beginning of its digest, as `bench status --runs` shows it"
        )
    shows = verb("show", show.show_command, "everything that is recorded of one run: scores, costs, curve, provenance")
    show.add_parser(shows)
    cancel = verb("cancel", cancel_command, "end the jobs and processes of plans; what is finished stays")
    cancel.add_argument("plan", nargs="*", metavar="PLAN", help="default: all plans of the results folder")
    for command in (status, logs, why, cancel):
        arguments.add_out(command)


def status_command(args: argparse.Namespace) -> int:
    from bench.execution.status import as_data, look

    while True:
        seen = look(args.out, console.warn)
        if args.json:
            print(json.dumps(as_data(seen)))
            return 0
        text = run_lines(seen) if args.runs else overview_text(seen, args.out)
        if not args.watch:
            print(text)
            return 0
        print(f"\x1b[2J\x1b[H{_cut(text)}", flush=True)
        if not seen.waiting:
            return 0
        time.sleep(2.0)


def _cut(text: str) -> str:
    """As much as the terminal shows: a longer text would scroll its first lines away."""
    height, lines = shutil.get_terminal_size().lines - 1, text.splitlines()
    if len(lines) <= height:
        return text
    return "\n".join([*lines[: height - 1], f"... {len(lines) - height + 1} more lines"])


def logs_command(args: argparse.Namespace) -> int:
    from bench.execution import inspect

    for line in inspect.logs(args.out, args.run, console.warn):
        print(console.printable_lines(line))
    return 0


def why_command(args: argparse.Namespace) -> int:
    from bench.execution import explain

    counts, lines = explain.explain(args.out, args.run, args.plugin, console.warn)
    print("\n".join(map(console.printable, lines)))
    return 0 if counts else 1


def cancel_command(args: argparse.Namespace) -> int:
    from bench.execution import executors
    from bench.execution import plan as planning

    plans = planning.every(args.out, console.warn)
    homes = {path.parent.name: path for path in plans}
    if unknown := [name for name in args.plan if name not in homes]:
        known = ", ".join(homes) or "none"
        raise UsageError(f"No plan is called {unknown[0]!r} under {args.out / 'plans'}. Known: {known}.")
    lines, faults = list[str](), 0
    for name, path in homes.items():
        if not args.plan or name in args.plan:
            try:
                lines += executors.get(plans[path].executor, plans[path].options).cancel(path.parent)
            except UsageError as error:
                console.warn(str(error))
                faults += 1
    print("\n".join(lines) or "Nothing is being executed.")
    return 1 if faults else 0


# text ----------------------------------------------------------------------------------------------------------------


def overview_text(seen: Overview, out: Path) -> str:
    """A screen for a few runs or for hundreds."""
    from bench.execution.status import STATES

    states = Counter(run.state for run in seen.runs)
    counts = ", ".join(f"{states[state]} {state}" for state in STATES if states[state])
    lines = [f"{counted(len(seen.runs), 'run')}: {counts or 'none'}." + _time_left(seen)]
    for name in seen.silent:
        lines.append(f"{name} does not answer here: what it has queued counts as planned.")
    for kind in ("method", "dataset"):
        lines += ["", *_table(seen.runs, kind)]
    running = [run for run in seen.runs if run.state == "running"]
    lines += _section("running:", columns([(*_names(run), *_progress(run)) for run in running]))
    lines += _failures([run for run in seen.runs if run.state == "failed"], out)
    if states["planned"] and not seen.waiting:
        are = "run is" if states["planned"] == 1 else "runs are"
        lines += [
            "",
            f"{states['planned']} planned {are} not being executed: '{console.hint('resume', out)}' runs what is left.",
        ]
    if seen.runs and states["done"] == len(seen.runs):
        lines += ["", f"'{console.hint('table', out)}' shows the leaderboards."]
    return "\n".join(lines)


def run_lines(seen: Overview) -> str:
    """A line for every run."""
    return "\n".join(columns([(run.state, *_names(run)) for run in seen.runs]))


def _names(run: RunStatus) -> tuple[str, ...]:
    return run.digest[:DIGITS], run.method, run.dataset, run.backbone, f"seed {run.seed}"


def _time_left(seen: Overview) -> str:
    left = sum(run.seconds * (1 - _share(run)) for run in seen.runs if run.state in ("running", "queued", "planned"))
    workers = sum(run.state == "running" for run in seen.runs)
    if not left:
        return ""
    if not workers:
        return f" About {duration(left)} of work left."
    return f" About {duration(left / workers)} left at {workers} at a time."


def _share(run: RunStatus) -> float:
    return run.step.epoch / run.step.epochs if run.step else 0.0


def _progress(run: RunStatus) -> tuple[str, ...]:
    if run.step is None:
        return "begins", "", run.host or ""
    phase = "" if run.step.phase == "train" else f"{run.step.phase}, "  # what most methods call their only one
    where = f"{run.host}, job {run.step.start.job}" if run.step.start.job else run.host or ""
    return f"{phase}epoch {run.step.epoch}/{run.step.epochs}", f"{run.step.images_per_second:.0f} images/s", where


def _failures(runs: Sequence[RunStatus], out: Path) -> Iterator[str]:
    """By their reasons, the most frequent first: of hundreds of failed runs most have one in common."""
    reasons: dict[str, list[RunStatus]] = {}
    for run in runs:
        reasons.setdefault(next(iter((run.reason or "").splitlines()), ""), []).append(run)
    if reasons:
        logs, again = console.hint("logs RUN", out), console.hint("resume", out)
        yield from ("", f"failed ('{logs}' shows more, '{again}' tries again):")
    for reason, own in sorted(reasons.items(), key=lambda item: -len(item[1]))[:SHOWN]:
        yield f"  {textwrap.shorten(console.printable(reason), 90, placeholder=' ...')}"
        yield from (f"    {line}" for line in columns([_names(run) for run in own[:ALIKE]]))
        if len(own) > ALIKE:
            yield f"    and {len(own) - ALIKE} more"
    if len(reasons) > SHOWN:
        yield f"  and {len(reasons) - SHOWN} other reasons"


def _table(runs: Sequence[RunStatus], kind: str) -> list[str]:
    """A line for each name; in a long table those that are done share one."""
    from bench.execution.status import STATES

    present = [state for state in STATES if any(run.state == state for run in runs)]
    counts: dict[str, Counter[State]] = {}
    for run in runs:
        counts.setdefault(getattr(run, kind), Counter())[run.state] += 1
    over = [name for name, n in counts.items() if set(n) == {"done"}]
    if len(counts) > SHOWN and len(over) > 1:
        counts = {f"({len(over)} finished)": sum((counts.pop(name) for name in over), Counter()), **counts}
    rows = [(kind, *present)] + [(name, *(str(n[state] or "·") for state in present)) for name, n in counts.items()]
    return table(rows)


def _section(name: str, lines: Sequence[str]) -> list[str]:
    more = [f"  and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return ["", name, *(f"  {line}" for line in lines[:SHOWN]), *more] if lines else []
