"""Batches of training data, in the order that the seed of the data gives."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from bench.data.augment import Augment
from bench.data.splits import ArraySplit
from bench.models.method import Batches
from bench.models.view import ModelView
from bench.training.inference import features, normalise


class BatchLoader:
    """Batches of logits and labels by index: uint8 images normalised on the device, or features computed once."""

    def __init__(self, net: ModelView, data: ArraySplit, augment: Augment | None = None) -> None:
        self.net = net
        self.device = net.head.weight.device
        self.data = data
        self.labels = torch.from_numpy(np.array(data.labels)).to(self.device)
        self.augment = augment
        self.features = features(net, data) if net.only_head_trains() and augment is None else None

    def __call__(self, index: Tensor, precision: str, seed: int = 0) -> tuple[Tensor, Tensor]:
        labels = self.labels[index.to(self.device)]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=precision == "bf16"):
            if self.features is not None:
                return self.net.head(self.features[index.to(self.device)]).float(), labels
            x = normalise(self.net, self.data.images[index.numpy()], self.augment, seed)
            return self.net.model(x).float(), labels


def fixed_batches(net: ModelView, data: ArraySplit, size: int, seed: int) -> Batches:
    """The training data as a method may look at it: in one shuffled order, again from its start at every call."""

    def batches(count: int) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed)).split(size)
        for number in range(count):
            index = order[number % len(order)].numpy()
            labels = torch.from_numpy(np.array(data.labels[index])).to(net.head.weight.device)
            yield normalise(net, data.images[index]), labels

    return batches
