"""Builders of tiny data sets as their authors, torchvision or the ELEVATER toolkit leave them on disk.

Each writes its files below a folder and returns what "train" and "test" hold, in the order in which it is to be read.
"""

from __future__ import annotations

import importlib
import io
import json
import pickle
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from helpers import tiny_vtab
from helpers.tiny_vtab import Example, Splits, noise, paint, write

ORIENTATION = 0x0112  # the tag of EXIF


@cache
def encoded(seed: int, kind: str = "PNG") -> tuple[bytes, np.ndarray]:
    """An image file, and what a decoder makes of it."""
    buffer = io.BytesIO()
    Image.fromarray(noise(seed, 5, 4, 3)).save(buffer, format=kind)
    return buffer.getvalue(), np.asarray(Image.open(buffer).convert("RGB"))


def turned() -> tuple[bytes, np.ndarray]:
    """A photograph whose EXIF says that it lies on its side, and how it should be seen."""
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[ORIENTATION] = 6  # turn by a quarter, clockwise
    Image.fromarray(noise(3, 5, 4, 3)).save(buffer, format="PNG", exif=exif)
    return buffer.getvalue(), np.rot90(noise(3, 5, 4, 3), -1)


def pack(path: Path, members: Mapping[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "a") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


# DomainNet

CLASSES = {"aircraft_carrier": 0, "t-shirt": 300, "train": 330, "zigzag": 344}  # the labels of the lists, with gaps


def domainnet(root: Path, domain: str, zipped: bool) -> Splits:
    """The two lists, and the images as files or in a zip. The test list has none of the class "t-shirt"."""
    kind, suffix = ("PNG", "png") if domain == "quickdraw" else ("JPEG", "jpg")
    splits: dict[str, list[Example]] = {}
    for part in ("train", "test"):
        splits[part] = []
        for i, (name, label) in enumerate(CLASSES.items()):
            for j in range(2 if part == "train" else name != "t-shirt"):
                content, image = encoded(4 * j + i, kind)
                path = f"{domain}/{name}/{domain}_{part}_{i:03d}_{j:06d}.{suffix}"
                if zipped:
                    pack(root / f"{domain}.zip", {path: content})
                else:
                    (root / path).parent.mkdir(parents=True, exist_ok=True)
                    (root / path).write_bytes(content)
                splits[part].append(Example(path, label, image))
        write(root / f"{domain}_{part}.txt", (f"{example.key} {example.label}" for example in splits[part]))
    return splits


def domainnet_folder(root: Path, domain: str, lacking: Mapping[str, Sequence[int]]) -> Splits:
    """An image folder of 345 classes, one image each; those of `lacking` have no folder in train or val."""
    splits: dict[str, list[Example]] = {}
    for part, folder in (("train", "train"), ("test", "val")):
        splits[part] = []
        for label in (label for label in range(345) if label not in lacking.get(folder, ())):
            content, image = encoded(label % 5)
            path = root / f"{domain}/{folder}/class_{label:03d}/{folder}.png"
            path.parent.mkdir(parents=True)
            path.write_bytes(content)
            splits[part].append(Example(path.relative_to(root).as_posix(), label, image))
    return splits


# torchvision


def cifar10(root: Path) -> Splits:
    home = root / "cifar-10-batches-py"
    home.mkdir(parents=True)
    (home / "batches.meta").write_bytes(pickle.dumps({"label_names": [f"class{i}" for i in range(10)]}))
    files = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}
    splits: dict[str, list[Example]] = {}
    for part, names in files.items():
        splits[part] = []
        for seed, name in enumerate(names):
            images, labels = noise(seed, 4, 32, 32, 3), [(3 * i + seed) % 10 for i in range(4)]
            rows = images.transpose(0, 3, 1, 2).reshape(4, 3072)
            (home / name).write_bytes(pickle.dumps({"data": rows, "labels": labels}))
            start = len(splits[part])
            splits[part] += [Example(start + i, label, images[i]) for i, label in enumerate(labels)]
    return splits


def cifar10_folder(root: Path) -> Splits:
    names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    return {
        part: [
            Example(f"{part}/{name}/{i:04d}.jpg", label, paint(root / f"{part}/{name}/{i:04d}.jpg", label + i))
            for label, name in enumerate(names)
            for i in range(2)
        ]
        for part in ("train", "test")
    }


