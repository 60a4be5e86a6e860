"""Images into a model: normalised pixels, features of a frozen backbone, logits and the score of a whole split."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from bench.core.configs import Metric
from bench.data.augment import Augment
from bench.data.splits import ArraySplit
from bench.models import backbones
from bench.models.view import ModelView
from bench.training.metrics import score

EVAL_BATCH = 250


@torch.no_grad()
def predict(net: ModelView, data: ArraySplit) -> np.ndarray:
    """The logits of every image, float32 (N, C)."""
    net.model.eval()
    parts = [
        net.model(normalise(net, data.images[start : start + EVAL_BATCH])).float().cpu().numpy()
        for start in range(0, len(data), EVAL_BATCH)
    ]
    return np.concatenate(parts)


def evaluate(net: ModelView, data: ArraySplit, metric: Metric) -> float:
    return score(metric, predict(net, data), data.labels)


@torch.no_grad()
def features(net: ModelView, data: ArraySplit) -> Tensor:
    """What the head sees of every image: (N, D)."""
    model = net.model.eval()
    parts = []
    for start in range(0, len(data), EVAL_BATCH):
        x = normalise(net, data.images[start : start + EVAL_BATCH])
        parts.append(model.forward_head(model.forward_features(x), pre_logits=True))  # type: ignore[operator]
    return torch.cat(parts)


def normalise(net: ModelView, images: np.ndarray, augment: Augment | None = None, seed: int = 0) -> Tensor:
    """uint8 (B, S, S, 3) as float (B, 3, s, s) on the model's device, with the checkpoint's mean and std.

    s is what the model sees: the centre of a larger S, or what `augment` makes of it.
    """
    device, size = net.head.weight.device, backbones.input_size(net.model)
    if device.type == "cpu" and augment is None:
        return torch.from_numpy(_normalised(np.asarray(images), size, *backbones.normalisation(net.model)))
    mean, std = (torch.tensor(v, device=device)[:, None, None] for v in backbones.normalisation(net.model))
    x = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).to(device)
    if augment is not None:
        return augment(x, size, mean, std, seed)
    edge = (x.shape[-1] - size) // 2
    x = x[..., edge : edge + size, edge : edge + size]
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
