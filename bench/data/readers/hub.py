"""Datasets of Hugging Face: fetched from the Hub, saved to disk, read from there. Needs `pip install petbench[hub]`.

One column holds images. The labels are the only column of class labels, or else the column "label". The splits are
"train", "validation" or "val", and "test". A card's dataset needs "test"; for `bench run --data FOLDER`, which divides
what is not divided yet, "train" is enough.
"""

from __future__ import annotations

import hashlib
import importlib
import re
import shutil
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from bench.core.errors import UsageError
from bench.core.lease import beside, locked
from bench.data.items import DECODING, ImageList, Layout, Unreadable, to_rgb
from bench.data.readers import listing

PREFIX = "hub:"
SPLITS = {"train": ("train",), "val": ("validation", "valid", "val"), "test": ("test",)}


def here(root: Path, key: str) -> bool:
    return _folder(root, key) is not None


def saved(root: Path, key: str) -> Mapping[str, ImageList]:
    """The splits of root/<key>, or of root itself. Raises UsageError."""
    folder = _folder(root, key)
    if folder is None:
        raise UsageError(f"{key}: {root / key} has no dataset_dict.json. Save the dataset there, with its splits.")
    stored = _load(folder)
    faults: list[str] = []
    splits = {}
    for part, names in SPLITS.items():
        name = next((name for name in names if name in stored), None)
        if name is not None:
            splits[part] = _items(stored[name], name, faults)
        elif part != "val":
            faults.append(f"there is no split {part!r}, only {', '.join(sorted(stored))}. Save the dataset with it.")
    listing.raise_if_any(folder, key, faults)
    return splits


def is_saved(folder: Path) -> bool:
    """Whether a folder is a dataset with its splits that was saved to disk."""
    return (folder / "dataset_dict.json").is_file()


def listed(folder: Path) -> tuple[tuple[str, ...], dict[str, list[tuple[Path, int]]]]:
    """The names of the classes of a saved dataset and, split by split, its images as FOLDER/train[17] with their class.

    Raises UsageError where it has no training split, or several labels an image.
    """
    stored, faults = _load(folder), list[str]()
    parts: dict[str, list[tuple[Path, int]]] = {}
    names: tuple[str, ...] = ()
    for part, spellings in SPLITS.items():
        name = next((name for name in spellings if name in stored), None)
        if name is None:
            continue
        items = _items(stored[name], name, faults)
        if items.labels.ndim > 1:
            faults.append(f"{name} has several labels an image, where one is needed.")
            continue
        parts[part] = [(folder / item, int(label)) for item, label in zip(items.names, items.labels, strict=True)]
        names = names or _class_names(stored[name])
    if "train" not in parts:
        faults.append(f"there is no split 'train', only {', '.join(sorted(stored))}. Save the dataset with it.")
    listing.raise_if_any(folder, "a folder of images", faults)
    classes = max((label for items in parts.values() for _, label in items), default=-1) + 1
    return names or tuple(map(str, range(classes))), parts


def image(folder: Path, item: str) -> Any:
    """The image "train[17]" of a saved dataset. Raises UsageError where it cannot be decoded."""
    name, index = re.fullmatch(r"(.+)\[(\d+)\]", item).groups()  # type: ignore[union-attr]
    return _opened(folder, name).read(int(index))


@cache
def _opened(folder: Path, name: str) -> ImageList:
    return _items(_load(folder)[name], name, [])


