"""The results folder: one file a run, written once, whole or not at all. DIR/runs and folders in it may be links.

DIR/runs/<dataset>/<backbone>/<method>/seed<S>-<digest>.json      the record
DIR/runs/.../seed<S>-<digest>.npz                                 labels and predictions on the test split
DIR/runs/.../seed<S>-<digest>.log                                 the traceback of a failed run
DIR/state/<digest>.lock, <digest>/                                of a run that is under way: its lease, its checkpoint

Any number of processes on any number of machines may write: a record appears whole under its own name, by a link that
fails where one stands already, and a finished one is never replaced.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.core.errors import BenchError, Conflict, CorruptRecord, UnreadableFile
from bench.core.files import Warn, read_text, walk
from bench.core.files import write_atomically as write_atomically
from bench.core.files import write_json as write_json
from bench.core.record import Record, from_json
from bench.core.spec import RunSpec

LONGEST = 255  # bytes of a name, of most file systems


@dataclass(frozen=True)
class Store:
    root: Path

    def path(self, spec: RunSpec) -> Path:
        """Of its record, always inside DIR/runs. Raises CorruptRecord where a name of the spec cannot be a file's."""
        names = (*spec.dataset.split("/"), spec.backbone.replace("/", "_"), spec.method)
        return _place(self.root / "runs", *names, f"seed{spec.seed}-{spec.digest}.json")

    def state(self, spec: RunSpec) -> Path:
        """Folder of what is needed only until the run has its record."""
        return self.root / "state" / spec.digest

    def find(self, spec: RunSpec) -> Record | None:
        """The record of this very spec, or None. What is no such record is renamed; one of another schema raises."""
        path = self.path(spec)
        try:
            record = read(path)
            if record.spec.digest == spec.digest:
                return record
        except (FileNotFoundError, NotADirectoryError):
            return None
        except CorruptRecord:
            pass
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

        write_atomically(path, lambda file: file.write_bytes(record.to_json().encode()), place)
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

    def records(self, warn: Warn | None = None, wanted: Callable[[str], bool] = lambda _: True) -> Iterator[Record]:
        """Every record, or those whose path below DIR/runs is `wanted`. A file that is not read, and a record that lies
        where it does not belong, is named to `warn`, or raises BenchError or OSError where there is none to warn."""
        for name, _ in self.files(warn):
            if not wanted(name):
                continue
            try:
                yield self.read(name)
            except FileNotFoundError:
                continue  # it has just gone
            except (BenchError, OSError) as error:
                if warn is None:
                    raise
                warn(str(error))

    def files(self, warn: Warn | None = None) -> Iterator[tuple[str, os.stat_result]]:
        """The path below DIR/runs and the status of all that should be records, in a fixed order."""
        return walk(self.root / "runs", ".json", warn or _raise)

    def read(self, name: str, follow_symlinks: bool = True) -> Record:
        """The record at a path below DIR/runs, which must be the one where it belongs: a copy under another name would
        count twice. Raises CorruptRecord, ForeignRecord or OSError, naming the file."""
        path = self.root / "runs" / name
        record = read(path, follow_symlinks)
        if self.path(record.spec) != path:
            spec = record.spec
            what = f"{spec.method} on {spec.dataset}, {spec.backbone}, seed {spec.seed}"
            raise CorruptRecord(f"{path} is set aside: it is a record of {what}, whose place is {self.path(spec)}.")
        return record


def read(path: Path, follow_symlinks: bool = True) -> Record:
    """Raises CorruptRecord or ForeignRecord, naming the file, or OSError."""
    try:
        return from_json(read_text(path, follow_symlinks=follow_symlinks), str(path))
    except RecursionError as error:  # brackets without end
        raise CorruptRecord(f"{path} is not a record: {error}.") from error
    except UnreadableFile as error:
        raise CorruptRecord(str(error)) from error
    except FileNotFoundError:
        if path.is_symlink():
            raise CorruptRecord(f"{path} is a link that leads nowhere.") from None
        raise


def _place(root: Path, *names: str) -> Path:
    """The path below `root` of names that may come from a file. Raises CorruptRecord where one is not the name of a
    file or folder: where it would lead out of `root`, for one."""
    for name in names:
        try:
            bad = name in ("", ".", "..") or not {"/", "\\", "\0"}.isdisjoint(name) or len(os.fsencode(name)) > LONGEST
        except UnicodeEncodeError:  # half a surrogate pair
            bad = True
        if bad:
            shown = repr(name if len(name) < 100 else name[:100] + "...")
            raise CorruptRecord(f"{shown} in a record or spec cannot be the name of a file or folder.")
    return root.joinpath(*names)


def _raise(text: str) -> None:
    raise CorruptRecord(text)
