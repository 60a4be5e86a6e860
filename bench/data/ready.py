"""The prepared arrays of a card: which are on this machine, whether they are what it says, and making them."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from bench.core.configs import Dataset, Sizes
from bench.core.errors import UsageError
from bench.data import prepare
from bench.data.items import ImageList
from bench.data.prepare import Transform
from bench.data.progress import OnProgress, silent
from bench.data.readers import folder, listing, photos, pocket
from bench.data.sources import DatasetLocation, Missing, Source, find, is_local, name_of
from bench.data.splits import Splits


def load(
    card: Dataset, transform: Transform, root: Path, source: Source = None, on_progress: OnProgress = silent
) -> Splits:
    """The splits of a card, decoded on the first call, read from disk on every other.

    `source` lists the images of an image folder, or says where the card's data was found. Raises Missing where the data
    is not here, UsageError where it is not what the card says.
    """
    if is_local(card):
        place = _ready(card, transform, root)
        if place is None:
            found = source if isinstance(source, DatasetLocation) else find(card, root)
            if found is None:
                suite = card.name.partition("/")[0]
                raise Missing(f"The data of {card.name} is not here: 'bench data status {suite}'.")
            place = _built(card, found, found.open(), transform, root, on_progress)
        return prepare.read(place, card.classes)
    listed = source if isinstance(source, folder.ImageFolder) else None
    place = prepare.home(root, card.name, card.fingerprint, transform)
    read = partial(_folder, listed) if listed else partial(_generated, card)
    _check_sizes(card, prepare.build(place, read, transform, on_progress)["images"])
    return dataclasses.replace(prepare.read(place, card.classes), fingerprint=card.fingerprint)


def prepare_all_sizes(
    card: Dataset, source: Source, transforms: Collection[Transform], root: Path, on_progress: OnProgress = silent
) -> Dataset:
    """Builds the arrays of data that are on this machine, once for every transform; the card with its fingerprint.

    Raises UsageError where an image cannot be read, naming all of them, or where the data are not what the card says.
    """
    if isinstance(source, DatasetLocation):
        cards = [card_of(card, source, transform, root, on_progress) for transform in transforms]
        return cards[0]  # the fingerprint is the same in every size
    if isinstance(source, folder.ImageFolder):
        for transform in transforms:
            load(card, transform, root, source, on_progress)
    return card


def one_colour(card: Dataset, root: Path) -> tuple[int, tuple[str, ...]]:
    """How many images of an image folder's arrays are of one colour, and the names of some: often wrongly saved."""
    for path in sorted((root / "prepared").glob(f"{card.name.replace('/', '-')}-{card.fingerprint[:16]}-*/meta.json")):
        found = json.loads(path.read_text(encoding="utf-8")).get("one_colour", {"images": 0, "examples": []})
        return int(found["images"]), tuple(map(str, found["examples"]))
    return 0, ()


def card_of(
    card: Dataset, found: DatasetLocation, transform: Transform, root: Path, on_progress: OnProgress = silent
) -> Dataset:
    """The card with the fingerprint of the data that was found; of a sample, with a name and sizes of its own."""
    splits = found.open()
    if found.sample:
        sizes = Sizes(**{part: len(splits.get(part, ())) for part in prepare.PARTS})
        card = dataclasses.replace(card, name=name_of(card, found), sizes=sizes, fingerprint="")
    place = _built(card, found, splits, transform, root, on_progress)
    return dataclasses.replace(card, fingerprint=fingerprint_of(place))


def prepared(card: Dataset, root: Path, key: str = "*", transform: Transform | None = None) -> list[Path]:
    """The folders of a card's prepared arrays, of every source and size unless one is named."""
    pattern = f"{card.source.replace(':', '-')}-{key[:16]}-{transform or '*'}/meta.json"
    return sorted(path.parent for path in (root / "prepared").glob(pattern))


def fingerprint_of(place: Path) -> str:
    """Of the images from which the arrays in a folder were prepared."""
    fingerprint: str = json.loads((place / "meta.json").read_text(encoding="utf-8"))["fingerprint"]
    return fingerprint


def key_of(found: DatasetLocation, splits: Mapping[str, ImageList]) -> str:
    """Names the arrays of what was found. Versions of a data set may have the same lists, as those have that were
    compressed differently: so the folder counts too, and, where one is put in place of another, the first images."""
    digest = hashlib.sha256(f"{prepare.key_of(found.layout.name, splits)} {found.path.resolve()}".encode())
    for items in splits.values():
        if len(items):
            with contextlib.suppress(UsageError):  # an image that cannot be read is told later, with all others
                digest.update(Transform(1)(items.read(0))[1])
    return digest.hexdigest()


def _built(
    card: Dataset,
    found: DatasetLocation,
    splits: Mapping[str, ImageList],
    transform: Transform,
    root: Path,
    on_progress: OnProgress,
) -> Path:
    """Where the arrays of what was found lie, built if need be. What is not as the card says is refused; its sizes
    before anything is decoded."""
    _check_sizes(card, {part: len(items) for part, items in splits.items()})
    _check_labels(card, splits)
    place = prepare.home(root, card.source.replace(":", "/"), key_of(found, splits), transform)
    fingerprint = prepare.build(place, lambda: splits, transform, on_progress)["fingerprint"]
    if card.fingerprint and fingerprint != card.fingerprint:
        raise UsageError(
            f"{card.name}: the images in {found.path} have the fingerprint {fingerprint[:16]}, not "
            f"{card.fingerprint[:16]}: another version of the data. Get the one that is asked for."
        )
    return place


def _ready(card: Dataset, transform: Transform, root: Path) -> Path | None:
    """The arrays with the very images of the card's fingerprint. To list the images again, only to find the same
    arrays, would take some data sets longer than a short run."""
    if not card.fingerprint:
        return None
    places = prepared(card, root, transform=transform)
    return next((place for place in places if fingerprint_of(place) == card.fingerprint), None)


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


def _generated(card: Dataset) -> dict[str, ImageList]:
    kind, _, key = card.source.partition(":")
    splits = {"pocket": pocket, "photos": photos}[kind].make(key)
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
