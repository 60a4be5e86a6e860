"""The 19 tasks of VTAB-1k from the files their authors publish: lossless, and the very images of the literature.

`originals(root, "dtd")` looks below `root` for the layout that torchvision's download or the published archive gives;
docs/data.md lists them. A reader below knows one layout. It lists every example of every TFDS split with its key, and
bench.data.readers.tfds_order says which of them train, validate and test. Nothing is downloaded.
"""

from __future__ import annotations

import csv
import importlib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bench.core.errors import UsageError, unknown
from bench.data.items import DECODING, ImageList, Layout, Unreadable, to_rgb
from bench.data.readers import listing, pickles, retina, tfrecord
from bench.data.readers.matrices import norb, once, packed_bits
from bench.data.readers.tfds_order import COUNTS, TASKS, cut

CLEVR_NEAR = (0.0, 8.0, 8.5, 9.0, 9.5, 10.0, 100.0)  # distance of the closest object
KITTI_NEAR = (-100.0, 8.0, 20.0, 999.0)  # distance of the closest vehicle, metres
KITTI_NONE = 1000.0  # without any vehicle
VEHICLES = ("Car", "Van", "Truck")
DSPRITES = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"
CLEVR = ("images/train", "images/val", "scenes/CLEVR_train_scenes.json", "scenes/CLEVR_val_scenes.json")
NORB = tuple(
    f"smallnorb-5x{instances}x9x18x6x2x96x96-{split}-{kind}.mat"
    for instances, split in (("46789", "training"), ("01235", "testing"))
    for kind in ("dat", "info")
)

HOMES: Mapping[str, tuple[Sequence[str], Sequence[str]]] = {  # task -> folders it may be in, what one must hold
    "cifar": ((".", "cifar", "cifar100"), ("cifar-100-python/train", "cifar-100-python/test")),
    "dtd": (("dtd/dtd", "dtd"), ("images", "labels/train1.txt", "labels/val1.txt", "labels/test1.txt")),
    "oxford_flowers102": (("flowers-102", "oxford_flowers102", "flowers102"), ("jpg", "imagelabels.mat", "setid.mat")),
    "oxford_iiit_pet": (
        ("oxford-iiit-pet", "oxford_iiit_pet", "pets"),
        ("images", "annotations/trainval.txt", "annotations/test.txt"),
    ),
    "svhn": ((".", "svhn"), ("train_32x32.mat", "test_32x32.mat")),
    "sun397": (
        ("SUN397", "sun397/SUN397", "sun397"),
        ("a", "sun397_tfds_tr.txt", "sun397_tfds_va.txt", "sun397_tfds_te.txt"),
    ),
    "patch_camelyon": (
        ("pcam", "patch_camelyon", "."),
        [f"camelyonpatch_level_2_split_{part}_{kind}.h5" for part in ("train", "valid", "test") for kind in "xy"],
    ),
    "eurosat": (
        ("eurosat/2750", "2750", "EuroSAT/2750", "EuroSAT", "eurosat/EuroSAT_RGB", "EuroSAT_RGB"),
        ("AnnualCrop", "SeaLake"),
    ),
    "resisc45": (("NWPU-RESISC45", "resisc45/NWPU-RESISC45", "resisc45"), ("airplane", "wetland")),
    "diabetic_retinopathy": (
        ("diabetic-retinopathy-detection", "diabetic_retinopathy_detection", "diabetic_retinopathy"),
        ("train", "test", "trainLabels.csv", "retinopathy_solution.csv"),
    ),
    "clevr_count": (("clevr/CLEVR_v1.0", "CLEVR_v1.0", "clevr"), CLEVR),
    "clevr_dist": (("clevr/CLEVR_v1.0", "CLEVR_v1.0", "clevr"), CLEVR),
    "dmlab": (("dmlab", "."), [f"dmlab-{part}.tfrecord*" for part in ("train", "validation", "test")]),
    "kitti": (
        ("Kitti/raw", "kitti", "Kitti"),
        ("training/image_2", "training/label_2", "mapping/train_rand.txt", "mapping/train_mapping.txt"),
    ),
    "dsprites_loc": (("dsprites", "."), (DSPRITES,)),
    "dsprites_ori": (("dsprites", "."), (DSPRITES,)),
    "smallnorb_azi": (("smallnorb", "."), NORB),
    "smallnorb_ele": (("smallnorb", "."), NORB),
}


