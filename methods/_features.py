"""What the head reads of images, for methods that look at features before training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor

from bench.models.view import ModelView


@contextmanager
def features(net: ModelView) -> Iterator[Callable[[Tensor], Tensor]]:
    """images (B, 3, H, W) -> the features (B, D) that the head is given, as the model is while this is open"""
    read: list[Tensor] = []
    hook = net.classifier.register_forward_pre_hook(lambda _, args: read.append(args[0]))

    def see(images: Tensor) -> Tensor:
        net.model(images)
        return read.pop()

    try:
        yield see
    finally:
        hook.remove()
