"""Many records as one frame, fast: what was read of a record file stands in an index, and is read again if it changes.

    DIR/index.json     {"made_by": ..., "sha256": of the columns, "columns": {"path": ..., "size": ..., "method": ...}}

The index is a convenience and never the truth: it may be deleted at any time. A file is known by its path under
DIR/runs, its size and the time of its last change. An index that is damaged, or that other code than this wrote, is
made anew. It is written aside and renamed, so that of many processes the last one wins, with a whole file; where the
folder cannot be written, there is none.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from bench.core import record
from bench.core.errors import BenchError, CorruptRecord
from bench.core.store import write_atomically
from bench.report import frame

FILE = "index.json"
KEYS = ("path", "size", "mtime_ns")  # of a record file
NAMES = KEYS + frame.COLUMNS
READERS = ("record", "schema", "spec")  # modules of bench that turn the text of a file into a record

Columns = dict[str, list[Any]]
Warn = Callable[[str], object]


def load(root: Path, warn: Warn | None = None) -> pd.DataFrame:
    """What `frame(Store(root).records(warn))` is, but only files that are new or changed are read.

    A file that is no record is named to `warn` at every load, or raises where there is none to warn.
    """
    known = _read(root / FILE)
    columns, changed = _update(known, root / "runs", warn)
    if changed:
        _write(root / FILE, columns)
    return frame.assemble(columns)


def _update(known: Columns, runs: Path, warn: Warn | None) -> tuple[Columns, bool]:
    """Columns with one row for each record file there is now, in the order of their paths, and whether any differ."""
    places = {path: place for place, path in enumerate(known["path"])}
    fresh: Columns = {name: [] for name in NAMES}
    same: dict[Any, Any] = {}  # equal values are held once
    order: list[int] = []
    for file in _files(runs):
        place = places.get(file[0])
        if place is None or (known["size"][place], known["mtime_ns"][place]) != file[1:]:
            cells = _cells(runs / file[0], warn)
            if cells is None:
                continue
            place = len(places) + len(fresh["path"])
            for name, cell in zip(NAMES, (*file, *map(cells.__getitem__, frame.COLUMNS)), strict=True):
                fresh[name].append(same.setdefault(cell, cell) if isinstance(cell, str) else cell)
        order.append(place)
    if order == list(range(len(places))):
        return known, False
    return {name: list(map((known[name] + fresh[name]).__getitem__, order)) for name in NAMES}, True


def _files(folder: Path | str, prefix: str = "") -> Iterator[tuple[str, int, int]]:
    """Relative path, size and time of every record file, in the order in which the store gives them."""
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except FileNotFoundError:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _files(entry.path, f"{prefix}{entry.name}/")
        elif entry.name.endswith(".json"):
            try:
                stat = entry.stat()
            except FileNotFoundError:
                continue
            yield f"{prefix}{entry.name}", stat.st_size, stat.st_mtime_ns


def _cells(path: Path, warn: Warn | None) -> Mapping[str, frame.Cell] | None:
    """None where the file is gone by now, or is no record."""
    try:
        return frame.row(_record(path))
    except FileNotFoundError:
        return None
    except BenchError as error:
        if warn is None:
            raise
        warn(str(error))
        return None


def _record(path: Path) -> record.Record:
    try:
        return record.from_json(_text(path), str(path))
    except (UnicodeDecodeError, RecursionError) as error:  # bytes that are no text, brackets without end
        raise CorruptRecord(f"{path} is not a record: {type(error).__name__}: {error}.") from error


def _text(path: Path) -> str:
    return path.read_text()


# The file: readers check its beginning and its sum, and then need not doubt the rest. -------------------------------


def _read(path: Path) -> Columns:
    """The index as it was written; without rows where there is none, or none that this code wrote."""
    try:
        data = path.read_bytes()
    except OSError:
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