@dataclass(frozen=True)
class Pool:
    """One TFDS split: every example of it, in the order of the files, with the key that TFDS knows it by."""

    keys: Sequence[str] | Sequence[int]
    items: ImageList


Pools = Mapping[str, Pool]  # "train", "validation", "test"


def originals(root: Path, task: str, counts: tuple[int, int] = COUNTS) -> dict[str, ImageList]:
    """The splits "train", "val" and "test" of a task, from the original files below `root`. Raises UsageError."""
    if task not in READERS:
        raise unknown("VTAB task", task, READERS)
    plan, pools = TASKS[task], READERS[task](root)
    if counts == COUNTS:  # an example that is missing would move others from split to split, without a trace
        for split, total in plan.totals.items():
            if len(pools[split].keys) != total:
                raise UsageError(
                    f"{task}: below {root} the split {split!r} has {len(pools[split].keys)} images, the published one "
                    f"has {total}. Unpack the archive again; the split of VTAB-1k needs every image listed."
                )
    try:
        index = cut(plan, {split: pool.keys for split, pool in pools.items()}, counts)
    except ValueError as error:
        raise UsageError(f"{task}: below {root}, {error}. Unpack the archive again.") from error
    splits = {part: pools[getattr(plan, part).split].items.take(index[part]) for part in ("train", "val", "test")}
    for part, items in splits.items():
        wrong = (items.labels < 0) | (items.labels >= plan.classes)
        if wrong.any():
            first = int(np.argmax(wrong))
            raise UsageError(
                f"{task}: {items.names[first]} ({part}) has label {items.labels[first]}, there are {plan.classes} "
                f"classes. The files below {root} are not the published ones."
            )
    return splits


def sample(root: Path, task: str) -> dict[str, ImageList]:
    """The same of a part of the files, named as such: of what is there, at most as many images as VTAB-1k has.

    Images that a list names and that are not there are left out. Arrays may be shorter than the published ones, so
    their checksums are not asked for. Raises UsageError where a split has no image.
    """
    if task not in READERS:
        raise unknown("VTAB task", task, READERS)
    plan, pools = TASKS[task], SAMPLES.get(task, READERS[task])(root)
    if task not in ARRAYS:
        pools = {split: _there(pool, _home(root, task)) for split, pool in pools.items()}
    index = cut(plan, {split: pool.keys for split, pool in pools.items()}, (None, None))
    most = {"train": COUNTS[0], "val": COUNTS[1], "test": None}
    splits = {part: pools[getattr(plan, part).split].items.take(index[part][:count]) for part, count in most.items()}
    if empty := [part for part, items in splits.items() if not len(items)]:
        raise UsageError(f"{task}: below {root} there is no image to {' and to '.join(map(_verb, empty))}. Add some.")
    return splits


def _verb(part: str) -> str:
    return {"train": "train on", "val": "validate on", "test": "test on"}[part]


def _there(pool: Pool, home: Path) -> Pool:
    """The examples whose files are there."""
    gone = set(listing.absent(home, pool.items.names))
    kept = [i for i, name in enumerate(pool.items.names) if name not in gone]
    return Pool([pool.keys[i] for i in kept], pool.items.take(kept))  # type: ignore[arg-type]


# Natural


def cifar(root: Path) -> Pools:
    """cifar-100-python/{train,test,meta}"""
    home = _home(root, "cifar")
    return {
        split: _positions(f"cifar-100-python/{split}", found.data, found.targets)
        for split in ("train", "test")
        for found in [_torchvision("CIFAR100", home, train=split == "train")]
    }


def cifar_sample(root: Path) -> Pools:
    """The same, of fewer images, which no published checksum can vouch for."""
    home = _home(root, "cifar")
    return {
        split: _positions(f"cifar-100-python/{split}", *pickles.images([home / "cifar-100-python" / split]))
        for split in ("train", "test")
    }


def caltech101(root: Path) -> Pools:
    raise UsageError(
        "caltech101: its training images were drawn over the order in which a directory was listed, so the split "
        f"cannot be rebuilt from the original files. Use the community's folder, {root / 'vtab-1k/caltech101'} "
        "(docs/data.md)."
    )


