"""Where the data of a card is, and which reader understands it.

A card's `source` is "kind:key". "pocket" and "photos" are generated. Every other kind of a suite's card has layouts,
and its data lies below a folder that `bench data add SUITE PATH` has named, or below <root>/raw/<suite>.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.core.configs import Dataset
from bench.core.errors import UsageError
from bench.core.store import write_atomically
from bench.data.items import ImageList, Layout
from bench.data.readers.folder import ImageFolder

KINDS = {  # kind -> modules that have LAYOUTS, the best source first
    "vtab": ("bench.data.readers.vtab", "bench.data.readers.vtab1k"),
    "domainnet": ("bench.data.readers.domainnet",),
    "torchvision": ("bench.data.readers.torchvision_sets",),
    "elevater": ("bench.data.readers.elevater", "bench.data.readers.elevater_originals"),
    "hub": ("bench.data.readers.hub",),
}


class Missing(UsageError):
    """The data of a card is not here."""


@dataclass(frozen=True)
class DatasetLocation:
    """Where a card's data is, and how it lies there."""

    path: Path
    layout: Layout
    key: str
    sample: bool = False  # a part of the data set, named as such: never compared with the whole

    def open(self) -> Mapping[str, ImageList]:
        read = self.layout.open_sample if self.sample and self.layout.open_sample else self.layout.open
        return read(self.path, self.key)

    def class_names(self) -> tuple[str, ...] | None:
        """In the order of the labels; () where the files only number them, None where the layout does not tell.

        Raises UsageError where the file that has them cannot be read.
        """
        return self.layout.class_names(self.path, self.key) if self.layout.class_names else None


Source = ImageFolder | DatasetLocation | None
"""Where the images of a card are; None where they are generated."""


@dataclass(frozen=True)
class SearchPath:
    """A folder in which the data of a suite is looked for."""

    path: Path
    sample: bool = False


def layouts(kind: str) -> tuple[Layout, ...]:
    return tuple(layout for name in KINDS.get(kind, ()) for layout in importlib.import_module(name).LAYOUTS)


def search_paths(suite: str, root: Path) -> list[SearchPath]:
    """Where the data of a suite is looked for: the folders that were named, the last one first, then <root>/raw."""
    named = [SearchPath(Path(entry["path"]), entry["sample"]) for entry in _registered(root).get(suite, [])]
    raw = root / "raw"
    return [*named, SearchPath(raw / suite), SearchPath(raw)]


def add(suite: str, path: Path, root: Path, *, sample: bool = False) -> None:
    """Names a folder for the data of a suite."""
    register = _registered(root)
    named = str(path.resolve())
    others = [entry for entry in register.get(suite, []) if entry["path"] != named]
    register[suite] = [{"path": named, "sample": sample}, *others]
    text = json.dumps(register, indent=1) + "\n"
    root.mkdir(parents=True, exist_ok=True)
    write_atomically(_register(root), lambda aside: aside.write_text(text, encoding="utf-8"))


def find(card: Dataset, root: Path) -> DatasetLocation | None:
    """Where the card's data is; None where it is not here, or is generated. The first path wins, and there the best
    layout."""
    kind, _, key = card.source.partition(":")
    if not is_local(card):
        return None
    for place in search_paths(card.name.partition("/")[0], root):
        for layout in layouts(kind):
            if place.path.is_dir() and layout.find(place.path, key):
                return DatasetLocation(place.path, layout, key, place.sample)
    return None


def is_local(card: Dataset) -> bool:
    """Whether the card's data has to be somewhere on this machine; the pocket suites are made, a folder is named."""
    return card.source.partition(":")[0] in KINDS


def name_of(card: Dataset, found: DatasetLocation) -> str:
    """The card's name; that of a sample differs, so that it never stands in the column of the whole."""
    return card.name.replace("/", "-sample/", 1) if found.sample else card.name


def whole_name(name: str) -> str:
    """The name of the card whose data a sample is a part of."""
    return name.replace("-sample/", "/", 1)


def _register(root: Path) -> Path:
    return root / "sources.json"


def _registered(root: Path) -> dict[str, list[dict[str, Any]]]:
    file = _register(root)
    try:
        register: Any = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{file} is not JSON ({error}). Remove it, and name your folders again.") from error
    if not _is_register(register):
        raise UsageError(f"{file} does not list folders by suite. Remove it, and name your folders again.")
    return dict(register)


def _is_register(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(entries, list)
        and all(
            isinstance(entry, dict) and isinstance(entry.get("path"), str) and isinstance(entry.get("sample"), bool)
            for entry in entries
        )
        for entries in value.values()
    )
