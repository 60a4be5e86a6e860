"""Commands on a results folder: table, plot, compare, status, logs, why, cancel, join."""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.cli import console
from bench.core.errors import UsageError

if TYPE_CHECKING:
    from bench.report import Report

Verb = Callable[[str, Callable[[argparse.Namespace], int], str], argparse.ArgumentParser]


def add_parser(verb: Verb) -> None:
    def results(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        command = verb(name, run, text)
        command.add_argument("--out", type=Path, default=Path("results"), metavar="DIR", help="default: results")
        return command

    table = results("table", table_command, "rebuild and print the leaderboards of a results folder")
    table.add_argument("--format", choices=("csv", "markdown", "latex"), help="print them so, and write no files")
    table.add_argument("--suite", default="", metavar="NAME", help="with --format: only leaderboards that begin so")
    table.add_argument("--backbone", default="", metavar="NAME", help="with --format: of this backbone alone")
    results("plot", plot_command, "redraw the plots of a results folder")
    page = results("page", page_command, "the leaderboards as one HTML file to explore, which opens offline")
    page.add_argument("--file", type=Path, metavar="board.html", help="default: board.html in the results folder")
    page.add_argument("--plugin", type=Path, action="append", default=[], metavar="FILE")
    compare = results("compare", compare_command, "what two methods differ by, in accuracy and cost, seed by seed")
    compare.add_argument("first", metavar="A", help="METHOD, or METHOD:VARIANT as the tables name it")
    compare.add_argument("second", metavar="B")
    compare.add_argument("--suite", default="", metavar="NAME", help="default: every leaderboard that has both")
    compare.add_argument("--backbone", default="", metavar="NAME", help="default: every backbone that has both")
    status = results("status", status_command, "what is planned, queued, running, done, failed and skipped")
    status.add_argument(
        "--watch", action="store_true", help="again every two seconds, until nothing is left to wait for"
    )
    status.add_argument("--runs", action="store_true", help="a line for every run, with its digest")
    status.add_argument("--json", action="store_true")
    logs = results("logs", logs_command, "what a run has left: its starts, its traceback, its worker's output")
    logs.add_argument("run", metavar="RUN", help="the beginning of its digest, as `bench status --runs` shows it")
    why = results("why", why_command, "why a record does, or does not, count for what would be asked today")
    why.add_argument("run", metavar="RUN", help="the beginning of its digest")
    why.add_argument("--plugin", type=Path, action="append", default=[], metavar="FILE")
    cancel = results("cancel", cancel_command, "end the jobs and processes of plans; what is finished stays")
    cancel.add_argument("plan", nargs="*", metavar="PLAN", help="default: all plans of the results folder")
    verbs = {
        "join": "take over the records of other results folders, or numbers that others report",
        "merge": "the former name of join",
    }
    for name, text in verbs.items():
        join = results(name, join_command, text)
        join.add_argument("source", nargs="*", type=Path, metavar="DIR")
        reported = join.add_argument_group("numbers that others report: shown beside those measured, never averaged")
        reported.add_argument(
            "--reported", type=Path, metavar="FILE.csv", help="source,method,backbone,dataset,accuracy"
        )
        reported.add_argument("--suite", default="", metavar="NAME", help="of datasets that FILE.csv names without one")
        reported.add_argument("--backbone", default="", metavar="NAME", help="where FILE.csv has no such column")
        reported.add_argument("--citation", default="", metavar="TEXT", help="the source, where FILE.csv has no column")
        reported.add_argument(
            "--where", action="append", default=[], metavar="COLUMN=TEXT", help="only rows that say so"
        )


# tables and plots ----------------------------------------------------------------------------------------------------


def table_command(args: argparse.Namespace) -> int:
    made = _report(args.out)
    if args.format:
        print(made.export(args.format, args.suite, args.backbone), end="")
        return 0
    paths = made.write_tables(args.out, console.warn)
    print("\n".join([*made.terminal(), "Files:", *(f"  {path}" for path in paths)]))
    return 0


def plot_command(args: argparse.Namespace) -> int:
    print("\n".join(str(path) for path in _report(args.out).write_plots(args.out)))
    return 0


def page_command(args: argparse.Namespace) -> int:
    import csv

    from bench.core.store import Store
    from bench.report import page
    from bench.tools import published

    made = _report(args.out, args.plugin)
    with open(published.folder() / "counts.csv", newline="", encoding="utf-8") as file:
        counts = list(csv.DictReader(file))
    path = args.file or args.out / "board.html"
    print(page.write(path, made, Store(args.out).records(console.warn), counts))
    return 0


def compare_command(args: argparse.Namespace) -> int:
    found = _report(args.out).compare(args.first, args.second, args.suite, args.backbone)
    print("\n\n".join(each.text() for each in found))
    return 0


def _report(out: Path, plugins: Sequence[Path] = ()) -> Report:
    from bench import report
    from bench.models import registry

    made = report.load(out, console.warn, registry.families(plugins))
    if made.runs.empty and (made.reported is None or made.reported.empty):
        raise UsageError(
            f"No records under {out / 'runs'}. Make some with 'bench run', or name another folder with --out."
        )
    return made


# status --------------------------------------------------------------------------------------------------------------


def status_command(args: argparse.Namespace) -> int:
    from bench.execution import status

    while True:
        seen = status.look(args.out, console.warn)
        if args.json:
            print(json.dumps(status.as_data(seen)))
            return 0
        text = status.each(seen) if args.runs else status.told(seen)
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
    return (
        text if len(lines) <= height else "\n".join([*lines[: height - 1], f"... {len(lines) - height + 1} more lines"])
    )


def logs_command(args: argparse.Namespace) -> int:
    from bench.execution import status

    for line in status.logs(args.out, args.run, console.warn):
        print(line)
    return 0


def cancel_command(args: argparse.Namespace) -> int:
    from bench.execution import launch
    from bench.execution import plan as planning

    homes = [path.parent for path in planning.every(args.out)]
    if unknown := set(args.plan) - {home.name for home in homes}:
        known = ", ".join(home.name for home in homes) or "none"
        raise UsageError(f"No plan is called {sorted(unknown)[0]!r} under {args.out / 'plans'}. Known: {known}.")
    told = [line for home in homes if not args.plan or home.name in args.plan for line in launch.cancel(home)]
    print("\n".join(told) or "Nothing is under way.")
    return 0


# why and join --------------------------------------------------------------------------------------------------------


def why_command(args: argparse.Namespace) -> int:
    from bench.execution import explain

    counts, lines = explain.explain(args.out, args.run, args.plugin, console.warn)
    print("\n".join(lines))
    return 0 if counts else 1


def join_command(args: argparse.Namespace) -> int:
    if not args.source and args.reported is None:
        raise UsageError("Name the results folders to take over, or a file with --reported.")
    if args.reported is not None:
        _join_reported(args)
    return _join_records(args) if args.source else 0


def _join_reported(args: argparse.Namespace) -> None:
    from bench.report import reported

    defaults = {"suite": args.suite, "backbone": args.backbone, "source": args.citation}
    chosen = [text.partition("=") for text in args.where]
    if wrong := [text for text, parts in zip(args.where, chosen, strict=True) if not parts[1]]:
        raise UsageError(f"--where {wrong[0]} is not COLUMN=TEXT.")
    rows = reported.read(args.reported, defaults, {column: text for column, _, text in chosen})
    new, known = reported.join(args.out, rows)
    print(f"{console.counted(new, 'reported number')} added to {args.out / reported.FILE}, {known} were there already.")


def _join_records(args: argparse.Namespace) -> int:
    from bench.core import join

    result = join.join(args.source, args.out, console.warn)
    for line in result.conflicts:
        console.warn(line)
    left = f", {result.left} left where they are" if result.left else ""
    print(
        f"{console.counted(result.taken, 'record')} taken over, {result.same} were here already, {result.replaced} in "
        f"place of one that was not finished, {console.counted(len(result.conflicts), 'conflict')}{left}."
    )
    return 1 if result.conflicts or result.left else 0
