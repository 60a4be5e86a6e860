"""Builders of tiny data sets in the layouts of VTAB's 19 originals, and of the community's folder.

BUILD[task](root) writes the files and returns what they hold: for each TFDS split, its examples in the order of the files.
"""

from __future__ import annotations

import csv
import io
import json
import pickle
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from PIL import Image

from bench.data.readers import retina


@dataclass(frozen=True)
class Example:
    key: str | int
    label: int
    image: np.ndarray  # as it should be read


Splits = Mapping[str, list[Example]]


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape or (9, 7, 3), dtype=np.uint8)


def paint(path: Path, seed: int, *shape: int) -> np.ndarray:
    """An image file of noise, and what a decoder makes of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(seed, *shape)).save(path, format="PNG" if path.suffix == ".png" else "JPEG")
    return np.asarray(Image.open(path).convert("RGB"))


def write(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def cifar(root: Path) -> Splits:
    home, splits = root / "cifar-100-python", {}
    home.mkdir(parents=True)
    (home / "meta").write_bytes(pickle.dumps({"fine_label_names": [f"class{i}" for i in range(100)]}))
    for seed, split in enumerate(("train", "test")):
        images, labels = noise(seed, 20, 32, 32, 3), [(37 * i + seed) % 100 for i in range(20)]
        rows = images.transpose(0, 3, 1, 2).reshape(20, 3072)
        (home / split).write_bytes(pickle.dumps({"data": rows, "fine_labels": labels, "coarse_labels": [0] * 20}))
        splits[split] = [Example(i, label, images[i]) for i, label in enumerate(labels)]
    return splits


def dtd(root: Path) -> Splits:
    splits = {}
    for split, name in (("train", "train"), ("validation", "val"), ("test", "test")):
        keys = [f"{kind}/{kind}_{name}{i:04d}.jpg" for i in range(6) for kind in ("woven", "banded", "cracked")]
        write(root / f"dtd/dtd/labels/{name}1.txt", keys)
        splits[split] = [
            Example(
                key, ("banded", "cracked", "woven").index(key.split("/")[0]), paint(root / "dtd/dtd/images" / key, i)
            )
            for i, key in enumerate(keys)
        ]
    return splits


def oxford_flowers102(root: Path) -> Splits:
    home = root / "flowers-102"
    images = {i: paint(home / f"jpg/image_{i:05d}.jpg", i) for i in range(1, 31)}
    labels = {i: 1 + 7 * i % 102 for i in images}
    ids = {
        "train": [3, 1, 2, *range(10, 17)],
        "validation": [4, 6, 5, *range(17, 24)],
        "test": [9, 7, 8, *range(24, 31)],
    }
    scipy.io.savemat(home / "imagelabels.mat", {"labels": np.array([list(labels.values())], dtype=np.uint8)})
    names = {"train": "trnid", "validation": "valid", "test": "tstid"}
    scipy.io.savemat(home / "setid.mat", {names[split]: np.array([found]) for split, found in ids.items()})
    return {
        split: [Example(f"image_{i:05d}.jpg", labels[i] - 1, images[i]) for i in found] for split, found in ids.items()
    }


def oxford_iiit_pet(root: Path) -> Splits:
    home, splits = root / "oxford-iiit-pet", {}
    for split, name in (("train", "trainval"), ("test", "test")):
        pets = [
            (f"{breed}_{name}{i}", 1 + j) for i in range(10) for j, breed in enumerate(("Abyssinian", "great_pyrenees"))
        ]
        write(home / f"annotations/{name}.txt", (f"{pet} {label} 1 1" for pet, label in pets))
        splits[split] = [
            Example(f"{pet}.jpg", label - 1, paint(home / f"images/{pet}.jpg", i))
            for i, (pet, label) in enumerate(pets)
        ]
    return splits


def svhn(root: Path) -> Splits:
    root.mkdir(exist_ok=True)
    splits = {}
    for seed, split in enumerate(("train", "test")):
        images, labels = noise(seed, 32, 32, 3, 20), 1 + np.arange(20) % 10  # 10 stands for the digit 0
        scipy.io.savemat(root / f"{split}_32x32.mat", {"X": images, "y": labels[:, None].astype(np.uint8)})
        splits[split] = [Example(i, labels[i] % 10, images[..., i]) for i in range(20)]
    return splits


def sun397(root: Path) -> Splits:
    home, splits = root / "SUN397", {}
    classes = ("/a/abbey", "/a/apartment_building/outdoor", "/z/zoo")
    for split, name in (("train", "tr"), ("validation", "va"), ("test", "te")):
        keys = [f"{classes[i % 3]}/sun_{name}{i}.jpg" for i in range(9)]
        write(home / f"sun397_tfds_{name}.txt", keys)
        splits[split] = [Example(key, i % 3, paint(home / key.strip("/"), i)) for i, key in enumerate(keys)]
    return splits


def patch_camelyon(root: Path, h5py: Any) -> Splits:
    home, splits = root / "pcam", {}
    home.mkdir(parents=True)
    for seed, (split, part) in enumerate((("train", "train"), ("validation", "valid"), ("test", "test"))):
        images, labels = noise(seed, 10, 96, 96, 3), np.arange(10) // 2 % 2
        with h5py.File(home / f"camelyonpatch_level_2_split_{part}_x.h5", "w") as file:
            file["x"] = images
        with h5py.File(home / f"camelyonpatch_level_2_split_{part}_y.h5", "w") as file:
            file["y"] = labels.reshape(10, 1, 1, 1).astype(np.uint8)
        splits[split] = [Example(f"{part}_{i}", labels[i], images[i]) for i in range(10)]
    return splits


EUROSAT = {
    "AnnualCrop": 3000, "Forest": 3000, "HerbaceousVegetation": 3000, "Highway": 2500, "Industrial": 2500,
    "Pasture": 2000, "PermanentCrop": 2500, "Residential": 3000, "River": 2500, "SeaLake": 3000,
}  # fmt: skip


def eurosat(root: Path) -> Splits:
    return _folders(root / "eurosat/2750", list(EUROSAT), "{}_{}.jpg")


def resisc45(root: Path) -> Splits:
    return _folders(root / "NWPU-RESISC45", ["airplane", "baseball_diamond", "wetland"], "{}_{:03d}.jpg")


def _folders(home: Path, names: list[str], pattern: str) -> Splits:
    return {
        "train": [
            Example(
                f"{name}_{pattern.format(name, i)}", label, paint(home / name / pattern.format(name, i), 9 * i + label)
            )
            for label, name in enumerate(names)
            for i in range(1, 13)
        ]
    }


def diabetic_retinopathy(root: Path) -> Splits:
    home = root / "diabetic-retinopathy-detection"

    def photo(path: Path, seed: int) -> np.ndarray:
        path.parent.mkdir(parents=True, exist_ok=True)
        y, x = np.mgrid[:40, :50]
        disc = (y - 20) ** 2 + (x - 25) ** 2 < 18**2
        Image.fromarray(noise(seed, 40, 50, 3) * disc[..., None]).save(path, format="JPEG", quality=95)
        return retina.prepare(np.asarray(Image.open(path)))

    def rows(folder: str, ids: Iterable[int]) -> list[Example]:
        names = [f"{i}_{side}" for i in ids for side in ("left", "right")]
        return [Example(name, (i + 2) % 5, photo(home / folder / f"{name}.jpeg", i)) for i, name in enumerate(names)]

    splits = {
        "train": rows("train", range(2)),
        "validation": rows("test", range(12, 13)),
        "test": rows("test", range(20, 21)),
    }
    write(home / "trainLabels.csv", ["image,level", *(f"{e.key},{e.label}" for e in splits["train"])])
    with (home / "retinopathy_solution.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "level", "Usage"])
        for split, usage in (("validation", "Public"), ("test", "Private")):
            table.writerows((e.key, e.label, usage) for e in splits[split])
    return splits


DEPTHS = [  # of the closest object, and its bin: the thresholds belong to the bin below
    (0.5, 0), (8.0, 0), (8.000001, 1), (8.0000000001, 0), (8.5, 1), (8.6, 2), (9.0, 2), (9.5, 3), (9.7, 4), (10.0, 4), (10.1, 5), (99.0, 5),
]  # fmt: skip


def clevr(root: Path, counted: bool) -> Splits:
    home, splits = root / "clevr/CLEVR_v1.0", {}
    for seed, (split, part) in enumerate((("train", "train"), ("validation", "val"))):
        scenes, found = [], []
        for i in range(24):
            depth, near = DEPTHS[i % len(DEPTHS)]
            key, count = f"CLEVR_{part}_{i:06d}.png", 3 + i % 8
            objects = [{"shape": "cube", "pixel_coords": [1, 2, depth + j]} for j in reversed(range(count))]
            scenes.append({"image_filename": key, "split": part, "objects": objects})
            image = paint(home / f"images/{part}" / key, 100 * seed + i)
            found.append(Example(key, count - 3 if counted else near, image))
        (home / "scenes").mkdir(exist_ok=True)
        (home / f"scenes/CLEVR_{part}_scenes.json").write_text(json.dumps({"info": {}, "scenes": scenes}))
        splits[split] = found
    return splits


def dmlab(root: Path) -> Splits:
    home, splits = root / "dmlab", {}
    home.mkdir(parents=True)
    for seed, split in enumerate(("train", "validation", "test")):
        found, messages = [], []
        for i in range(8):
            coded = io.BytesIO()
            Image.fromarray(noise(10 * seed + i)).save(coded, format="JPEG")
            key = f"video_{split}_{i}.jpg"
            messages.append(example({"image": coded.getvalue(), "filename": key.encode(), "label": i % 6}))
            found.append(Example(key, i % 6, np.asarray(Image.open(coded))))
        for shard in range(2):
            path = home / f"dmlab-{split}.tfrecord-0000{shard}-of-00002"
            path.write_bytes(b"".join(map(record, messages[4 * shard : 4 * shard + 4])))
        splits[split] = found
    return splits


VEHICLE_Z = [  # of Car, Van, Truck and of others; the bin that follows
    ((8.0,), (1.0,), 0), ((8.01, 30.0), (), 1), ((20.0,), (), 1), ((20.01,), (2.0,), 2), ((), (3.0,), 3), ((), (), 3), ((-2.0,), (), 0),
]  # fmt: skip


def kitti(root: Path) -> Splits:
    home = root / "Kitti/raw"
    drives, frames = [f"2011_09_{d:02d}_drive_{d:04d}_sync" for d in range(20, 0, -1)], 3
    lines = [f"2011_09_26 {drive} {frame:010d}" for drive in drives for frame in range(frames)]
    write(home / "mapping/train_mapping.txt", lines)
    shuffled = [int(i) for i in np.random.default_rng(0).permutation(len(lines))]
    (home / "mapping/train_rand.txt").write_text(",".join(str(line + 1) for line in shuffled) + "\n")
    state = np.random.get_state()
    np.random.seed(123)
    test = set(np.random.choice(sorted(drives), 2, replace=False))
    validation = set(np.random.choice(sorted(set(drives) - test), 2, replace=False))
    np.random.set_state(state)
    splits: dict[str, list[Example]] = {"train": [], "validation": [], "test": []}
    for i, line in enumerate(shuffled):
        vehicles, others, label = VEHICLE_Z[i % len(VEHICLE_Z)]
        kinds = [
            *zip(("Van", "Car"), vehicles, strict=False),
            *(("Pedestrian", z) for z in others),
            ("DontCare", -1000.0),
        ]
        write(
            home / f"training/label_2/{i:06d}.txt",
            (f"{kind} 0.00 0 -0.20 1 2 3 4 1.8 0.4 1.2 1.84 1.47 {z} 0.01" for kind, z in kinds),
        )
        image = paint(home / f"training/image_2/{i:06d}.png", i)
        drive = drives[line // frames]
        split = "test" if drive in test else "validation" if drive in validation else "train"
        splits[split].append(Example(f"{i:06d}.png", label, image))
    return splits


def latents(shape: tuple[int, ...] = (1, 3, 6, 40, 32, 32)) -> np.ndarray:
    """Class indices of dSprites: colour, shape, scale, orientation, x, y; the last runs fastest."""
    return np.stack([axis.ravel() for axis in np.indices(shape)], axis=1)


def dsprites(root: Path, column: int, values: int) -> Splits:
    (root / "dsprites").mkdir(parents=True)
    classes = latents()[::12101][:60]  # a stride that moves every factor
    images = np.random.default_rng(0).integers(0, 2, (60, 64, 64), dtype=np.uint8)
    path = root / "dsprites/dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"
    np.savez_compressed(
        path, imgs=images, latents_classes=classes, metadata=np.array({"title": "dSprites"}, dtype=object)
    )
    return {
        "train": [
            Example(i, int(row[column] // (values / 16)), images[i] * np.uint8(255)) for i, row in enumerate(classes)
        ]
    }


def norb(path: Path, values: np.ndarray) -> None:
    """The binary matrix format: three lengths at least, whatever the number of axes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    magic = {"uint8": 0x1E3D4C55, "int32": 0x1E3D4C54}[str(values.dtype)]
    lengths = [*values.shape, 1, 1][: max(3, values.ndim)]
    path.write_bytes(struct.pack(f"<{2 + len(lengths)}i", magic, values.ndim, *lengths) + values.tobytes())


