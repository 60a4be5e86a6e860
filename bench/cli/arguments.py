"""Arguments that several commands share, and what they say as a request and a launch."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.cli.console import natural, numbers, positive
from bench.cli.data import add_data_root
from bench.core.errors import UsageError

if TYPE_CHECKING:
    from bench.execution.request import Launch, MethodChoice, RunRequest


def add_out(command: argparse.ArgumentParser) -> None:
    command.add_argument("--out", type=Path, default=Path("results"), metavar="DIR", help="default: results")


def add_plugin(command: Any) -> None:
    command.add_argument(
        "--plugin", type=Path, action="append", default=[], metavar="FILE", help="a method file of your own"
    )


def add_method_settings(command: Any) -> None:
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="[METHOD.]KEY=VALUE",
        help="a hyper-parameter; with several methods of the one that is named",
    )
    add_plugin(command)


def add_request(command: argparse.ArgumentParser) -> None:
    what = command.add_argument_group("what to run")
    what.add_argument("--method", metavar="NAME[,NAME...]|all")
    what.add_argument("--suite", metavar="NAME|FILE.toml", help="every dataset of a suite, or of a suite of your own")
    what.add_argument("--dataset", metavar="SUITE/NAME[,...]", help="single datasets of suites")
    what.add_argument(
        "--data",
        metavar="FOLDER",
        action="append",
        default=[],
        help="your images: FOLDER/[train|val|test/]<class>/*.jpg; may be given again",
    )
    what.add_argument("--backbone", metavar="NAME[,NAME...]", help="default: the suite's own")
    what.add_argument("--seeds", type=numbers, metavar="0,1,2", help="default: the protocol's")
    what.add_argument("--file", type=Path, metavar="FILE.toml", help="a whole request; options stand over it")
    add_method_settings(what)
    how = command.add_argument_group("how it is trained (part of the question: changed results stand apart)")
    how.add_argument("--protocol", metavar="NAME|FILE.toml", help="default: the suite's own")
    how.add_argument("--epochs", type=positive, help="instead of the protocol's; the result is marked so")
    how.add_argument("--lr", type=float, metavar="RATE", help="the learning rate; the same")
    how.add_argument("--shots", type=positive, metavar="K", help="images a class to train on; the same")
    how.add_argument("--precision", choices=("fp32", "bf16"), help="the same; default: the protocol's")
    how.add_argument("--weights", metavar="pretrained|random|FILE", help="default: pretrained")
    command.add_argument("--keep-delta", action="store_true", help="keep what is trained beside each record made now")
    how.add_argument("--limit", type=positive, metavar="N", help="with --data: N images to train and validate")
    which = command.add_argument_group("which of these runs")
    which.add_argument("--skip-missing", action="store_true", help="leave out datasets that are not on this machine")
    which.add_argument("--only-failed", action="store_true", help="those whose last attempt failed")
    add_data_root(command)


def add_launch(command: argparse.ArgumentParser) -> None:
    where = command.add_argument_group("where and how it is executed (changes no number)")
    where.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    where.add_argument("--threads", type=positive, metavar="N", help="of a worker; default: as torch chooses")
    add_executor(where)
    where.add_argument("--config", metavar="FILE.toml", help="[slurm] and [[resources]] of a site")
    where.add_argument("--bundle-minutes", type=natural, metavar="M", help="of runs in one task; 0: each alone")
    where.add_argument("--retries", type=natural, default=1, metavar="N", help="of failures that may not recur: 1")
    where.add_argument("--checkpoint-seconds", type=natural, default=30, metavar="S", help="between two: 30")


def add_executor(command: Any) -> None:
    command.add_argument("--jobs", type=positive, metavar="N", help="in N processes on this machine")
    command.add_argument(
        "--slurm", nargs="?", const="", metavar="KEY=VALUE,...", help="as job arrays: partition=...,gpus=1,timeout=60"
    )
    command.add_argument(
        "--executor",
        metavar="NAME[:KEY=VALUE,...]",
        help="any executor by its name; --jobs and --slurm are two of them",
    )


def request_of(args: argparse.Namespace) -> RunRequest:
    """Raises UsageError where the arguments make no request."""
    from bench.execution.grid import method_choices
    from bench.execution.request import make_request, read_request

    given: dict[str, Any] = {
        "suite": args.suite,
        "datasets": tuple(args.dataset.split(",")) if args.dataset else (),
        "data": tuple(args.data),
        "backbones": tuple(args.backbone.split(",")) if args.backbone else (),
        "weights": args.weights,
        "protocol": args.protocol,
        "epochs": args.epochs,
        "lr": args.lr,
        "precision": args.precision,
        "shots": args.shots,
        "seeds": args.seeds,
        "limit": args.limit,
        "skip_missing": args.skip_missing or None,
        "only_failed": args.only_failed or None,
        "keep_delta": args.keep_delta or None,
        "plugins": tuple(str(path) for path in args.plugin),
        "data_root": str(args.data_root) if args.data_root else None,
        "out": str(args.out),
    }
    given = {name: value for name, value in given.items() if value not in (None, ())}
    places = [f"--{name}" for name in ("suite", "dataset", "data") if getattr(args, name)]
    if len(places) > 1:
        raise UsageError(f"{' and '.join(places)} exclude each other: each says on what datasets.")
    if args.file is not None:
        if args.method or args.set:
            raise UsageError("--file says which methods, with their settings: leave out --method and --set.")
        if places:
            given |= {
                name: None if name == "suite" else () for name in ("suite", "datasets", "data") if name not in given
            }
        return read_request(args.file, **given)
    if not args.method:
        raise UsageError("--method is missing, like --method lora,mimi. 'bench list methods' shows all; --method all.")
    if not places:
        raise UsageError("Name the data: --suite NAME, --dataset SUITE/NAME, or --data FOLDER with images of your own.")
    if args.limit is not None and not args.data:
        raise UsageError("--limit goes with --data; the datasets of a suite have fixed splits.")
    choices = method_choices(args.method.split(","), {}, args.plugin)
    return make_request(methods=_with_settings(choices, args.set), **given)


def _with_settings(choices: Sequence[MethodChoice], pairs: Sequence[str]) -> tuple[MethodChoice, ...]:
    from bench.execution.request import MethodChoice

    names = [choice.name for choice in choices]
    settings: dict[str, dict[str, Any]] = {name: {} for name in names}
    for key, value in settings_of(pairs).items():
        name, dot, own = key.rpartition(".")
        if dot and name not in settings:
            raise UsageError(f"--set {key}: --method does not name {name!r}, but {', '.join(names)}.")
        if not dot and len(names) > 1:
            raise UsageError(
                f"--set {key}: --method names {len(names)} methods; say which one, like --set {names[0]}.{key}={value}."
            )
        settings[name if dot else names[0]][own] = value
    return tuple(MethodChoice(name, settings[name]) for name in names)


def settings_of(pairs: Sequence[str]) -> dict[str, str]:
    """KEY=VALUE pairs of --set."""
    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key and equals):
            raise UsageError(f"--set {pair!r} is not KEY=VALUE, like rank=4.")
        found[key] = value
    return found


def launch_of(args: argparse.Namespace) -> Launch:
    from bench.execution.request import Launch

    name, options = executor_of(args) or ("local", {})
    return Launch(
        executor=name,
        options=options,
        device=args.device,
        threads=args.threads,
        retries=args.retries,
        checkpoint_seconds=float(args.checkpoint_seconds),
        bundle_minutes=args.bundle_minutes,
        config=args.config,
    )


def executor_of(args: argparse.Namespace) -> tuple[str, dict[str, object]] | None:
    """The executor that is named, with its options; None where none is."""
    from bench.execution import executors

    named = [name for name in ("jobs", "slurm", "executor") if getattr(args, name) is not None]
    if len(named) > 1:
        raise UsageError(f"--{' and --'.join(named)} exclude each other: each says where the runs are executed.")
    if args.jobs is not None:
        return "local", {"jobs": args.jobs}
    if args.slurm is not None:
        return "slurm", executors.read_options("slurm", args.slurm)
    if args.executor is not None:
        name, _, text = args.executor.partition(":")
        return name, executors.read_options(name, text)
    return None
