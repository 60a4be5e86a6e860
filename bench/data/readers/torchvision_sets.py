"""Nine common datasets in the layouts that torchvision's downloads leave: those of the suites multitask and pevit7.

"train" and "test" are the official ones. Official validation images are left out, except for Flowers, where they are
trained on; whoever needs a validation split carves it from train. SETS lists the files, docs/data.md where to get them.
"""

from __future__ import annotations

import csv
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.core.errors import UsageError, unknown
from bench.data.items import ImageList, Layout
from bench.data.readers import listing, pickles, vtab
from bench.data.readers.image_tree import list_images
from bench.data.readers.listing import format_fault

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
STL10 = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
FER2013 = ("angry", "disgusted", "fearful", "happy", "sad", "surprised", "neutral")  # as the contest numbers them

Splits = dict[str, ImageList]


def cifar10(home: Path) -> Splits:
    """cifar-10-batches-py/{data_batch_*,test_batch,batches.meta}"""
    datasets: Any = importlib.import_module("torchvision.datasets")  # here, not above: it brings torch
    splits = {}
    for part in ("train", "test"):
        try:
            found = datasets.CIFAR10(str(home), train=part == "train", download=False)
        except RuntimeError as error:  # pickles are opened only after their checksums
            raise UsageError(
                f"{home}/cifar-10-batches-py does not have the published checksums. Get it again."
            ) from error
        splits[part] = _array(f"cifar-10-batches-py/{part}", found.data, found.targets)
    return splits


def cifar100(home: Path) -> Splits:
    """cifar-100-python/{train,test,meta}, the 100 fine labels"""
    pools = vtab.cifar(home)
    return {part: pools[part].items for part in ("train", "test")}


def svhn(home: Path) -> Splits:
    """{train,test}_32x32.mat, the cropped digits; `extra` is not used"""
    pools = vtab.svhn(home)
    return {part: pools[part].items for part in ("train", "test")}


def cifar10_sample(home: Path) -> Splits:
    """The same, with as many of its batches as there are, which no published checksum can vouch for"""
    parts = {"train": sorted((home / "cifar-10-batches-py").glob("data_batch_[1-5]"))}
    parts["test"] = [home / "cifar-10-batches-py/test_batch"]
    return {part: _array(f"cifar-10-batches-py/{part}", *pickles.images(paths)) for part, paths in parts.items()}


def cifar100_sample(home: Path) -> Splits:
    pools = vtab.cifar_sample(home)
    return {part: pools[part].items for part in ("train", "test")}


def svhn_sample(home: Path) -> Splits:
    pools = vtab.svhn_sample(home)
    return {part: pools[part].items for part in ("train", "test")}


def flowers102(home: Path) -> Splits:
    """flowers-102/{jpg,imagelabels.mat,setid.mat}; train is trnid and valid, 2,040 images, as MiMi has it"""
    pools = vtab.oxford_flowers102(home.parent)
    return {"train": _joined(pools["train"].items, pools["validation"].items), "test": pools["test"].items}


def dtd(home: Path) -> Splits:
    """dtd/dtd/{images,labels}: the first of ten divisions, train only, 1,880 images. The paper says "official split";
    the toolkit it built on takes the first division, and never the validation images."""
    pools = vtab.dtd(home.parent)
    return {part: pools[part].items for part in ("train", "test")}


def sun397(home: Path) -> Splits:
    """SUN397/a/abbey/*.jpg, ..., and Training_01.txt and Testing_01.txt of the authors' Partitions.zip

    The paper does not say which of the ten divisions it took; this is the first, 50 images a class on either side.
    Classes are numbered in alphabetical order.
    """
    faults: list[str] = []
    lists = {part: _either(home, SUN397_LISTS[part]) for part in ("train", "test")}
    names = {part: [line.lstrip("/") for line in listing.lines(path, faults)] for part, path in lists.items()}
    class_of = {name: name.rpartition("/")[0] for found in names.values() for name in found}
    number = {name: i for i, name in enumerate(sorted(set(class_of.values())))}
    for part, found in names.items():
        listing.check_files(home, lists[part].name, found, faults)
    listing.raise_if_any(home, "sun397", faults)
    return {
        part: listing.files(home, found, [number[class_of[name]] for name in found]) for part, found in names.items()
    }


def stl10(home: Path) -> Splits:
    """stl10_binary/{train,test}_{X,y}.bin: 5,000 labelled images, without the ten folds, and 8,000

    Read here: torchvision's class asks for the 2.8 GB of unlabelled images, which nothing uses.
    """
    splits = {}
    for part in ("train", "test"):
        path, shape = home / f"{part}_X.bin", (3, 96, 96)  # colour, column, row
        if not path.stat().st_size or path.stat().st_size % int(np.prod(shape)):
            raise UsageError(f"{path} does not hold whole images of 3x96x96 bytes. Get it again.")
        images = np.memmap(path, dtype=np.uint8, mode="r").reshape(-1, *shape).transpose(0, 3, 2, 1)
        labels = np.fromfile(home / f"{part}_y.bin", dtype=np.uint8).astype(np.int64) - 1
        splits[part] = _array(f"{part}_X.bin", images, labels)
    return splits


