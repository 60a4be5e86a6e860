"""Datasets of Hugging Face that were saved to disk, `dataset.save_to_disk(FOLDER)`. Needs `pip install datasets`.

One column holds images. The labels are the only column of class labels, or else the column "label". The split "test" is
needed; "validation" or "val" may be absent.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.data import listing
from bench.data.items import DECODING, Items, Layout
from bench.errors import UsageError

SPLITS = {"train": ("train",), "val": ("validation", "valid", "val"), "test": ("test",)}


def here(root: Path, key: str) -> bool:
    return _folder(root, key) is not None


def saved(root: Path, key: str) -> Mapping[str, Items]:
    """The splits of root/<key>, or of root itself. Raises UsageError."""
    folder = _folder(root, key)
    if folder is None:
        raise UsageError(f"{key}: {root / key} has no dataset_dict.json. Save the dataset there, with its splits.")
    try:
        package: Any = importlib.import_module("datasets")
        load = package.load_from_disk  # a mere folder of that name in the working directory can be imported too
    except (ImportError, AttributeError) as error:
        raise UsageError(f"{key}: {folder} is a dataset of Hugging Face: pip install datasets.") from error
    try:
        stored = load(str(folder))
    except Exception as error:  # Arrow raises its own, of no common kind
        raise UsageError(f"{folder} cannot be loaded ({type(error).__name__}: {error}). Save it again.") from error
    faults: list[str] = []
    splits = {}
    for part, names in SPLITS.items():
        name = next((name for name in names if name in stored), None)
        if name is not None:
            splits[part] = _items(stored[name], name, faults)
        elif part != "val":
            faults.append(f"there is no split {part!r}, only {', '.join(sorted(stored))}. Save the dataset with it.")
    listing.stop(folder, key, faults)
    return splits


def _folder(root: Path, key: str) -> Path | None:
    folders = (root / key if key else root, root)
    return next((folder for folder in folders if (folder / "dataset_dict.json").is_file()), None)


def _items(split: Any, name: str, faults: list[str]) -> Items:
    kinds = {column: type(feature).__name__ for column, feature in split.features.items()}
    images = [column for column, kind in kinds.items() if kind == "Image"]
    marked = [column for column in kinds if _class_label(split.features[column]) is not None]
    if len(marked) != 1 and "label" in kinds:
        marked = ["label"]
    if len(images) != 1 or len(marked) != 1:
        columns = ", ".join(f"{column} ({kind})" for column, kind in kinds.items())
        faults.append(f"{name} needs one column of images and one of class labels; it has {columns}.")
        return Items(np.zeros(0, np.int64), (), lambda i: np.zeros((0, 0), np.uint8))
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
            return split[i][image].convert("RGB")
        except (*DECODING, AttributeError) as error:
            raise UsageError(f"{name}[{i}] is not a readable image ({error}). Save the dataset again.") from error

    return Items(labels, tuple(f"{name}[{i}]" for i in range(len(found))), read)


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
