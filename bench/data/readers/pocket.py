"""The drawn image tasks of the bundled suites: 32x32 RGB, drawn on the spot, the same bytes on every machine.

Every number here is a whole number. Random ones come from the raw output of PCG64, a stream that NumPy promises to keep
where the methods of its `Generator` may change. Sines come from an integer table, edges are smoothed by counting 4x4
samples a pixel, colours mix in integers with explicit rounding: there is no libm, no rounding mode and no order of
summation left to differ between processors, operating systems or NumPy releases.

Lengths are in 1/64 pixel, angles in 1/1024 turn (clockwise as seen, because y points down), and a shape is described in
coordinates (u, v) of its own, 256 to its radius, u along its heading.
"""

import hashlib
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int32]
Mask = NDArray[np.bool_]
Splits = dict[str, tuple[NDArray[np.uint8], NDArray[np.int64]]]

SIDE, PIXEL, TURN = 32, 64, 1024
SIZES = {"train": 800, "val": 200, "test": 1000}
SHAPES = ("circle", "triangle", "square", "pentagon", "star", "cross", "crescent", "ring")
WINDS = ("e", "ese", "se", "sse", "s", "ssw", "sw", "wsw", "w", "wnw", "nw", "nnw", "n", "nne", "ne", "ene")

CLASSES: dict[str, tuple[str, ...]] = {
    "digits": tuple("0123456789"),
    "textures": ("stripes", "waves", "zigzag", "checks", "dots", "rings", "bricks", "mesh", "grain", "blobs"),
    "shapes_sketch": SHAPES,
    "shapes_paint": SHAPES,
    "count": tuple("12345678"),
    "location": tuple(f"row{row}_column{column}" for row in range(4) for column in range(4)),
    "orientation": WINDS,
    "distance": ("nearest", "nearer", "near", "far", "farther", "farthest"),
}
TASKS: tuple[str, ...] = tuple(CLASSES)

