"""What a run reads: training and validation arrays, and a test split that stays sealed until training has ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from weakref import WeakSet

import numpy as np

from bench.core.errors import SealedTest


class Rows:
    """Chosen rows of one or several image arrays, seen as one array; nothing is copied until it is asked for."""

    def __init__(self, pieces: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
        self.pieces = tuple(pieces)  # an array (N, S, S, 3) and the rows taken from it
        self.ends = np.cumsum([len(rows) for _, rows in self.pieces])

    def __len__(self) -> int:
        return int(self.ends[-1])

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self), *self.pieces[0][0].shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.pieces[0][0].dtype

    def __getitem__(self, key: slice | np.ndarray) -> np.ndarray:
        """The images at these positions, in this order."""
        wanted = np.arange(len(self))[key]
        out = np.empty((len(wanted), *self.shape[1:]), dtype=self.dtype)
        owner = np.searchsorted(self.ends, wanted, side="right")
        for number, (array, rows) in enumerate(self.pieces):
            here = owner == number
            start = self.ends[number] - len(rows)
            out[here] = array[rows[wanted[here] - start]]
        return out


@dataclass(frozen=True)
class ArraySplit:
    images: np.ndarray | Rows  # uint8 (N, S, S, 3), possibly memory-mapped
    labels: np.ndarray  # int64 (N,), or uint8 (N, C) with a one for each class that is present

    def __len__(self) -> int:
        return len(self.labels)

    def __add__(self, other: ArraySplit) -> ArraySplit:
        return ArraySplit(Rows(_pieces(self) + _pieces(other)), np.concatenate((self.labels, other.labels)))

    def take(self, index: np.ndarray) -> ArraySplit:
        """The images at `index`, in that order."""
        pieces = _pieces(self)
        if len(pieces) > 1:
            raise ValueError("only one array's images can be chosen from")
        array, rows = pieces[0]
        return ArraySplit(Rows([(array, rows[index])]), self.labels[index])


def _pieces(arrays: ArraySplit) -> list[tuple[np.ndarray, np.ndarray]]:
    if isinstance(arrays.images, Rows):
        return list(arrays.images.pieces)
    return [(arrays.images, np.arange(len(arrays)))]


class TrainingOutcome:
    """Base of what has trained returns after its last step: once it is issued, the only key to a sealed test split."""


Outcome = TypeVar("Outcome", bound=TrainingOutcome)
_ISSUED: WeakSet[TrainingOutcome] = WeakSet()


def issue(outcome: Outcome) -> Outcome:
    """Makes the outcome a key, the object itself and none that is like it. What has trained issues what it returns: the
    training loop, or the fit of a probe."""
    _ISSUED.add(outcome)
    return outcome


class Sealed:
    """A test split that nothing can read before training has ended. No option turns this off."""

    def __init__(self, read: Callable[[], ArraySplit]) -> None:
        self._read = read

    def open(self, key: object) -> ArraySplit:
        """The test arrays, read now, for an outcome that was issued. Raises SealedTest for all else."""
        if not isinstance(key, TrainingOutcome) or key not in _ISSUED:
            raise SealedTest(
                "The test split was asked for before training had ended; it opens for a finished training only."
            )
        return self._read()


@dataclass(frozen=True)
class Splits:
    train: ArraySplit
    val: ArraySplit
    test: Sealed
    classes: int
    fingerprint: str