def fgvc_aircraft(home: Path) -> Splits:
    """fgvc-aircraft-2013b/data/{images/*.jpg,variants.txt,images_variant_{train,test}.txt}: 100 variants

    The paper does not say whether it trained on train (3,334 images) or on train and val; the toolkit takes train.
    """
    faults: list[str] = []
    number = {name: i for i, name in enumerate(listing.lines(home / "variants.txt", faults))}
    splits = {}
    for part in ("train", "test"):
        index = f"images_variant_{part}.txt"
        pairs = [line.partition(" ") for line in listing.lines(home / index, faults)]
        strange = [f"{name} {variant}" for name, _, variant in pairs if variant.strip() not in number]
        if strange:
            faults.append(format_fault(index, "variants are not in variants.txt", strange, "Get both again."))
        names = [f"images/{name}.jpg" for name, _, _ in pairs]
        listing.check_files(home, index, names, faults)
        splits[part] = listing.files(home, names, [number.get(variant.strip(), -1) for _, _, variant in pairs])
    listing.raise_if_any(home, "fgvc_aircraft", faults)
    return splits


def fer2013(home: Path) -> Splits:
    """fer2013/fer2013.csv, or icml_face_data.csv, which has the same rows: 7 emotions, grey images of 48x48

    Test is the contest's private test, 3,589 images; its public test served for validation. torchvision joins the two.
    """
    path = _either(home, FER2013_TABLES)
    images: dict[str, list[bytes]] = {"Training": [], "PrivateTest": []}
    labels: dict[str, list[int]] = {"Training": [], "PrivateTest": []}
    try:
        with path.open(newline="") as file:
            rows = csv.reader(file)
            column = {name.strip(): i for i, name in enumerate(next(rows, []))}  # icml_face_data.csv has spaces there
            for row in rows:
                usage = row[column["Usage"]].strip()
                if usage in images:
                    pixels = bytes(map(int, row[column["pixels"]].split()))
                    if len(pixels) != 48 * 48:
                        raise ValueError(f"line {rows.line_num} has {len(pixels)} pixels, not {48 * 48}")
                    images[usage].append(pixels)
                    labels[usage].append(int(row[column["emotion"]]))
    except (OSError, ValueError, KeyError, IndexError, csv.Error) as error:
        raise UsageError(f"{path} is not as published ({type(error).__name__}: {error}). Get it again.") from error
    return {
        part: _array(f"{path.name}/{usage}", _faces(images[usage]), labels[usage])
        for part, usage in (("train", "Training"), ("test", "PrivateTest"))
    }


