"""Sets of ELEVATER from their authors' files, where the toolkit takes official splits: the same images, other order.

The toolkit's data host is gone; these files can be downloaded. Train and test are the official ones, whose sizes are
those of the toolkit. Its zips may hold images that were compressed again, and a few-shot sample is drawn over the order
of a list: so five images a class are others than the toolkit's, and fingerprints differ. OTHERS says of every other
set why its authors' files do not do.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.core.errors import UsageError
from bench.data.items import ImageList, Layout
from bench.data.readers import listing, vtab
from bench.data.readers.image_tree import list_images
from bench.data.readers.torchvision_sets import SETS as TORCHVISION
from bench.data.readers.torchvision_sets import Set, Splits, finder, folder_of, namer, names_in_paths, opener


def flowers102(home: Path) -> Splits:
    """flowers-102/{jpg,imagelabels.mat,setid.mat}; train is trnid alone"""
    return _train_and_test(vtab.oxford_flowers102(home.parent))


def oxford_pets(home: Path) -> Splits:
    """oxford-iiit-pet/{images,annotations/{trainval,test}.txt}; train is trainval"""
    return _train_and_test(vtab.oxford_iiit_pet(home.parent))


def patch_camelyon(home: Path) -> Splits:
    """pcam/camelyonpatch_level_2_split_{train,valid,test}_{x,y}.h5"""
    return _train_and_test(vtab.patch_camelyon(home.parent))


def mnist(home: Path) -> Splits:
    """MNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte"""
    splits = {}
    for part, stem in (("train", "train"), ("test", "t10k")):
        path = home / f"{stem}-images-idx3-ubyte"
        images = _idx(path, 3)
        labels = _idx(home / f"{stem}-labels-idx1-ubyte", 1).astype(np.int64)
        if len(images) != len(labels):
            raise UsageError(
                f"{path} holds {len(images)} images, but {len(labels)} labels belong to it. Get both again."
            )
        names = tuple(f"{path.name}[{i}]" for i in range(len(labels)))
        splits[part] = ImageList(labels, names, lambda i, images=images: np.asarray(images[i]))  # type: ignore[misc]
    return splits


def food101(home: Path) -> Splits:
    """food-101/{images/<class>/*.jpg,meta/{train,test}.json}"""
    faults: list[str] = []
    splits = {}
    for part in ("train", "test"):
        path = home / f"meta/{part}.json"
        try:
            listed: dict[str, list[str]] = json.loads(path.read_text(encoding="utf-8"))
            rows = [(f"images/{name}.jpg", label) for label, key in enumerate(sorted(listed)) for name in listed[key]]
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise UsageError(f"{path} is not as published ({type(error).__name__}: {error}). Get it again.") from error
        names = [name for name, _ in rows]
        listing.check_files(home, path.name, names, faults)
        splits[part] = listing.files(home, names, [label for _, label in rows])
    listing.raise_if_any(home, "food101", faults)
    return splits


def gtsrb(home: Path) -> Splits:
    """gtsrb/{GTSRB/Training/<class>/*.ppm,GTSRB/Final_Test/Images/*.ppm,GT-final_test.csv}; 00000 to 00042"""
    train = _tree(home / "GTSRB/Training", [f"{i:05d}" for i in range(43)], home)
    table, faults = home / "GT-final_test.csv", list[str]()
    try:
        with table.open(newline="", encoding="utf-8") as file:
            rows = [(row["Filename"], int(row["ClassId"])) for row in csv.DictReader(file, delimiter=";")]
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise UsageError(f"{table} is not as published ({type(error).__name__}: {error}). Get it again.") from error
    names = [f"GTSRB/Final_Test/Images/{name}" for name, _ in rows]
    listing.check_files(home, table.name, names, faults)
    listing.raise_if_any(home, "gtsrb", faults)
    return {"train": train, "test": listing.files(home, names, [label for _, label in rows])}


def class_folders(home: Path) -> Splits:
    """{train,test}/<class>/*; classes are numbered in alphabetical order; valid/ is not used"""
    classes = sorted(path.name for path in (home / "train").iterdir() if path.is_dir())
    return {part: _tree(home / part, classes, home) for part in ("train", "test")}


def _tree(folder: Path, classes: list[str], home: Path) -> ImageList:
    found = list_images(folder, classes)
    return listing.files(home, [path.relative_to(home).as_posix() for path, _ in found], [label for _, label in found])


def _train_and_test(pools: vtab.Pools) -> Splits:
    return {part: pools[part].items for part in ("train", "test")}


def _idx(path: Path, dimensions: int) -> np.ndarray:
    """An array of bytes in the format of MNIST: a magic number, the sizes as 32-bit integers, the bytes."""
    data = path.read_bytes()
    head = np.frombuffer(data[: 4 * (dimensions + 1)], dtype=">u4")
    shape = tuple(int(size) for size in head[1:])
    if len(head) != dimensions + 1 or head[0] != 0x800 + dimensions or len(data) != 4 * len(head) + int(np.prod(shape)):
        raise UsageError(f"{path} is not as published: its header and its {len(data)} bytes differ. Get it again.")
    return np.frombuffer(data, dtype=np.uint8, offset=4 * len(head)).reshape(shape)


def _vtab(task: str, classes: int, read: Any, class_names: Callable[[Path], Sequence[str]] | None = None) -> Set:
    folders, needed = vtab.HOMES[task]
    return Set(classes, tuple(name for name in folders if name != "."), tuple(needed), read, class_names=class_names)


def _breed_of(path: str) -> str:
    """american_bulldog of images/american_bulldog_17.jpg"""
    return path.rpartition("/")[2].rpartition("_")[0]


SETS: Mapping[str, Set] = {
    **{key: TORCHVISION[key] for key in ("cifar10", "cifar100", "dtd", "fgvc_aircraft", "fer2013")},
    "flowers102": _vtab("oxford_flowers102", 102, flowers102),
    "oxford_pets": _vtab("oxford_iiit_pet", 37, oxford_pets, lambda home: names_in_paths(oxford_pets(home), _breed_of)),
    "patch_camelyon": _vtab("patch_camelyon", 2, patch_camelyon),
    "mnist": Set(
        10,
        ("MNIST/raw",),
        tuple(f"{stem}-{kind}-ubyte" for stem in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")),
        mnist,
        class_names=lambda home: tuple("0123456789"),
    ),
    "food101": Set(
        101,
        ("food-101",),
        ("images", "meta/train.json", "meta/test.json"),
        food101,
        class_names=lambda home: names_in_paths(food101(home), folder_of),
    ),
    "gtsrb": Set(43, ("gtsrb",), ("GTSRB/Training", "GTSRB/Final_Test/Images", "GT-final_test.csv"), gtsrb),
    "country211": Set(211, ("country211",), ("train", "test"), class_folders),
    "rendered_sst2": Set(
        2,
        ("rendered-sst2",),
        ("train", "test"),
        class_folders,
        class_names=lambda home: names_in_paths(class_folders(home), folder_of),
    ),
}

OTHERS: Mapping[str, str] = {  # why the authors' files do not give the toolkit's set
    "caltech101": "its 3,060 training images were drawn for the toolkit, which alone lists them",
    "eurosat": "its 5,000 and 5,000 images are a sample that CLIP's authors drew, which the toolkit alone lists",
    "resisc45": "its 3,150 and 25,200 images are a sample that CLIP's authors drew, which the toolkit alone lists",
    "kitti_distance": "its four classes and its 6,347 and 711 images are the toolkit's own",
    "voc2007": "which objects marked as difficult count as shown is the toolkit's own choice, which its lists hold",
    "hateful_memes": "its images are given out by the contest alone, and the toolkit's test is the contest's dev",
    "stanford_cars": "the authors' address is gone",
}

LAYOUTS = (
    Layout(
        "elevater-originals",
        "the authors' own files of thirteen sets, as torchvision downloads them (other few-shot samples)",
        finder(SETS),
        opener(SETS),
        opener(SETS, sample=True),
        class_names=namer(SETS),
    ),
)