def dtd(root: Path) -> Pools:
    """dtd/dtd/images/<class>/*.jpg and labels/{train,val,test}1.txt: the first of ten divisions"""
    lists = {"train": "labels/train1.txt", "validation": "labels/val1.txt", "test": "labels/test1.txt"}
    home = _home(root, "dtd")
    keys = {split: _lines(home / name) for split, name in lists.items()}
    return _by_class(home, keys, folder="images/")


def oxford_flowers102(root: Path) -> Pools:
    """flowers-102/{jpg/image_*.jpg,imagelabels.mat,setid.mat}"""
    home = _home(root, "oxford_flowers102")
    loadmat = _module("scipy.io", "scipy").loadmat
    with _reading(home / "imagelabels.mat"):
        labels = loadmat(home / "imagelabels.mat")["labels"].ravel().astype(np.int64) - 1
    pools = {}
    with _reading(home / "setid.mat"):
        ids = loadmat(home / "setid.mat")
        for split, name in (("train", "trnid"), ("validation", "valid"), ("test", "tstid")):
            chosen = ids[name].ravel().astype(int)
            keys = [f"image_{i:05d}.jpg" for i in chosen]
            pools[split] = Pool(keys, listing.files(home, [f"jpg/{key}" for key in keys], labels[chosen - 1]))
    return pools


def oxford_iiit_pet(root: Path) -> Pools:
    """oxford-iiit-pet/images/*.jpg and annotations/{trainval,test}.txt"""
    lists = {"train": "annotations/trainval.txt", "test": "annotations/test.txt"}
    home = _home(root, "oxford_iiit_pet")
    pools = {}
    for split, name in lists.items():
        with _reading(home / name):
            rows = [line.split() for line in _lines(home / name)]
            keys, labels = [f"{row[0]}.jpg" for row in rows], [int(row[1]) - 1 for row in rows]
        pools[split] = Pool(keys, listing.files(home, [f"images/{key}" for key in keys], labels))
    return pools


def svhn(root: Path) -> Pools:
    """{train,test}_32x32.mat, the cropped digits; `extra` is not used"""
    home = _home(root, "svhn")
    return {
        split: _positions(f"{split}_32x32.mat", found.data.transpose(0, 2, 3, 1), found.labels)
        for split in ("train", "test")
        for found in [_torchvision("SVHN", home, split=split)]
    }


def svhn_sample(root: Path) -> Pools:
    """The same, of fewer images, which no published checksum can vouch for."""
    home, pools = _home(root, "svhn"), {}
    loadmat = _module("scipy.io", "scipy").loadmat
    for split in ("train", "test"):
        path = home / f"{split}_32x32.mat"
        with _reading(path):
            found = loadmat(path)
            images, labels = found["X"].transpose(3, 0, 1, 2), found["y"].ravel().astype(np.int64) % 10  # 10 is the 0
        pools[split] = _positions(path.name, images, labels)
    return pools


def sun397(root: Path) -> Pools:
    """SUN397/a/abbey/*.jpg, ... and beside a/ the three lists of TFDS, sun397_tfds_{tr,va,te}.txt

    TFDS shrinks every image to 120,000 pixels and compresses it again; here it is read as published.
    """
    lists = {"train": "sun397_tfds_tr.txt", "validation": "sun397_tfds_va.txt", "test": "sun397_tfds_te.txt"}
    home = _home(root, "sun397")
    return _by_class(home, {split: _lines(home / name) for split, name in lists.items()})


# Specialized


def patch_camelyon(root: Path) -> Pools:
    """pcam/camelyonpatch_level_2_split_{train,valid,test}_{x,y}.h5, unzipped"""
    stem = "camelyonpatch_level_2_split_{}_{}.h5"
    home = _home(root, "patch_camelyon")
    h5py, pools = _module("h5py"), {}
    for split, part in (("train", "train"), ("validation", "valid"), ("test", "test")):
        labelled = home / stem.format(part, "y")
        with _reading(labelled), h5py.File(labelled, "r") as file:
            labels = np.asarray(file["y"]).reshape(-1)
        with _reading(home / stem.format(part, "x")):
            images = h5py.File(home / stem.format(part, "x"), "r")["x"]
        keys = [f"{part}_{i}" for i in range(len(labels))]
        pools[split] = Pool(keys, _positions(stem.format(part, "x"), images, labels).items)
    return pools