def smallnorb(root: Path, azimuth: bool) -> Splits:
    splits = {}
    stems = {"train": "smallnorb-5x46789x9x18x6x2x96x96-training", "test": "smallnorb-5x01235x9x18x6x2x96x96-testing"}
    for seed, (split, stem) in enumerate(stems.items()):
        images, i = noise(seed, 20, 2, 96, 96), np.arange(20)
        info = np.stack([i % 10, i % 9, 2 * (i % 18), i % 6], axis=1).astype(np.int32)
        norb(root / f"smallnorb/{stem}-dat.mat", images)
        norb(root / f"smallnorb/{stem}-info.mat", info)
        splits[split] = [Example(n, n % 18 if azimuth else n % 9, images[n, 0]) for n in range(20)]
    return splits


BUILD: Mapping[str, Callable[[Path], Splits]] = {
    "cifar": cifar,
    "dtd": dtd,
    "oxford_flowers102": oxford_flowers102,
    "oxford_iiit_pet": oxford_iiit_pet,
    "svhn": svhn,
    "sun397": sun397,
    "eurosat": eurosat,
    "resisc45": resisc45,
    "diabetic_retinopathy": diabetic_retinopathy,
    "clevr_count": partial(clevr, counted=True),
    "clevr_dist": partial(clevr, counted=False),
    "dmlab": dmlab,
    "kitti": kitti,
    "dsprites_loc": partial(dsprites, column=4, values=32),
    "dsprites_ori": partial(dsprites, column=3, values=40),
    "smallnorb_azi": partial(smallnorb, azimuth=True),
    "smallnorb_ele": partial(smallnorb, azimuth=False),
}  # patch_camelyon needs h5py, caltech101 cannot be read


