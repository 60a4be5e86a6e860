"""Records as a pandas DataFrame in long form: one row a record. What was not measured is missing, never a sentinel."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

import pandas as pd

from bench.record import Cost, Record
from bench.spec import Protocol, identity

IDENTITY = ("method", "variant", "backbone", "weights", "protocol", "protocol_digest", "settings")
RUN = ("dataset", "fingerprint", "seed", "digest", "status", "reason", "rule", "metric", "score", "val")
COST = (
    *("params_method", "params_deployed", "params_head", "params_total", "params_with_gradient"),
    *("storage_with_head", "storage_without_head"),
    *("macs_unmerged", "flops_unmerged", "macs_merged", "flops_merged", "flops_linear_conv", "flops_counter"),
    *("train_seconds", "train_images_per_second", "inference_images_per_second", "peak_bytes"),
)
DEVICE = ("device", "device_name", "seconds")
COLUMNS = IDENTITY + RUN + COST + DEVICE
NUMBERS = ("score", "val", *(name for name in COST if name != "flops_counter"), "seconds")


def frame(records: Iterable[Record]) -> pd.DataFrame:
    """One row a record, in a fixed order that does not depend on the order of the records."""
    rows = pd.DataFrame([_row(record) for record in records], columns=list(COLUMNS))
    for name in NUMBERS:
        rows[name] = rows[name].astype(float)
    return rows.sort_values(["backbone", "method", "variant", "dataset", "seed", "digest"], ignore_index=True)


def suite_of(dataset: str) -> str:
    """`pocket` of `pocket/digits`."""
    return dataset.split("/", 1)[0]


def key_of(dataset: str) -> str:
    """`digits` of `pocket/digits`."""
    return dataset.split("/", 1)[-1]


def variant_of(record: Record) -> str:
    return record.variant or "default"


def protocol_digest(protocol: Protocol) -> str:
    """Tells apart two protocols that share a name; which seeds were asked for does not matter."""
    asked = {name: value for name, value in identity(protocol).items() if name != "seeds"}
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:8]


def _row(record: Record) -> dict[str, object]:
    spec, scores, provenance = record.spec, record.scores, record.provenance
    return {
        "method": spec.method,
        "variant": variant_of(record),
        "backbone": spec.backbone,
        "weights": spec.weights,
        "protocol": spec.protocol.name,
        "protocol_digest": protocol_digest(spec.protocol),
        "settings": f"version {spec.method_version} {json.dumps(dict(spec.params), sort_keys=True)}",
        "dataset": spec.dataset,
        "fingerprint": spec.fingerprint,
        "seed": spec.seed,
        "digest": spec.digest,
        "status": record.status,
        "reason": record.reason,
        "rule": scores.rule if scores else None,
        "metric": scores.metric if scores else None,
        "score": scores.test if scores else None,
        "val": scores.val if scores else None,
        **(_cost(record.cost) if record.cost else {}),
        "device": provenance.device,
        "device_name": provenance.device_name,
        "seconds": provenance.seconds,
    }


def _cost(cost: Cost) -> dict[str, object]:
    return {
        "params_method": cost.params.method,
        "params_deployed": cost.params.deployed,
        "params_head": cost.params.head,
        "params_total": cost.params.total,
        "params_with_gradient": cost.params.with_gradient,
        "storage_with_head": cost.storage_bytes.with_head,
        "storage_without_head": cost.storage_bytes.without_head,
        "macs_unmerged": cost.unmerged.macs,
        "flops_unmerged": cost.unmerged.flops,
        "macs_merged": cost.merged.macs if cost.merged else None,
        "flops_merged": cost.merged.flops if cost.merged else None,
        "flops_linear_conv": cost.unmerged.flops_linear_conv,
        "flops_counter": cost.flops_counter,
        "train_seconds": cost.train_seconds,
        "train_images_per_second": cost.train_images_per_second,
        "inference_images_per_second": cost.inference_images_per_second,
        "peak_bytes": cost.peak_bytes,
    }
