"""Records as a pandas DataFrame in long form: one row a record. What was not measured is missing, never a sentinel."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from bench.core.record import Compute, Cost, Milestone, Params, Record, Storage
from bench.core.spec import Protocol, Value, identity
from bench.report.columns import MEASURES, measures_of_run

IDENTITY = ("method", "version", "variant", "backbone", "weights", "protocol", "protocol_digest", "settings")
RUN = ("dataset", "fingerprint", "seed", "digest", "status", "reason", "rule", "metric", "score", "val")
COST = (*MEASURES, "flops_counter")
DEVICE = ("pretrained_on", "device", "device_name", "started", "seconds")
# what changes numbers unasked
MADE = ("code", "method_sha256", "harness_sha256", "weights_sha256", "texts_sha256", "transform", "torch", "dtype")
PHASES = ("milestones",)  # as JSON, which few ask for: `milestones_of` reads it
COLUMNS = IDENTITY + RUN + COST + DEVICE + MADE + PHASES
NUMBERS = ("score", "val", *MEASURES, "seconds")
PARTS: Mapping[str, type] = {"params": Params, "storage_bytes": Storage, "unmerged": Compute}  # of a milestone
NO_COST: Mapping[str, None] = dict.fromkeys(COST)

Cell = str | int | float | None


def frame(records: Iterable[Record]) -> pd.DataFrame:
    """One row a record, in a fixed order that does not depend on the order of the records."""
    rows = [row(record) for record in records]
    return assemble({name: [cells[name] for cells in rows] for name in COLUMNS})


def assemble(columns: Mapping[str, Sequence[Cell]]) -> pd.DataFrame:
    """The frame of many rows, given column by column."""
    arrays = {name: np.array(columns[name], dtype=float) if name in NUMBERS else columns[name] for name in COLUMNS}
    order = ["backbone", "method", "variant", "dataset", "seed", "digest"]
    return pd.DataFrame(arrays).sort_values(order, ignore_index=True)


def suite_of(dataset: str) -> str:
    """`pocket` of `pocket/digits`."""
    return dataset.split("/", 1)[0]


def key_of(dataset: str) -> str:
    """`digits` of `pocket/digits`."""
    return dataset.split("/", 1)[-1]


@cache
def seen_in_pretraining(dataset: str, pretrained_on: str) -> bool:
    """Has a backbone learned from this very data? `pretrained_on` begins with its name: "cifar10: 50000 images".

    A name ends where "-", "_" or "@" begins an addition: "folder/cifar10-jpeg@1000" is cifar10 too, "cifar100" is not.
    """
    return _first_word(pretrained_on.partition(":")[0]) == _first_word(key_of(dataset))


def _first_word(name: str) -> str:
    return re.split("[-_@]", name)[0].lower()


def milestones_of(text: object) -> tuple[Milestone, ...]:
    """The milestones of one cell of the frame; none where the cell is empty."""
    return tuple(_milestone(**item) for item in json.loads(text)) if isinstance(text, str) else ()


def _plain(end: Milestone) -> dict[str, Any]:
    """As dataclasses.asdict gives it, which takes longer than reading a whole record."""
    return {**vars(end), **{name: vars(getattr(end, name)) for name in PARTS}, "sizes": dict(end.sizes)}


def _milestone(**item: Any) -> Milestone:
    return Milestone(**{**item, **{name: cls(**item[name]) for name, cls in PARTS.items()}})


@cache
def protocol_digest(protocol: Protocol) -> str:
    """Tells apart two protocols that share a name; which seeds were asked for does not matter, nor does the rate where
    the protocol has one for each method."""
    aside = ("seeds", "lr") if protocol.rates else ("seeds",)
    asked = {name: value for name, value in identity(protocol).items() if name not in aside}
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:8]


def row(record: Record) -> dict[str, Cell]:
    """The cells of one record, by column."""
    spec, scores, provenance = record.spec, record.scores, record.provenance
    cells: dict[str, Cell] = {
        "method": spec.method,
        "version": spec.method_version,
        "variant": record.variant or "default",
        "backbone": spec.backbone,
        "weights": spec.weights,
        "protocol": spec.protocol.name,
        "protocol_digest": protocol_digest(spec.protocol),
        "settings": settings_text(spec.method_version, spec.params),
        "dataset": spec.dataset,
        "fingerprint": spec.fingerprint,
        "seed": spec.seed,
        "digest": spec.digest,
        "status": record.status,
        "reason": record.reason,
        "rule": scores.rule if scores else None,
        "metric": scores.metric if scores else None,
        "score": _number(scores.test) if scores else None,
        "val": _number(scores.val) if scores else None,
        **(_cost(record.cost) if record.cost else NO_COST),
        "pretrained_on": provenance.pretrained_on,
        "device": provenance.device,
        "device_name": provenance.device_name,
        "started": provenance.started,
        "seconds": _number(provenance.seconds),
        "code": provenance.code,
        "method_sha256": provenance.method_sha256,
        "harness_sha256": provenance.harness_sha256,
        "weights_sha256": provenance.weights_sha256 or None,
        "texts_sha256": provenance.texts_sha256,
        "transform": provenance.transform or None,
        "torch": provenance.versions.get("torch"),
        "dtype": provenance.dtype,
        "milestones": json.dumps([_plain(end) for end in record.milestones]) if record.milestones else None,
    }
    return {name: _printable(cell) if isinstance(cell, str) else cell for name, cell in cells.items()}


def settings_text(version: int, params: Mapping[str, Value]) -> str:
    """A method's version and every hyper-parameter, as the column `settings` has them."""
    return f"version {version} {json.dumps(dict(params), sort_keys=True)}"


def _printable(text: str) -> str:
    """Bytes of a file's name that are no text reach a reason or a dataset's name; no file or terminal takes them."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


def _cost(cost: Cost) -> dict[str, Cell]:
    measures = {name: _number(value) for name, value in measures_of_run(cost).items()}
    return {**measures, "flops_counter": cost.flops_counter}


def _number(value: float | None) -> float | None:
    """As a float: a count that no float holds, of a record made by hand, is infinite; 0 has no sign."""
    try:
        return None if value is None else float(value) + 0.0
    except OverflowError:
        return math.inf
