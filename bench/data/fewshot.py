"""Which images a few-shot run trains and validates on: ELEVATER's two rules, and lists of what they chose.

The rules are those of vision-datasets 0.2.17 (`sample`) and of ELEVATER's toolkit (`holdout_split`). Both depend on
the order in which the images are listed: only ELEVATER's own index files give the samples that it drew.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from bench.core.errors import UsageError
from bench.core.store import write_atomically


@dataclass(frozen=True)
class Shots:
    """Positions in the training split, in the order in which they were drawn."""

    k: int
    seed: int
    train: tuple[int, ...]
    val: tuple[int, ...]
    source: str  # ImageList.digest() of the training split: positions mean nothing without it

    @property
    def sha256(self) -> str:
        return hashlib.sha256(_json(asdict(self)).encode()).hexdigest()

    @property
    def images_sha256(self) -> str:
        return digest((*self.train, *self.val))

    def save(self, path: Path, names: Sequence[str] = ()) -> None:
        """Puts the lists down, with their sha256; `names` are those of all images of the split, for people."""
        data = {**asdict(self), "sha256": self.sha256, "images_sha256": self.images_sha256}
        if names:
            data["names"] = {part: [names[i] for i in getattr(self, part)] for part in ("train", "val")}
        write_atomically(path, lambda file: file.write_text(json.dumps(data) + "\n"))


def digest(positions: Iterable[int]) -> str:
    """sha256 of which images were drawn, in whatever order: their positions, ascending, joined by commas."""
    return hashlib.sha256(",".join(map(str, sorted(positions))).encode()).hexdigest()


def load(path: Path) -> Shots:
    """What `save` put down. Raises UsageError where it was changed since."""
    try:
        data = json.loads(path.read_text())
        shots = Shots(data["k"], data["seed"], tuple(data["train"]), tuple(data["val"]), data["source"])
        told = data["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is not a list of few-shot images ({type(error).__name__}: {error}).") from error
    if told != shots.sha256:
        raise UsageError(
            f"{path}: its sha256 is {shots.sha256[:16]}, it says {told[:16]}. It was changed; draw it again."
        )
    return shots


def draw(labels: np.ndarray, k: int, seed: int, source: str, share: float = 0.2) -> Shots:
    """k images of each class, of which the rounded-up `share` validates: of 5, 4 train and 1 validates."""
    chosen = sample(labels, k, seed)
    train, val = holdout_split(labels[chosen], share)
    return Shots(k, seed, tuple(chosen[i] for i in train), tuple(chosen[i] for i in val), source)


def sample(labels: np.ndarray, k: int, seed: int) -> list[int]:
    """Positions of about k images of each class, in shuffled order. A class with fewer gives all it has.

    The images are walked through in shuffled order. With one label each, an image is taken while its class has fewer
    than k. With several, (N, C), it is passed over once all its classes have k; otherwise it is taken if its rarest
    class has at most k / 2, or its most frequent one at most 1.5 k. Images without a label: the first k that come
    before every class has k.
    """
    if k < 1:
        raise UsageError(f"{k} images of each class were asked for; at least one is needed.")
    order = list(range(len(labels)))
    random.Random(seed).shuffle(order)
    present = _present(labels)
    counts = np.zeros(present.shape[1], dtype=np.int64)
    unlabelled, chosen = 0, []
    for i in order:
        classes = np.flatnonzero(present[i])
        if not len(classes):
            if unlabelled < k:
                unlabelled += 1
                chosen.append(i)
            continue
        fewest, most = counts[classes].min(), counts[classes].max()
        if fewest < k and (fewest <= k / 2 or most <= 1.5 * k):
            chosen.append(i)
            counts[classes] += 1
            if counts.min() >= k:
                break
    return chosen


def holdout_split(labels: np.ndarray, share: float = 0.2) -> tuple[list[int], list[int]]:
    """Positions of the images that train and of those that validate, both ascending. Nothing is drawn.

    Of each class, the first images up to the rounded-up `share` of them validate. With several labels, classes take
    turns in their order: while one lacks images, the first that shows it and is not taken yet goes over, and counts
    for all its classes.
    """
    if not 0 < share < 1:
        raise UsageError(f"A share of {share} cannot be carved off; it lies between 0 and 1.")
    present = _present(labels)
    lacking = [math.ceil(count * share) for count in present.sum(0).tolist()]
    taken: set[int] = set()
    for label in range(present.shape[1]):
        for i in np.flatnonzero(present[:, label]).tolist():
            if lacking[label] <= 0:
                break
            if i not in taken:
                taken.add(i)
                for other in np.flatnonzero(present[i]).tolist():
                    lacking[other] -= 1
    return [i for i in range(len(labels)) if i not in taken], sorted(taken)


def _present(labels: np.ndarray) -> np.ndarray:
    """bool (N, C): which classes an image shows."""
    if labels.ndim == 2:
        return labels > 0
    return labels[:, None] == np.arange(int(labels.max(initial=-1)) + 1)


def _json(data: dict[str, object]) -> str:
    return json.dumps(data, sort_keys=True, separators=(",", ":"))
