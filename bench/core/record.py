"""A record: what one run leaves behind. Absent numbers are None; a failure is a record with a reason.

Ranges are part of the schema: a file with a score above one, a negative count or a key that stands twice is no record.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from bench.core.errors import CorruptRecord, ForeignRecord, UsageError
from bench.core.schema import Pattern, Range, parse, plain
from bench.core.spec import RunSpec

SCHEMA = 1

Failure = Literal["memory", "diverged", "data", "system", "node", "error"]
"""Why a run failed: it ran out of memory; its loss is no number; its data are bad; the disk or the system refused
something; its process was killed again and again without a word; anything else, which is a fault of the code."""

Count = Annotated[int, Range(0, 2**63)]
Share = Annotated[float, Range(0, 1)]
Amount = Annotated[float, Range(0)]  # of seconds, of images per second, a learning rate
Sha256 = Annotated[str, Pattern("[0-9a-f]{16}|[0-9a-f]{64}", "a sha256 in hexadecimal digits")]
Word = Annotated[str, Pattern(r"[\w.+-]{1,40}", "a name of letters, digits and ._+-")]
Commit = Annotated[str, Pattern(r"[0-9a-f]{12,64}(\+dirty)?", "a commit in hexadecimal digits, or one with +dirty")]
Time = Annotated[
    str, Pattern(r"\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\d([+-]\d\d:\d\d)?)?", "a time, like 2026-01-31T12:00:00+00:00")
]
LogName = Annotated[str, Pattern(r"seed\d+-[0-9a-f]{16}\.log", "the name of a log, like seed0-0123456789abcdef.log")]


@dataclass(frozen=True)
class Params:
    """Numbers of parameters."""

    method: Count  # trained, head not counted, at the largest the method was
    deployed: Count  # of those, what is left after training
    head: Count
    total: Count  # of the deployed model, frozen ones and head included
    with_gradient: Count  # of the trained ones (head included), those that received a non-zero gradient


@dataclass(frozen=True)
class Compute:
    """Multiply-accumulates and floating-point operations of one image's forward pass; 1 MAC = 2 FLOPs."""

    macs: Count
    flops: Count
    flops_linear_conv: Count | None = None  # the papers' convention: 2 x MACs of linears and convolutions alone


@dataclass(frozen=True)
class Storage:
    """Bytes of the safetensors file that turns the backbone into this model."""

    with_head: Count
    without_head: Count


@dataclass(frozen=True)
class Cost:
    params: Params
    storage_bytes: Storage
    unmerged: Compute
    merged: Compute | None  # None: the method cannot be merged into the backbone
    flops_counter: str
    train_seconds: Amount
    train_images_per_second: Amount
    inference_images_per_second: Amount
    peak_bytes: Count | None  # of accelerator memory while training
    peak_inference_bytes: Count | None = None  # of accelerator memory while testing
    train_bytes: Count | None = None  # of the tensors of a step of training, a sum, by bench.models.memory
    inference_bytes: Count | None = None  # of tensors while one image is scored, by the same
    merged_images_per_second: Amount | None = None  # in testing; None: the method cannot be merged, or it was not timed


@dataclass(frozen=True)
class Milestone:
    """The model at the end of one phase of training, scored after all training had ended."""

    name: str
    epoch: Count
    score: Share
    params: Params
    storage_bytes: Storage
    unmerged: Compute
    sizes: Mapping[str, Count]  # of every part whose size training changes: neurons left per adapter


@dataclass(frozen=True)
class Trial:
    """One training of a search: on the training split, scored on the validation split."""

    lr: Amount
    weight_decay: Amount
    val: Share | None  # None: it diverged
    seconds: Amount


@dataclass(frozen=True)
class Epoch:
    phase: Count
    loss: float
    lr: Amount  # at the last step
    seconds: Amount
    val: Share | None = None


@dataclass(frozen=True)
class Scores:
    """The reported number: on the test split, metric and rule by name, between 0 and 1."""

    metric: Word
    rule: Word
    test: Share
    test_images: Count
    val: Share | None = None  # of the reported epoch, where the validation split was not trained on
    pe: Share | None = None  # performance efficiency of `test`; absent in records of the first release


@dataclass(frozen=True)
class Provenance:
    source: Literal["measured"]
    code: Commit | None  # commit of the harness, "+dirty" where files were changed; None outside a repository
    method_sha256: Sha256
    weights_sha256: Sha256 | Literal[""]  # empty where the run ended before they were loaded
    transform: str
    pretrained_on: str | None
    device: str
    device_name: str
    dtype: str
    threads: Count
    host: str
    versions: Mapping[str, str]
    started: Time  # UTC, ISO 8601
    seconds: Amount  # of the whole run, data and measures included; of the last attempt where there were several
    job: str | None = None  # of the batch system
    shots_sha256: Sha256 | None = None  # of the images drawn where the protocol draws some: as in `bench data shots`
    texts_sha256: Sha256 | None = None  # of the zero-shot classifier, where the head starts as one
    harness_sha256: Sha256 | None = None  # of the code that can change numbers; absent in records of the first release


@dataclass(frozen=True)
class Record:
    spec: RunSpec
    status: Literal["done", "failed", "skipped"]
    provenance: Provenance
    variant: str = ""  # hyper-parameters that are not at their defaults: "rank=4,targets=q"
    reason: str | None = None
    failure: Failure | None = None
    attempts: Count = 1  # how often it was begun, this time included; one that was interrupted goes on where it stopped
    log: LogName | None = None  # name of the traceback file beside the record
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
        if self.reason is not None and not self.reason.strip():
            raise ValueError(f"reason = {self.reason!r} is empty: it says why a run is {self.status}")
        if self.failure is not None and self.status != "failed":
            raise ValueError(f"failure = {self.failure!r} belongs to a failed record, not to one that is {self.status}")

    def to_json(self) -> str:
        data = {"digest": self.spec.digest, **plain(self)}
        return json.dumps(data, indent=1, allow_nan=False) + "\n"


def from_json(text: str, where: str) -> Record:
    """The record that a file holds. `where` names the file in messages.

    Raises CorruptRecord, naming file and field, where the text is no whole record with its own digest.

    Raises ForeignRecord where it has another schema than this version reads.
    """
    try:
        data: dict[str, Any] = json.loads(text, object_pairs_hook=_unique)
        digest, schema = data.pop("digest"), data["schema"]
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
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


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A table of JSON. Of two values under one key, readers would take different ones."""
    table = dict(pairs)
    if len(table) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} stands twice")
    return table


def pe(score: float, trained: float, scale: float = 1e8) -> float:
    """Performance efficiency, score * exp(-log10(P / 1e8 + 1)); P: trained parameters, head included.

    Li et al., "ELEVATER", NeurIPS 2022 Datasets and Benchmarks, arXiv 2204.08790. The score lies in [0, 1]. NaN of
    figures made by hand whose P is negative.
    """
    if trained < 0:
        return math.nan
    return score * math.exp(-math.log10(trained / scale + 1))
