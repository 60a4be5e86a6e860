"""Where the data of a card is, which reader understands it, and its splits, prepared.

A card's `source` is "kind:key". "pocket" and "folder" need nothing more. Every other kind has layouts, and its data
lies below a folder that `bench data add SUITE PATH` has named, or below <root>/raw/<suite>.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.core.configs import Dataset, Sizes
from bench.core.errors import UsageError
from bench.core.store import write_atomically
from bench.data import prepare
from bench.data.items import ImageList, Layout
from bench.data.prepare import Transform, Watch
from bench.data.readers import folder, listing, pocket
from bench.data.splits import Splits

KINDS = {  # kind -> modules that have LAYOUTS, the best source first
    "vtab": ("bench.data.readers.vtab", "bench.data.readers.vtab1k"),
    "domainnet": ("bench.data.readers.domainnet",),
    "torchvision": ("bench.data.readers.torchvision_sets",),
    "elevater": ("bench.data.readers.elevater",),
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
        return self.layout.open(self.path, self.key)


@dataclass(frozen=True)
class Place:
    """A folder in which the data of a suite is looked for."""

    path: Path
    sample: bool = False


def layouts(kind: str) -> tuple[Layout, ...]:
    return tuple(layout for name in KINDS.get(kind, ()) for layout in importlib.import_module(name).LAYOUTS)


def places(suite: str) -> list[Place]:
    """Where the data of a suite is looked for: the folders that were named, the last one first, then <root>/raw."""
    named = [Place(Path(entry["path"]), entry["sample"]) for entry in _registered().get(suite, [])]
    raw = prepare.data_root() / "raw"
    return [*named, Place(raw / suite), Place(raw)]


def add(suite: str, path: Path, *, sample: bool = False) -> None:
    """Names a folder for the data of a suite."""
    register = _registered()
    named = str(path.resolve())
    others = [entry for entry in register.get(suite, []) if entry["path"] != named]
    register[suite] = [{"path": named, "sample": sample}, *others]
    file = _register()
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, lambda aside: aside.write_text(json.dumps(register, indent=1) + "\n"))


def _register() -> Path:
    return prepare.data_root() / "sources.json"


def _registered() -> dict[str, list[dict[str, Any]]]:
    file = _register()
    try:
        register: dict[str, list[dict[str, Any]]] = json.loads(file.read_text()) if file.is_file() else {}
    except ValueError as error:
        raise UsageError(f"{file} is not JSON ({error}). Remove it, and name your folders again.") from error
    return register


def find(card: Dataset) -> DatasetLocation | None:
    """Where the card's data is; None where it is not here. The first place wins, and there the best layout."""
    kind, _, key = card.source.partition(":")
    for place in places(card.name.partition("/")[0]):
        for layout in layouts(kind):
            if place.path.is_dir() and layout.find(place.path, key):
                return DatasetLocation(place.path, layout, key, place.sample)
    return None


def is_local(card: Dataset) -> bool:
    """Whether the card's data has to be somewhere on this machine; the pocket suite is drawn, a folder is named."""
    return card.source.partition(":")[0] in KINDS


def card_of(card: Dataset, found: DatasetLocation, transform: Transform, watch: Watch | None = None) -> Dataset:
    """The card with the fingerprint of the data that was found; of a sample, with a name and sizes of its own."""
    splits = found.open()
    if found.sample:
        sizes = Sizes(**{part: len(splits.get(part, ())) for part in prepare.PARTS})
        card = dataclasses.replace(card, name=name_of(card, found), sizes=sizes, fingerprint="")
    place = _built(card, found, splits, transform, watch)
    return dataclasses.replace(card, fingerprint=fingerprint_of(place))


def name_of(card: Dataset, found: DatasetLocation) -> str:
    """The card's name; that of a sample differs, so that it never stands in the column of the whole."""
    return card.name.replace("/", "-sample/", 1) if found.sample else card.name


def whole_name(name: str) -> str:
    """The name of the card whose data a sample is a part of."""
    return name.replace("-sample/", "/", 1)


def _built(
    card: Dataset, found: DatasetLocation, splits: Mapping[str, ImageList], transform: Transform, watch: Watch | None
) -> Path:
    """Where the arrays of what was found lie, built if need be. What is not as the card says is refused; its sizes
    before anything is decoded."""
    _check_sizes(card, {part: len(items) for part, items in splits.items()})
    _check_labels(card, splits)
    place = prepare.home(card.source.replace(":", "/"), key_of(found, splits), transform)
    fingerprint = prepare.build(place, lambda: splits, transform, watch)["fingerprint"]
    if card.fingerprint and fingerprint != card.fingerprint:
        raise UsageError(
            f"{card.name}: the images in {found.path} have the fingerprint {fingerprint[:16]}, not "
            f"{card.fingerprint[:16]}: another version of the data. Get the one that is asked for."
        )
    return place


