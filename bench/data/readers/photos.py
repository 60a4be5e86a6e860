"""The image tasks of the suite `pocket2` that show real things: crops of photographs that scikit-image ships.

A split takes its crops from a part of each photograph of its own: the left 38 %, a middle strip, the right 38 %; no
pixel is seen by two splits. Crops are made grey, and brought to a mean and a contrast drawn at random, so that neither
colour nor brightness tells the class. Numbers are whole, and chance is that of bench.data.readers.pocket, so the images
are the same bytes on every machine whose scikit-image ships the same photographs; the card's fingerprint tells.
"""

from __future__ import annotations

import importlib.util
import math
import zlib
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bench.data.readers.pocket import PIXEL, SIDE, SIZES, TURN, Dice, Ints, Splits, turned
from bench.data.sources import Missing

MATERIALS: Mapping[str, str] = {  # class -> file; licences in datasets/pocket2.toml
    "brick": "brick.png",
    "grass": "grass.png",
    "gravel": "gravel.png",
    "tissue": "ihc.png",
    "coins": "coins.png",
    "print": "text.png",
    "fur": "chelsea.png",
    "table": "coffee.png",
}
CLASSES: dict[str, tuple[str, ...]] = {
    "materials": tuple(MATERIALS),
    "tilt": tuple(f"{angle * 45 // 2}_degrees" for angle in range(8)),
    "zoom": ("nearest", "nearer", "near", "far", "farther", "farthest"),
}
TASKS: tuple[str, ...] = tuple(CLASSES)
PARTS = {"train": (0, 38), "val": (38, 62), "test": (62, 100)}  # of a photograph's columns, per cent
SAMPLES = 4  # by SAMPLES samples of a pixel


def make(name: str) -> Splits:
    """The images (N, 32, 32, 3) and labels (N,) of each split. Raises Missing where a photograph is not there."""
    dice = Dice(zlib.crc32(f"photos:{name}".encode()))
    splits: Splits = {}
    for split, size in SIZES.items():
        labels = dice.shuffled(np.arange(size, dtype=np.int64) % len(CLASSES[name]))
        images = [_developed(dice, _PAINTERS[name](dice, int(label), split)) for label in labels]
        splits[split] = np.stack(images), labels
    return splits


def _materials(dice: Dice, label: int, split: str) -> Ints:
    """A piece of one of eight materials, at up to 1.4 pixels a pixel, mirrored and turned by right angles."""
    photo = _part(tuple(MATERIALS.values())[label], split)
    return _crop(dice, photo, dice.between(PIXEL, PIXEL * 7 // 5), dice.between(0, 3) * TURN // 4)


def _tilt(dice: Dice, label: int, split: str) -> Ints:
    """A piece of a brick wall, turned: the label is the angle of its courses, in eight steps of 22.5 degrees."""
    turn = label * TURN // 16 + dice.between(-24, 24)  # a bin is 64 wide; its outermost eighths stay empty
    return _crop(
        dice,
        _part("brick.png", split),
        dice.between(PIXEL * 8 // 5, PIXEL * 5 // 2),
        turn + dice.between(0, 1) * TURN // 2,
    )


def _zoom(dice: Dice, label: int, split: str) -> Ints:
    """A piece of gravel, brick or grass: the label is how far it is away, in six steps of a factor of 1.28."""
    photo = _part(("gravel.png", "brick.png", "grass.png")[dice.between(0, 2)], split)
    scale = (56, 72, 92, 118, 151, 193)[label]  # pixels of the photograph a pixel, in 1/64
    return _crop(dice, photo, scale + dice.between(-scale // 16, scale // 16), dice.between(0, 3) * TURN // 4)


_PAINTERS: dict[str, Callable[[Dice, int, str], Ints]] = {
    "materials": _materials,
    "tilt": _tilt,
    "zoom": _zoom,
}


@cache
def _photo(name: str) -> Ints:
    """One of scikit-image's photographs in grey, (rows, columns)."""
    spec = importlib.util.find_spec("skimage")
    homes = spec.submodule_search_locations if spec else None
    path = Path(homes[0]) / "data" / name if homes else None
    if path is None or not path.is_file():
        raise Missing(f"scikit-image's photograph {name} is not here. Install it: pip install scikit-image.")
    pixels = np.asarray(Image.open(path).convert("RGB"), dtype=np.int32)
    return np.asarray((pixels[:, :, 0] * 299 + pixels[:, :, 1] * 587 + pixels[:, :, 2] * 114 + 500) // 1000, np.int32)


def _part(name: str, split: str) -> Ints:
    """The columns of a photograph that belong to a split."""
    photo = _photo(name)
    first, last = (photo.shape[1] * share // 100 for share in PARTS[split])
    return photo[:, first:last]


def _crop(dice: Dice, photo: Ints, scale: int, turn: int) -> Ints:
    """A square of 32 pixels somewhere in `photo`, turned; each pixel is the mean of its 4x4 samples, (32, 32).

    `scale` is the pixels of the photograph that one pixel shows, in 1/64.
    """
    step = scale // SAMPLES
    axis = np.arange(SIDE * SAMPLES, dtype=np.int32) * step - (SIDE * SAMPLES - 1) * step // 2
    u, v = turned(axis[None, :], axis[:, None], turn)
    u, v = u >> 11, v >> 11
    if dice.between(0, 1):
        u = -u  # mirrored as the photograph lies, so that its horizontals keep their angle in the crop
    reach = int(max(np.abs(u).max(), np.abs(v).max())) + PIXEL
    rows, columns = photo.shape
    x = u + dice.between(reach, columns * PIXEL - reach)
    y = v + dice.between(reach, rows * PIXEL - reach)
    seen = photo[y // PIXEL, x // PIXEL].reshape(SIDE, SAMPLES, SIDE, SAMPLES)
    return np.asarray(seen.sum((1, 3)) // SAMPLES**2, np.int32)


def _developed(dice: Dice, crop: Ints) -> NDArray[np.uint8]:
    """The crop in a tint, with a mean of 90 to 165 and a standard deviation of 25 to 45, both drawn; a little noise."""
    mean = int(crop.sum()) // crop.size
    spread = max(4, math.isqrt(int(((crop - mean) ** 2).sum()) // crop.size))
    level, contrast = dice.between(90, 165), dice.between(25, 45)
    grey = level + (crop - mean) * contrast // spread
    image = grey[:, :, None] + dice.grid(-15, 15, 3) + dice.grid(-6, 6, SIDE, SIDE, 3)
    return np.clip(image, 0, 255).astype(np.uint8)
