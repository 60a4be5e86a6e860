"""One run as it is executed: what was asked (the spec), and what it takes to answer here."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bench.core.configs import Dataset
from bench.core.errors import UsageError
from bench.core.spec import Protocol, RunSpec
from bench.data.sources import Source
from bench.models.method import Method, params


@dataclass(frozen=True)
class Job:
    """A spec with the built method, the place of the data and the device."""

    spec: RunSpec
    method: Method
    card: Dataset
    data_root: Path
    source: Source = None
    weights_file: Path | None = None
    device: str = "cpu"
    keep_delta: bool = False  # whether what was trained stays beside the record


def make_job(
    name: str,
    method: Method,
    backbone: str,
    card: Dataset,
    protocol: Protocol,
    seed: int,
    *,
    weights: str = "pretrained",
    data_root: Path,
    source: Source = None,
    device: str = "cpu",
) -> Job:
    """The job of one run of the method called `name`.

    `weights` is "pretrained", "random", or the path of a safetensors file, whose digest then enters the spec. Raises
    UsageError where it is none of them, or where a name could not be a folder of the results.
    """
    file = None
    if weights not in ("pretrained", "random"):
        file = Path(weights)
        if not file.is_file():
            raise UsageError(f"--weights {weights} is neither 'pretrained' nor 'random' nor a file.")
        weights = f"sha256:{file_digest(file)}"
    question = (name, method.version, params(method), backbone, weights, card.name, card.fingerprint, protocol, seed)
    try:
        return Job(RunSpec(*question), method, card, data_root, source, file, device)
    except ValueError as error:
        raise UsageError(f"{error}. Rename the file or folder that it comes from.") from error


@cache
def file_digest(path: Path) -> str:
    """The first 16 hex digits of the sha256 of a file's bytes, computed once in a process."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
