"""A first guess at the seconds of a run where nothing like it has been run: its arithmetic at a modest speed.

It is good to a factor of two or three, enough for bundles of a sensible size; the first records replace it.
"""

from __future__ import annotations

from functools import cache

import torch

from bench.models import backbones, cost
from bench.models.families import build_view
from bench.training.job import Job
from bench.training.setup import phases_of

SPEED = {"cpu": 6e10, "cuda": 5e12}  # floating-point operations a second that training reaches, a core and a GPU
START = 5.0  # seconds for weights, data and measures
UNKNOWN = 600.0  # where a backbone's arithmetic cannot be counted


def seconds(job: Job, cores: int) -> float:
    """Three forward passes for every image and epoch of training, searched or not, and one for every test image."""
    protocol, sizes = job.spec.protocol, job.card.sizes
    try:
        forward = _forward(job.spec.backbone, protocol.image_size)
    except Exception:  # a backbone that is not understood: its run says so, a guess need not
        return UNKNOWN
    images = sizes.train + (sizes.val if protocol.train_on == "train+val" else 0)
    if protocol.shots is not None:
        images = min(images, protocol.shots * job.card.classes)
    epochs = sum(phase.epochs for phase in phases_of(job.method, protocol))
    trials = max(len(protocol.search_lr), 1) * max(len(protocol.search_weight_decay), 1)
    if trials > 1:
        epochs += trials * (protocol.search_epochs or protocol.epochs)
    speed = SPEED[job.device] * (cores if job.device == "cpu" else 1)
    return START + forward * (3 * images * epochs + sizes.test) / speed


@cache
def _forward(backbone: str, size: int | None) -> int:
    """Floating-point operations of one image, counted without weights."""
    with torch.device("meta"):
        model = backbones.create(backbone, classes=2, weights="random", device="meta", image_size=size)
        return cost.compute(build_view(model), size or backbones.input_size(model)).flops