def key_of(found: DatasetLocation, splits: Mapping[str, ImageList]) -> str:
    """Names the arrays of what was found. Versions of a data set may have the same lists, as those have that were
    compressed differently: so the folder counts too, and, where one is put in place of another, the first images."""
    digest = hashlib.sha256(f"{prepare.key_of(found.layout.name, splits)} {found.path.resolve()}".encode())
    for items in splits.values():
        if len(items):
            with contextlib.suppress(UsageError):  # an image that cannot be read is told later, with all others
                digest.update(Transform(1)(items.read(0))[1])
    return digest.hexdigest()


def prepared(card: Dataset, key: str = "*", transform: Transform | None = None) -> list[Path]:
    """The folders of a card's prepared arrays, of every source and size unless one is named."""
    pattern = f"{card.source.replace(':', '-')}-{key[:16]}-{transform or '*'}/meta.json"
    return sorted(path.parent for path in (prepare.data_root() / "prepared").glob(pattern))


def fingerprint_of(place: Path) -> str:
    """Of the images from which the arrays in a folder were prepared."""
    fingerprint: str = json.loads((place / "meta.json").read_text())["fingerprint"]
    return fingerprint


def _ready(card: Dataset, transform: Transform) -> Path | None:
    """The arrays with the very images of the card's fingerprint. To list the images again, only to find the same
    arrays, would take some data sets longer than a short run."""
    if not card.fingerprint:
        return None
    places = prepared(card, transform=transform)
    return next((place for place in places if fingerprint_of(place) == card.fingerprint), None)


def load(
    card: Dataset,
    transform: Transform,
    source: folder.ImageFolder | DatasetLocation | None = None,
    watch: Watch | None = None,
) -> Splits:
    """The splits of a card, decoded on the first call, read from disk on every other.

    `source` lists the images of an image folder, or says where the card's data was found. Raises Missing where the data
    is not here, UsageError where it is not what the card says.
    """
    if is_local(card):
        place = _ready(card, transform)
        if place is None:
            found = source if isinstance(source, DatasetLocation) else find(card)
            if found is None:
                suite = card.name.partition("/")[0]
                raise Missing(f"The data of {card.name} is not here: 'bench data status {suite}'.")
            place = _built(card, found, found.open(), transform, watch)
        return prepare.read(place, card.classes)
    listed = source if isinstance(source, folder.ImageFolder) else None
    place = prepare.home(card.name, card.fingerprint, transform)
    read = partial(_folder, listed) if listed else partial(_pocket, card)
    _check_sizes(card, prepare.build(place, read, transform, watch)["images"])
    return dataclasses.replace(prepare.read(place, card.classes), fingerprint=card.fingerprint)


def _check_sizes(card: Dataset, images: Mapping[str, int]) -> None:
    for part in prepare.PARTS:
        expected, found = getattr(card.sizes, part), images.get(part, 0)
        if expected != found:
            raise UsageError(
                f"{card.name}: {found} {part} images were found, the card says {expected}. Get the whole data set; a "
                f"part of it can be named as such: 'bench data add {card.name.partition('/')[0]} PATH --sample'."
            )


def _check_labels(card: Dataset, splits: Mapping[str, ImageList]) -> None:
    """Every label is a class, or has a place for every class."""
    faults: list[str] = []
    for part, items in splits.items():
        if items.labels.ndim == 1:
            listing.out_of_range(part, items.names, items.labels, card.classes, faults)
        elif items.labels.shape[1] != card.classes:
            faults.append(f"{part}: {items.labels.shape[1]} classes are marked, the card has {card.classes}.")
    if faults:
        raise UsageError("\n".join(f"{card.name}: {fault}" for fault in faults))


def _pocket(card: Dataset) -> dict[str, ImageList]:
    splits = pocket.make(card.source.partition(":")[2])
    found = pocket.fingerprint(splits)
    if found != card.fingerprint:
        raise UsageError(
            f"{card.name}: generated with fingerprint {found}, the card says {card.fingerprint}. See docs/data.md."
        )
    return {part: _arrays(part, images, labels) for part, (images, labels) in splits.items()}


def _arrays(part: str, images: np.ndarray, labels: np.ndarray) -> ImageList:
    return ImageList(labels.astype(np.int64), tuple(f"{part}[{i}]" for i in range(len(labels))), lambda i: images[i])


def _folder(source: folder.ImageFolder) -> dict[str, ImageList]:
    def items(listed: tuple[tuple[str, int], ...]) -> ImageList:
        return ImageList(
            np.array([label for _, label in listed], dtype=np.int64),
            tuple(name for name, _ in listed),
            lambda i: source.open(listed[i][0]),
        )

    return {part: items(listed) for part, listed in source.parts.items()}
