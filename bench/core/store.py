"""The results folder: one file a run, written once, whole or not at all.

DIR/runs/<dataset>/<backbone>/<method>/seed<S>-<digest>.json      the record
DIR/runs/.../seed<S>-<digest>.npz                                 labels and predictions on the test split
DIR/runs/.../seed<S>-<digest>.log                                 the traceback of a failed run
DIR/state/<digest>.lock, <digest>/                                of a run that is under way: its lease, its checkpoint

Any number of processes on any number of machines may write: a record appears whole under its own name, by a link that
fails where one stands already, and a finished one is never replaced.
"""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.core.errors import Conflict, CorruptRecord, ForeignRecord
from bench.core.record import Record, from_json
from bench.core.spec import RunSpec


@dataclass(frozen=True)
class Store:
    root: Path

    def path(self, spec: RunSpec) -> Path:
        folder = self.root / "runs" / spec.dataset / spec.backbone.replace("/", "_") / spec.method
        return folder / f"seed{spec.seed}-{spec.digest}.json"

    def state(self, spec: RunSpec) -> Path:
        """Folder of what is needed only until the run has its record."""
        return self.root / "state" / spec.digest

    def find(self, spec: RunSpec) -> Record | None:
        """The record of this very spec, or None. A torn file is set aside by name; one of another schema raises."""
        path = self.path(spec)
        if not path.is_file():
            return None
        try:
            return read(path)
        except CorruptRecord:
            os.replace(path, path.with_suffix(".corrupt"))
            return None

    def write(self, record: Record) -> Path:
        """Puts the record down atomically. Raises Conflict where a finished record of the same spec stands already."""
        path = self.path(record.spec)

        def place(aside: Path) -> None:
            if self._first(aside, path):
                return
            old = self.find(record.spec)
            if old is not None and old.status == "done":
                raise Conflict(f"{path} is finished and final; it is not written again.")
            os.replace(aside, path)

        write_atomically(path, lambda file: file.write_text(record.to_json()), place)
        return path

    @staticmethod
    def _first(aside: Path, path: Path) -> bool:
        """Puts the file under its name if nothing has it: of two processes at the same moment, one does."""
        try:
            os.link(aside, path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            return False  # a file system without links: the record that stands there is looked at, then replaced
        return True

    def records(self, warn: Callable[[str], object] | None = None, below: Path | None = None) -> Iterator[Record]:
        """Every record, or those below a folder. One that cannot be read is named to `warn`, or raises where there is
        none to warn."""
        for path in sorted((below or self.root / "runs").rglob("*.json")):
            try:
                yield read(path)
            except (CorruptRecord, ForeignRecord) as error:
                if warn is None:
                    raise
                warn(str(error))


def read(path: Path) -> Record:
    """Raises CorruptRecord or ForeignRecord, naming the file."""
    try:
        return from_json(path.read_text(), str(path))
    except (UnicodeDecodeError, RecursionError) as error:  # bytes that are no text, brackets without end
        raise CorruptRecord(f"{path} is not a record: {type(error).__name__}: {error}.") from error


def write_atomically(
    path: Path, write: Callable[[Path], object], place: Callable[[Path], object] | None = None
) -> None:
    """Calls `write` on a file aside, flushes and renames it: readers see the old file or the whole new one.

    `place` gives the file its name in another way than by a rename over whatever has it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=".part")
    os.close(handle)
    aside = Path(name)
    try:
        write(aside)
        with open(aside, "rb") as file:
            os.fsync(file.fileno())
        os.chmod(aside, 0o644)
        (place or (lambda file: os.replace(file, path)))(aside)
    finally:
        aside.unlink(missing_ok=True)


def write_json(path: Path, data: Any) -> None:
    """Plain data as one line of JSON, atomically."""
    write_atomically(path, lambda file: file.write_text(json.dumps(data) + "\n"))