def eurosat(root: Path) -> Pools:
    """eurosat/2750/<Class>/<Class>_<i>.jpg"""
    home = _home(root, "eurosat")
    return _by_folder(home)


def resisc45(root: Path) -> Pools:
    """NWPU-RESISC45/<class>/<class>_<iii>.jpg"""
    home = _home(root, "resisc45")
    return _by_folder(home)


def diabetic_retinopathy(root: Path) -> Pools:
    """diabetic-retinopathy-detection/{train/*.jpeg,test/*.jpeg,trainLabels.csv,retinopathy_solution.csv}"""
    home = _home(root, "diabetic_retinopathy")

    def pool(folder: str, table: str, usage: str | None) -> Pool:
        with _reading(home / table), (home / table).open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if usage is None or row["Usage"] == usage]
            keys, labels = [row["image"] for row in rows], [int(row["level"]) for row in rows]
        files = listing.files(home, [f"{folder}/{key}.jpeg" for key in keys], labels)
        return Pool(keys, ImageList(files.labels, files.names, lambda i: retina.prepare(np.asarray(files.read(i)))))

    return {
        "train": pool("train", "trainLabels.csv", None),
        "validation": pool("test", "retinopathy_solution.csv", "Public"),
        "test": pool("test", "retinopathy_solution.csv", "Private"),
    }


# Structured


def clevr(root: Path, task: str, label: Callable[[Any], int]) -> Pools:
    """CLEVR_v1.0/{images/{train,val}/*.png,scenes/CLEVR_{train,val}_scenes.json}"""
    home, pools = _home(root, task), {}
    for split, part in (("train", "train"), ("validation", "val")):
        path = home / f"scenes/CLEVR_{part}_scenes.json"
        with _reading(path):
            scenes = json.loads(path.read_bytes())["scenes"]
            keys, labels = [scene["image_filename"] for scene in scenes], [label(scene["objects"]) for scene in scenes]
        pools[split] = Pool(keys, listing.files(home, [f"images/{part}/{key}" for key in keys], labels))
    return pools


def clevr_count(objects: Any) -> int:
    return len(objects) - 3  # three to ten


def clevr_dist(objects: Any) -> int:
    return bin_of(min(item["pixel_coords"][2] for item in objects), CLEVR_NEAR)


def dmlab(root: Path) -> Pools:
    """dmlab/dmlab-{train,validation,test}.tfrecord*, each example with `image` (JPEG), `filename` and `label`"""
    parts = ("train", "validation", "test")
    home = _home(root, "dmlab")

    def pool(split: str) -> Pool:
        places: list[tuple[Path, int, int]] = []
        keys: list[str] = []
        labels: list[int] = []
        for path in sorted(home.glob(f"dmlab-{split}.tfrecord*")):
            for offset, length, found in tfrecord.examples(path):
                with _reading(path):
                    name, label = found["filename"][0], found["label"][0]
                    if not isinstance(name, bytes) or not isinstance(label, int):
                        raise ValueError("filename and label are not text and a number")
                    keys.append(name.decode())
                labels.append(label)
                places.append((path, offset, length))

        def read(i: int) -> Image.Image:
            path, offset, length = places[i]
            return _decode(tfrecord.example(path, offset, length).get("image", []), f"{path}, image {keys[i]}")

        names = tuple(f"{path.name}/{key}" for (path, _, _), key in zip(places, keys, strict=True))
        return Pool(keys, ImageList(np.array(labels, dtype=np.int64), names, read))

    return {split: pool(split) for split in parts}


def kitti(root: Path) -> Pools:
    """Kitti/raw/training/{image_2/*.png,label_2/*.txt} and Kitti/raw/mapping/ of the object development kit

    Drives, not images, are dealt to the splits: a tenth to test, a tenth to validation.
    """
    home = _home(root, "kitti")
    with _reading(home / "mapping/train_mapping.txt"):
        drives = [line.split()[1] for line in _lines(home / "mapping/train_mapping.txt")]
    with _reading(home / "mapping/train_rand.txt"):
        lines = (home / "mapping/train_rand.txt").read_text().strip().strip(",").split(",")
        drive_of = [drives[int(line) - 1] for line in lines]
    split_of = _deal(sorted(set(drive_of)))
    pools = {}
    for split in ("train", "validation", "test"):
        chosen = [i for i, drive in enumerate(drive_of) if split_of[drive] == split]
        labels = [bin_of(_nearest_vehicle(home / f"training/label_2/{i:06d}.txt"), KITTI_NEAR) for i in chosen]
        keys = [f"{i:06d}.png" for i in chosen]
        pools[split] = Pool(keys, listing.files(home, [f"training/image_2/{key}" for key in keys], labels))
    return pools


