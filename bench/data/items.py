"""What a source hands over: the images of one split, listed but not yet decoded; and how an image file is decoded."""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from bench.core.errors import UsageError
from bench.core.text import printable

DECODING = (UnidentifiedImageError, OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)
"""What Pillow raises of damaged files."""


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
        digest = hashlib.sha256("\n".join(self.names).encode(errors="surrogateescape"))
        digest.update(np.ascontiguousarray(self.labels).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Layout:
    """One way in which the data sets of a suite lie on disk."""

    name: str  # "vtab1k", as recorded with every run
    title: str  # what a person calls it: "community folder vtab-1k/<dataset>/{images,train800.txt,...}"
    find: Callable[[Path, str], bool]  # is the data set of this key below this folder? Cheap, raises nothing
    open: Callable[[Path, str], Mapping[str, ImageList]]  # its splits "train", "val" (may be absent) and "test"
    open_sample: Callable[[Path, str], Mapping[str, ImageList]] | None = None  # of a part of it; None: as the whole
    reencoded: bool = False  # the images were compressed again on the way: not the pixels of the originals
    class_names: Callable[[Path, str], tuple[str, ...]] | None = (
        None  # in the order of the labels; () where the files number classes without naming them; None: not asked for
    )


# decoding ------------------------------------------------------------------------------------------------------------


def open_image(path: Path, *, upright: bool = False) -> Image.Image:
    """An image file as PIL RGB, fully decoded; turned as its EXIF orientation says if `upright`.

    Raises Unreadable, a UsageError that names the file.
    """
    try:
        with Image.open(path) as image:
            rgb = to_rgb(image)
            turn = _TURNS.get(orientation(image)) if upright else None
            return rgb if turn is None else rgb.transpose(turn)
    except FileNotFoundError as error:
        raise Unreadable(path, "is missing, though the list of images names it", "Put it back, or list anew") from error
    except DECODING as error:
        raise Unreadable(path, f"is not a readable image ({_cause(error)})", "Remove or replace it") from error


def to_rgb(image: Image.Image) -> Image.Image:
    """8 bits a channel, RGB. 16-bit grey is scaled from 0..65535; Pillow would clip it at 255.

    Raises ValueError for numbers whose range no format fixes: 32-bit integers and floats.
    """
    if is_16_bit(image):
        wide = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((wide * 255 + 32767) // 65535).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        kind = "32-bit integers" if image.mode == "I" else "floating-point numbers"
        raise ValueError(f"its pixels are {kind}, whose range is not known; save it with 8 or 16 bits")
    if image.mode == "P" and isinstance(image.info.get("transparency"), bytes):
        image = image.convert("RGBA")  # the same colours, without Pillow's warning
    return image.convert("RGB")


def is_16_bit(image: Image.Image) -> bool:
    """Whether its pixels are 16-bit grey; some versions of Pillow call a PNG of them "I"."""
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG")


def orientation(image: Image.Image) -> int:
    """EXIF's: 1 upright, 2 to 8 turned or mirrored. 1 where there is none, or none that can be read."""
    try:
        value = image.getexif().get(0x0112, 1)
    except (*DECODING, struct.error, KeyError, TypeError):  # a damaged EXIF block says nothing; the pixels may be fine
        return 1
    return value if isinstance(value, int) and value in _TURNS else 1


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


# what cannot be decoded ----------------------------------------------------------------------------------------------


class Unreadable(UsageError):
    """An image that cannot be read: where it is, why, and what to do about it."""

    def __init__(self, where: object, cause: str, remedy: str) -> None:
        super().__init__(f"{printable(where)} {cause}. {remedy}.")
        self.where, self.cause, self.remedy = printable(where), cause, remedy


def _cause(error: Exception) -> str:
    """Pillow's words, without the name of the file, which stands in front."""
    return "not a known format" if isinstance(error, UnidentifiedImageError) else printable(error)


def format_unreadable(errors: Sequence[UsageError], most: int = 20) -> list[str]:
    """A line for every error; one line with examples for those of one cause that are more than `most`."""
    groups: dict[tuple[str, str], list[UsageError]] = {}
    for error in errors:
        own = (error.cause, error.remedy) if isinstance(error, Unreadable) else (str(error), "")
        groups.setdefault((re.sub(r"\d+", "N", own[0]), own[1]), []).append(error)
    lines: list[str] = []
    for (_, remedy), members in groups.items():
        named = [error.where for error in members if isinstance(error, Unreadable)]
        first = members[0]
        if len(members) > most and isinstance(first, Unreadable):
            lines.append(f"{len(named):,} images, each {first.cause} ({', '.join(named[:3])}, ...). {remedy}.")
        else:
            lines += [str(error) for error in members[:most]]
            lines += [f"... and {len(members) - most:,} more like it"] if len(members) > most else []
    return lines
