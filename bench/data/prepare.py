"""Decode once: every split becomes one uint8 array on disk, memory-mapped by all methods, seeds and runs after that.

    <cache>/<dataset>-<fingerprint>-<size>/{train,val,test}.{images,labels}.npy

The cache is BENCH_DATA, or petbench in the user's cache folder. A folder there is complete: built aside, then renamed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from bench.cards import Dataset
from bench.data import folder, pocket
from bench.data.splits import Arrays, Sealed, Splits
from bench.errors import UsageError

PARTS = ("train", "val", "test")


def cache_folder() -> Path:
    if "BENCH_DATA" in os.environ:
        return Path(os.environ["BENCH_DATA"])
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "petbench"


def load(card: Dataset, size: int, source: folder.ImageFolder | None = None) -> Splits:
    """The splits of a dataset at `size` pixels, decoded on the first call, read from the cache on every other.

    `source` lists the images of a card whose source is a folder.
    """
    home = cache_folder() / f"{card.name.replace('/', '-')}-{card.fingerprint[:16]}-{size}"
    if not home.is_dir():
        _build(home, card, size, source)

    def read(part: str) -> Arrays:
        arrays = Arrays(*(np.load(home / f"{part}.{kind}.npy", mmap_mode="r") for kind in ("images", "labels")))
        if len(arrays) != getattr(card.sizes, part):
            raise UsageError(
                f"{home} holds {len(arrays)} {part} images, the card says {getattr(card.sizes, part)}. Remove it."
            )
        return arrays

    return Splits(read("train"), read("val"), Sealed(lambda: read("test")), card.classes, card.fingerprint)


def _build(home: Path, card: Dataset, size: int, source: folder.ImageFolder | None) -> None:
    home.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=home.parent, prefix=".building-"))
    try:
        for part, (images, labels) in _read(card, size, source).items():
            np.save(aside / f"{part}.images.npy", images)
            np.save(aside / f"{part}.labels.npy", labels.astype(np.int64))
        aside.chmod(0o755)
        try:
            aside.rename(home)
        except OSError:
            if not home.is_dir():  # otherwise another process has built the same folder meanwhile
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _read(card: Dataset, size: int, source: folder.ImageFolder | None) -> Mapping[str, tuple[np.ndarray, np.ndarray]]:
    reader, _, argument = card.source.partition(":")
    if reader == "pocket":
        splits = pocket.make(argument)
        found = pocket.fingerprint(splits)
        if found != card.fingerprint:
            raise UsageError(
                f"{card.name}: generated with fingerprint {found}, the card says {card.fingerprint}. See docs/data.md."
            )
        return {part: (_resize(images, size), labels) for part, (images, labels) in splits.items()}
    if source is None:
        raise UsageError(f"{card.name}: source {card.source!r} cannot be read.")
    return {
        part: (
            folder.decode_all([source.root / path for path, _ in items], size),
            np.array([label for _, label in items]),
        )
        for part, items in source.parts.items()
    }


def _resize(images: np.ndarray, size: int) -> np.ndarray:
    if images.shape[1] == size:
        return images
    resized = (Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC) for image in images)
    return np.stack([np.asarray(image) for image in resized])
