"""bench dimension: the smallest random subspace in which a submodule learns a task."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from bench.cli import arguments, console, paper
from bench.cli.data import add_data_root
from bench.core import configs
from bench.core.errors import UsageError

Verb = Callable[[str, Callable[[argparse.Namespace], int], str], argparse.ArgumentParser]

DIMS = (25, 50, 100, 200, 400, 800)


def add_parser(verb: Verb) -> None:
    command = verb(
        "dimension", dimension_command, "local intrinsic dimension: where few numbers suffice to learn a task"
    )
    what = command.add_argument_group("what to measure; every d, submodule and seed is a run that is kept")
    what.add_argument("--suite", metavar="NAME")
    what.add_argument("--dataset", metavar="SUITE/NAME[,...]")
    what.add_argument("--backbone", default="", metavar="NAME", help="default: the suite's own")
    what.add_argument("--protocol", metavar="NAME", help="default: the suite's own")
    what.add_argument("--seeds", type=console.numbers, metavar="N[,N...]", help="default: the protocol's")
    what.add_argument("--dims", type=console.numbers, default=DIMS, metavar="D[,D...]", help="default: 25 to 800")
    what.add_argument(
        "--submodules", default="attention,mlp", metavar="NAME[,NAME...]", help="attention, mlp, or targets like q+v"
    )
    what.add_argument("--layers", type=console.numbers, default=(), metavar="N[,N...]", help="each alone; default: all")
    what.add_argument("--share", type=float, default=0.9, metavar="X", help="of the full score; default: 0.9")
    what.add_argument("--full", default="full", metavar="METHOD", help="whose score is the full one; default: full")
    what.add_argument("--skip-missing", action="store_true", help="leave out datasets that are not here")
    command.add_argument("--table", action="store_true", help="run nothing: what has been run")
    command.add_argument("--dry-run", action="store_true", help="run nothing: what would be run")
    command.add_argument("--csv", action="store_true", help="print CSV")
    add_data_root(command)
    arguments.add_launch(command)
    arguments.add_out(command)


def dimension_command(args: argparse.Namespace) -> int:
    """Exit code 0: every d was measured; 1: runs are missing."""
    from bench.execution import dimension

    if bool(args.suite) == bool(args.dataset):
        raise UsageError("Name the data: --suite NAME, or --dataset SUITE/NAME; one of the two.")
    datasets = args.dataset.split(",") if args.dataset else [card.name for card in configs.suite(args.suite).datasets]
    recipe = dimension.recipe(
        datasets,
        args.backbone,
        args.protocol,
        args.dims,
        args.submodules.split(","),
        args.layers,
        args.share,
        args.full,
    )
    return paper.show(recipe, args) if args.table else paper.run(recipe, args)
