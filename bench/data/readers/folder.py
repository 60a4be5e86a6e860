"""Image folders: FOLDER/<class>/*.jpg, or FOLDER/{train,val,test}/<class>/*, or a saved dataset of Hugging Face."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from bench.core.configs import Dataset, Sizes
from bench.core.errors import UsageError
from bench.core.store import write_atomically
from bench.data.items import open_image
from bench.data.readers import hub

Item = tuple[Path, int]  # an image and the index of its class

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}


def classes_of(folder: Path) -> tuple[str, ...]:
    """Names of the sub-folders, sorted: the classes of an image folder."""
    return tuple(sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")))


def list_images(folder: Path, classes: tuple[str, ...]) -> list[Item]:
    """Every image below FOLDER/<class>, in sorted order, with the index of its class."""
    return [
        (path, label)
        for label, name in enumerate(classes)
        for path in sorted((folder / name).rglob("*"))
        if path.suffix.lower() in SUFFIXES and path.is_file()
    ]


def decode(path: Path, size: int) -> np.ndarray:
    """One image as uint8 (size, size, 3): RGB, resized to a square by bicubic interpolation where it is not one yet."""
    rgb = open_image(path)
    return np.asarray(rgb if rgb.size == (size, size) else rgb.resize((size, size), Image.Resampling.BICUBIC))


def decode_all(paths: list[Path], size: int, workers: int = 4) -> np.ndarray:
    """Images as one uint8 array (N, size, size, 3), in the order of `paths`."""
    images = np.empty((len(paths), size, size, 3), dtype=np.uint8)
    with ThreadPoolExecutor(workers) as pool:
        for index, image in enumerate(pool.map(lambda path: decode(path, size), paths)):
            images[index] = image
    return images


@dataclass(frozen=True)
class ImageFolder:
    """The images of a folder, divided; the division is seeded, stratified by class, and part of the fingerprint."""

    root: Path
    classes: tuple[str, ...]
    parts: Mapping[str, tuple[tuple[str, int], ...]]  # "train", "val", "test" -> path below root, class index
    fingerprint: str
    seed: int
    saved: bool = False  # a dataset of Hugging Face, whose images are "train[17]"

    def open(self, name: str) -> Image.Image:
        """One of its images as RGB. Raises UsageError where it cannot be decoded."""
        image: Image.Image = hub.image(self.root, name) if self.saved else open_image(self.root / name)
        return image


def divide(root: Path, *, seed: int = 0, limit: int | None = None) -> ImageFolder:
    """Reads the layout of FOLDER and divides what is not divided yet: a fifth for test, a fifth of the rest for val.

    `limit` bounds train and val together, as evenly over classes as they allow.
    """
    if not root.is_dir():
        raise UsageError(
            f"{root} is not a folder. --data takes FOLDER/<class>/*.jpg or FOLDER/{{train,val,test}}/<class>/*."
        )
    saved = hub.is_saved(root)
    classes, parts = hub.listed(root) if saved else _listed(root)
    if len(classes) < 2:
        raise UsageError(f"{root} holds {len(classes)} class folders; at least two are needed: FOLDER/<class>/*.jpg.")
    rng = np.random.default_rng(seed)
    if "test" not in parts:
        parts["train"], parts["test"] = _cut(parts["train"], 0.2, rng)
    if "val" not in parts:
        parts["train"], parts["val"] = _cut(parts["train"], 0.2, rng)
    total = len(parts["train"]) + len(parts["val"])
    if limit is not None and limit < total:
        if limit < 2 * len(classes):
            raise UsageError(
                f"--limit {limit} is too small for {len(classes)} classes; at least {2 * len(classes)} images."
            )
        keep = len(parts["val"]) * limit // total
        parts["val"] = _first(parts["val"], keep, rng)
        parts["train"] = _first(parts["train"], limit - keep, rng)
    for part, items in parts.items():
        empty = set(range(len(classes))) - {label for _, label in items}
        if empty and part != "val":
            names = ", ".join(classes[label] for label in sorted(empty)[:5])
            raise UsageError(
                f"{root}: no readable image for class {names} in {part}. Every class needs at least three images."
            )
    named = {
        p: tuple((path.relative_to(root).as_posix(), label) for path, label in parts[p])
        for p in ("train", "val", "test")
    }
    return ImageFolder(root, classes, named, _fingerprint(root, classes, named, saved), seed, saved)


def _listed(root: Path) -> tuple[tuple[str, ...], dict[str, list[Item]]]:
    """The classes of a folder and its images, in the splits that it has: "train" alone where there are none."""
    present = [part for part in ("train", "val", "test") if (root / part).is_dir()]
    if not present:
        return classes_of(root), {"train": list_images(root, classes_of(root))}
    if "train" not in present:
        raise UsageError(f"{root} has {present[0]}/ but no train/. Add train/<class>/*.")
    if "test" not in present:
        raise UsageError(
            f"{root} has train/ but no test/. Add test/<class>/*, or put the classes straight into {root}."
        )
    classes = classes_of(root / "train")
    for part in present:
        extra = set(classes_of(root / part)) ^ set(classes)
        if extra:
            raise UsageError(
                f"{root / part}: classes {', '.join(sorted(extra)[:5])} are not in both train/ and {part}/."
            )
    return classes, {part: list_images(root / part, classes) for part in present}


def _by_class(items: list[Item], rng: np.random.Generator) -> list[list[Item]]:
    """The images of each class, shuffled."""
    groups: dict[int, list[Item]] = {}
    for item in items:
        groups.setdefault(item[1], []).append(item)
    return [[group[i] for i in rng.permutation(len(group))] for _, group in sorted(groups.items())]


def _cut(items: list[Item], share: float, rng: np.random.Generator) -> tuple[list[Item], list[Item]]:
    """Cuts off the rounded-up `share` of every class; what is left and what was cut, each in sorted order."""
    rest, cut = [], []
    for group in _by_class(items, rng):
        count = math.ceil(len(group) * share)
        cut += group[:count]
        rest += group[count:]
    return sorted(rest), sorted(cut)


def _first(items: list[Item], count: int, rng: np.random.Generator) -> list[Item]:
    """`count` images, one from each class in turn."""
    turns = itertools.zip_longest(*_by_class(items, rng))
    return sorted([item for turn in turns for item in turn if item is not None][:count])


def _fingerprint(
    root: Path, classes: tuple[str, ...], parts: Mapping[str, tuple[tuple[str, int], ...]], saved: bool
) -> str:
    """sha256 over class names and, split by split, every label, path and file content."""
    digest = hashlib.sha256("\n".join(classes).encode())
    rows = hub.contents(root) if saved else ""  # all images of a saved dataset are in the same few files
    for part, items in parts.items():
        for path, label in items:
            content = rows or hashlib.sha256((root / path).read_bytes()).hexdigest()
            digest.update(f"{part} {label} {path} {content}\n".encode())
    return digest.hexdigest()


def card(source: ImageFolder, limit: int | None = None) -> Dataset:
    """The card of an image folder: "folder/<name>", with "@<limit>" where training images were limited."""
    sizes = Sizes(**{part: len(items) for part, items in source.parts.items()})
    name = source.root.resolve().name + (f"@{limit}" if limit is not None else "")
    return Dataset(
        title=f"images of {source.root.resolve().name}",
        classes=len(source.classes),
        metric="top1",
        source="folder:",
        sizes=sizes,
        fingerprint=source.fingerprint,
        license="unknown",
        citation="",
        name=f"folder/{name}",
    )


def write_lists(source: ImageFolder, path: Path) -> None:
    """Puts down which image is in which split."""
    lists = {part: [name for name, _ in items] for part, items in source.parts.items()}
    data = {"fingerprint": source.fingerprint, "seed": source.seed, "classes": source.classes, **lists}
    write_atomically(path, lambda file: file.write_text(json.dumps(data, indent=0) + "\n"))
