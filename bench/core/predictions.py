"""Labels and predictions on the test split, beside a record: a .npz of plain arrays, checked before it is unpacked."""

from __future__ import annotations

import io
import math
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from bench.core import files
from bench.core.errors import CorruptRecord, UnreadableFile

if TYPE_CHECKING:
    import numpy as np

DAMAGE = (
    *(ValueError, TypeError, OSError, EOFError, NotImplementedError, RuntimeError, MemoryError, SyntaxError),
    *(zipfile.BadZipFile, zlib.error, struct.error),
)  # what a damaged archive or header of an array makes zipfile and numpy raise
LARGEST = 256 * 1024 * 1024  # bytes of the file, and of its arrays together


def read(path: Path) -> Mapping[str, np.ndarray]:
    """The arrays by name. Raises CorruptRecord where they are not plain numbers, or FileNotFoundError."""
    try:
        return parse(files.read_bytes(path, LARGEST), str(path))
    except UnreadableFile as error:
        raise CorruptRecord(str(error)) from error


def parse(data: bytes, where: str) -> Mapping[str, np.ndarray]:
    """The arrays of a .npz. It may not hold objects (which would be run), nor unfold into more than LARGEST bytes."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            if any(member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for member in members):
                raise ValueError("it is packed in an unusual way")
            if sum(member.file_size for member in members) > LARGEST:
                raise ValueError(f"it unpacks into more than {LARGEST:,} bytes")
            return {member.filename.removesuffix(".npy"): _array(archive, member) for member in members}
    except DAMAGE as error:
        raise CorruptRecord(f"{where} does not hold predictions: {error or type(error).__name__}.") from error


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    import numpy as np
    from numpy.lib import format as npy

    with archive.open(member) as file:
        version = npy.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"{member.filename} has an unknown version")
        header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = header(file)
        if dtype.kind not in "biuf" or fortran:
            raise ValueError(f"{member.filename} holds {dtype}, not plain numbers")
        data = file.read()
        if len(data) != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"{member.filename} says it is of shape {shape}, and holds {len(data)} bytes")
    return np.frombuffer(data, dtype).reshape(shape)
