"""What a run reads: training and validation arrays, and a test split that stays sealed until training has ended."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bench.errors import SealedTest


@dataclass(frozen=True)
class Arrays:
    images: np.ndarray  # uint8 (N, S, S, 3), possibly memory-mapped
    labels: np.ndarray  # int64 (N,)

    def __len__(self) -> int:
        return len(self.labels)

    def __add__(self, other: Arrays) -> Arrays:
        return Arrays(np.concatenate((self.images, other.images)), np.concatenate((self.labels, other.labels)))


class Ended(ABC):
    """Base of what a training loop returns after its last step: the only key to a sealed test split."""

    @property
    @abstractmethod
    def images_per_second(self) -> float:
        """How fast it trained; a training that has not run cannot tell."""


class Sealed:
    """A test split that nothing can read before training has ended. No option turns this off."""

    def __init__(self, read: Callable[[], Arrays]) -> None:
        self._read = read

    def open(self, key: object) -> Arrays:
        """The test arrays, for the outcome of a training that has ended. Raises SealedTest for anything else."""
        if not isinstance(key, Ended):
            raise SealedTest(
                "The test split was asked for before training had ended; it opens for a finished training only."
            )
        return self._read()


@dataclass(frozen=True)
class Splits:
    train: Arrays
    val: Arrays
    test: Sealed
    classes: int
    fingerprint: str