def flowers102(root: Path) -> Splits:
    pools = tiny_vtab.oxford_flowers102(root)
    return {"train": [*pools["train"], *pools["validation"]], "test": pools["test"]}


def sun397(root: Path, lists: str = ".") -> Splits:
    home, splits = root / "SUN397", {}
    classes = ("/a/abbey", "/a/apartment_building/outdoor", "/z/zoo")
    for part, name in (("train", "Training"), ("test", "Testing")):
        keys = [f"{classes[i % 3]}/sun_{name}{i}.jpg" for i in range(6)]
        write(home / lists / f"{name}_01.txt", keys)
        splits[part] = [Example(key.lstrip("/"), i % 3, paint(home / key.lstrip("/"), i)) for i, key in enumerate(keys)]
    return splits


def stl10(root: Path) -> Splits:
    home, splits = root / "stl10_binary", {}
    home.mkdir(parents=True)
    for seed, part in enumerate(("train", "test")):
        images, labels = noise(seed, 5, 96, 96, 3), np.arange(5, dtype=np.uint8) * 2 + seed + 1
        images.transpose(0, 3, 2, 1).tofile(home / f"{part}_X.bin")
        labels.tofile(home / f"{part}_y.bin")
        splits[part] = [Example(i, int(labels[i]) - 1, images[i]) for i in range(5)]
    return splits


def fgvc_aircraft(root: Path) -> Splits:
    home, splits = root / "fgvc-aircraft-2013b/data", {}
    variants = ("707-320", "ATR-72", "Cessna Citation", "F/A-18")
    write(home / "variants.txt", variants)
    for part in ("train", "val", "test"):
        lines = [f"{len(part)}{i:06d} {variants[i % 4]}" for i in range(6)]
        write(home / f"images_variant_{part}.txt", lines)
        names = [f"images/{line.split()[0]}.jpg" for line in lines]
        splits[part] = [Example(name, i % 4, paint(home / name, i)) for i, name in enumerate(names)]
    del splits["val"]
    return splits


def fer2013(root: Path, spaced: bool = False) -> Splits:
    """fer2013.csv, or the same as icml_face_data.csv, which has another order of columns and spaces in their names."""
    usages = ("Training", "PublicTest", "PrivateTest")
    rows, splits = [], {usage: list[Example]() for usage in usages}
    for i in range(9):
        usage, image = usages[i % 3], noise(i, 48, 48)
        pixels, label = " ".join(map(str, image.ravel().tolist())), i % 7
        rows.append(f"{label},{usage},{pixels}" if spaced else f"{label},{pixels},{usage}")
        splits[usage].append(Example(i, label, image))
    if spaced:
        write(root / "fer2013/icml_face_data.csv", ["emotion, Usage, pixels", *rows])
    else:
        write(root / "fer2013/fer2013.csv", ["emotion,pixels,Usage", *rows])
    return {"train": splits["Training"], "test": splits["PrivateTest"]}


def _without_validation(splits: Splits) -> Splits:
    return {part: splits[part] for part in ("train", "test")}


TORCHVISION = {
    "cifar10": cifar10,
    "cifar100": tiny_vtab.cifar,
    "flowers102": flowers102,
    "svhn": tiny_vtab.svhn,
    "sun397": sun397,
    "dtd": lambda root: _without_validation(tiny_vtab.dtd(root)),
    "stl10": stl10,
    "fgvc_aircraft": fgvc_aircraft,
    "fer2013": fer2013,
}
MULTITASK = ("cifar10", "cifar100", "flowers102", "svhn")
PEVIT7 = ("cifar10", "cifar100", "sun397", "dtd", "stl10", "fgvc_aircraft", "fer2013")


# ELEVATER


@dataclass(frozen=True)
class Toolkit:
    """A row of the toolkit's registry."""

    folder: str
    classes: int
    train: str
    train_zip: str
    test: str
    test_zip: str
    labels: str = "labels.txt"

    def home(self, root: Path) -> Path:
        return root / "classification" / self.folder