# TFRecord


def example(features: Mapping[str, bytes | int]) -> bytes:
    """A tf.train.Example; numbers are packed, as current writers do."""
    entries = b""
    for name, value in features.items():
        feature = _field(1, _field(1, value)) if isinstance(value, bytes) else _field(3, _field(1, _varint(value)))
        entries += _field(1, _field(1, name.encode()) + _field(2, feature))
    return _field(1, entries)


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    groups = []
    while True:
        groups.append(value & 127)
        value >>= 7
        if not value:
            return bytes([group | 128 for group in groups[:-1]] + groups[-1:])


def record(message: bytes) -> bytes:
    length = struct.pack("<Q", len(message))
    return length + _crc(length) + message + _crc(message)


def _crc(data: bytes) -> bytes:
    """Masked CRC-32C, bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 * (crc & 1))
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


# The community's folder


def community(
    home: Path, classes: int, train: int = 8, val: int = 4, test: int | None = None
) -> dict[str, list[tuple[str, int]]]:
    """vtab-1k/<dataset> with the pictures of train and val stored twice, as it is passed around."""
    lists: dict[str, list[tuple[str, int]]] = {}
    counts = {
        "train800": train,
        "val200": val,
        "train800val200": train + val,
        "test": classes if test is None else test,
    }
    for name, count in counts.items():
        lists[name] = [(f"images/{name}/{i:06d}.jpg", i % classes) for i in range(count)]
        if name == "train800val200":
            labels = [label for _, label in lists["train800"] + lists["val200"]]
            lists[name] = [(path, label) for (path, _), label in zip(lists[name], labels, strict=True)]
        for i, (path, _) in enumerate(lists[name]):
            paint(home / path, i)
        write(home / f"{name}.txt", (f"{path} {label}" for path, label in lists[name]))
    return lists
