"""A finished and a failed record of one spec."""

from __future__ import annotations

from bench.core.record import Compute, Cost, Params, Provenance, Record, Scores, Storage
from helpers.specs import SPEC

PROVENANCE = Provenance(
    "measured",
    "abc123abc123",
    "0a" * 8,
    "0b" * 8,
    "t",
    None,
    "cpu",
    "a cpu",
    "float32",
    2,
    "here",
    {"torch": "2"},
    "2026-01-01",
    1.0,
)
COST = Cost(Params(10, 5, 50, 1000, 60), Storage(300, 100), Compute(50, 100), None, "counter", 1.0, 2.0, 3.0, None)
DONE = Record(SPEC, "done", PROVENANCE, scores=Scores("top1", "last", 0.5, 100), cost=COST)
FAILED = Record(SPEC, "failed", PROVENANCE, reason="it broke")
