"""Two array formats of the originals: the binary matrices of NORB, and the one big array of dSprites."""

from __future__ import annotations

import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

T = TypeVar("T")

_KINDS = {0x1E3D4C55: "u1", 0x1E3D4C54: "<i4"}


def norb(path: Path) -> np.ndarray:
    """A file of small NORB, mapped into memory: kind and number of axes, their lengths (three at least), the values.

    Raises ValueError where it is something else.
    """
    head = np.fromfile(path, dtype="<i4", count=2)
    if len(head) < 2 or int(head[0]) not in _KINDS or not 0 < head[1] <= 8:
        raise ValueError("not a binary matrix of bytes or int32; the published files end in .mat.gz, gunzip them first")
    axes = int(head[1])
    shape = tuple(int(length) for length in np.fromfile(path, dtype="<i4", count=axes, offset=8))
    return np.memmap(path, dtype=np.dtype(_KINDS[int(head[0])]), mode="r", offset=8 + 4 * max(3, axes), shape=shape)


def packed_bits(path: Path, member: str, chunk: int = 4096) -> tuple[np.ndarray, tuple[int, ...]]:
    """An array of zeros and ones inside a .npz, eight values a byte, and the shape of one of its images.

    It is read piece by piece: the images of dSprites take 3 GB as bytes, 380 MB in this form.
    """
    with zipfile.ZipFile(path) as archive, archive.open(f"{member}.npy") as file:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError(f"{member} is in a newer version of the .npy format than the published file")
        shape, by_column, dtype = np.lib.format.read_array_header_1_0(file)
        if by_column or dtype != np.uint8:
            raise ValueError(f"{member} is not an array of bytes, row by row")
        each = int(np.prod(shape[1:]))
        packed = np.empty((shape[0], -(-each // 8)), dtype=np.uint8)
        for start in range(0, shape[0], chunk):
            count = min(chunk, shape[0] - start)
            rows = np.frombuffer(file.read(count * each), dtype=np.uint8).reshape(count, each)
            packed[start : start + count] = np.packbits(rows, axis=1)
    return packed, tuple(shape[1:])


def once(make: Callable[[], T]) -> Callable[[], T]:
    """`make`, called by whoever asks first, even where several threads ask."""
    lock, made = threading.Lock(), list[T]()

    def get() -> T:
        with lock:
            if not made:
                made.append(make())
            return made[0]

    return get
