"""The seconds that a run will take: those of similar runs that have finished, or its arithmetic at a modest speed.

A first estimate is good to a factor of two or three, enough for bundles of a sensible size; the first records replace
it.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from bench.core.spec import RunSpec

if TYPE_CHECKING:
    from bench.training.job import Job

SPEED = {"cpu": 6e10, "cuda": 5e12}  # floating-point operations a second that training reaches, a core and a GPU
START = 5.0  # seconds for weights, data and measures
UNKNOWN = 600.0  # where a backbone's arithmetic cannot be counted


class History:
    """Seconds that finished runs took: an estimate is the median of the most similar ones."""

    def __init__(self, done: Iterable[tuple[str, str, str, str, float]]) -> None:
        """Method, backbone, dataset, protocol and seconds of finished runs."""
        self.seen: dict[tuple[str, ...], list[float]] = {}
        for method, backbone, dataset, protocol, seconds in done:
            for key in _likeness(method, backbone, dataset, protocol):
                self.seen.setdefault(key, []).append(seconds)

    def seconds(self, spec: RunSpec) -> float | None:
        """None where nothing like it has been run."""
        keys = _likeness(spec.method, spec.backbone, spec.dataset, spec.protocol.name)
        return next((statistics.median(self.seen[key]) for key in keys if key in self.seen), None)


def history(root: Path, warn: Callable[[str], object]) -> History:
    """Of the records of a results folder."""
    from bench.report import index

    frame = index.load(root, warn)
    done = frame[frame["status"] == "done"]
    columns = [done[name] for name in ("method", "backbone", "dataset", "protocol", "seconds")]
    return History(zip(*columns, strict=True))


def _likeness(method: str, backbone: str, dataset: str, protocol: str) -> list[tuple[str, ...]]:
    """What two runs may have in common, the most telling first."""
    suite = dataset.partition("/")[0]
    return [
        (method, backbone, dataset, protocol),
        (method, backbone, suite, protocol),
        ("", backbone, dataset, protocol),
        ("", backbone, suite, protocol),
        ("", backbone, "", protocol),
    ]


def seconds(job: Job, cores: int) -> float:
    """By arithmetic: three forward passes for every image and epoch of training, searched or not, and one for every
    test image."""
    from bench.training import setup

    protocol, sizes = job.spec.protocol, job.card.sizes
    try:
        forward = _forward(job.spec.backbone, protocol.image_size)
    except Exception:  # a backbone that is not supported: its run says so, an estimate need not
        return UNKNOWN
    images = sizes.train + (sizes.val if protocol.train_on == "train+val" else 0)
    if protocol.shots is not None:
        images = min(images, protocol.shots * job.card.classes)
    epochs = sum(phase.epochs for phase in setup.phases_of(job.method, protocol))
    trials = max(len(protocol.search_lr), 1) * max(len(protocol.search_weight_decay), 1)
    if trials > 1:
        epochs += trials * (protocol.search_epochs or protocol.epochs)
    speed = SPEED[job.device] * (cores if job.device == "cpu" else 1)
    return START + forward * (3 * images * epochs + sizes.test) / speed


@cache
def _forward(backbone: str, size: int | None) -> int:
    """Floating-point operations of one image, counted without weights."""
    import torch

    from bench.models import backbones, cost
    from bench.models.families import build_view

    with torch.device("meta"):
        model = backbones.create(backbone, classes=2, weights="random", device="meta", image_size=size)
        return cost.compute(build_view(model), size or backbones.input_size(model)).flops