ELEVATER = {
    "caltech101": Toolkit("caltech_101_20211007", 102, "train.txt", "train.zip", "test.txt", "test.zip"),
    "cifar10": Toolkit("cifar_10_20211007", 10, "train.txt", "train.zip", "test.txt", "val.zip"),
    "cifar100": Toolkit(
        "cifar100_20200721", 100, "train_images.txt", "train_images.zip", "test_images.txt", "test_images.zip"
    ),
    "country211": Toolkit("country211_20210924", 211, "train.txt", "train.zip", "test.txt", "test.zip"),
    "dtd": Toolkit("dtd_20211007", 47, "train.txt", "train.zip", "test.txt", "test.zip"),
    "eurosat": Toolkit("eurosat_clip_20210930", 10, "train.txt", "2750.zip", "test.txt", "2750.zip"),
    "fer2013": Toolkit("fer_2013_20211008", 7, "train.txt", "train.zip", "test.txt", "test.zip"),
    "fgvc_aircraft": Toolkit(
        "fgvc_aircraft_2013b_variants102_20211007", 100, "train.txt", "train.zip", "test.txt", "test.zip"
    ),
    "food101": Toolkit("food_101_20211007", 101, "train.txt", "train.zip", "test.txt", "val.zip"),
    "gtsrb": Toolkit("gtsrb_20210923", 43, "train.txt", "train.zip", "test.txt", "final_test.zip", "labelmap.txt"),
    "hateful_memes": Toolkit("hateful_memes_20211014", 2, "train_meta.json", "img.zip", "test_meta.json", "img.zip"),
    "kitti_distance": Toolkit(
        "kitti_distance_20210923", 4, "train_meta.json", "train_images.zip", "test_meta.json", "test_images.zip"
    ),
    "mnist": Toolkit("mnist_20211008", 10, "train.txt", "train.zip", "test.txt", "val.zip"),
    "flowers102": Toolkit("oxford_flower_102_20211007", 102, "train.txt", "train.zip", "test.txt", "test.zip"),
    "oxford_pets": Toolkit("oxford_iiit_pets_20211007", 37, "train.txt", "train.zip", "test.txt", "val.zip"),
    "patch_camelyon": Toolkit("patch_camelyon_20211007", 2, "train.txt", "train.zip", "test.txt", "test.zip"),
    "rendered_sst2": Toolkit("rendered_sst2_20210924", 2, "train.txt", "train.zip", "test.txt", "test.zip"),
    "resisc45": Toolkit("resisc45_clip_20210924", 45, "train.json", "images.zip", "test.json", "images.zip"),
    "stanford_cars": Toolkit("stanford_cars_20211007", 196, "train.txt", "train.zip", "test.txt", "val.zip"),
    "voc2007": Toolkit("voc2007_20211007", 20, "train_ic.txt", "train.zip", "test_ic.txt", "test.zip"),
}


def elevater_original(root: Path, key: str) -> Splits:
    """A set as its authors publish it."""
    if key in ("flowers102", "oxford_pets", "patch_camelyon", "dtd", "cifar100"):
        build = {"flowers102": "oxford_flowers102", "oxford_pets": "oxford_iiit_pet", "cifar100": "cifar"}.get(key, key)
        more = (importlib.import_module("h5py"),) if key == "patch_camelyon" else ()
        pools = getattr(tiny_vtab, build)(root, *more)
        return {part: pools[part] for part in ("train", "test")}
    if key in ("cifar10", "fgvc_aircraft", "fer2013"):
        builders: dict[str, Callable[[Path], Splits]] = {
            "cifar10": cifar10, "fgvc_aircraft": fgvc_aircraft, "fer2013": fer2013
        }  # fmt: skip
        return builders[key](root)
    if key == "mnist":
        return _mnist(root / "MNIST/raw")
    home = root / {"food101": "food-101", "rendered_sst2": "rendered-sst2"}.get(key, key)
    if key == "gtsrb":
        train = [(f"GTSRB/Training/{i:05d}/00000_{i}.ppm", i) for i in range(43)]
        test = [(f"GTSRB/Final_Test/Images/{i:05d}.ppm", 42 - i) for i in range(43)]
        rows = [f"{name.rpartition('/')[2]};54;54;6;5;48;49;{label}" for name, label in test]
        write(home / "GT-final_test.csv", ["Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId", *rows])
        listed = {"train": train, "test": test}
    else:
        classes = {"food101": 101, "rendered_sst2": 2, "country211": 211}[key]
        place = "images/c{label:03d}/{part}{i}.jpg" if key == "food101" else "{part}/c{label:03d}/{i}.jpg"
        listed = {
            part: [(place.format(label=label, part=part, i=i), label) for label in range(classes) for i in range(2)]
            for part in ("train", "test")
        }
        if key != "food101":
            paint(home / "valid/c000/0.jpg", 7)
    if key == "food101":
        for part in listed:
            names = {f"c{i:03d}": [f"c{i:03d}/{part}{j}" for j in range(2)] for i in range(101)}
            write(home / f"meta/{part}.json", [json.dumps(names)])
    return {
        part: [Example(name, label, paint(home / name, place)) for place, (name, label) in enumerate(found)]
        for part, found in listed.items()
    }


