"""Own images: a folder of classes, with or without splits, or a saved dataset of Hugging Face; divided if need be."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from bench.core.configs import Dataset, Sizes
from bench.core.errors import UsageError
from bench.core.store import write_atomically
from bench.core.text import printable
from bench.data import hashes
from bench.data.items import open_image
from bench.data.progress import OnProgress, silent
from bench.data.readers import hub, image_tree
from bench.data.readers.image_tree import Item, list_images

PARTS = ("train", "val", "test")
SHARE = 0.2  # of each class: what is cut off for a split that the folder does not have


@dataclass(frozen=True)
class ImageFolder:
    """The images of a folder, divided; the division is seeded, stratified by class, and part of the fingerprint."""

    root: Path
    classes: tuple[str, ...]
    parts: Mapping[str, tuple[tuple[str, int], ...]]  # "train", "val", "test" -> path below root, class index
    fingerprint: str
    seed: int
    saved: bool = False  # a dataset of Hugging Face, whose images are "train[17]"
    origins: Mapping[str, str] | None = None  # "val" -> "a fifth of train, drawn with seed 0"
    notes: tuple[str, ...] = ()  # what is there and is not used

    def open(self, name: str) -> Image.Image:
        """One of its images as RGB, turned as its EXIF says. Raises UsageError where it cannot be decoded."""
        image: Image.Image = hub.image(self.root, name) if self.saved else open_image(self.root / name, upright=True)
        return image


def divide(
    root: Path,
    *,
    seed: int = 0,
    limit: int | None = None,
    data_root: Path | None = None,
    on_progress: OnProgress = silent,
) -> ImageFolder:
    """Reads the layout of FOLDER and divides what is not divided yet: a fifth for test, a fifth of the rest for val.

    A folder with a validation split and no test split, like ImageNet's, is tested on the former. `limit` bounds train
    and val together, as evenly over classes as they allow. With a data root, digests of the images are kept there.
    """
    if not root.is_dir():
        raise UsageError(
            f"{printable(root)} is not a folder. --data takes FOLDER/<class>/*.jpg or "
            "FOLDER/{train,val,test}/<class>/*."
        )
    saved = hub.is_saved(root)
    classes, parts, origins, notes = _saved(root) if saved else _listed(root)
    rng = np.random.default_rng(seed)
    if "test" not in parts:
        parts["train"], parts["test"] = _cut(parts["train"], SHARE, rng)
        origins["test"] = f"a fifth of each class, drawn with seed {seed}"
    if "val" not in parts:
        parts["train"], parts["val"] = _cut(parts["train"], SHARE, rng)
        origins["val"] = f"a fifth of train, drawn with seed {seed}"
    total = len(parts["train"]) + len(parts["val"])
    if limit is not None and limit < total:
        if limit < 2 * len(classes):
            raise UsageError(
                f"--limit {limit} is too small for {len(classes)} classes; at least {2 * len(classes)} images."
            )
        keep = len(parts["val"]) * limit // total
        parts["val"] = _first(parts["val"], keep, rng)
        parts["train"] = _first(parts["train"], limit - keep, rng)
    _check_filled(root, classes, parts, notes)
    named = {p: tuple((path.relative_to(root).as_posix(), label) for path, label in parts[p]) for p in PARTS}
    fingerprint = _fingerprint(root, classes, named, saved, data_root, on_progress)
    return ImageFolder(root, classes, named, fingerprint, seed, saved, origins, tuple(notes))


def summary(source: ImageFolder) -> list[str]:
    """What is about to be trained on: classes, split sizes and where each split comes from, what is not used."""
    few = ", ".join(map(printable, source.classes[:10])) + (", ..." if len(source.classes) > 10 else "")
    lines = [f"{printable(source.root)}: {len(source.classes)} classes ({few})"]
    for part in PARTS:
        counts = Counter(label for _, label in source.parts[part]).values()
        spread = f"{min(counts)} to {max(counts)}" if len(set(counts)) > 1 else f"{next(iter(counts), 0)}"
        origin = f"; {source.origins[part]}" if source.origins and part in source.origins else ""
        lines.append(f"  {part:5}  {len(source.parts[part]):,} images, {spread} a class{origin}")
    return lines + [f"  {note}" for note in source.notes]


def card(source: ImageFolder, limit: int | None = None) -> Dataset:
    """The card of an image folder: "folder/<name>-<digest>", with "@<limit>" where training images were limited.

    The digest is of the images, so that two folders of one name are two datasets, and a folder that has moved is not.
    """
    bound = f"@{limit}" if limit is not None else ""
    return Dataset(
        title=f"images of {printable(source.root.resolve().name)}",
        classes=len(source.classes),
        metric="top1",
        source=f"folder:{source.root.resolve()}",
        sizes=Sizes(**{part: len(items) for part, items in source.parts.items()}),
        fingerprint=source.fingerprint,
        license="unknown",
        citation="",
        name=f"folder/{_plain_name(source.root)}-{source.fingerprint[:6]}{bound}",
    )


def write_lists(source: ImageFolder, path: Path) -> None:
    """Puts down which image is in which split."""
    lists = {part: [name for name, _ in items] for part, items in source.parts.items()}
    data = {"fingerprint": source.fingerprint, "seed": source.seed, "classes": source.classes, **lists}
    text = json.dumps(data, indent=0) + "\n"
    write_atomically(path, lambda file: file.write_text(text, encoding="utf-8"))


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


# what is there -------------------------------------------------------------------------------------------------------

Found = tuple[tuple[str, ...], dict[str, list[Item]], dict[str, str], list[str]]  # classes, splits, origins, notes


def _listed(root: Path) -> Found:
    tree = image_tree.read_tree(root)
    others = sum((image_tree.other_files(folder, tree.classes) for folder in tree.folders.values()), Counter[str]())
    notes = list(tree.notes)
    if others:
        kinds = ", ".join(f"{count:,} {printable(suffix)}" for suffix, count in others.most_common(5))
        more = ", ..." if len(others) > 5 else ""
        what = "1 file is" if others.total() == 1 else f"{others.total():,} files are"
        notes.append(f"{what} not read: {kinds}{more}. Save images as JPEG or PNG.")
    if "" in tree.folders:
        return tree.classes, {"train": list_images(root, tree.classes)}, {}, notes
    parts = {part: list_images(folder, tree.classes) for part, folder in tree.folders.items()}
    origins = {part: f"{printable(folder.name)}/" for part, folder in tree.folders.items()}
    if "test" not in parts:
        parts["test"] = parts.pop("val")
        origins["test"] = f"{origins.pop('val')}, for there is no test/"
    return tree.classes, parts, origins, notes


def _saved(root: Path) -> Found:
    classes, parts = hub.listed(root)
    if len(classes) < 2:
        raise UsageError(f"{printable(root)} holds {len(classes)} classes; at least two are needed.")
    return classes, parts, {}, []


def _check_filled(
    root: Path, classes: Sequence[str], parts: Mapping[str, Sequence[Item]], notes: Sequence[str]
) -> None:
    for part, items in parts.items():
        empty = set(range(len(classes))) - {label for _, label in items}
        if empty and part != "val":
            names = ", ".join(printable(classes[label]) for label in sorted(empty)[:5])
            raise UsageError(
                " ".join(
                    [
                        f"{printable(root)}: no readable image for class {names} in {part}.",
                        "Every class needs at least three images.",
                        *notes,
                    ]
                )
            )


# division ------------------------------------------------------------------------------------------------------------


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
    root: Path,
    classes: tuple[str, ...],
    parts: Mapping[str, tuple[tuple[str, int], ...]],
    saved: bool,
    data_root: Path | None,
    on_progress: OnProgress,
) -> str:
    """sha256 over class names and, split by split, every label, path and file content, with how the file is read where
    that is not plainly: turned as its EXIF says, or scaled from 16 bits."""
    digest = hashlib.sha256(_bytes("\n".join(classes)))
    names = [path for items in parts.values() for path, _ in items]
    contents = [hub.contents(root)] * len(names) if saved else hashes.contents(root, names, data_root, on_progress)
    content = iter(contents)  # all images of a saved dataset are in the same few files
    for part, items in parts.items():
        for path, label in items:
            digest.update(_bytes(f"{part} {label} {path} {next(content)}\n"))
    return digest.hexdigest()


def _bytes(text: str) -> bytes:
    """As on disk: names of files need not be UTF-8."""
    return text.encode(errors="surrogateescape")


def _plain_name(root: Path) -> str:
    """The name of a folder as a part of a dataset's name: letters, digits and `._-`."""
    name = unicodedata.normalize("NFC", root.resolve().name)
    plain = "".join(char if char.isalnum() or char in "._-" else "_" for char in name)
    return plain.lstrip(".-")[:60] or "images"
