"""bench data verify: reads every image of a data set and says what is wrong with it."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from bench.cards import Dataset
from bench.data.prepare import PARTS, Transform, Watch
from bench.data.sources import Found
from bench.errors import UsageError


@dataclass(frozen=True)
class Report:
    images: int
    fingerprint: str  # as a prepared data set has it
    faults: tuple[str, ...]


def verify(card: Dataset, found: Found, watch: Watch) -> Report:
    """Sizes and classes against the card, every image read; all faults, not the first one."""
    try:
        splits = found.open()
    except UsageError as error:
        return Report(0, "", tuple(str(error).splitlines()))
    faults: list[str] = []
    fingerprint = hashlib.sha256()
    transform = Transform(1)
    for part in PARTS:
        if part not in splits:
            continue
        items = splits[part]
        expected = getattr(card.sizes, part)
        if len(items) != expected and not found.sample:
            faults.append(f"{part}: {len(items)} images, the card says {expected}")
        if items.labels.ndim == 1:
            counts = np.bincount(items.labels, minlength=card.classes)
            if len(counts) > card.classes:
                faults.append(f"{part}: labels up to {len(counts) - 1}, but {card.classes} classes")
            elif not counts.all() and part == "train" and not found.sample and len(items) > 1000:
                faults.append(f"{part}: no image of class {np.flatnonzero(counts == 0)[:5].tolist()}")

        def digest(index: int, part: str = part) -> bytes:
            try:
                return transform(splits[part].read(index))[1]
            except UsageError as error:
                faults.append(str(error))
                return bytes(16)

        fingerprint.update(part.encode())
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            for index, value in enumerate(pool.map(digest, range(len(items))), 1):
                fingerprint.update(value)
                if index % 256 == 0 or index == len(items):
                    watch(part, index, len(items))
        fingerprint.update(np.ascontiguousarray(items.labels).tobytes())
    if card.fingerprint and card.fingerprint != fingerprint.hexdigest() and not found.sample:
        faults.append(f"fingerprint {fingerprint.hexdigest()[:16]}, the card says {card.fingerprint[:16]}")
    return Report(sum(len(items) for items in splits.values()), fingerprint.hexdigest(), tuple(faults))
