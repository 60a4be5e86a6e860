"""Many records as one frame, fast: what was read of a record file stands in an index, and is read again if it changes.

    <cache>/index/<digest of DIR's path>.json
        {"made_by": ..., "sha256": of the columns, "columns": {"path": ..., "size": ..., "method": ...}}

The index is a convenience and never the truth: it may be deleted at any time. It lies in this user's own cache and not
in the results folder, since a folder that came from elsewhere could bring one that says other things than its records.
A file is known by its path under DIR/runs, its size and the times of its last changes. An index that is damaged, or
that other code than this wrote, is made anew. It is written aside and renamed, so that of many processes the last one
wins, with a whole file; where there is no cache, or it cannot be written, there is none.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from bench.core import record
from bench.core.errors import BenchError, UnreadableFile
from bench.core.files import Warn, cache_folder, read_bytes, write_atomically
from bench.core.store import Store
from bench.report import frame

LARGEST = 4 * 1024**3  # bytes of an index: a million records have far less
KEYS = ("path", "size", "mtime_ns", "ctime_ns")  # of a record file
NAMES = KEYS + frame.COLUMNS
READERS = ("record", "schema", "spec", "store")  # modules of bench that turn the text of a file into a record

Columns = dict[str, list[Any]]


def load(root: Path, warn: Warn | None = None) -> pd.DataFrame:
    """What `frame(Store(root).records(warn))` is, but only files that are new or changed are read.

    A file that is no record is named to `warn` at every load, or raises where there is none to warn.
    """
    path = place(root)
    columns, changed = _update(_read(path), Store(root), warn)
    if changed and path:
        _write(path, columns)
    return frame.assemble(columns)


def place(root: Path) -> Path | None:
    """The index of a results folder; None where the user has no cache."""
    folder = cache_folder()
    key = hashlib.sha256(os.fsencode(os.path.realpath(root))).hexdigest()[:16]
    return folder / "index" / f"{key}.json" if folder else None


def _update(known: Columns, store: Store, warn: Warn | None) -> tuple[Columns, bool]:
    """Columns with one row for each record file there is now, in the order of their paths, and whether any differ."""
    places = {path: place for place, path in enumerate(known["path"])}
    fresh: Columns = {name: [] for name in NAMES}
    same: dict[Any, Any] = {}  # equal values are held once
    order: list[int] = []
    for file in _files(store, warn):
        place = places.get(file[0])
        if place is None or tuple(known[name][place] for name in KEYS) != file:
            cells = _cells(store, file[0], warn)
            if cells is None:
                continue
            place = len(places) + len(fresh["path"])
            for name, cell in zip(NAMES, (*file, *map(cells.__getitem__, frame.COLUMNS)), strict=True):
                fresh[name].append(same.setdefault(cell, cell) if isinstance(cell, str) else cell)
        order.append(place)
    if order == list(range(len(places))):
        return known, False
    return {name: list(map((known[name] + fresh[name]).__getitem__, order)) for name in NAMES}, True


def _files(store: Store, warn: Warn | None) -> Iterator[tuple[str, int, int, int]]:
    """KEYS of every record file, in the order in which the store gives them."""
    for name, status in store.files(warn):
        yield name, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _cells(store: Store, name: str, warn: Warn | None) -> Mapping[str, frame.Cell] | None:
    """None where the file is gone by now, or is no record of this place."""
    try:
        return frame.row(store.read(name))
    except FileNotFoundError:
        return None
    except (BenchError, OSError) as error:
        if warn is None:
            raise
        warn(str(error))
        return None


# The file: readers check its beginning and its sum, and then need not doubt the rest. -------------------------------


def _read(path: Path | None) -> Columns:
    """The index as it was written; without rows where there is none, or none that this code wrote."""
    try:
        data = read_bytes(path, LARGEST) if path else b""
    except (OSError, UnreadableFile):
        data = b""
    start = len(_beginning(b""))
    body = data[start:-2]
    if data[:start] != _beginning(body) or data[-2:] != b"}\n":
        return {name: [] for name in NAMES}
    return {name: _unpacked(column) for name, column in json.loads(body).items()}


def _write(path: Path, columns: Columns) -> None:
    packed = {name: _packed(values) for name, values in columns.items()}
    body = json.dumps(packed, separators=(",", ":")).encode()
    with suppress(OSError):  # a folder that may only be read, a full disk: the next load reads what this one has read
        write_atomically(path, lambda file: file.write_bytes(b"%b%b}\n" % (_beginning(body), body)))


def _beginning(body: bytes) -> bytes:
    return f'{{"made_by":"{_maker()}","sha256":"{hashlib.sha256(body).hexdigest()}","columns":'.encode()


@cache
def _maker() -> str:
    """Digest of the code that makes a row of a record file: an index of other code may hold other rows."""
    here = Path(__file__)
    parsing = [Path(record.__file__).with_name(f"{name}.py") for name in READERS]
    files = [here, *(here.with_name(f"{name}.py") for name in ("frame", "columns")), *parsing]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


def _packed(values: Sequence[Hashable]) -> object:
    """A column as JSON: where values repeat, each once and their places."""
    codes: dict[Hashable, int] = {}
    places = [codes.setdefault(value, len(codes)) for value in values]
    return {"values": list(codes), "places": places} if 2 * len(codes) < len(values) else values


def _unpacked(column: Any) -> list[Any]:
    return list(map(column["values"].__getitem__, column["places"])) if isinstance(column, dict) else column
