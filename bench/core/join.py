"""Joins results folders: of several clusters, of several people. Nothing that is finished here is ever replaced."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from bench.core.errors import Conflict, CorruptRecord, ForeignRecord, UsageError
from bench.core.record import Record
from bench.core.store import Store, read, write_atomically


@dataclass
class Merged:
    taken: int = 0
    same: int = 0
    replaced: int = 0
    conflicts: list[str] = field(default_factory=list)


def merge(sources: Sequence[Path], out: Path, warn: Callable[[str], object]) -> Merged:
    """Takes over what `out` lacks. A conflict is one run with two finished records whose numbers differ: the one that
    is here stays. Raises UsageError where a source is no results folder; files that are no records are named to `warn`.
    """
    for source in sources:
        if not (source / "runs").is_dir():
            raise UsageError(f"{source} is no results folder: it has no runs/.")
        if source.resolve() == out.resolve():
            raise UsageError(f"{source} is the folder to merge into.")
    result = Merged()
    for source in sources:
        for path in sorted((source / "runs").rglob("*.json")):
            try:
                _take(path, read(path), Store(out), result)
            except (CorruptRecord, ForeignRecord) as error:
                warn(f"left where it is: {error}")
    return result


def _take(path: Path, record: Record, store: Store, result: Merged) -> None:
    here = store.find(record.spec)
    if here is None or (here.status != "done" and record.status == "done"):
        result.taken += here is None
        result.replaced += here is not None
        _copy(path, record, store)
    elif here.status == record.status == "done" and numbers(here) != numbers(record):
        told = f"{record.scores.test:.4f}" if record.scores else "-"
        kept = f"{here.scores.test:.4f}" if here.scores else "-"
        result.conflicts.append(
            f"conflict: {path} scores {told}, {store.path(record.spec)} scores {kept}, which stays."
        )
    else:
        result.same += 1


def _copy(path: Path, record: Record, store: Store) -> None:
    """The record last: what it names is there when it is."""
    target = store.path(record.spec)
    target.with_suffix(".log").unlink(missing_ok=True)  # of the failure whose place it takes
    for suffix in (".npz", ".log"):
        if (beside := path.with_suffix(suffix)).is_file():
            write_atomically(target.with_suffix(suffix), partial(shutil.copyfile, beside))
    with suppress(Conflict):  # finished here by another process since it was looked for
        store.write(record)


def numbers(record: Record) -> tuple[object, ...]:
    """What two records of one run must agree in: all that does not depend on the machine's speed."""
    cost = record.cost
    epochs = tuple((epoch.loss, epoch.lr, epoch.val) for epoch in record.epochs)
    counted = (cost.params, cost.storage_bytes, cost.unmerged, cost.merged) if cost else ()
    return (record.status, record.scores, record.milestones, epochs, counted)