_AXIS = np.arange(4 * SIDE, dtype=np.int32) * (PIXEL // 4) + PIXEL // 8  # where the samples lie
_BOW = np.arange(TURN // 2, dtype=np.int64) * np.arange(TURN // 2, 0, -1, dtype=np.int64)
_ARCH = 16 * 2048 * _BOW // (5 * TURN**2 // 4 - 4 * _BOW)  # Bhaskara's approximation of the sine, good to 0.2 per cent
_SIN = np.concatenate([_ARCH, -_ARCH]).astype(np.int32)  # 2048 sin, for every angle


def make(name: str) -> Splits:
    """The images (N, 32, 32, 3) and labels (N,) of each split; one stream of chance runs through all three."""
    if name not in TASKS:
        raise ValueError(f"No pocket task is called {name!r}; there are {', '.join(TASKS)}.")
    dice = Dice(zlib.crc32(name.encode()))
    if name == "digits":
        return _digits(dice)
    splits: Splits = {}
    for split, size in SIZES.items():
        labels = dice.shuffled(np.arange(size, dtype=np.int64) % len(CLASSES[name]))
        splits[split] = np.stack([_PAINTERS[name](dice, int(label)) for label in labels]), labels
    return splits


def fingerprint(splits: Mapping[str, tuple[NDArray[np.uint8], NDArray[np.int64]]]) -> str:
    """SHA-256 over name, shapes, dtypes and bytes of every split, in alphabetical order of the names."""
    digest = hashlib.sha256()
    for split in sorted(splits):
        images, labels = splits[split]
        for part in (np.ascontiguousarray(images), np.ascontiguousarray(labels, dtype="<i8")):
            digest.update(f"{split} {part.shape} {part.dtype.str}\n".encode())
            digest.update(part.tobytes())
    return digest.hexdigest()


class Dice:
    """Whole random numbers from the raw 64-bit stream of PCG64."""

    def __init__(self, seed: int) -> None:
        self._bits = np.random.PCG64(seed)

    def between(self, low: int, high: int) -> int:
        """One number, low <= number <= high."""
        return low + ((int(self._bits.random_raw()) >> 32) * (high - low + 1) >> 32)

    def grid(self, low: int, high: int, *shape: int) -> Ints:
        """An array of such numbers."""
        raw = self._bits.random_raw(int(np.prod(shape))) >> np.uint64(32)
        return (low + (raw * np.uint64(high - low + 1) >> np.uint64(32)).astype(np.int32)).reshape(shape)

    def shuffled(self, values: NDArray[Any]) -> NDArray[Any]:
        return values[np.argsort(self._bits.random_raw(len(values)), kind="stable")]


def _digits(dice: Dice) -> Splits:
    from sklearn.datasets import load_digits  # here, because it takes a second that the other tasks need not wait

    shift, cells, relief, grain, contrast = 2, 4, 25, 10, 330
    source, splits = load_digits(), {}
    order = dice.shuffled(np.arange(len(source.target)))
    rest = order[np.argsort(source.target[order], kind="stable")]
    for split in SIZES:
        wanted = min(SIZES[split], len(rest))  # the test split is what the other two leave
        taken = np.arange(len(rest)) * wanted % len(rest) < wanted  # evenly over the classes, which lie sorted
        chosen, rest, images = dice.shuffled(rest[taken]), rest[~taken], []
        for scan in source.images[chosen].astype(np.int32):
            down, right = dice.between(0, 2 * shift), dice.between(0, 2 * shift)
            ink = np.pad(_enlarged(scan * 16, SIDE, SIDE), shift)[down : down + SIDE, right : right + SIDE, None]
            ground = dice.grid(0, 120, 3)
            colour = _unlike(dice, ground, contrast)
            ground = ground + _cloud(dice, cells, relief)
            images.append(_developed(dice, (ground * (256 - ink) + colour * ink + 128) >> 8, grain))
        splits[split] = np.stack(images), source.target[chosen].astype(np.int64)
    return splits


def _textures(dice: Dice, label: int) -> NDArray[np.uint8]:
    periods, warp, grain, contrast = (5 * PIXEL, 9 * PIXEL), 64, 12, 250
    kind, period = CLASSES["textures"][label], dice.between(*periods)
    half, thin = period // 2, period // 4
    u, v = _frame(_spots(dice, (256, 256))[0], dice.between(0, TURN - 1), slice(0, SIDE), slice(0, SIDE))
    u = u + _enlarged(dice.grid(-warp, warp, 4, 4), *u.shape)
    v = v + _enlarged(dice.grid(-warp, warp, 4, 4), *v.shape)
    a, b = u % period, v % period
    if kind == "stripes":
        mask = a < half
    elif kind == "waves":
        mask = (u + (_SIN[(v * 512 // period) % TURN] * half >> 12)) % period < half
    elif kind == "zigzag":
        mask = (u + np.abs(b - half)) % period < half
    elif kind == "checks":
        mask = (a < half) ^ (b < half)
    elif kind == "dots":
        mask = (a - half) ** 2 + (b - half) ** 2 < (period * 2 // 5) ** 2
    elif kind == "rings":
        mask = np.searchsorted((np.arange(1, 64) * half) ** 2, u**2 + v**2) % 2 == 0
    elif kind == "bricks":
        mask = ((u + v // period * period) % (2 * period) < thin) | (b < thin)
    elif kind == "mesh":
        mask = (a < thin) | (b < thin)
    else:
        cells = 32 if kind == "grain" else 10
        mask = _enlarged(dice.grid(0, 255, cells, cells), *u.shape) > 127
    ground = dice.grid(0, 255, 3)
    colour = _unlike(dice, ground, contrast)
    canvas = np.broadcast_to(ground, (SIDE, SIDE, 3)).copy()
    _blend(canvas, mask, colour)
    return _developed(dice, canvas, grain)


def _shapes_sketch(dice: Dice, label: int) -> NDArray[np.uint8]:
    radii, wobble, strays, pen, grain = (8 * PIXEL, 12 * PIXEL), 35, 4, 5, 26
    canvas = dice.grid(190, 245, 3) + _cloud(dice, 3, 20)
    for _ in range(dice.between(0, strays)):
        _stroke(dice, canvas, dice.grid(90, 170, 3), 48)
    turn, ink, push = dice.between(0, TURN - 1), dice.grid(0, 70, 3), dice.grid(-wobble, wobble, 2, 5, 5)
    _outline(canvas, SHAPES[label], _spots(dice, radii)[0], turn, ink, push, pen)
    return _developed(dice, canvas, grain)


def _shapes_paint(dice: Dice, label: int) -> NDArray[np.uint8]:
    radii, clutter, occluders, relief, grain, contrast = (9 * PIXEL, 13 * PIXEL), 3, 1, 30, 8, 300
    ground = dice.grid(0, 120, 3)
    colour = _unlike(dice, ground, contrast)
    canvas = ground + _cloud(dice, 8, relief)
    for _ in range(clutter):
        _stroke(dice, canvas, ground + dice.grid(-60, 60, 3), 160)
    _stamp(canvas, SHAPES[label], _spots(dice, radii)[0], dice.between(0, TURN - 1), colour + _cloud(dice, 8, relief))
    for _ in range(dice.between(0, occluders)):
        _stroke(dice, canvas, dice.grid(0, 255, 3), 100)
    return _developed(dice, canvas, grain)


def _count(dice: Dice, label: int) -> NDArray[np.uint8]:
    radii, gap, relief, grain, contrast = (3 * PIXEL, 4 * PIXEL), PIXEL, 15, 6, 330
    ground = dice.grid(0, 90, 3)
    canvas = ground + _cloud(dice, 3, relief)
    for spot in _apart(dice, label + 1, radii, gap):
        kind = SHAPES[dice.between(0, 5)]
        _stamp(canvas, kind, spot, dice.between(0, TURN - 1), _unlike(dice, ground, contrast))
    return _developed(dice, canvas, grain)


def _location(dice: Dice, label: int) -> NDArray[np.uint8]:
    radii, clutter, relief, grain, contrast = (4 * PIXEL, 5 * PIXEL), 2, 25, 10, 300
    ground = dice.grid(0, 120, 3)
    colour = _unlike(dice, ground, contrast)
    canvas = ground + _cloud(dice, 6, relief)
    for _ in range(clutter):
        _stroke(dice, canvas, dice.grid(0, 255, 3), 64)
    kind = SHAPES[dice.between(0, len(SHAPES) - 1)]
    _stamp(canvas, kind, _in_cell(dice, label, radii), dice.between(0, TURN - 1), colour)
    return _developed(dice, canvas, grain)


def _orientation(dice: Dice, label: int) -> NDArray[np.uint8]:
    radii, clutter, relief, grain, contrast = (10 * PIXEL, 13 * PIXEL), 1, 25, 8, 300
    ground = dice.grid(0, 120, 3)
    colour = _unlike(dice, ground, contrast)
    canvas = ground + _cloud(dice, 6, relief)
    for _ in range(clutter):
        _stroke(dice, canvas, ground + dice.grid(-60, 60, 3), 100)
    turn = label * TURN // 16 + dice.between(-24, 24)  # a bin is 64 wide; its outermost eighths stay empty
    _stamp(canvas, "dart", _spots(dice, radii)[0], turn, colour)
    return _developed(dice, canvas, grain)


def _distance(dice: Dice, label: int) -> NDArray[np.uint8]:
    """Like CLEVR's: what is farther looks smaller, and the label is the distance of the nearest object."""
    radius, others, smallest, relief, grain, contrast = (10 - label) * PIXEL, 3, 2 * PIXEL, 15, 6, 300
    ground = dice.grid(0, 90, 3)
    canvas = ground + _cloud(dice, 3, relief)
    spots = [_spots(dice, (smallest, radius - 2 * PIXEL))[0] for _ in range(dice.between(1, others))]
    for spot in [*spots, _spots(dice, (radius - PIXEL * 3 // 4, radius - PIXEL // 4))[0]]:  # the nearest hides others
        kind = SHAPES[dice.between(0, 3)]
        _stamp(canvas, kind, spot, dice.between(0, TURN - 1), _unlike(dice, ground, contrast))
    return _developed(dice, canvas, grain)


_PAINTERS: dict[str, Callable[[Dice, int], NDArray[np.uint8]]] = {
    "textures": _textures,
    "shapes_sketch": _shapes_sketch,
    "shapes_paint": _shapes_paint,
    "count": _count,
    "location": _location,
    "orientation": _orientation,
    "distance": _distance,
}


def _spots(dice: Dice, radii: tuple[int, int], number: int = 1) -> Ints:
    """Spots that lie wholly inside the image, (number, 3)."""
    r = dice.grid(*radii, number)
    x, y = r + (dice.grid(0, 65535, 2, number) * (SIDE * PIXEL - 2 * r) >> 16)
    return np.stack([x, y, r], axis=1)


def _squared(spots: Ints, spot: Ints) -> Ints:
    """Squared distance of each centre from one centre."""
    x, y = spots[:, 0] - spot[0], spots[:, 1] - spot[1]
    return x * x + y * y


def _apart(dice: Dice, number: int, radii: tuple[int, int], gap: int) -> list[Ints]:
    """Spots whose circles are at least `gap` apart."""
    while True:
        free = _spots(dice, radii, 150)
        chosen: list[Ints] = []
        while len(free) and len(chosen) < number:
            chosen.append(free[0])
            free = free[_squared(free, free[0]) >= (free[:, 2] + free[0, 2] + gap) ** 2]
        if len(chosen) == number:
            return chosen


def _in_cell(dice: Dice, label: int, radii: tuple[int, int]) -> Ints:
    """A spot inside the image; its centre lies in the labelled cell of a 4x4 grid, 3/4 pixel clear of the lines."""
    cell, r = SIDE * PIXEL // 4, dice.between(*radii)
    low, high = np.array([label % 4, label // 4]) * cell + 48, np.array([label % 4 + 1, label // 4 + 1]) * cell - 48
    x, y = (dice.between(max(a, r), min(b, SIDE * PIXEL - r)) for a, b in zip(low.tolist(), high.tolist(), strict=True))
    return np.array([x, y, r], np.int32)


def turned(x: Any, y: Any, turn: int, scale: int = 2048) -> tuple[Any, Any]:
    """(x, y) seen from a frame turned by `turn`, times `scale`."""
    cosine, sine = int(_SIN[(turn + TURN // 4) % TURN]) * scale // 2048, int(_SIN[turn % TURN]) * scale // 2048
    return cosine * x + sine * y, cosine * y - sine * x


def _window(spot: Ints, slack: int = 0) -> tuple[slice, slice]:
    """The rows and columns of pixels that a spot touches."""
    x, y, r = spot.tolist()
    first, last = (np.array([y, x]) - r - slack) // PIXEL, (np.array([y, x]) + r + slack) // PIXEL + 1
    rows, columns = (slice(max(0, a), min(SIDE, b)) for a, b in zip(first.tolist(), last.tolist(), strict=True))
    return rows, columns


def _frame(spot: Ints, turn: int, rows: slice, columns: slice) -> tuple[Ints, Ints]:
    """(u, v) of the 4x4 samples of each pixel of a window, (4 rows, 4 columns)."""
    x, y, r = spot.tolist()
    x, y = _AXIS[4 * columns.start : 4 * columns.stop] - x, _AXIS[4 * rows.start : 4 * rows.stop, None] - y
    u, v = turned(x, y, turn, 2048 * 256 // r)
    return u >> 11, v >> 11


def _inside(kind: str, u: Ints, v: Ints) -> Mask:
    if kind == "circle":
        return u * u + v * v < 225**2
    if kind == "ring":
        return np.abs(u * u + v * v - (240**2 + 140**2) // 2) < (240**2 - 140**2) // 2
    if kind == "crescent":
        return (u * u + v * v < 245**2) & ((u - 110) ** 2 + v * v > 190**2)
    if kind == "cross":
        return (np.minimum(np.abs(u), np.abs(v)) < 75) & (np.maximum(np.abs(u), np.abs(v)) < 240)
    if kind == "dart":
        return (np.abs(v) * 4 < 256 - u) & (u + np.abs(v) > -100)
    corners, apothem = {"triangle": (3, 128), "square": (4, 181), "pentagon": (5, 207), "star": (5, 79)}[kind]
    sides = np.zeros(u.shape, np.int8)
    for side in range(corners):
        sides += turned(u, v, TURN * side // corners)[0] < apothem * 2048
    return sides >= (4 if kind == "star" else corners)  # each ray of the star lies beyond just one of its five lines


def _stamp(canvas: Ints, kind: str, spot: Ints, turn: int, colour: Ints) -> None:
    """Fills a shape with a colour, (3,), or with the pixels of another canvas, (32, 32, 3)."""
    window = _window(spot)
    _blend(canvas[window], _inside(kind, *_frame(spot, turn, *window)), colour[window] if colour.ndim > 1 else colour)


def _outline(canvas: Ints, kind: str, spot: Ints, turn: int, colour: Ints, wobble: Ints, pen: int) -> None:
    """Draws the inner edge of a shape, `pen` samples wide, after pushing its points by a smooth field, (2, k, k)."""
    window = _window(spot, slack=2 * PIXEL)
    u, v = _frame(spot, turn, *window)
    mask = _inside(kind, u + _enlarged(wobble[0], *u.shape), v + _enlarged(wobble[1], *u.shape))
    core = np.pad(mask, pen)
    for axis in (0, 1):
        core = core & np.roll(core, pen, axis) & np.roll(core, -pen, axis)
    _blend(canvas[window], mask & ~core[pen:-pen, pen:-pen], colour)


def _stroke(dice: Dice, canvas: Ints, colour: Ints, width: int) -> None:
    """A straight line somewhere, `width` in 1/64 pixel."""
    spot = np.append(dice.grid(0, SIDE * PIXEL - 1, 2), dice.grid(6 * PIXEL, 15 * PIXEL, 1))
    window = _window(spot)
    u, v = _frame(spot, dice.between(0, TURN - 1), *window)
    _blend(canvas[window], (np.abs(v) * int(spot[2]) < width * 128) & (np.abs(u) < 250), colour)


def _blend(pixels: Ints, mask: Mask, colour: Ints) -> None:
    """Lays a colour over pixels in place, as densely as their 16 samples are in the mask."""
    hits = mask.view(np.uint8)
    hits = hits[0::4] + hits[1::4] + hits[2::4] + hits[3::4]
    share = (hits[:, 0::4] + hits[:, 1::4] + hits[:, 2::4] + hits[:, 3::4]).astype(np.int32)[:, :, None]
    pixels += ((colour - pixels) * share + 8) >> 4


def _enlarged(grid: Ints, rows: int, columns: int) -> Ints:
    """Bilinear interpolation of (h, w, ...) to (rows, columns, ...), pixel centres aligned, rounded."""
    for axis, size in enumerate((rows, columns)):
        old = grid.shape[axis]
        place = np.clip((2 * np.arange(size, dtype=np.int32) + 1) * old - size, 0, 2 * size * (old - 1))
        left, part = place // (2 * size), (place % (2 * size)).reshape((size,) + (1,) * (grid.ndim - 1))
        grid = np.moveaxis(grid, axis, 0)
        grid = (grid[left] * (2 * size - part) + grid[np.minimum(left + 1, old - 1)] * part + size) // (2 * size)
        grid = np.moveaxis(grid, 0, axis)
    return grid


def _cloud(dice: Dice, cells: int, relief: int) -> Ints:
    """Smooth colour variations between -relief and relief, (32, 32, 3)."""
    return _enlarged(dice.grid(-relief, relief, cells, cells, 3), SIDE, SIDE)


def _unlike(dice: Dice, ground: Ints, contrast: int) -> Ints:
    """A colour whose three channels differ from the ground's by `contrast` in all."""
    while True:
        colour = dice.grid(0, 255, 3)
        if sum(abs(int(a) - int(b)) for a, b in zip(colour, ground, strict=True)) >= contrast:
            return colour


def _developed(dice: Dice, canvas: Ints, grain: int) -> NDArray[np.uint8]:
    """The finished image: the canvas with uniform noise of +-grain."""
    return np.clip(canvas + dice.grid(-grain, grain, *canvas.shape), 0, 255).astype(np.uint8)
