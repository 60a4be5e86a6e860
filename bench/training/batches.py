"""Batches of training data, in the order that the seed of the data gives."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from bench.core.spec import Precision
from bench.data.augment import Augment
from bench.data.splits import ArraySplit
from bench.models.method import Batches
from bench.models.view import ModelView
from bench.training.inference import Pixels, autocast, features


class BatchLoader:
    """Batches of logits and labels by index: uint8 images normalised on the device, or features computed once."""

    def __init__(
        self, net: ModelView, data: ArraySplit, augment: Augment | None = None, precision: Precision = "fp32"
    ) -> None:
        self.net = net
        self.device = net.head.weight.device
        self.labels = torch.from_numpy(np.array(data.labels)).to(self.device)
        self.augment = augment
        self.precision = precision
        frozen = net.only_head_trains() and augment is None
        self.features = features(net, data, precision) if frozen else None
        self.pixels = None if frozen else Pixels(net, data).on_device()

    def __call__(self, index: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
        """Logits float32 (B, C) and labels of the images at `index` (B); `seed` is that of their augmentation."""
        there = index.to(self.device)
        if self.pixels is None:
            assert self.features is not None
            with autocast(self.net, self.precision):
                return self.net.head(self.features[there]).float(), self.labels[there]
        x = self.pixels(index, self.augment, seed)
        with autocast(self.net, self.precision):
            return self.net.model(x).float(), self.labels[there]


def fixed_batches(net: ModelView, data: ArraySplit, size: int, seed: int) -> Batches:
    """The training data as a method may look at it: in one shuffled order, again from its start at every call."""

    pixels = Pixels(net, data)

    def batches(count: int) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed)).split(size)
        for number in range(count):
            index = order[number % len(order)]
            labels = torch.from_numpy(np.array(data.labels[index.numpy()])).to(net.head.weight.device)
            yield pixels(index), labels

    return batches
