"""Joins results folders: of several clusters, of several people. Nothing that is finished here is ever replaced.

What comes from elsewhere is believed as little as possible: only plain files of bounded size are read, links are not
followed, a record has to lie where its own spec says, predictions have to be plain arrays, and of all names only those
that lead to a place inside this results folder are used. What is refused is named, and stops nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from bench.core import predictions, suites
from bench.core.errors import BenchError, Conflict, CorruptRecord, UsageError
from bench.core.files import read_bytes, walk, write_atomically
from bench.core.record import Record
from bench.core.store import Store

BESIDE = {".npz": predictions.LARGEST, ".log": 16 * 1024 * 1024}  # what may lie beside a record: bytes at most
Warn = Callable[[str], object]


@dataclass
class Joined:
    """Numbers of records."""

    taken: int = 0
    same: int = 0
    replaced: int = 0
    left: int = 0  # in the sources, for they are no records or not believed
    conflicts: list[str] = field(default_factory=list)


def join(sources: Sequence[Path], out: Path, warn: Warn) -> Joined:
    """Takes over what `out` lacks. A conflict is one run with two finished records whose numbers differ: the one that
    is here stays. Raises UsageError where a source is no results folder; files that are left are named to `warn`.
    """
    for source in sources:
        if not (source / "runs").is_dir() or (source / "runs").is_symlink():
            raise UsageError(f"{source} is no results folder: it has no runs/.")
        if source.resolve() == out.resolve():
            raise UsageError(f"{source} is the folder to join into.")
    result = Joined()

    def leave(text: str) -> None:
        result.left += 1
        warn(f"left where it is: {text}")

    for source in sources:
        for name, _ in walk(source / "runs", ".json", leave, follow_symlinks=False):
            try:
                _take(Store(source), name, Store(out), result)
            except (BenchError, OSError) as error:
                leave(str(error))
        suites.join(source, out, leave)
    return result


def _take(source: Store, name: str, store: Store, result: Joined) -> None:
    record = source.read(name, follow_symlinks=False)
    path, here = source.root / "runs" / name, store.find(record.spec)
    if here is None or (here.status != "done" and record.status == "done"):
        _copy(path, record, store)
        result.taken += here is None
        result.replaced += here is not None
    elif here.status == record.status == "done" and numbers(here) != numbers(record):
        theirs = f"{record.scores.test:.4f}" if record.scores else "-"
        ours = f"{here.scores.test:.4f}" if here.scores else "-"
        result.conflicts.append(
            f"conflict: {path} scores {theirs}, {store.path(record.spec)} scores {ours}, which stays."
        )
    else:
        result.same += 1


def _copy(path: Path, record: Record, store: Store) -> None:
    """The record last: what it names is there when it is. All is read and checked before anything is written."""
    beside = {suffix: data for suffix in BESIDE if (data := _read_beside(path.with_suffix(suffix))) is not None}
    if ".npz" in beside:
        arrays = predictions.parse(beside[".npz"], str(path.with_suffix(".npz")))
        if record.scores and any(array.shape[:1] != (record.scores.test_images,) for array in arrays.values()):
            raise CorruptRecord(f"{path} scores {record.scores.test_images} images, and its predictions are of others.")
    target = store.path(record.spec)
    target.with_suffix(".log").unlink(missing_ok=True)  # of the failure whose place it takes
    for suffix, data in beside.items():
        write_atomically(target.with_suffix(suffix), lambda file, data=data: file.write_bytes(data))  # type: ignore[misc]
    with suppress(Conflict):  # finished here by another process since it was looked for
        store.write(record)
        if store.find(record.spec) != record:
            raise CorruptRecord(f"{target} does not read as it was written.")


def _read_beside(path: Path) -> bytes | None:
    try:
        return read_bytes(path, BESIDE[path.suffix], follow_symlinks=False)
    except FileNotFoundError:
        return None


def numbers(record: Record) -> tuple[object, ...]:
    """What two records of one run must agree in: all that does not depend on the machine's speed."""
    cost = record.cost
    epochs = tuple((epoch.loss, epoch.lr, epoch.val) for epoch in record.epochs)
    counted = (cost.params, cost.storage_bytes, cost.unmerged, cost.merged) if cost else ()
    return (record.status, record.scores, record.milestones, epochs, counted)
