"""Images into a model: normalised pixels, features of a frozen backbone, logits and the score of a whole split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from bench.core.configs import Metric
from bench.core.spec import Precision
from bench.data.augment import Augment
from bench.data.splits import ArraySplit
from bench.models import backbones
from bench.models.view import ModelView
from bench.training.metrics import score

ROOM = {"cpu": 8 * 2**20, "cuda": 512 * 2**20}
"""Bytes that the largest tensor of a forward pass may take: on a CPU the next layer then finds it in the cache (on one
core pocket_vit scores 353 images/s by 250 and 490 by 60); an accelerator is kept busy."""

SHARE = 4  # at most one in so many of an accelerator's free bytes holds a split's images


@torch.no_grad()
def predict(net: ModelView, data: ArraySplit, precision: Precision = "fp32") -> np.ndarray:
    """The logits of every image, float32 (N, C)."""
    net.model.eval()
    pixels, parts = Pixels(net, data).on_device(), []
    for index in _batches(net, len(data)):
        with autocast(net, precision):
            parts.append(net.model(pixels(index)).float())
    return torch.cat(parts).cpu().numpy()


def evaluate(net: ModelView, data: ArraySplit, metric: Metric, precision: Precision = "fp32") -> float:
    return score(metric, predict(net, data, precision), data.labels)


@torch.no_grad()
def features(net: ModelView, data: ArraySplit, precision: Precision = "fp32") -> Tensor:
    """What the head sees of every image: float32 (N, D)."""
    model = net.model.eval()
    pixels, parts = Pixels(net, data).on_device(), []
    for index in _batches(net, len(data)):
        with autocast(net, precision):
            features = model.forward_head(model.forward_features(pixels(index)), pre_logits=True)  # type: ignore[operator]
        parts.append(features.float())
    return torch.cat(parts)


def autocast(net: ModelView, precision: Precision) -> torch.autocast:
    """The context in which a model computes in a protocol's precision: weights stay float32, products are bfloat16."""
    return torch.autocast(net.head.weight.device.type, torch.bfloat16, enabled=precision == "bf16")


def images_at_a_time(net: ModelView) -> int:
    """How many images are scored at a time, by the size of the largest tensor within the blocks."""
    largest = 1
    for block in net.blocks:
        tokens = block.grid[0] * block.grid[1] + block.prefix
        attended = net.shape.side**2 + block.prefix if net.shape.side else tokens
        largest = max(largest, tokens * max(block.linear["fc1"].d_out, block.heads * attended))
    return max(1, ROOM[net.head.weight.device.type] // (4 * largest))


def _batches(net: ModelView, images: int) -> Iterator[Tensor]:
    return iter(torch.arange(images).split(images_at_a_time(net)))


class Pixels:
    """The images of a split as a model takes them: normalised, on its device, with the checkpoint's mean and std."""

    def __init__(self, net: ModelView, data: ArraySplit) -> None:
        self.device, self.size = net.head.weight.device, backbones.input_size(net.model)
        self.images = data.images
        self.mean, self.std = backbones.normalisation(net.model)
        mean, std = (torch.tensor(v, device=self.device)[:, None, None] for v in (self.mean, self.std))
        self.constants = (mean, std)
        self.resident: Tensor | None = None

    def on_device(self) -> Pixels:
        """Itself, with the bytes of every image on an accelerator, unless they need too much of its memory."""
        if self.device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self.device)
            if int(np.prod(self.images.shape)) <= free // SHARE:
                self.resident = torch.from_numpy(np.array(self.images[:])).to(self.device)
        return self

    def __call__(self, index: Tensor, augment: Augment | None = None, seed: int = 0) -> Tensor:
        """float (B, 3, s, s) of the images at `index` (B): the centre of larger ones, or as `augment` changes them."""
        if self.device.type == "cpu" and augment is None:
            return torch.from_numpy(_normalised(self.images[index.numpy()], self.size, self.mean, self.std))
        if self.resident is None:
            x = torch.from_numpy(np.array(self.images[index.numpy()])).to(self.device)
        else:
            x = self.resident[index.to(self.device)]
        mean, std = self.constants
        return augment(x.permute(0, 3, 1, 2), self.size, mean, std, seed) if augment else self.normalised(x)

    def normalised(self, images: Tensor) -> Tensor:
        """uint8 (B, S, S, 3) on the model's device as float (B, 3, s, s)."""
        edge, (mean, std) = (images.shape[1] - self.size) // 2, self.constants
        x = images[:, edge : edge + self.size, edge : edge + self.size].permute(0, 3, 1, 2)
        return ((x.float() / 255 - mean) / std).contiguous()


def _normalised(images: np.ndarray, size: int, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """The same bits on a CPU, several times as fast: one plane at a time, which stays in the cache."""
    edge = (images.shape[1] - size) // 2
    out = np.empty((len(images), 3, size, size), np.float32)
    for image, planes in zip(images[:, edge : edge + size, edge : edge + size], out, strict=True):
        for channel, plane in enumerate(planes):
            np.copyto(plane, image[..., channel])
            plane /= np.float32(255)
            plane -= np.float32(mean[channel])
            plane /= np.float32(std[channel])
    return out
