"""What is asked for, a grid of runs, and how it is executed: plain values, from Python, a command or a file."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.core.configs import read_toml
from bench.core.errors import UsageError
from bench.core.schema import parse
from bench.core.spec import Precision, Value


@dataclass(frozen=True)
class MethodChoice:
    """One method of a grid. `settings` are its hyper-parameters where they differ from its defaults; text is read by
    the type of the hyper-parameter, so that `{"rank": "4"}` and `{"rank": 4}` are one question."""

    name: str
    settings: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class RunRequest:
    """Which runs: every method on every dataset with every backbone, once a seed.

    Exactly one of `suite`, `datasets` and `data` says on what. None everywhere means the default: of the suite for
    backbones and protocol, of the protocol for seeds.
    """

    methods: tuple[MethodChoice, ...]
    suite: str | None = None  # the name of a suite, or the path of a suite file
    datasets: tuple[str, ...] = ()  # "suite/name"
    data: tuple[str, ...] = ()  # folders of images: FOLDER/[train|val|test/]<class>/*.jpg
    backbones: tuple[str, ...] = ()
    weights: str = "pretrained"  # "pretrained", "random", or the path of a safetensors file
    protocol: str | None = None  # the name of a protocol, or the path of a file with a table [protocol]
    epochs: int | None = None  # instead of the protocol's
    lr: float | None = None  # instead of the protocol's
    precision: Precision | None = None  # instead of the protocol's
    shots: int | None = None  # images a class to train on, instead of the protocol's
    seeds: tuple[int, ...] | None = None
    limit: int | None = None  # with `data`: images to train and validate on
    skip_missing: bool = False  # leave out datasets that are not on this machine
    only_failed: bool = False  # of these runs, those whose last attempt failed
    keep_delta: bool = False  # what was trained stays beside the record of a run that is made now
    plugins: tuple[str, ...] = ()  # files of methods
    data_root: str | None = None  # prepared and downloaded data; None: BENCH_DATA, or the user's cache
    out: str = "results"

    def __post_init__(self) -> None:
        if not self.methods:
            raise ValueError("methods names none; `bench list methods` shows what there is")
        places = [name for name in ("suite", "datasets", "data") if getattr(self, name)]
        if len(places) != 1:
            raise ValueError(
                f"exactly one of suite, datasets and data must be given, not {' and '.join(places) or 'none'}"
            )
        if self.limit is not None and not self.data:
            raise ValueError("limit goes with data: the datasets of a suite have fixed splits")
        for name, least in (("epochs", 1), ("limit", 1), ("shots", 1)):
            if (value := getattr(self, name)) is not None and value < least:
                raise ValueError(f"{name} = {value} must be at least {least}")
        if self.lr is not None and not 0 < self.lr < math.inf:
            raise ValueError(f"lr = {self.lr} must be a positive number")
        if self.seeds is not None and (not self.seeds or min(self.seeds) < 0):
            raise ValueError("seeds must be whole numbers of at least 0, at least one of them")


@dataclass(frozen=True)
class Launch:
    """How runs are executed. None of it changes a number of theirs."""

    executor: str = "local"
    options: Mapping[str, object] = field(default_factory=dict)  # of the executor
    device: str = "auto"  # "auto", "cpu" or "cuda"
    threads: int | None = None  # of a worker; None: as many as torch chooses
    retries: int = 1  # of failures that may not recur
    checkpoint_seconds: float = 30.0  # of training between two checkpoints
    bundle_minutes: int | None = None  # of runs that one worker takes at a time; 0: each run alone
    config: str | None = None  # a TOML file with a table of each executor's options, and [[resources]]

    def __post_init__(self) -> None:
        if self.device not in ("auto", "cpu", "cuda"):
            raise ValueError(f"device = {self.device!r} must be auto, cpu or cuda")


def read_request(path: Path, **changes: object) -> RunRequest:
    """The request in a TOML file: its keys are the fields of RunRequest, with a `[[methods]]` table for each method.

    `changes` are fields that the caller gives instead; paths in the file are relative to it. Raises UsageError that
    lists every fault.
    """
    data = read_toml(path)
    known = {f.name for f in dataclasses.fields(RunRequest)}
    for name in ("data", "plugins"):
        if isinstance(items := data.get(name), list):
            data[name] = [str(path.parent / item) if isinstance(item, str) else item for item in items]
    for name in ("suite", "protocol"):
        if isinstance(value := data.get(name), str) and value.endswith(".toml"):
            data[name] = str(path.parent / value)
    return parse(RunRequest, {**data, **{k: v for k, v in changes.items() if k in known}}, str(path))


def make_request(**values: object) -> RunRequest:
    """A request from values that a person gave. Raises UsageError where they make no request."""
    try:
        return RunRequest(**values)  # type: ignore[arg-type]
    except ValueError as error:
        raise UsageError(f"{error}.") from None