def _mnist(home: Path) -> Splits:
    home.mkdir(parents=True)
    splits = {}
    for seed, (part, stem) in enumerate((("train", "train"), ("test", "t10k"))):
        images, labels = noise(seed, 12, 28, 28), np.arange(12, dtype=np.uint8) % 10
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            head = np.array([0x800 + array.ndim, *array.shape], dtype=">u4").tobytes()  # as the authors' page has it
            (home / f"{stem}-{kind}-ubyte").write_bytes(head + array.tobytes())
        splits[part] = [Example(i, int(labels[i]), images[i]) for i in range(12)]
    return splits


def elevater(root: Path, key: str) -> Splits:
    """A set of the toolkit: an image for every class and one more, in an order that is not that of the classes."""
    plan = ELEVATER[key]
    home, splits = plan.home(root), {}
    for part, index, archive in (("train", plan.train, plan.train_zip), ("test", plan.test, plan.test_zip)):
        examples, contents = [], {}
        for i in range(plan.classes + 1):
            member, label = f"{part}/class {i % 3}/{i}.png", (plan.classes - 1 - i) % plan.classes
            contents[member], image = encoded(i % 7)
            examples.append(Example(f"{archive}@{member}", label, image))
        pack(home / archive, contents)
        if index.endswith(".json"):
            (home / index).write_text(json.dumps(coco(key, examples)))
        elif key == "voc2007":
            write(home / index, (f"{e.key} {e.label},{e.label * 3 % 20}" for e in examples))
        else:
            write(home / index, (f"{e.key} {e.label}" for e in examples))
        splits[part] = examples
    if not plan.train.endswith(".json"):
        write(home / plan.labels, (f"name of class {i}" for i in range(plan.classes)))
    return splits


def prompts(path: Path, names: Mapping[str, Sequence[str | list[str]]], templates: Sequence[str] = ("a {}.",)) -> Path:
    """A file of the form of the toolkit's prompts.py: lists by name, and two tables that name them."""
    lines = ['"""Where they come from."""', f"usual_templates = {list(templates)}"]
    lines += [f"classes_{number} = {list(found)}" for number, found in enumerate(names.values())]
    lines += ["class_map = {", *(f"    {key!r}: classes_{number}," for number, key in enumerate(names)), "}"]
    lines += ["template_map = {", *(f"    {key!r}: usual_templates," for key in names), "}"]
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, lines)
    return path


def coco(key: str, examples: Sequence[Example]) -> dict[str, list[dict[str, object]]]:
    """An index in JSON, out of order. Ids of images start at 1, those of classes at 1 or 2, with a gap. The archive
    stands before the path, beside it, or nowhere: then the set has only one."""
    classes = sorted({example.label for example in examples})
    images: list[dict[str, object]] = []
    for i, example in enumerate(examples):
        archive, _, member = str(example.key).partition("@")
        where: dict[str, object] = {
            "kitti_distance": {"file_name": f"{archive}@{member}"},
            "hateful_memes": {"file_name": member, "zip_file": archive},
            "resisc45": {"file_name": member},
        }[key]
        images.append({"id": i + 1, "width": 4, "height": 5, **where})
    return {
        "images": images[::-1],
        "annotations": [
            {"id": i + 1, "image_id": i + 1, "category_id": 2 * e.label + 1} for i, e in enumerate(examples)
        ],
        "categories": [{"id": 2 * label + 1, "name": f"class {label}"} for label in reversed(classes)],
    }
