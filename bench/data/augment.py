"""Augmentation of training images, batched on the device, the same for every method at one seed (torchvision v2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

MARGIN = 8 / 7  # what is prepared for augmentation is larger than what the model sees: 256 pixels for 224

Augment = Callable[[Tensor, int, Tensor, Tensor, int], Tensor]
"""augment(images uint8 (B, 3, S, S), size s, mean and std (3, 1, 1), seed) -> float (B, 3, s, s), normalised."""


def augments(name: Literal["none", "mimi"]) -> Augment | None:
    return {"none": None, "mimi": mimi}[name]


def mimi(images: Tensor, size: int, mean: Tensor, std: Tensor, seed: int) -> Tensor:
    """As in the code of Marouf et al. 2024: random resized crop (8 to 100 % of the area), horizontal flip, RandAugment
    (2 operations of magnitude 9), random erasing (a quarter of the images, noise); every image by itself."""
    from torchvision.transforms import InterpolationMode, v2

    before = v2.Compose(
        [
            v2.RandomResizedCrop(size, scale=(0.08, 1.0), interpolation=InterpolationMode.BICUBIC, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.RandAugment(num_ops=2, magnitude=9),
        ]
    )
    erase = v2.RandomErasing(p=0.25, value="random")
    devices = [images.device] if images.device.type == "cuda" else []
    with torch.random.fork_rng(devices):  # whatever else draws random numbers must not feel it
        torch.manual_seed(seed)
        changed = torch.stack([before(image) for image in images])
        x = (changed.float() / 255 - mean) / std
        return torch.stack([erase(image) for image in x])
