"""A protocol and a spec for tests."""

from __future__ import annotations

from bench.core.spec import Protocol, RunSpec

PROTOCOL = Protocol("p@v1", "adamw", 1e-3, 1e-4, 5, 0.1, 20, "train+val", "last", (0, 1, 2))
SPEC = RunSpec(
    "lora",
    1,
    {"rank": 8, "alpha": 8.0, "targets": ("q", "v")},
    "pocket_vit",
    "pretrained",
    "pocket/digits",
    "ab" * 32,
    PROTOCOL,
    0,
)
