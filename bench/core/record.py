"""A record: what one run leaves behind. Absent numbers are None; a failure is a record with a reason."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bench.core.errors import CorruptRecord, ForeignRecord, UsageError
from bench.core.schema import parse, plain
from bench.core.spec import RunSpec

SCHEMA = 1

Failure = Literal["memory", "diverged", "data", "system", "node", "error"]
"""Why a run failed: it ran out of memory; its loss is no number; its data are bad; the disk or the system refused
something; its process was killed again and again without a word; anything else, which is a fault of the code."""


@dataclass(frozen=True)
class Params:
    """Numbers of parameters."""

    method: int  # trained, head not counted, at the largest the method was
    deployed: int  # of those, what is left after training
    head: int
    total: int  # of the deployed model, frozen ones and head included
    with_gradient: int  # of the trained ones (head included), those that received a non-zero gradient


@dataclass(frozen=True)
class Compute:
    """Multiply-accumulates and floating-point operations of one image's forward pass; 1 MAC = 2 FLOPs."""

    macs: int
    flops: int
    flops_linear_conv: int | None = None  # the papers' convention: 2 x MACs of linears and convolutions alone


@dataclass(frozen=True)
class Storage:
    """Bytes of the safetensors file that turns the backbone into this model."""

    with_head: int
    without_head: int


@dataclass(frozen=True)
class Cost:
    params: Params
    storage_bytes: Storage
    unmerged: Compute
    merged: Compute | None  # None: the method cannot be merged into the backbone
    flops_counter: str
    train_seconds: float
    train_images_per_second: float
    inference_images_per_second: float
    peak_bytes: int | None  # of accelerator memory while training


@dataclass(frozen=True)
class Milestone:
    """The model at the end of one phase of training, scored after all training had ended."""

    name: str
    epoch: int
    score: float
    params: Params
    storage_bytes: Storage
    unmerged: Compute
    sizes: Mapping[str, int]  # of every part whose size training changes: neurons left per adapter


@dataclass(frozen=True)
class Trial:
    """One training of a search: on the training split, scored on the validation split."""

    lr: float
    weight_decay: float
    val: float | None  # None: it diverged
    seconds: float


@dataclass(frozen=True)
class Epoch:
    phase: int
    loss: float
    lr: float  # at the last step
    seconds: float
    val: float | None = None


@dataclass(frozen=True)
class Scores:
    """The reported number: on the test split, metric and rule by name, between 0 and 1."""

    metric: str
    rule: str
    test: float
    test_images: int
    val: float | None = None  # of the reported epoch, where the validation split was not trained on


@dataclass(frozen=True)
class Provenance:
    source: Literal["measured"]
    code: str | None  # commit of the harness, "+dirty" where files were changed; None outside a repository
    method_sha256: str
    weights_sha256: str
    transform: str
    pretrained_on: str | None
    device: str
    device_name: str
    dtype: str
    threads: int
    host: str
    versions: Mapping[str, str]
    started: str  # UTC, ISO 8601
    seconds: float  # of the whole run, data and measures included; of the last attempt where there were several
    job: str | None = None  # of the batch system
    shots_sha256: str | None = None  # of the images drawn where the protocol draws some: as in `bench data shots`


@dataclass(frozen=True)
class Record:
    spec: RunSpec
    status: Literal["done", "failed", "skipped"]
    provenance: Provenance
    variant: str = ""  # hyper-parameters that are not at their defaults: "rank=4,targets=q"
    reason: str | None = None
    failure: Failure | None = None
    attempts: int = 1  # how often it was begun, this time included; one that was interrupted goes on where it stopped
    log: str | None = None  # name of the traceback file beside the record
    scores: Scores | None = None
    cost: Cost | None = None
    milestones: tuple[Milestone, ...] = ()
    epochs: tuple[Epoch, ...] = ()
    trials: tuple[Trial, ...] = ()  # of the protocol's search; their cost is not part of `cost`
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        done = self.status == "done"
        if done != (self.scores is not None and self.cost is not None) or done != (self.reason is None):
            raise ValueError("a record has scores and cost exactly if it is done, and a reason exactly if it is not")
        if self.failure is not None and self.status != "failed":
            raise ValueError(f"failure = {self.failure!r} belongs to a failed record, not to one that is {self.status}")

    def to_json(self) -> str:
        data = {"digest": self.spec.digest, **plain(self)}
        return json.dumps(data, indent=1, allow_nan=False) + "\n"


def from_json(text: str, where: str) -> Record:
    """Raises CorruptRecord, naming the file, where the text is no whole record with its own digest.

    Raises ForeignRecord where it has another schema than this version reads.
    """
    try:
        data: dict[str, Any] = json.loads(text)
        digest, schema = data.pop("digest"), data["schema"]
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise CorruptRecord(f"{where} is not a record: {type(error).__name__}: {error}.") from error
    if schema != SCHEMA:
        raise ForeignRecord(f"{where} has record schema {schema}; this version reads {SCHEMA}.")
    try:
        record = parse(Record, data, where)
    except UsageError as error:
        raise CorruptRecord(str(error)) from error
    if record.spec.digest != digest:
        raise CorruptRecord(f"{where}: its digest {digest} is not that of its spec, {record.spec.digest}.")
    return record
