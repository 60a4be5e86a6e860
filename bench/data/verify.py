"""bench data verify: reads every image of a data set and says what is wrong with it."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.core.configs import Dataset
from bench.core.errors import UsageError
from bench.data import ready
from bench.data.items import ImageList, format_unreadable
from bench.data.prepare import PARTS, PIECE, Transform
from bench.data.progress import OnProgress, silent
from bench.data.sources import DatasetLocation


@dataclass(frozen=True)
class Report:
    images: int
    fingerprint: str  # as a prepared data set has it; empty where images cannot be read
    faults: tuple[str, ...]


def verify(card: Dataset, found: DatasetLocation, root: Path, on_progress: OnProgress = silent) -> Report:
    """Sizes and classes against the card, every image read; all faults, not the first one."""
    try:
        splits = found.open()
    except UsageError as error:
        return Report(0, "", tuple(line.strip() for line in str(error).splitlines()))
    faults: list[str] = []
    bad: list[UsageError] = []
    fingerprint = hashlib.sha256()
    for part in PARTS:
        if part not in splits:
            continue
        items = splits[part]
        faults += _counted(card, part, items, found.sample)
        digests, unreadable = _read(part, items, on_progress)
        bad += unreadable
        fingerprint.update(part.encode() + digests + np.ascontiguousarray(items.labels).tobytes())
    faults += format_unreadable(bad)
    seen = "" if bad else fingerprint.hexdigest()
    if seen and card.fingerprint not in ("", seen) and not found.sample:
        faults.append(f"fingerprint {seen[:16]}, the card says {card.fingerprint[:16]}")
    if seen:
        faults += [
            f"{place} was prepared from other images than are here now. Remove that folder; it is built anew."
            for place in ready.prepared(card, root, ready.key_of(found, splits))
            if ready.fingerprint_of(place) != seen
        ]
    return Report(sum(len(items) for items in splits.values()), seen, tuple(faults))


def _counted(card: Dataset, part: str, items: ImageList, sample: bool) -> list[str]:
    """What is wrong with the number of images and with their labels."""
    faults = []
    expected = getattr(card.sizes, part)
    if len(items) != expected and not sample:
        faults.append(f"{part}: {len(items)} images, the card says {expected}")
    if items.labels.ndim == 1 and len(items):
        wrong = [f"{items.names[i]} {items.labels[i]}" for i in _outside(items.labels, card.classes)]
        if wrong:
            few = ", ".join(wrong[:3]) + (", ..." if len(wrong) > 3 else "")
            faults.append(f"{part}: {len(wrong)} labels are not in 0 to {card.classes - 1} ({few})")
        absent = np.setdiff1d(np.arange(card.classes), items.labels)
        if len(absent) and part == "train" and not sample and len(items) > 1000:
            faults.append(f"{part}: no image of class {absent[:5].tolist()}")
    return faults


def _outside(labels: np.ndarray, classes: int) -> list[int]:
    outside: list[int] = np.flatnonzero((labels < 0) | (labels >= classes)).tolist()
    return outside


def _read(part: str, items: ImageList, on_progress: OnProgress) -> tuple[bytes, list[UsageError]]:
    """The digests of all images, and the faults of those that cannot be read, in their order."""
    transform = Transform(1)

    def digest(index: int) -> bytes | UsageError:
        try:
            return transform(items.read(index))[1]
        except UsageError as error:
            return error

    found: list[bytes | UsageError] = []
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for start in range(0, len(items), PIECE):  # piece by piece, so that Ctrl-C does not wait for all of them
            found += pool.map(digest, range(start, min(start + PIECE, len(items))))
            on_progress(f"read {part}", len(found), len(items))
    digests = [one for one in found if isinstance(one, bytes)]
    return b"".join(digests), [one for one in found if isinstance(one, UsageError)]
