"""The 20 sets of the ELEVATER toolkit, as its data host gave them: index files beside zip archives, read in place.

    classification/<set>_<date>/{train.txt,test.txt,labels.txt,train.zip,test.zip}     names differ from set to set

An index is a list of `train.zip@inner/path.jpg 17` (`17,3` where an image shows several classes), or COCO's JSON, whose
classes are numbered by their order. As in the toolkit, "train" and "test" are all there is: it downloads the official
validation images of some sets and never looks at them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.core.errors import UsageError, unknown
from bench.data.items import ImageList, Layout
from bench.data.readers import listing
from bench.data.readers.listing import format_fault
from bench.data.readers.zips import Zip

TOOLKIT = "elevater"  # the layout
BASES = ("classification", ".", "elevater/classification", "elevater")


@dataclass(frozen=True)
class Set:
    folder: str
    classes: int
    train: tuple[str, str] = ("train.txt", "train.zip")  # the index, and the archive of images it names without one
    test: tuple[str, str] = ("test.txt", "test.zip")
    labels: str = "labels.txt"  # the names of the classes, a line each; COCO's JSON holds its own
    several: bool = False  # an image may show several classes, or none


VAL = ("test.txt", "val.zip")  # sets whose test images lie in an archive of that name

SETS: Mapping[str, Set] = {
    "caltech101": Set("caltech_101_20211007", 102),
    "cifar10": Set("cifar_10_20211007", 10, test=VAL),
    "cifar100": Set(
        "cifar100_20200721",
        100,
        ("train_images.txt", "train_images.zip"),
        ("test_images.txt", "test_images.zip"),
    ),
    "country211": Set("country211_20210924", 211),
    "dtd": Set("dtd_20211007", 47),
    "eurosat": Set("eurosat_clip_20210930", 10, ("train.txt", "2750.zip"), ("test.txt", "2750.zip")),
    "fer2013": Set("fer_2013_20211008", 7),
    "fgvc_aircraft": Set("fgvc_aircraft_2013b_variants102_20211007", 100),
    "food101": Set("food_101_20211007", 101, test=VAL),
    "gtsrb": Set("gtsrb_20210923", 43, test=("test.txt", "final_test.zip"), labels="labelmap.txt"),
    "hateful_memes": Set(
        "hateful_memes_20211014", 2, ("train_meta.json", "img.zip"), ("test_meta.json", "img.zip")
    ),  # its test images are those that the authors call dev
    "kitti_distance": Set(
        "kitti_distance_20210923",
        4,
        ("train_meta.json", "train_images.zip"),
        ("test_meta.json", "test_images.zip"),
    ),
    "mnist": Set("mnist_20211008", 10, test=VAL),
    "flowers102": Set("oxford_flower_102_20211007", 102),
    "oxford_pets": Set("oxford_iiit_pets_20211007", 37, test=VAL),
    "patch_camelyon": Set("patch_camelyon_20211007", 2),
    "rendered_sst2": Set("rendered_sst2_20210924", 2),
    "resisc45": Set("resisc45_clip_20210924", 45, ("train.json", "images.zip"), ("test.json", "images.zip")),
    "stanford_cars": Set("stanford_cars_20211007", 196, test=VAL),
    "voc2007": Set("voc2007_20211007", 20, ("train_ic.txt", "train.zip"), ("test_ic.txt", "test.zip"), several=True),
}


@dataclass(frozen=True)
class Listed:
    """A line of an index."""

    archive: str
    member: str
    labels: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.archive}@{self.member}"


def toolkit(root: Path, key: str) -> Mapping[str, ImageList]:
    """The splits "train" and "test" of a set. Every fault of its files is told in one UsageError."""
    if key not in SETS:
        raise unknown("set of ELEVATER", key, SETS)
    plan = SETS[key]
    home = listing.home(root, key, _folders(plan), (plan.train[0], plan.test[0]))
    faults: list[str] = []
    splits: dict[str, list[Listed]] = {}
    names: dict[str, list[str]] = {}  # of the classes, where an index holds them
    for part, (index, archive) in (("train", plan.train), ("test", plan.test)):
        if index.endswith(".json"):
            splits[part], names[part] = _coco(home / index, archive, faults)
            if names[part] and len(names[part]) != plan.classes:
                faults.append(f"{index} has {len(names[part])} categories, {key} has {plan.classes}. Get it again.")
        else:
            splits[part] = _lines(home / index, archive, faults)
        if splits[part]:
            _check_labels(index, splits[part], plan, faults)
    if not names:
        known = len(listing.lines(home / plan.labels, faults))
        if 0 < known < plan.classes:
            faults.append(f"{plan.labels} names {known} classes, {key} has {plan.classes}. Get it again.")
    elif names["train"] and names["test"] and names["train"] != names["test"]:
        faults.append(f"{plan.train[0]} and {plan.test[0]} name different classes. Get both again.")
    archives = _archives(home, splits, faults)
    listing.raise_if_any(home, key, faults)
    return {part: _items(found, archives, plan) for part, found in splits.items()}


def class_names(root: Path, key: str) -> tuple[str, ...]:
    """Of a set, in the order of its labels. Raises UsageError where its files do not tell."""
    plan, faults = SETS[key], list[str]()
    home = listing.home(root, key, _folders(plan), (plan.train[0], plan.test[0]))
    index, archive = plan.train
    coco = index.endswith(".json")
    names = _coco(home / index, archive, faults)[1] if coco else listing.lines(home / plan.labels, faults)
    listing.raise_if_any(home, key, faults)
    return tuple(names)


def here(root: Path, key: str) -> bool:
    if key not in SETS:
        return False
    plan = SETS[key]
    return any(listing.has(root / folder, (plan.train[0], plan.test[0])) for folder in _folders(plan))


def _folders(plan: Set) -> list[str]:
    return [f"{base}/{plan.folder}" for base in BASES]


# The two kinds of index


def _lines(path: Path, archive: str, faults: list[str]) -> list[Listed]:
    """`archive.zip@path label[,label...]`; the path may have spaces, the labels have none."""
    found, odd = [], []
    for line in listing.lines(path, faults):
        name, _, labels = line.rpartition(" ") if " " in line else (line, "", "")
        if not re.fullmatch(r"(-?\d+(,-?\d+)*)?", labels) or not name.strip():
            odd.append(line)
        else:
            found.append(
                Listed(*_place(name.strip(), archive), tuple(int(label) for label in labels.split(",") if label))
            )
    if odd:
        faults.append(format_fault(path.name, "lines are not a path, a space and labels", odd, "Mend or remove them."))
    return found


def _coco(path: Path, archive: str, faults: list[str]) -> tuple[list[Listed], list[str]]:
    """Images in the order of their ids, and the names of the classes in the order of theirs: ids may start anywhere
    and have gaps, labels count from 0."""
    try:
        index: Any = json.loads(path.read_bytes())
        images = {image["id"]: image for image in sorted(index["images"], key=lambda image: image["id"])}
        classes = {kind["id"]: str(kind["name"]) for kind in sorted(index["categories"], key=lambda kind: kind["id"])}
        number = {identity: i for i, identity in enumerate(classes)}
        labels: dict[Any, list[int]] = {identity: [] for identity in images}
        stray = []
        for note in index["annotations"]:
            if note["image_id"] in labels and note["category_id"] in number:
                labels[note["image_id"]].append(number[note["category_id"]])
            else:
                stray.append(f"image {note['image_id']}, category {note['category_id']}")
        found = []
        for identity, image in images.items():
            inside = image.get("zip_file") or archive
            found.append(Listed(*_place(str(image["file_name"]), str(inside)), tuple(labels[identity])))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        faults.append(f"{path.name} is not a COCO index ({type(error).__name__}: {error}). Get it again.")
        return [], []
    if stray:
        told_so = "annotations are of an image or a category that is not there"
        faults.append(format_fault(path.name, told_so, stray, "Get it again."))
    if not found:
        faults.append(f"{path.name} lists no image. Get it again.")
    return found, list(classes.values())


def _place(path: str, archive: str) -> tuple[str, str]:
    """The archive and the path inside it: of `train.zip@a/b.jpg`, or of `a/b.jpg`, which is in `archive`."""
    before, found, member = path.partition(".zip@")
    return (f"{before}.zip", member) if found else (archive, path)


# What can be wrong


def _check_labels(index: str, found: Sequence[Listed], plan: Set, faults: list[str]) -> None:
    if not plan.several:
        unclear = [str(one) for one in found if len(one.labels) != 1]
        if unclear:
            faults.append(
                format_fault(index, "images have no label, or several", unclear, "Mend or remove their lines.")
            )
    pairs = [(str(one), label) for one in found for label in one.labels]
    labels = np.array([label for _, label in pairs], dtype=np.int64)
    listing.out_of_range(index, [name for name, _ in pairs], labels, plan.classes, faults)
    missing = sorted(set(range(plan.classes)) - set(labels.tolist()))
    if missing:
        faults.append(format_fault(index, "classes have no image", missing, "Is it another set's, or cut short?"))


def _archives(home: Path, splits: Mapping[str, Sequence[Listed]], faults: list[str]) -> dict[str, Zip]:
    """The archives that the indices name. Each is opened once, to see that every image is in it."""
    wanted: dict[str, list[str]] = {}
    for found in splits.values():
        for one in found:
            wanted.setdefault(one.archive, []).append(one.member)
    wrong = listing.outside(wanted)
    if wrong:
        faults.append(format_fault("The index", "archives lie out of the folder", wrong, f"Paths start at {home}."))
    archives = {name: Zip(home / name) for name in wanted if name not in wrong}
    for name, archive in archives.items():
        try:
            inside = archive.names()
        except UsageError as error:
            faults.append(str(error))
            continue
        absent = [member for member in wanted[name] if member not in inside]
        if absent:
            faults.append(format_fault(name, "images are not in it", absent, "Get it again."))
    return archives


def _items(found: Sequence[Listed], archives: Mapping[str, Zip], plan: Set) -> ImageList:
    if plan.several:
        labels = np.zeros((len(found), plan.classes), dtype=np.uint8)
        for row, one in zip(labels, found, strict=True):
            row[list(one.labels)] = 1
    else:
        labels = np.array([one.labels[0] for one in found], dtype=np.int64)
    return ImageList(
        labels,
        tuple(map(str, found)),
        # turned upright, as the toolkit does: the photographs of some sets say in their EXIF which way is up
        lambda i: archives[found[i].archive].image(found[i].member, upright=True),
    )


LAYOUTS = (
    Layout(
        TOOLKIT,
        "ELEVATER's index files and zips, classification/<set>_<date>/{train.txt,train.zip,...}",
        here,
        toolkit,
        class_names=class_names,
    ),
)
