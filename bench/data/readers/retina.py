"""Photographs of the retina as the winner of the 2015 competition prepared them: scaled, levelled, cut to a disc.

    1. scaled, so that the eyeball has a radius of 300 pixels
    2. 4 (image - blurred image) + 128, clipped: the local average goes, vessels and lesions stay
    3. grey outside 90 per cent of the radius, and cropped to that disc's square: 540 pixels

VTAB reads images prepared in this way with OpenCV and then compressed as JPEG of quality 72. The steps, interpolation
(bilinear, not antialiased), blur (cut at 3 sigma, reflected at the border) and rounding are the same here. OpenCV
itself, whose fixed-point arithmetic differs by a grey level here and there, and the compression are not.
"""

from __future__ import annotations

import importlib

import numpy as np

RADIUS = 300
KEPT = 0.9  # of the radius; the rim is not evenly lit


def prepare(image: np.ndarray, radius: int = RADIUS) -> np.ndarray:
    """uint8 (H, W, 3) -> uint8, at most (2 KEPT radius) in height and width."""
    return crop(level(scale(image, radius / radius_of(image)), radius), radius)


def radius_of(image: np.ndarray) -> float:
    """Half the number of pixels on the middle row that are not background."""
    row = image[len(image) // 2].sum(axis=1, dtype=np.int64)
    found = float((row > row.mean() / 10).sum()) / 2
    return found if found >= 1 else len(image) / 2  # a black row: the eyeball is taken to fill the height


def scale(image: np.ndarray, factor: float) -> np.ndarray:
    """Bilinear between the four nearest pixels, whatever the factor."""
    top, bottom, down = _neighbours(image.shape[0], factor)
    left, right, along = _neighbours(image.shape[1], factor)
    rows = image[top] * (1 - down)[:, None, None] + image[bottom] * down[:, None, None]
    mixed = rows[:, left] * (1 - along)[:, None] + rows[:, right] * along[:, None]
    return np.rint(mixed).astype(np.uint8)


def _neighbours(length: int, factor: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each place of the scaled axis: the pixel before, the pixel after, and the share of the one after."""
    at = np.clip((np.arange(max(1, round(length * factor))) + 0.5) / factor - 0.5, 0, length - 1)
    before = np.floor(at).astype(int)
    return before, np.minimum(before + 1, length - 1), (at - before).astype(np.float32)


def level(image: np.ndarray, radius: int) -> np.ndarray:
    ndimage = importlib.import_module("scipy.ndimage")  # slow to import, needed by this one task; comes with sklearn
    blurred = ndimage.gaussian_filter(
        image.astype(np.float32), sigma=(radius / 30, radius / 30, 0), mode="mirror", truncate=3.0
    )
    return np.clip(4 * (image.astype(np.int32) - np.rint(blurred).astype(np.int32)) + 128, 0, 255).astype(np.uint8)


def crop(image: np.ndarray, radius: int) -> np.ndarray:
    middle_y, middle_x = image.shape[0] // 2, image.shape[1] // 2
    kept = int(radius * KEPT)
    y, x = np.ogrid[: image.shape[0], : image.shape[1]]
    disc = (y - middle_y) ** 2 + (x - middle_x) ** 2 <= kept**2
    grey = np.where(disc[..., None], image, np.uint8(128))
    return grey[max(0, middle_y - kept) : middle_y + kept, max(0, middle_x - kept) : middle_x + kept]
