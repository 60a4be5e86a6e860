"""Where the data of a card is, which reader understands it, and its splits, prepared.

A card's `source` is "kind:key". "pocket" and "folder" need nothing more. Every other kind has layouts, and its data
lies below a folder that `bench data add SUITE PATH` has named, or below <root>/raw/<suite>.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.cards import Dataset
from bench.data import folder, pocket, prepare
from bench.data.items import Items, Layout, open_image
from bench.data.prepare import Transform, Watch
from bench.data.splits import Splits
from bench.errors import UsageError
from bench.store import write_atomically

KINDS = {  # kind -> modules that have LAYOUTS, the best source first
    "vtab": ("bench.data.vtab", "bench.data.vtab1k"),
    "domainnet": ("bench.data.domainnet",),
    "torchvision": ("bench.data.torchvision_sets",),
    "elevater": ("bench.data.elevater",),
}


class Missing(UsageError):
    """The data of a card is not here."""


@dataclass(frozen=True)
class Found:
    """Where a card's data is, and how it lies there."""

    path: Path
    layout: Layout
    key: str

    def open(self) -> Mapping[str, Items]:
        return self.layout.open(self.path, self.key)


def layouts(kind: str) -> tuple[Layout, ...]:
    return tuple(layout for name in KINDS.get(kind, ()) for layout in importlib.import_module(name).LAYOUTS)


def folders(suite: str) -> list[Path]:
    """The folders in which the data of a suite is looked for."""
    named = json.loads(_register().read_text()).get(suite, []) if _register().is_file() else []
    return [*map(Path, named), prepare.data_root() / "raw" / suite, prepare.data_root() / "raw"]


def add(suite: str, path: Path) -> None:
    """Names a folder for the data of a suite, before those that were named earlier."""
    register: dict[str, list[str]] = json.loads(_register().read_text()) if _register().is_file() else {}
    named = str(path.resolve())
    register[suite] = [named, *(other for other in register.get(suite, []) if other != named)]
    _register().parent.mkdir(parents=True, exist_ok=True)
    write_atomically(_register(), lambda file: file.write_text(json.dumps(register, indent=1) + "\n"))


def _register() -> Path:
    return prepare.data_root() / "sources.json"


def find(card: Dataset) -> Found | None:
    """Where the card's data is; None where it is not here. The first named folder wins, there the best layout."""
    kind, _, key = card.source.partition(":")
    for path in folders(card.name.partition("/")[0]):
        for layout in layouts(kind):
            if path.is_dir() and layout.find(path, key):
                return Found(path, layout, key)
    return None


def load(
    card: Dataset, transform: Transform, source: folder.ImageFolder | None = None, watch: Watch | None = None
) -> Splits:
    """The splits of a card, decoded on the first call, read from disk on every other.

    `source` lists the images of a card whose source is a folder. Raises Missing where the data is not here, UsageError
    where it is not what the card says.
    """
    kind, _, key = card.source.partition(":")
    read: Callable[[], Mapping[str, Items]]
    if kind == "pocket":
        name, read = card.fingerprint, lambda: _pocket(card, key)
    elif source is not None:
        name, read = card.fingerprint, lambda: _folder(source)
    else:
        found = find(card)
        if found is None:
            raise Missing(f"The data of {card.name} is not here: 'bench data status {card.name.partition('/')[0]}'.")
        splits = found.open()
        name, read = prepare.key_of(found.layout.name, splits), lambda: splits
    place = prepare.home(card.name, name, transform)
    meta = prepare.build(place, read, transform, watch)
    _check_sizes(card, meta["images"])
    prepared = prepare.read(place, card.classes)
    if kind not in KINDS:  # its card knows the fingerprint of the images themselves
        return Splits(prepared.train, prepared.val, prepared.test, prepared.classes, card.fingerprint)
    if card.fingerprint and prepared.fingerprint != card.fingerprint:
        raise UsageError(
            f"{card.name}: the images here have the fingerprint {prepared.fingerprint[:16]}, the card says "
            f"{card.fingerprint[:16]}. This is another version of the data; get the one that the card names."
        )
    return prepared


def _check_sizes(card: Dataset, images: Mapping[str, int]) -> None:
    for part in prepare.PARTS:
        expected, found = getattr(card.sizes, part), images.get(part, 0)
        if expected != found:
            raise UsageError(f"{card.name}: {found} {part} images were found, the card says {expected}.")


def _pocket(card: Dataset, key: str) -> dict[str, Items]:
    splits = pocket.make(key)
    found = pocket.fingerprint(splits)
    if found != card.fingerprint:
        raise UsageError(
            f"{card.name}: generated with fingerprint {found}, the card says {card.fingerprint}. See docs/data.md."
        )
    return {part: _arrays(part, images, labels) for part, (images, labels) in splits.items()}


def _arrays(part: str, images: np.ndarray, labels: np.ndarray) -> Items:
    return Items(labels.astype(np.int64), tuple(f"{part}[{i}]" for i in range(len(labels))), lambda i: images[i])


def _folder(source: folder.ImageFolder) -> dict[str, Items]:
    def items(listed: tuple[tuple[str, int], ...]) -> Items:
        return Items(
            np.array([label for _, label in listed], dtype=np.int64),
            tuple(name for name, _ in listed),
            lambda i: open_image(source.root / listed[i][0]),
        )

    return {part: items(listed) for part, listed in source.parts.items()}