def _faces(images: list[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(images), dtype=np.uint8).reshape(-1, 48, 48)


def cifar10_folder(home: Path) -> Splits:
    """{train,test}/<class>/*.jpg; the names of the classes sort as CIFAR-10 numbers them"""
    splits = {}
    for part in ("train", "test"):
        found = list_images(home / part, CIFAR10)
        names = [path.relative_to(home).as_posix() for path, _ in found]
        splits[part] = listing.files(home, names, [label for _, label in found])
    return splits


def fgvc_variants(home: Path) -> list[str]:
    faults: list[str] = []
    names = listing.lines(home / "variants.txt", faults)
    listing.raise_if_any(home, "fgvc_aircraft", faults)
    return names


# What the readers share


def folder_of(path: str) -> str:
    """The folder that an image lies in: "apple_pie" of images/apple_pie/1.jpg."""
    return path.split("/")[-2]


def names_in_paths(splits: Splits, name_of: Callable[[str], str]) -> list[str]:
    """Names of the classes in the order of the labels, from the paths of the very images that have those labels.

    Raises UsageError where the images of a label have several names.
    """
    names: dict[int, set[str]] = {}
    for items in splits.values():
        for label, path in zip(items.labels.tolist(), items.names, strict=True):
            names.setdefault(label, set()).add(name_of(path))
    for label, found in names.items():
        if len(found) > 1:
            raise UsageError(f"Images of label {label} are called {' and '.join(sorted(found)[:3])}. Get them again.")
    return [min(names[label]) for label in sorted(names)]


@dataclass(frozen=True)
class Set:
    classes: int
    folders: tuple[str, ...]  # one of these, below the named one
    needed: tuple[str, ...]  # has all of these; "a|b": one of the two
    read: Callable[[Path], Splits]  # given the folder
    sample: Callable[[Path], Splits] | None = (
        None  # given a folder with a part of it, where that is read in another way
    )
    class_names: Callable[[Path], Sequence[str]] | None = None  # in the order of the labels; None: they are numbers


SUN397_LISTS = {
    part: "|".join(f"{folder}{name}" for folder in ("", "Partitions/", "../", "../Partitions/"))
    for part, name in (("train", "Training_01.txt"), ("test", "Testing_01.txt"))
}
FER2013_TABLES = "fer2013.csv|icml_face_data.csv"

SETS: Mapping[str, Set] = {
    "cifar10": Set(
        10,
        (".", "cifar10"),
        ("cifar-10-batches-py/data_batch_1", "cifar-10-batches-py/test_batch"),
        cifar10,
        cifar10_sample,
        lambda home: CIFAR10,
    ),
    "cifar100": Set(
        100,
        (".", "cifar100"),
        ("cifar-100-python/train", "cifar-100-python/test"),
        cifar100,
        cifar100_sample,
        lambda home: pickles.class_names(home / "cifar-100-python/meta"),
    ),
    "flowers102": Set(102, ("flowers-102", "flowers102"), ("jpg", "imagelabels.mat", "setid.mat"), flowers102),
    "svhn": Set(10, (".", "svhn"), ("train_32x32.mat", "test_32x32.mat"), svhn, svhn_sample),
    "sun397": Set(
        397,
        ("SUN397", "sun397/SUN397", "sun397"),
        ("a", *SUN397_LISTS.values()),
        sun397,
        class_names=lambda home: names_in_paths(sun397(home), lambda path: path.rpartition("/")[0].partition("/")[2]),
    ),
    "dtd": Set(
        47,
        ("dtd/dtd", "dtd"),
        ("images", "labels/train1.txt", "labels/val1.txt", "labels/test1.txt"),
        dtd,
        class_names=lambda home: names_in_paths(dtd(home), folder_of),
    ),
    "stl10": Set(
        10,
        ("stl10_binary", "stl10/stl10_binary"),
        ("train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin"),
        stl10,
        class_names=lambda home: STL10,
    ),
    "fgvc_aircraft": Set(
        100,
        ("fgvc-aircraft-2013b/data", "fgvc_aircraft/fgvc-aircraft-2013b/data"),
        ("images", "variants.txt", "images_variant_train.txt", "images_variant_test.txt"),
        fgvc_aircraft,
        class_names=fgvc_variants,
    ),
    "fer2013": Set(7, ("fer2013",), (FER2013_TABLES,), fer2013, class_names=lambda home: FER2013),
}
FOLDERS: Mapping[str, Set] = {
    "cifar10": Set(
        10,
        (".", "cifar10", "cifar10-jpeg"),
        tuple(f"{part}/{name}" for part in ("train", "test") for name in CIFAR10),
        cifar10_folder,
        class_names=lambda home: CIFAR10,
    )
}


def _either(home: Path, need: str) -> Path:
    """The first of `a|b` that is there, or else the first."""
    paths = [home / name for name in need.split("|")]
    return next((path for path in paths if path.is_file()), paths[0])


def _array(name: str, images: Any, labels: Any) -> ImageList:
    """Images of one array, known by their position."""
    if len(images) != len(labels):
        raise UsageError(f"{name} holds {len(images)} images, but {len(labels)} labels belong to it. Get both again.")
    names = tuple(f"{name}[{i}]" for i in range(len(labels)))
    return ImageList(np.asarray(labels, dtype=np.int64), names, lambda i: np.asarray(images[i]))


def _joined(first: ImageList, second: ImageList) -> ImageList:
    return ImageList(
        np.concatenate((first.labels, second.labels)),
        first.names + second.names,
        lambda i: first.read(i) if i < len(first) else second.read(i - len(first)),
    )


def finder(sets: Mapping[str, Set]) -> Callable[[Path, str], bool]:
    return lambda root, key: (
        key in sets and any(listing.has(root / folder, sets[key].needed) for folder in sets[key].folders)
    )


def opener(sets: Mapping[str, Set], *, sample: bool = False) -> Callable[[Path, str], Splits]:
    """Reads a set of the table; with `sample` a part of it."""

    def read(root: Path, key: str) -> Splits:
        if key not in sets:
            raise unknown("dataset of torchvision", key, sets)
        home = listing.home(root, key, sets[key].folders, sets[key].needed)
        reader = (sample and sets[key].sample) or sets[key].read
        splits, faults = reader(home), list[str]()
        for part, items in splits.items():
            if not len(items):
                faults.append(f"{part} has no image. Get the dataset again.")
            listing.out_of_range(part, items.names, items.labels, sets[key].classes, faults)
        listing.raise_if_any(home, key, faults)
        return splits

    return read


def namer(sets: Mapping[str, Set]) -> Callable[[Path, str], tuple[str, ...]]:
    """Names the classes of a set of the table; () where they are numbers."""

    def class_names(root: Path, key: str) -> tuple[str, ...]:
        names = sets[key].class_names
        return tuple(names(listing.home(root, key, sets[key].folders, sets[key].needed))) if names else ()

    return class_names


LAYOUTS = (
    Layout(
        "torchvision",
        "the files of torchvision's download, as published",
        finder(SETS),
        opener(SETS),
        opener(SETS, sample=True),
        class_names=namer(SETS),
    ),
    Layout(
        "image-folder",
        "CIFAR-10 as an image folder, {train,test}/<class>/*.jpg",
        finder(FOLDERS),
        opener(FOLDERS),
        reencoded=True,
        class_names=namer(FOLDERS),
    ),
)
