"""Records with numbers chosen by hand."""

from __future__ import annotations

from bench.core.record import Compute, Cost, Milestone, Params, Provenance, Record, Scores, Storage
from bench.core.spec import Protocol, RunSpec

GROUPS = {
    "natural": ("digits", "textures"),
    "specialized": ("shapes_sketch", "shapes_paint"),
    "structured": ("count", "location", "orientation", "distance"),
}
KEYS = tuple(key for keys in GROUPS.values() for key in keys)
PROTOCOL = Protocol("pocket@v1", "adamw", 1e-3, 0.0, 8, 0.1, 20, "train+val", "last", (0, 1, 2))
PROVENANCE = Provenance(
    "measured", "abc123abc123", "0a" * 8, "0b" * 8, "t", None, "cpu", "a cpu", "float32", 1, "h", {}, "2025-01-01", 9.0
)


def make(
    method: str,
    dataset: str,
    seed: int,
    score: float | None,
    *,
    trained: int = 1000,
    head: int = 200,
    deployed: int | None = None,
    flops: int = 2_000_000_000,
    merged: int | None = None,
    variant: str = "",
    backbone: str = "pocket_vit",
    weights: str = "pretrained",
    protocol: Protocol = PROTOCOL,
    version: int = 1,
    rule: str = "last",
    fingerprint: str = "01" * 32,
    suite: str = "pocket",
    status: str = "failed",
    reason: str = "RuntimeError: out of memory",
    milestones: tuple[Milestone, ...] = (),
) -> Record:
    """A record with numbers chosen by hand; without a score, one that failed or was skipped."""
    name = f"{suite}/{dataset}"
    spec = RunSpec(method, version, {"variant": variant}, backbone, weights, name, fingerprint, protocol, seed)
    if score is None:
        return Record(spec, status, PROVENANCE, variant, reason=reason)  # type: ignore[arg-type]
    params = Params(trained, trained if deployed is None else deployed, head, 1_000_000, trained + head)
    cost = Cost(
        params=params,
        storage_bytes=Storage(4 * (trained + head), 4 * trained),
        unmerged=Compute(flops // 2, flops),
        merged=None if merged is None else Compute(merged // 2, merged),
        flops_counter="torch FlopCounterMode",
        train_seconds=10.0,
        train_images_per_second=100.0,
        inference_images_per_second=200.0,
        peak_bytes=None,
    )
    scores = Scores("top1", rule, score, 500)
    return Record(spec, "done", PROVENANCE, variant, scores=scores, cost=cost, milestones=milestones)


def cycle(number: int, score: float, left: int, head: int = 200) -> Milestone:
    params = Params(1000, left, head, 1_000_000, 1200)
    sizes = {f"blocks.{block}.{slot}": left // (8 * (block + 1)) for block in range(4) for slot in ("attn", "mlp")}
    flops = Compute(255_000_000 + left, 510_000_000 + 2 * left)
    return Milestone(f"cycle {number}", number, score, params, Storage(4 * (left + head), 4 * left), flops, sizes)