def _deal(drives: Sequence[str]) -> dict[str, str]:
    """TFDS's draw. RandomState is the generator whose stream NumPy keeps for ever."""
    chance, each = np.random.RandomState(123), max(1, len(drives) // 10)
    test = set(chance.choice(drives, each, replace=False).tolist())
    rest = [drive for drive in drives if drive not in test]
    validation = set(chance.choice(rest, each, replace=False).tolist())
    return {drive: "test" if drive in test else "validation" if drive in validation else "train" for drive in drives}


def _nearest_vehicle(path: Path) -> float:
    with _reading(path):
        rows = [line.split() for line in _lines(path)]
        return min([float(row[13]) for row in rows if row[0] in VEHICLES], default=KITTI_NONE)


def dsprites(root: Path, task: str, column: int, values: int) -> Pools:
    """dsprites/dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz; `values` of a factor become 16 classes"""
    path = _home(root, task) / DSPRITES
    with _reading(path), path.open("rb") as stored, np.load(stored) as file:
        classes = file["latents_classes"][:, column].astype(np.int64) * 16 // values

    def unpack() -> tuple[np.ndarray, tuple[int, ...]]:
        with _reading(path):
            return packed_bits(path, "imgs")

    bits = once(unpack)

    def read(i: int) -> np.ndarray:
        packed, shape = bits()
        return np.unpackbits(packed[i], count=int(np.prod(shape))).reshape(shape) * np.uint8(255)

    names = tuple(f"{DSPRITES}[{i}]" for i in range(len(classes)))
    return {"train": Pool(range(len(classes)), ImageList(classes, names, read))}


def smallnorb(root: Path, task: str, column: int, step: int) -> Pools:
    """smallnorb/smallnorb-5x46789x9x18x6x2x96x96-training-{dat,info}.mat and ...-5x01235x...-testing-..., gunzipped

    The first of the two cameras. The file counts a factor in steps of `step`.
    """
    stems = {"train": "smallnorb-5x46789x9x18x6x2x96x96-training", "test": "smallnorb-5x01235x9x18x6x2x96x96-testing"}
    home, pools = _home(root, task), {}
    for split, stem in stems.items():
        with _reading(home / f"{stem}-info.mat"):
            labels = norb(home / f"{stem}-info.mat")[:, column] // step
        with _reading(home / f"{stem}-dat.mat"):
            images = norb(home / f"{stem}-dat.mat")[:, 0]
        pools[split] = _positions(f"{stem}-dat.mat", images, labels)
    return pools


READERS: Mapping[str, Callable[[Path], Pools]] = {
    "cifar": cifar,
    "caltech101": caltech101,
    "dtd": dtd,
    "oxford_flowers102": oxford_flowers102,
    "oxford_iiit_pet": oxford_iiit_pet,
    "svhn": svhn,
    "sun397": sun397,
    "patch_camelyon": patch_camelyon,
    "eurosat": eurosat,
    "resisc45": resisc45,
    "diabetic_retinopathy": diabetic_retinopathy,
    "clevr_count": partial(clevr, task="clevr_count", label=clevr_count),
    "clevr_dist": partial(clevr, task="clevr_dist", label=clevr_dist),
    "dmlab": dmlab,
    "kitti": kitti,
    "dsprites_loc": partial(dsprites, task="dsprites_loc", column=4, values=32),
    "dsprites_ori": partial(dsprites, task="dsprites_ori", column=3, values=40),
    "smallnorb_azi": partial(smallnorb, task="smallnorb_azi", column=2, step=2),
    "smallnorb_ele": partial(smallnorb, task="smallnorb_ele", column=1, step=1),
}


ARRAYS = ("cifar", "svhn", "patch_camelyon", "dmlab", "dsprites_loc", "dsprites_ori", "smallnorb_azi", "smallnorb_ele")
"""Tasks whose images are not files of their own."""

SAMPLES: Mapping[str, Callable[[Path], Pools]] = {"cifar": cifar_sample, "svhn": svhn_sample}
"""Readers that do not ask for the checksums of the whole."""


def bin_of(value: float, thresholds: Sequence[float]) -> int:
    """Which threshold is the last one strictly below the value, in single precision as VTAB compares; -1 for none."""
    return sum(bool(np.float32(threshold) < np.float32(value)) for threshold in thresholds) - 1


# What the readers share


def _home(root: Path, task: str) -> Path:
    """The first folder of HOMES with all that is needed; the message says what the one nearest to it lacks."""
    folders, needed = HOMES[task]
    lacking = {
        root / folder: [name for name in needed if next((root / folder).glob(name), None) is None] for folder in folders
    }
    home = min(lacking, key=lambda folder: len(lacking[folder]))
    if lacking[home]:
        raise UsageError(
            f"{task}: {home} lacks {', '.join(lacking[home])}. Unpack the original archive there (docs/data.md has the "
            f"layout), or put the community's folder at {root / 'vtab-1k' / task}."
        )
    return home


def _here(root: Path, task: str) -> bool:
    """Whether the original files of a task are below `root`; Caltech101's split cannot be made from them."""
    try:
        return task != "caltech101" and _home(root, task) is not None
    except UsageError:
        return False


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turns whatever a file of unknown content provokes into a message that names the file."""
    try:
        yield
    except UsageError:
        raise
    except Exception as error:  # the readers of pickles, archives and matrices raise their own, of no common kind
        told = f"{type(error).__name__}: {error}".rstrip(".")
        raise UsageError(f"{path} is not as published ({told}). Get it again.") from error


def _lines(path: Path) -> list[str]:
    with _reading(path):
        return [line.strip() for line in path.read_text().splitlines() if line.strip()]


def _module(name: str, package: str | None = None) -> Any:
    try:
        return importlib.import_module(name)  # here, not above: only some tasks need it
    except ImportError as error:
        raise UsageError(f"This dataset needs {name}: pip install {package or name}.") from error


def _torchvision(name: str, home: Path, **options: object) -> Any:
    """A dataset class of torchvision, which checks the files' checksums before it opens them."""
    try:
        return getattr(_module("torchvision.datasets", "torchvision"), name)(str(home), download=False, **options)
    except RuntimeError as error:
        raise UsageError(f"{name}: the files in {home} do not have the published checksums. Get them again.") from error


def _positions(name: str, images: Any, labels: Sequence[int] | np.ndarray) -> Pool:
    """Images of one array, known by their position."""
    if len(images) != len(labels):
        raise UsageError(f"{name} holds {len(images)} images, but {len(labels)} labels belong to it. Get both again.")
    names = tuple(f"{name}[{i}]" for i in range(len(labels)))
    return Pool(
        range(len(labels)), ImageList(np.asarray(labels, dtype=np.int64), names, lambda i: np.asarray(images[i]))
    )


def _by_class(home: Path, keys: Mapping[str, Sequence[str]], folder: str = "") -> Pools:
    """Listed files <class>/<file> below `folder`; classes are numbered in alphabetical order over all lists."""
    class_of = {key: key.strip("/").rpartition("/")[0] for found in keys.values() for key in found}
    number = {name: i for i, name in enumerate(sorted(set(class_of.values())))}
    return {
        split: Pool(
            found,
            listing.files(home, [folder + key.strip("/") for key in found], [number[class_of[key]] for key in found]),
        )
        for split, found in keys.items()
    }


def _by_folder(home: Path) -> Pools:
    """<class>/*.jpg, all one split, with the key <class>_<file>."""
    names = sorted(path.relative_to(home).as_posix() for path in home.glob("*/*.jpg"))
    number = {folder: i for i, folder in enumerate(sorted({name.split("/")[0] for name in names}))}
    keys = [name.replace("/", "_", 1) for name in names]
    return {"train": Pool(keys, listing.files(home, names, [number[name.split("/")[0]] for name in names]))}


def _decode(image: Sequence[object], where: str) -> Image.Image:
    try:
        if not image or not isinstance(image[0], bytes):
            raise ValueError("there is none")
        with Image.open(io.BytesIO(image[0])) as found:
            return to_rgb(found)
    except DECODING as error:
        raise Unreadable(f"{where}:", f"not a readable image ({error})", "Get the file again") from error


LAYOUTS = (Layout("vtab-originals", "the authors' own files, as torchvision downloads them", _here, originals, sample),)
