"""What the command line asks for, as jobs: every combination of methods, backbones, datasets and seeds."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.core.errors import UsageError

if TYPE_CHECKING:
    from bench.core.configs import Dataset, SuiteCard
    from bench.core.spec import Protocol
    from bench.data.sources import Source
    from bench.training.job import Job

Warn = Callable[[str], object]


@dataclass(frozen=True)
class Grid:
    jobs: tuple[Job, ...]
    refused: tuple[str, ...]  # a line for each dataset that is here, but is not what its card says


def method_names(args: argparse.Namespace) -> list[str]:
    """The methods asked for by their own names, each once."""
    from bench.models import registry

    if args.method == "all":
        return list(registry.entries(args.plugin))
    return list(dict.fromkeys(registry.canonical(name, args.plugin) for name in args.method.split(",")))


def settings(pairs: Sequence[str]) -> dict[str, str]:
    """KEY=VALUE pairs of --set."""
    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key and equals):
            raise UsageError(f"--set {pair!r} is not KEY=VALUE, like rank=4.")
        found[key] = value
    return found


def device(asked: str) -> str:
    import torch

    if asked == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch sees no CUDA device here. 'bench doctor' says more; --device cpu works.")
    return ("cuda" if torch.cuda.is_available() else "cpu") if asked == "auto" else asked


def make(args: argparse.Namespace, where: str, warn: Warn) -> Grid:
    """Every run that the arguments ask for, on the device `where`.

    Seed by seed, so that an interrupted suite is a whole smaller one.
    """
    from bench.core import configs
    from bench.data.root import default_data_root
    from bench.models import registry
    from bench.models.method import build

    names = method_names(args)
    if args.set and len(names) > 1:
        raise UsageError(f"--set needs one method, to which it applies; --method names {len(names)}.")
    methods = {name: build(registry.load(name, args.plugin), settings(args.set), name) for name in names}
    root = args.data_root or default_data_root()
    wanted, suite = _wanted(args, root)
    protocol = configs.protocol(args.protocol or suite.protocol)
    if args.epochs is not None and args.epochs != protocol.epochs:
        protocol = dataclasses.replace(protocol, name=f"{protocol.name}+epochs={args.epochs}", epochs=args.epochs)
    backbones = (args.backbone or suite.backbone).split(",")

    from bench.models import static_cost
    from bench.training.job import make_job

    for method in methods.values():
        method.phases(protocol.epochs)  # a question that cannot be answered is refused before anything runs
        for tag in backbones:
            static_cost.check_fit(method, tag)
    here, refused = _located(args, wanted, protocol, backbones, root, warn)
    jobs = [
        make_job(
            name, method, tag, card, protocol, seed, weights=args.weights, data_root=root, source=source, device=where
        )
        for seed in args.seeds or protocol.seeds
        for tag in backbones
        for card, source in here
        for name, method in methods.items()
    ]
    return Grid(tuple({job.spec.digest: job for job in jobs}.values()), tuple(refused))


def _wanted(args: argparse.Namespace, root: Path) -> tuple[list[tuple[Dataset, Source]], SuiteCard]:
    """The cards asked for, with the images where a folder was named, and the suite that gives the defaults."""
    from bench.core import configs

    if args.data is not None:
        from bench.cli import data
        from bench.data.readers import folder

        source = folder.divide(
            args.data, limit=args.limit, data_root=root, on_progress=data.progress_line(args.data.name)
        )
        card = folder.card(source, args.limit)
        if not args.json:
            print("\n".join(folder.summary(source)))
        if not args.dry_run:
            folder.write_lists(source, args.out / "data" / f"{card.name.replace('/', '-')}.json")
        return [(card, source)], configs.OWN
    if args.limit is not None:
        raise UsageError("--limit goes with --data; the datasets of a suite have fixed splits.")
    if args.dataset is not None:
        named = [configs.dataset(name) for name in args.dataset.split(",")]
        return [(card, None) for card in named], configs.suite(args.dataset.partition("/")[0]).card
    suite = configs.suite(args.suite)
    return [(card, None) for card in suite.datasets], suite.card


def _located(
    args: argparse.Namespace,
    wanted: Sequence[tuple[Dataset, Source]],
    protocol: Protocol,
    backbones: Sequence[str],
    root: Path,
    warn: Warn,
) -> tuple[list[tuple[Dataset, Source]], list[str]]:
    """The cards whose data is on this machine, with where it is and its fingerprint; prepared, but for a dry run. And
    what is wrong with those that are here and had to be left out.

    What is missing is told on one screen, or left out with --skip-missing.
    """
    from bench.data import sources

    places = [
        (card, source or (sources.find(card, root) if sources.is_local(card) else None)) for card, source in wanted
    ]
    missing = [card for card, source in places if sources.is_local(card) and source is None]
    here = [(card, source) for card, source in places if card not in missing]
    if missing and not (args.skip_missing and here):
        from bench.cli import data

        raise sources.Missing(data.missing_screen(missing, len(places), root))
    if missing:
        names = ", ".join(card.name for card in missing)
        warn(f"{len(missing)} of {len(places)} datasets are not here and are left out: {names}.")
    if all(source is None for _, source in here):
        return here, []

    from bench.cli import data
    from bench.training import setup

    sizes = {setup.image_size(tag, protocol) for tag in backbones}
    ready, refused = data.prepared_all(here, sizes, protocol, root, args.dry_run)
    if not ready:
        raise UsageError("\n".join(refused))
    for line in refused:
        warn(f"left out: {line}")
    return ready, refused
