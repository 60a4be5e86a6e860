"""CIFAR's pickled batches without trust in them: an unpickler that makes arrays of bytes and nothing else.

The published files are opened by torchvision after their checksums; a part of them has none.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.core.errors import UsageError
from bench.core.files import read_bytes

LARGEST = 512 * 1024 * 1024  # bytes of a batch; CIFAR-100's largest has 155 million
ALLOWED = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): lambda text, name: text.encode("latin1") if name == "latin1" else None,
}


def images(paths: Sequence[Path]) -> tuple[np.ndarray, list[int]]:
    """Images uint8 (N, 32, 32, 3) and labels of batches, in their order; CIFAR-100's fine ones. Raises UsageError."""
    pixels, labels = [], list[int]()
    for path in paths:
        try:
            batch = _Unpickler.read(read_bytes(path, LARGEST))
            data = np.asarray(batch["data"])
            if data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != 3072:
                raise ValueError("its data are not rows of 3,072 bytes")
            pixels.append(data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
            labels += [int(label) for label in batch["fine_labels" if "fine_labels" in batch else "labels"]]
        except FileNotFoundError:
            raise UsageError(f"{path} is not there. Unpack it again.") from None
        except Exception as error:  # unpickling raises of no common kind
            told = f"{type(error).__name__}: {error}".rstrip(".")
            raise UsageError(f"{path} is not a batch of CIFAR ({told}). Save it as the published ones are.") from error
    return np.concatenate(pixels), labels


def class_names(path: Path) -> list[str]:
    """CIFAR-100's 100 fine names, of its file `meta`. Raises UsageError."""
    try:
        names = _Unpickler.read(read_bytes(path))["fine_label_names"]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError("fine_label_names is no list of texts")
        return names
    except Exception as error:  # unpickling raises of no common kind
        raise UsageError(f"{path} does not name CIFAR-100's classes ({type(error).__name__}: {error}).") from error


class _Unpickler(pickle.Unpickler):
    @staticmethod
    def read(data: bytes) -> dict[str, Any]:
        found = _Unpickler(io.BytesIO(data), encoding="latin1").load()
        return {str(key): value for key, value in found.items()}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in ALLOWED:
            return ALLOWED[module, name]
        if name == "_frombuffer" and module in ("numpy.core.numeric", "numpy._core.numeric"):
            return lambda data, kind, shape, order: np.frombuffer(data, dtype=kind).reshape(shape, order=order)
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return _empty
        raise pickle.UnpicklingError(f"it wants {module}.{name}, which no array needs")


def _empty(kind: object, shape: object, code: object) -> np.ndarray:
    """What numpy makes before it fills it; never one of objects."""
    if kind is not np.ndarray:
        raise pickle.UnpicklingError("it wants an array of an unknown kind")
    return np.ndarray((0,), dtype=np.uint8)
