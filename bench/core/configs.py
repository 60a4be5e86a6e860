"""Cards: datasets/*.toml -> Suite and Dataset, datasets/protocols.toml -> Protocol. Data, no code."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from bench.core import files
from bench.core.errors import UnreadableFile, UsageError, unknown
from bench.core.schema import parse
from bench.core.spec import Protocol

Metric = Literal["top1", "mean_per_class", "map11", "auc"]  # bench.training.metrics computes them
SHIPPED = ("pocket", "photos", "vtab", "domainnet", "torchvision", "elevater", "hub")
"""Kinds of sources of the suites that bench has: bench.data.sources reads them."""


@dataclass(frozen=True)
class Sizes:
    """Images per split."""

    train: int
    val: int
    test: int


@dataclass(frozen=True)
class Dataset:
    title: str
    classes: int
    metric: Metric
    source: str  # "reader:argument", read by bench.data
    sizes: Sizes
    fingerprint: str  # sha256 of the splits as read; empty where it is known only once they are prepared
    license: str
    citation: str
    superseded_by: str | None = None  # the name of the card that corrects this one
    pixels_floor: float | None = None  # accuracy in % of logistic regression on images averaged to 8x8 pixels
    name: str = ""  # "suite/key", filled in from the table's key

    def __post_init__(self) -> None:
        check_source(self.source, (*SHIPPED, "folder"))

    @property
    def key(self) -> str:
        """Its name within the suite."""
        return self.name.partition("/")[2]


@dataclass(frozen=True)
class SuiteCard:
    name: str
    title: str
    protocol: str
    backbone: str  # the default one
    headline: Literal["mean_datasets", "mean_groups"]
    groups: Mapping[str, tuple[str, ...]]
    citation: str


NO_SUITES = ("protocols", "downloads", "rates")  # the other files beside the suites

OWN = SuiteCard(
    name="folder",
    title="images of your own",
    protocol="own@v1",
    backbone="pocket_vit_patch8",
    headline="mean_datasets",
    groups={},
    citation="",
)
"""The defaults of image folders, which stand in no suite."""


@dataclass(frozen=True)
class _File:
    suite: SuiteCard
    datasets: Mapping[str, Dataset]

    def __post_init__(self) -> None:
        for key, card in self.datasets.items():
            if card.source.startswith("folder:"):
                raise ValueError(f"datasets.{key}: folders stand in a file of yours, bench run --suite FILE.toml")
        grouped = sorted(name for names in self.suite.groups.values() for name in names)
        if grouped != sorted(self.datasets):
            raise ValueError(f"groups name {grouped}, the tables are {sorted(self.datasets)}")


@dataclass(frozen=True)
class Suite:
    """A suite card with its datasets in the order of its groups."""

    card: SuiteCard
    datasets: tuple[Dataset, ...]


def check_source(source: str, kinds: Sequence[str]) -> None:
    """Raises ValueError where a source is not "kind:key" of one of the kinds."""
    kind, colon, key = source.partition(":")
    if kind not in kinds or not colon or not key.strip():
        close = difflib.get_close_matches(kind, kinds, n=1)
        hint = f"did you mean '{close[0]}:{key or '...'}'?" if close else f"known: {', '.join(f'{k}:' for k in kinds)}"
        raise ValueError(f"source = {source[:200]!r} is no source ({hint})")


def folder() -> Path:
    """`bench/cards` in an installed wheel, `datasets/` beside the package in a checkout."""
    packaged = Path(__file__).parents[1] / "cards"
    return packaged if any(packaged.glob("*.toml")) else Path(__file__).parents[2] / "datasets"


def read_toml(path: Path) -> dict[str, object]:
    """Raises UsageError where the file is not there or not TOML."""
    try:
        return tomllib.loads(files.read_text(path))
    except UnreadableFile as error:
        raise UsageError(str(error)) from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:  # ValueError: wrong TOML, bytes that are no text, a number too long
        raise UsageError(f"{path} is not TOML: {error}.") from error


@cache
def protocols() -> Mapping[str, Protocol]:
    path = folder() / "protocols.toml"
    cards = read_toml(path)
    return {
        name: parse(Protocol, {**_table(card), "name": name}, f"{path.name} [{name}]") for name, card in cards.items()
    }


def protocol(name: str) -> Protocol:
    if name not in protocols():
        raise unknown("protocol", name, protocols())
    return protocols()[name]


@dataclass(frozen=True)
class _Rates:
    rates: Mapping[str, Mapping[str, Mapping[str, float]]]


def rates() -> Mapping[str, Mapping[str, Mapping[str, float]]]:
    """datasets/rates.toml: learning rates by the name in a protocol's `rates`, by backbone, by method."""
    path = folder() / "rates.toml"
    return parse(_Rates, {"rates": read_toml(path)}, path.name).rates if path.is_file() else {}


def rate(name: str, backbone: str, method: str) -> float:
    """The learning rate that was chosen for a method on a backbone, of datasets/rates.toml. Raises UsageError where
    none was chosen."""
    chosen = rates().get(name, {}).get(backbone, {})
    if method not in chosen:
        raise UsageError(
            f"No learning rate was chosen for {method} on {backbone} by {name}: datasets/rates.toml has none. Choose "
            f"one with 'python benchmarks/pocket.py tune --method {method}', or use a protocol of one rate for all."
        )
    return chosen[method]


def suite_names() -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in folder().glob("*.toml") if path.stem not in NO_SUITES))


@cache
def suite(name: str) -> Suite:
    if name not in suite_names():
        raise unknown("suite", name, suite_names())
    return read_suite(folder() / f"{name}.toml")


def read_suite(path: Path) -> Suite:
    file = parse(_File, read_toml(path), path.name)
    named = {
        key: parse(Dataset, {**_table(card), "name": f"{file.suite.name}/{key}"}, path.name)
        for key, card in _table(read_toml(path)["datasets"]).items()
    }
    order = [key for keys in file.suite.groups.values() for key in keys]
    return Suite(file.suite, tuple(named[key] for key in order))


def dataset(name: str) -> Dataset:
    """The card of `suite/key`."""
    known = {card.name: card for other in suite_names() for card in suite(other).datasets}
    if name not in known:
        raise unknown("dataset", name, known)
    return known[name]


def _table(value: object) -> dict[str, object]:
    return dict(value) if isinstance(value, Mapping) else {}
