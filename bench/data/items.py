"""What a source hands over: the images of one split, listed but not yet decoded."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from bench.core.errors import UsageError

DECODING = (UnidentifiedImageError, OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)


@dataclass(frozen=True)
class ImageList:
    """One split on disk. `read(i)` gives the i-th image as stored (PIL, or uint8 (H, W) or (H, W, 3)), undecoded until
    then; it raises UsageError, with the file's name and a remedy, where the image cannot be read."""

    labels: np.ndarray  # int64 (N,), or uint8 (N, C) with a one for each class that is present
    names: tuple[str, ...]  # of every image, for messages and digests: "images/test/000001.jpg", "train.bin[17]"
    read: Callable[[int], Image.Image | np.ndarray]

    def __len__(self) -> int:
        return len(self.names)

    def take(self, index: Sequence[int] | np.ndarray) -> ImageList:
        """The images at `index`, in that order."""
        chosen = [int(i) for i in index]
        return replace(
            self,
            labels=self.labels[chosen],
            names=tuple(self.names[i] for i in chosen),
            read=lambda i: self.read(chosen[i]),
        )

    def digest(self) -> str:
        """sha256 over names and labels, in order: which images, not their pixels."""
        digest = hashlib.sha256("\n".join(self.names).encode())
        digest.update(np.ascontiguousarray(self.labels).tobytes())
        return digest.hexdigest()


def open_image(path: Path) -> Image.Image:
    """An image file as PIL RGB, fully decoded. Raises UsageError naming the file."""
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except FileNotFoundError as error:
        raise UsageError(f"{path} is missing, though the list of images names it.") from error
    except DECODING as error:
        raise UsageError(f"{path} is not a readable image ({error}). Remove or replace it.") from error


@dataclass(frozen=True)
class Layout:
    """One way in which the data sets of a suite lie on disk."""

    name: str  # "vtab1k", as recorded with every run
    title: str  # what a person calls it: "community folder vtab-1k/<dataset>/{images,train800.txt,...}"
    find: Callable[[Path, str], bool]  # is the data set of this key below this folder? Cheap, raises nothing
    open: Callable[[Path, str], Mapping[str, ImageList]]  # its splits "train", "val" (may be absent) and "test"
    reencoded: bool = False  # the images were compressed again on the way: not the pixels of the originals
