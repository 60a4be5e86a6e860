"""Commands on a results folder: table, plot, page, compare, join."""

from __future__ import annotations

import argparse
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
    warn = console.Warnings()
    made = _report(args.out, warn)
    if args.format:
        print(made.export(args.format, args.suite, args.backbone, warn), end="")
        return 1 if warn.count else 0
    paths = made.write_tables(args.out, warn)
    print("\n".join([*made.terminal(), "Files:", *(f"  {path}" for path in paths)]))
    return 1 if warn.count else 0


def plot_command(args: argparse.Namespace) -> int:
    warn = console.Warnings()
    print("\n".join(str(path) for path in _report(args.out, warn).write_plots(args.out)))
    return 1 if warn.count else 0


def page_command(args: argparse.Namespace) -> int:
    from bench import api

    warn = console.Warnings()
    print(api.load(args.out, warn=warn).page(args.file))
    return 1 if warn.count else 0


def compare_command(args: argparse.Namespace) -> int:
    warn = console.Warnings()
    found = _report(args.out, warn).compare(args.first, args.second, args.suite, args.backbone)
    print("\n\n".join(each.text() for each in found))
    return 1 if warn.count else 0


def _report(out: Path, warn: Callable[[str], object], plugins: Sequence[Path] = ()) -> Report:
    from bench import report
    from bench.models import registry

    made = report.load(out, warn, registry.families(plugins), registry.versions(plugins))
    if made.runs.empty and (made.reported is None or made.reported.empty):
        raise UsageError(
            f"No records under {out / 'runs'}. Make some with 'bench run', or name another folder with --out."
        )
    return made


# join --------------------------------------------------------------------------------------------------------------


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
