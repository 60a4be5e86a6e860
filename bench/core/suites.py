"""Suites of somebody's own: a TOML file of image folders and datasets of the Hub, and the boards that records stand on.

FILE.toml             [suite] as the shipped cards have it, [datasets.KEY] with a source each, and perhaps [protocol]
DIR/suites/*.json     of a results folder: the suite cards of such files, and of folders that were asked for together

A card in a results folder says which of its datasets stand in one leaderboard, in which groups. The suite of image
folders is called `folder`; its keys hold the digest of their contents.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from bench.core import configs, files, schema
from bench.core.configs import OWN, Sizes, SuiteCard
from bench.core.errors import BenchError, UsageError, unknown
from bench.core.schema import Pattern, Range, parse
from bench.core.spec import NAME, Protocol
from bench.core.text import file_name

SUITE = r"[a-z][a-z0-9_]{0,39}"
KEY = r"[^\W_][\w.-]{0,59}"
Warn = Callable[[str], object]


@dataclass(frozen=True)
class OwnDataset:
    """One dataset of a suite file. What is not given is found in its images; what is given has to agree with them."""

    source: str  # "folder:PATH", relative to the file, or "hub:OWNER/NAME"
    title: str = ""
    metric: Literal["top1", "mean_per_class"] = "top1"
    classes: Annotated[int, Range(2)] | None = None
    sizes: Sizes | None = None
    fingerprint: Annotated[str, Pattern("([0-9a-f]{64})?", "a sha256 in hexadecimal digits")] = ""
    license: str = "unknown"
    citation: str = ""

    def __post_init__(self) -> None:
        configs.check_source(self.source, ("folder", "hub"))


@dataclass(frozen=True)
class _Suite:
    name: Annotated[str, Pattern(SUITE, "a name of small letters, digits and _ that begins with a letter")]
    title: str = ""
    protocol: str = OWN.protocol  # a shipped one, that of [protocol], or the path of a file with such a table
    backbone: str = OWN.backbone
    headline: Literal["mean_datasets", "mean_groups"] = "mean_datasets"
    groups: Mapping[str, tuple[str, ...]] | None = None  # None: all datasets in one
    citation: str = ""


@dataclass(frozen=True)
class _File:
    suite: _Suite
    datasets: Mapping[str, OwnDataset]
    protocol: Mapping[str, object] | None = None

    def __post_init__(self) -> None:
        if not self.datasets:
            raise ValueError("datasets: there is none; [datasets.NAME] with source = 'folder:PATH' is one")
        check_keys(tuple(self.datasets))
        names = list(self.datasets) if self.suite.groups is None else [k for g in self.suite.groups.values() for k in g]
        if sorted(names) != sorted(self.datasets):
            raise ValueError(f"suite.groups name {sorted(names)}, the tables are {sorted(self.datasets)}")
        if self.suite.name in (*configs.suite_names(), OWN.name):
            raise ValueError(f"suite.name = {self.suite.name!r} is the name of a suite that bench has: take another")


@dataclass(frozen=True)
class OwnSuite:
    path: Path
    card: SuiteCard
    protocol: Protocol
    datasets: Mapping[str, OwnDataset]  # by key, in the order of the groups


def is_file(name: str) -> bool:
    """Whether the name of a suite or protocol is the path of a file."""
    return name.endswith(".toml")


def read_suite(path: Path) -> OwnSuite:
    """Raises UsageError that lists every fault of the file."""
    data = configs.read_toml(path)
    file = parse(_File, data, path.name)
    keys = tuple(file.datasets)
    groups = {"all": keys} if file.suite.groups is None else file.suite.groups
    if file.protocol is None:
        try:
            found = protocol(file.suite.protocol, path.parent)
        except UsageError as error:
            raise UsageError(f"{path.name}: suite.protocol: {error}") from error
    else:
        found = _own_protocol(file.protocol, path)
        if "protocol" in dict(_table(data["suite"])) and file.suite.protocol != found.name:
            raise UsageError(
                f"{path.name}: suite.protocol = {file.suite.protocol!r}, and its [protocol] is called {found.name!r}: "
                "one of them."
            )
    card = SuiteCard(
        name=file.suite.name,
        title=file.suite.title or file.suite.name,
        protocol=found.name,
        backbone=file.suite.backbone,
        headline=file.suite.headline,
        groups=groups,
        citation=file.suite.citation,
    )
    order = [key for names in groups.values() for key in names]
    return OwnSuite(path, card, found, {key: file.datasets[key] for key in order})


def protocol(name: str, beside: Path = Path()) -> Protocol:
    """A shipped protocol by its name, or the one of a file, whose path may be relative to `beside`."""
    if not is_file(name):
        return configs.protocol(name)
    path = beside / Path(name).expanduser()
    table = configs.read_toml(path).get("protocol")
    if not isinstance(table, Mapping):
        raise UsageError(f"{path.name}: there is no table [protocol].")
    return _own_protocol(table, path)


def _own_protocol(table: Mapping[str, object], path: Path) -> Protocol:
    """A protocol of its own name; what it does not say it takes from the protocol that `base` names."""
    where = f"{path.name} [protocol]"
    given = {key: value for key, value in table.items() if key != "base"}
    if "base" in table:
        if table["base"] not in configs.protocols():
            raise UsageError(f"{where}: base: {unknown('protocol', str(table['base']), configs.protocols())}")
        given = {**schema.plain(configs.protocol(str(table["base"]))), "name": None, **given}
    if not isinstance(given.get("name"), str):
        raise UsageError(f"{where}: missing key 'name': its runs stand apart from those of every other protocol.")
    made = parse(Protocol, given, where)
    if made.name in configs.protocols():
        raise UsageError(f"{where}: {made.name!r} is a protocol that bench has, which never changes: rename it.")
    if not re.fullmatch(NAME, made.name) or "+" in made.name or len(made.name) > 60:
        raise UsageError(f"{where}: name = {made.name[:60]!r} is no name of up to 60 characters without slash and +.")
    return made


def check_keys(keys: Sequence[str]) -> None:
    """Raises ValueError where a key of a dataset is no plain name, or two share a file where case does not count."""
    for key in keys:
        if not re.fullmatch(KEY, key):
            raise ValueError(f"datasets.{key}: a name has up to 60 letters, digits, _, - and dots, no mark first")
    lower = [key.casefold() for key in keys]
    if twice := next((key for key, name in zip(keys, lower, strict=True) if lower.count(name) > 1), None):
        raise ValueError(f"datasets.{twice}: another name differs from it by nothing but small and capital letters")


# in a results folder --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Kept:
    suite: SuiteCard

    def __post_init__(self) -> None:
        card, keys = self.suite, [key for names in self.suite.groups.values() for key in names]
        if card.name != OWN.name and (not re.fullmatch(SUITE, card.name) or card.name in configs.suite_names()):
            raise ValueError(f"suite.name = {card.name[:60]!r} is no name of a suite of one's own")
        if not keys or len(set(keys)) < len(keys) or not all(re.fullmatch(NAME, key) for key in keys):
            raise ValueError("suite.groups do not name datasets, each once")


def together(names: Sequence[str]) -> SuiteCard:
    """The card of image folders that stand in one leaderboard, by the names of their datasets."""
    keys = tuple(name.partition("/")[2] for name in names)
    titles = ", ".join(key.rpartition("-")[0] or key for key in keys)
    return dataclasses.replace(OWN, title=f"{OWN.title}: {titles}", groups={"all": keys})


def keep(root: Path, card: SuiteCard, warn: Warn) -> None:
    """Puts a card down in a results folder, in place of an earlier one of the suite."""
    path = _place(root, card)
    if path.is_file():
        found = schema.read_json(path, _Kept)
        if found == _Kept(card):
            return
        if isinstance(found, _Kept) and _rules(found.suite) != _rules(card):
            warn(f"{root} had other datasets or groups of the suite {card.name!r}; leaderboards follow the new.")
    files.write_json(path, schema.plain(_Kept(card)))


def kept(root: Path, warn: Warn | None = None) -> tuple[SuiteCard, ...]:
    """The cards of a results folder by their files' names. A file that is none is named to `warn` and left out."""
    found = []
    for name, _ in files.walk(root / "suites", ".json", warn or (lambda _: None), follow_symlinks=False):
        card = schema.read_json(root / "suites" / name, _Kept)
        if isinstance(card, _Kept):
            found.append(card.suite)
        elif warn is not None:
            warn(f"left out: {card}")
    return tuple(found)


def join(source: Path, out: Path, leave: Warn) -> None:
    """Takes over the cards of suites that `out` does not have; of those that differ, the one that is here stays."""
    for name, _ in files.walk(source / "suites", ".json", leave, follow_symlinks=False):
        path = source / "suites" / name
        try:
            text = files.read_text(path, follow_symlinks=False)
            theirs = schema.read_value(_Kept, schema.loads(text), str(path))
        except (BenchError, OSError, ValueError) as error:
            leave(str(error))
            continue
        here = _place(out, theirs.suite)
        if not here.is_file():
            files.write_json(here, schema.plain(theirs))
        elif schema.read_json(here, _Kept) != theirs:
            leave(f"{path}: {here} says otherwise what the suite {theirs.suite.name!r} is, and stays.")


def _place(root: Path, card: SuiteCard) -> Path:
    keys = [key for names in card.groups.values() for key in names] if card.name == OWN.name else []
    return root / "suites" / f"{file_name(card.name, *keys)}.json"


def _rules(card: SuiteCard) -> tuple[object, ...]:
    return card.groups, card.headline


def _table(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}
