"""bench forgetting: what tuned backbones still know of another dataset."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from bench.cli import arguments, console
from bench.cli.data import add_data_root
from bench.core.text import printable

Verb = Callable[[str, Callable[[argparse.Namespace], int], str], argparse.ArgumentParser]


def add_parser(verb: Verb) -> None:
    command = verb(
        "forgetting", forgetting_command, "what tuned backbones still know of another dataset, by fresh linear probes"
    )
    command.add_argument(
        "run", metavar="RUN[,RUN...]|all", help="made with --keep-delta; beginnings of digests, or all of the folder"
    )
    command.add_argument("--dataset", metavar="SUITE/NAME", help="the other dataset")
    command.add_argument("--data", type=Path, metavar="FOLDER", help="or your own images")
    command.add_argument("--weights", metavar="FILE", help="of the backbone, where the runs were made with a file")
    command.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    command.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    add_data_root(command)
    arguments.add_out(command)


def forgetting_command(args: argparse.Namespace) -> int:
    from bench import api
    from bench.core.schema import plain
    from bench.execution.executors.local import local_device

    found = api.forgetting(
        args.run if args.run == "all" else args.run.split(","),
        args.out,
        dataset=args.dataset,
        data=args.data,
        weights=args.weights,
        data_root=args.data_root,
        device=local_device(args.device),
    )
    if args.json:
        print(json.dumps({"runs": [plain(each) | {"forgotten": each.forgotten} for each in found]}))
        return 0
    rows: list[tuple[str, ...]] = [("run", "method", "trained on", "seed", "untouched", "tuned", "forgotten")]
    for each in found:
        name = f"{each.method} ({each.variant})" if each.variant else each.method
        scores = (each.untouched.test, each.tuned.test, each.forgotten)
        told = (each.run[:8], printable(name), printable(each.trained_on), str(each.seed))
        rows.append((*told, *(f"{100 * score:.2f}" for score in scores)))
    console.print_rows(rows)
    other, dtypes = found[0].untouched, ", ".join(sorted({each.dtype for each in found}))
    print(
        f"{other.metric} in % on the {other.test_images:,} test images of {printable(found[0].dataset)}, by logistic "
        f"regression on features; {found[0].device}, {dtypes}."
    )
    return 0
