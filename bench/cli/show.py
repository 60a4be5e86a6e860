"""bench show: everything that is recorded of one run."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bench.cli import arguments, console

if TYPE_CHECKING:
    from bench.core.record import Cost, Record

WIDTH = 40  # characters of the curve


def show_command(args: argparse.Namespace) -> int:
    """Exit code 0 where the run has a result, 1 where it has none."""
    from bench.core.schema import plain
    from bench.core.store import Store
    from bench.execution import inspect

    spec = inspect.find(args.out, args.run, console.warn)
    record = Store(args.out).find(spec)
    if record is None:
        console.warn(
            f"{inspect.title(spec)} has no record yet. '{console.hint('logs ' + args.run, args.out)}' shows more."
        )
        return 1
    if args.json:
        print(json.dumps({"digest": spec.digest, **plain(record)}))
    else:
        print("\n".join(map(console.printable_lines, lines(record))))
    return 0 if record.status == "done" else 1


def add_parser(command: argparse.ArgumentParser) -> None:
    command.add_argument("run", metavar="RUN", help="the beginning of its digest, as `bench status --runs` shows it")
    command.add_argument("--json", action="store_true", help="print the record as one JSON object")
    arguments.add_out(command)


def lines(record: Record) -> Iterator[str]:
    """For a person: the question, the score, the costs, the training curve, and where it was made."""
    spec, made = record.spec, record.provenance
    yield f"{spec.digest}  {spec.method} · {spec.dataset} · {spec.backbone} · seed {spec.seed}"
    settings = " ".join(f"{key}={_setting(value)}" for key, value in spec.params.items())
    yield f"  method           version {spec.method_version}  {settings}".rstrip()
    yield f"  protocol         {spec.protocol.name}, weights {spec.weights}"
    if record.scores is None:
        yield f"  {record.status:16} {record.reason}"
    else:
        scores = record.scores
        rule = f"{scores.metric}, {scores.test_images:,} images, {scores.rule} epoch"
        yield f"  test             {scores.test:.2%} ({rule})"
        if scores.val is not None:
            yield f"  validation       {scores.val:.2%}"
        if scores.pe is not None:
            yield f"  PE               {scores.pe:.4f}"
    if record.cost is not None:
        yield from _costs(record.cost)
    for end in record.milestones:
        neurons = f", {sum(end.sizes.values()):,} left" if end.sizes else ""
        yield f"  after {end.name:10} {end.score:.2%} with {end.params.deployed:,} parameters of the method{neurons}"
    yield from _curve(record)
    for trial in record.trials:
        val = "diverged" if trial.val is None else f"{trial.val:.2%} on validation"
        yield f"  trial            learning rate {trial.lr:g}, weight decay {trial.weight_decay:g}: {val}"
    place = f"{made.device_name}, {made.dtype}, attempt {record.attempts}, {made.seconds:.1f} s"
    yield f"  made             {made.started} on {place}"
    versions = " ".join(f"{name} {version}" for name, version in made.versions.items())
    yield f"  code             {made.code or 'not of a checkout'}, {versions}"
    yield f"  digests          method {made.method_sha256}, weights {made.weights_sha256 or 'none'}"


def _costs(cost: Cost) -> Iterator[str]:
    params, stored = cost.params, cost.storage_bytes
    parts = f"method {params.deployed:,}, head {params.head:,}"
    yield f"  trainable        {params.deployed + params.head:,} parameters: {parts}"
    if params.method != params.deployed:
        yield f"  at its largest   {params.method:,} parameters of the method"
    merged = f"{cost.merged.flops / 1e9:.4f} merged" if cost.merged else "cannot be merged"
    yield f"  GFLOPs an image  {cost.unmerged.flops / 1e9:.4f} unmerged, {merged}"
    yield f"  storage          {stored.with_head:,} bytes, {stored.without_head:,} without head"
    if cost.train_bytes is not None and cost.inference_bytes is not None:
        scoring = f"{cost.inference_bytes / 1e6:.1f} MB of scoring one image"
        yield f"  tensors          {cost.train_bytes / 1e6:.1f} MB of a step of training, {scoring}"
    speed = f"{cost.train_images_per_second:.0f} images/s trained, {cost.inference_images_per_second:.0f} tested"
    if cost.merged_images_per_second is not None:
        speed += f", {cost.merged_images_per_second:.0f} merged"
    memory = f", {cost.peak_bytes / 1e9:.2f} GB of accelerator memory" if cost.peak_bytes else ""
    yield f"  speed            {speed}, {cost.train_seconds:.1f} s of training{memory}"


def _curve(record: Record) -> Iterator[str]:
    """The loss of every epoch as a bar, the first and the last written out; of many epochs every so many."""
    losses = [epoch.loss for epoch in record.epochs]
    if not losses:
        return
    step, highest = max(1, len(losses) // 12), max(losses) or 1.0
    for number, epoch in enumerate(record.epochs, 1):
        if number % step == 0 or number in (1, len(losses)):
            val = "" if epoch.val is None else f"  {epoch.val:.2%}"
            yield f"  epoch {number:4}       {epoch.loss:8.4f} {'#' * round(WIDTH * epoch.loss / highest)}{val}"


def _setting(value: object) -> str:
    return "+".join(map(str, value)) if isinstance(value, tuple) else str(value)