def contents(folder: Path) -> str:
    """sha256 over the files that hold the rows of a saved dataset."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.arrow")):
        digest.update(f"{path.relative_to(folder).as_posix()}\n".encode())
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def saved_folder(what: str, home: Path) -> Path:
    """Where `fetch` saves "OWNER/NAME" or "OWNER/NAME:CONFIG"."""
    return home / re.sub(r"[^A-Za-z0-9._-]+", "--", what.strip("./"))


def fetch(what: str, home: Path) -> Path:
    """Downloads "OWNER/NAME", or "OWNER/NAME:CONFIG", and saves it below `home`, unless it is there; its folder.

    Raises UsageError in one line where the Hub does not give it.
    """
    name, _, config = what.partition(":")
    target = saved_folder(what, home)
    if not is_saved(target):
        package = _package(what)
        home.mkdir(parents=True, exist_ok=True)
        aside = beside(target, ".part")
        with locked(target):
            shutil.rmtree(aside, ignore_errors=True)  # of a call that was killed
            try:
                package.load_dataset(name, config or None).save_to_disk(str(aside))
                aside.rename(target)
            except Exception as error:  # of the network, of Arrow, of the disk: of no common kind
                shutil.rmtree(aside, ignore_errors=True)
                told = " ".join(str(error).split())[:300]
                raise UsageError(
                    f"{PREFIX}{what} cannot be fetched ({type(error).__name__}: {told}). Check its name at "
                    "huggingface.co/datasets and the network; one that wants a login: 'hf auth login'."
                ) from error
    return target


def _package(what: object) -> Any:
    try:
        package: Any = importlib.import_module("datasets")
        _ = package.load_from_disk  # a mere folder of that name in the working directory can be imported too
    except (ImportError, AttributeError) as error:
        raise UsageError(f"{what} is a dataset of Hugging Face: pip install datasets.") from error
    return package


def _load(folder: Path) -> Any:
    package = _package(folder)
    try:
        return package.load_from_disk(str(folder))
    except Exception as error:  # Arrow raises its own, of no common kind
        raise UsageError(f"{folder} cannot be loaded ({type(error).__name__}: {error}). Save it again.") from error


def _class_names(split: Any) -> tuple[str, ...]:
    """Of the only column of class labels; () where the labels are mere numbers."""
    marked = [feature for feature in map(_class_label, split.features.values()) if feature is not None]
    return tuple(map(str, marked[0].names)) if len(marked) == 1 else ()


def _folder(root: Path, key: str) -> Path | None:
    folders = (root / key if key else root, root)
    return next(filter(is_saved, folders), None)


def _items(split: Any, name: str, faults: list[str]) -> ImageList:
    kinds = {column: type(feature).__name__ for column, feature in split.features.items()}
    images = [column for column, kind in kinds.items() if kind == "Image"]
    marked = [column for column in kinds if _class_label(split.features[column]) is not None]
    if len(marked) != 1 and "label" in kinds:
        marked = ["label"]
    if len(images) != 1 or len(marked) != 1:
        columns = ", ".join(f"{column} ({kind})" for column, kind in kinds.items())
        faults.append(f"{name} needs one column of images and one of class labels; it has {columns}.")
        return ImageList(np.zeros(0, np.int64), (), lambda i: np.zeros((0, 0), np.uint8))
    image, column = images[0], marked[0]
    feature = _class_label(split.features[column])
    classes = feature.num_classes if feature is not None else None
    found: list[Any] = list(split[column])
    several = any(isinstance(label, Sequence) for label in found)
    flat = np.array([one for label in found for one in label] if several else found, dtype=np.int64)
    if (flat < 0).any():  # how the Hub marks a test split whose labels are kept secret
        faults.append(f"{name} has labels below 0: they are not published. Take a split that has them.")
    labels = _hot(found, classes if classes is not None else int(flat.max(initial=-1)) + 1) if several else flat

    def read(i: int) -> Any:
        try:
            return to_rgb(split[i][image])
        except (*DECODING, AttributeError) as error:
            raise Unreadable(f"{name}[{i}]", f"is not a readable image ({error})", "Save the dataset again") from error

    return ImageList(labels, tuple(f"{name}[{i}]" for i in range(len(found))), read)


def _class_label(feature: Any) -> Any:
    """The feature that names classes: itself, or the one inside a sequence of several labels."""
    inner = getattr(feature, "feature", feature)
    return inner if type(inner).__name__ == "ClassLabel" else None


def _hot(found: Sequence[Sequence[int]], classes: int) -> np.ndarray:
    labels = np.zeros((len(found), classes), dtype=np.uint8)
    for row, one in zip(labels, found, strict=True):
        row[[label for label in one if label >= 0]] = 1
    return labels


LAYOUTS = (Layout("hub", "a dataset of Hugging Face, saved with save_to_disk", here, saved),)
