"""Which 1,000 images VTAB-1k trains on, without TensorFlow: the order in which TFDS stores a split, and its slices.

TFDS writes the examples of a split in ascending order of md5(split + key), read as a 128-bit number; `train[:800]` is
the 800 smallest. The split is TFDS's name ("train", "validation", "test"), the key is the text that names an example:
its file name for most datasets, its position in the original file for the others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

COUNTS = (800, 200)  # train and val images of VTAB-1k; test is never cut short


@dataclass(frozen=True)
class Slice:
    """A piece of a split in TFDS's order, from `start` to `stop` per cent of it."""

    split: str
    start: int = 0
    stop: int = 100


@dataclass(frozen=True)
class Task:
    """One of the 19 tasks: where its three splits are cut from, and how many examples TFDS's splits hold in full."""

    classes: int
    totals: Mapping[str, int]
    val: Slice
    test: Slice
    train: Slice = Slice("train")


def order(split: str, keys: Sequence[str] | Sequence[int]) -> list[int]:
    """Positions of `keys` in the order in which TFDS stores the split."""
    digests = [hashlib.md5(f"{split}{key}".encode(), usedforsecurity=False).digest() for key in keys]
    return sorted(range(len(digests)), key=digests.__getitem__)  # bytes compare as the big-endian number they spell


def cut(
    task: Task, keys: Mapping[str, Sequence[str] | Sequence[int]], counts: tuple[int | None, int | None] = COUNTS
) -> dict[str, list[int]]:
    """Positions among keys[split] of the images of "train", "val" and "test", in TFDS's order.

    Raises ValueError where a split is too small to give as many as `counts` asks for; None takes all.
    """
    orders = {split: order(split, found) for split, found in keys.items()}

    def piece(part: str, count: int | None) -> list[int]:
        where: Slice = getattr(task, part)
        whole = orders[where.split]
        found = whole[_at(where.start, whole) : _at(where.stop, whole)]
        if count is not None and len(found) < count:
            raise ValueError(f"{part} needs {count} images, its share of the split {where.split!r} holds {len(found)}")
        return found[:count]

    return {"train": piece("train", counts[0]), "val": piece("val", counts[1]), "test": piece("test", None)}


def _at(percent: int, whole: Sequence[int]) -> int:
    return round(len(whole) * percent / 100)  # as TFDS rounds per cent: to the nearest example


def _own(classes: int, train: int, validation: int, test: int) -> Task:
    """A dataset with three splits of its own."""
    totals = {"train": train, "validation": validation, "test": test}
    return Task(classes, totals, val=Slice("validation"), test=Slice("test"))


def _tail(classes: int, train: int, test: int, share: int, tested: str = "test") -> Task:
    """A dataset without a validation split: val is what comes after `share` per cent of train."""
    totals = {"train": train, tested: test}
    return Task(classes, totals, train=Slice("train", 0, share), val=Slice("train", share), test=Slice(tested))


def _alone(classes: int, total: int, train: int, val: int) -> Task:
    """A dataset with a single split: `train` per cent of it, `val` per cent, and the rest."""
    seen = train + val
    return Task(
        classes,
        {"train": total},
        train=Slice("train", 0, train),
        val=Slice("train", train, seen),
        test=Slice("train", seen),
    )


def _halved(classes: int) -> Task:
    """smallNORB: val and test are the two halves of its test set."""
    totals = {"train": 24300, "test": 24300}
    return Task(classes, totals, val=Slice("test", 0, 50), test=Slice("test", 50))


TASKS: Mapping[str, Task] = {
    "cifar": _tail(100, 50000, 10000, share=90),
    "caltech101": _tail(102, 3060, 6084, share=90),
    "dtd": _own(47, 1880, 1880, 1880),
    "oxford_flowers102": _own(102, 1020, 1020, 6149),
    "oxford_iiit_pet": _tail(37, 3680, 3669, share=80),
    "svhn": _tail(10, 73257, 26032, share=90),
    "sun397": _own(397, 76128, 10875, 21750),
    "patch_camelyon": _own(2, 262144, 32768, 32768),
    "eurosat": _alone(10, 27000, train=60, val=20),
    "resisc45": _alone(45, 31500, train=60, val=20),
    "diabetic_retinopathy": _own(5, 35126, 10906, 42670),
    "clevr_count": _tail(8, 70000, 15000, share=90, tested="validation"),
    "clevr_dist": _tail(6, 70000, 15000, share=90, tested="validation"),
    "dmlab": _own(6, 65550, 22628, 22735),
    "kitti": _own(4, 6347, 423, 711),
    "dsprites_loc": _alone(16, 737280, train=80, val=10),
    "dsprites_ori": _alone(16, 737280, train=80, val=10),
    "smallnorb_azi": _halved(18),
    "smallnorb_ele": _halved(9),
}
