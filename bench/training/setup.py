"""What a training starts from: the model with its head and method, the phases, the transform and the splits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from bench.core.configs import Dataset
from bench.core.errors import BadData, SealedTest, UsageError
from bench.core.spec import Protocol, stream
from bench.data import fewshot, ready
from bench.data.augment import MARGIN
from bench.data.prepare import Transform
from bench.data.sources import DatasetLocation, Source, whole_name
from bench.data.splits import ArraySplit, Sealed, Splits, TrainingOutcome
from bench.models import backbones, head_norm, texts
from bench.models.families import build_view
from bench.models.method import Method, Phase, attach
from bench.models.view import ModelView
from bench.training import frozen
from bench.training.job import Job

NONE = np.arange(0)
DEFAULT_VAL_SHARE = 0.2  # of each class, where the protocol needs a validation split and the dataset has none


def prepare_model(job: Job) -> ModelView:
    """The backbone with its hook points, a head as the protocol starts it and the method attached.

    Raises Incompatible or UnsupportedBackbone where the method does not fit the backbone, BackboneChanged where it
    changed frozen tensors, UsageError where the weights cannot be had.
    """
    torch.manual_seed(job.spec.seed)  # a backbone with random weights
    weights = str(job.weights_file or job.spec.weights)
    model = backbones.create(
        job.spec.backbone,
        classes=job.card.classes,
        weights=weights,
        device=job.device,
        image_size=job.spec.protocol.image_size,
        precision=job.spec.protocol.precision,
    )
    net = build_view(model)
    if job.spec.protocol.head == "texts":
        head_from_texts(net, text_features(job).weight)
    else:
        draw_head(net, stream(job.spec, "head"))
    torch.manual_seed(stream(job.spec, "method"))
    before = frozen.digests(net.model, net.head)
    attach(job.method, net)
    if job.spec.protocol.head_norm == "batch":
        head_norm.attach(net)
    frozen.check_attached(before, frozen.digests(net.model, net.head))
    return net


def draw_head(net: ModelView, seed: int) -> None:
    """Weights from a normal distribution of std 0.02, biases zero."""
    weight = torch.empty(net.head.weight.shape)
    nn.init.trunc_normal_(weight, std=0.02, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        net.head.weight.copy_(weight)
        net.head.bias.zero_()


def text_features(job: Job) -> texts.Features:
    """What the head starts as where the protocol starts it from texts. Raises UsageError where that is not here."""
    return texts_for(job.card, job.source, job.spec.backbone, job.data_root)


def texts_for(card: Dataset, source: Source, backbone: str, root: Path) -> texts.Features:
    """The same of a dataset that lies at `source`, for a backbone."""
    layout = source.layout.name if isinstance(source, DatasetLocation) else ""
    return texts.read(root, whole_name(card.name), backbone, card.classes, layout=layout)


@torch.no_grad()
def head_from_texts(net: ModelView, weight: torch.Tensor) -> None:
    """The zero-shot classifier (classes, D), biases zero. Raises UsageError where the head reads other features."""
    if weight.shape != net.head.weight.shape:
        rows, columns = net.head.weight.shape
        raise UsageError(
            f"The text features are {tuple(weight.shape)}, the head is ({rows}, {columns}): a head that starts from "
            "texts reads CLIP's projection, and the backbone's name ends in +projection."
        )
    net.head.weight.copy_(weight)
    net.head.bias.zero_()


def phases_of(method: Method, protocol: Protocol) -> tuple[Phase, ...]:
    """The method's phases; where the protocol's epochs are those of one phase, as many times the epochs."""
    if protocol.epochs_of == "run":
        return method.phases(protocol.epochs)
    return method.phases(protocol.epochs * len(method.phases(10**6)))


def transform(protocol: Protocol, size: int) -> Transform:
    """How images are prepared for a backbone that sees `size` pixels: larger where the protocol augments them."""
    return Transform(size if protocol.augment == "none" else round(size * MARGIN), protocol.resize)


def image_size(backbone: str, protocol: Protocol) -> int:
    """Side of the square that a backbone sees under a protocol, in pixels."""
    return protocol.image_size or backbones.size_of(backbone)


def load_training(job: Job, protocol: Protocol, size: int) -> Splits:
    """What is trained on, for a backbone that sees `size` pixels. Its seal has nothing behind it: whatever a method
    finds in the memory of this process while it trains, the test split is not there."""
    return replace(_load(job, protocol, size), test=Sealed(_not_yet))


def load_test(job: Job, protocol: Protocol, size: int, outcome: TrainingOutcome) -> ArraySplit:
    """The test split, opened for the first time. Raises SealedTest unless `outcome` is what the loop has returned."""
    return _load(job, protocol, size).test.open(outcome)


def _not_yet() -> ArraySplit:
    raise SealedTest("The test split is loaded after training has ended, by load_test.")


def _load(job: Job, protocol: Protocol, size: int) -> Splits:
    """The dataset's splits. Raises BadData where they cannot be read."""
    try:
        return ready.load(job.card, transform(protocol, size), job.data_root, job.source)
    except UsageError as error:
        raise BadData(str(error)) from error


def apply_split_rules(splits: Splits, protocol: Protocol, seed: int) -> Splits:
    """The splits as the protocol trains on them: `shots` images a class, drawn by the seed; val cut off train."""
    train_split, val = splits.train, splits.val
    if protocol.shots is not None:
        train_split, val = (
            train_split.take(np.array(fewshot.sample(train_split.labels, protocol.shots, seed))),
            val.take(NONE),
        )
    share = protocol.val_share or (DEFAULT_VAL_SHARE if protocol.train_on == "train" and len(val) == 0 else None)
    if share is not None:
        keep, cut = map(np.array, fewshot.holdout_split(train_split.labels, share))
        train_split, val = train_split.take(keep), train_split.take(cut)
    return Splits(train_split, val, splits.test, splits.classes, splits.fingerprint)
