"""What a training puts down so that it can go on where it stopped: safetensors files, each with its facts as JSON.

A checkpoint belongs to a run and to what made it: one that was written by other code, another version of torch or on
another kind of device is not gone on from, because its numbers would not be those of an uninterrupted run.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from bench.core.store import write_atomically

Facts = dict[str, Any]


@dataclass
class Checkpoints:
    """A folder of checkpoints by name. `compatibility_key` says what code and device they come from."""

    folder: Path
    compatibility_key: str
    every: float = 30.0  # seconds of training between two of them
    saved: float = field(default_factory=time.monotonic)

    def within(self, name: str) -> Checkpoints:
        """Those of a part of the run, in a folder of their own."""
        return Checkpoints(self.folder / name, self.compatibility_key, self.every)

    def due(self) -> bool:
        return time.monotonic() - self.saved >= self.every

    def save(self, name: str, tensors: Mapping[str, Tensor], facts: Facts) -> None:
        metadata = {"compatibility_key": self.compatibility_key, "facts": json.dumps(facts, allow_nan=False)}
        whole = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
        write_atomically(self.path(name), lambda file: save_file(whole, file, metadata))
        self.saved = time.monotonic()

    def load(self, name: str) -> tuple[dict[str, Tensor], Facts] | None:
        """None where there is none, or one of another key, or it is damaged: training then starts anew."""
        if not self.path(name).is_file():
            return None
        try:
            with safe_open(self.path(name), framework="pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("compatibility_key") != self.compatibility_key:
                    return None
                return {key: file.get_tensor(key) for key in file.keys()}, json.loads(metadata["facts"])  # noqa: SIM118
        except (SafetensorError, ValueError, KeyError):
            return None

    def remove(self, name: str) -> None:
        self.path(name).unlink(missing_ok=True)

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"
