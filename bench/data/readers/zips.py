"""Images read straight out of zip archives, which are never extracted."""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from pathlib import Path

from PIL import Image, ImageOps

from bench.core.errors import UsageError
from bench.data.items import DECODING, Unreadable, to_rgb
from bench.data.readers.listing import format_fault, outside

UNZIPPING = (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, KeyError)  # RuntimeError: a password


class Zip:
    """An archive that every process opens for itself when it first reads: after a fork, parent and child would move
    one and the same position in the file. The threads of a process share a handle, which ZipFile allows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._opened: dict[int, zipfile.ZipFile] = {}  # by process

    def names(self) -> frozenset[str]:
        """The files inside. Raises UsageError where there is no readable archive, or where a name leads out of it."""
        names = frozenset(info.filename for info in self._archive().infolist() if not info.is_dir())
        wrong = outside(names)
        if wrong:
            remedy = "This is not the published archive; get it again."
            raise UsageError(format_fault(self.path.name, "names lead out of the archive", wrong, remedy))
        return names

    def image(self, name: str, upright: bool = False) -> Image.Image:
        """One image as RGB, fully decoded; turned as its EXIF says if `upright`. Raises UsageError naming the file."""
        try:
            with Image.open(io.BytesIO(self._archive().read(name))) as image:
                return to_rgb(ImageOps.exif_transpose(image) if upright else image)
        except (*UNZIPPING, *DECODING) as error:
            raise Unreadable(
                f"{self.path}, {name}:", f"not a readable image ({error})", "Get the archive again"
            ) from error

    def _archive(self) -> zipfile.ZipFile:
        process = os.getpid()
        if process not in self._opened:
            try:
                self._opened[process] = zipfile.ZipFile(self.path)
            except FileNotFoundError as error:
                raise UsageError(f"{self.path.name} is missing. Put the published archive there, unopened.") from error
            except (zipfile.BadZipFile, OSError) as error:
                raise UsageError(f"{self.path.name} is not a readable zip ({error}). Get it again.") from error
        return self._opened[process]
