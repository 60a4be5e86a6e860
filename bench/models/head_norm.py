"""The batch norm without weights that ELEVATER's toolkit puts between the features and the head (Li et al. 2022)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.models.view import ModelView


class HeadNorm(nn.BatchNorm1d):
    """Features (B, D) to mean 0 and variance 1: over the batch in training, by running means (momentum 0.1) after it.

    It trains nothing. Its running means are part of the delta, and before training they change nothing but a factor.
    """

    def __init__(self, width: int) -> None:
        super().__init__(width, affine=False)

    def forward(self, features: Tensor) -> Tensor:
        if len(features) == 1:  # of one image there is no variance
            return F.batch_norm(features, self.running_mean, self.running_var, eps=self.eps)
        return super().forward(features)

    def merged_weights(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        mean, variance = self.get_buffer("running_mean"), self.get_buffer("running_var")
        scaled = weight * torch.rsqrt(variance + self.eps)
        return scaled, bias - scaled @ mean


def nbytes(width: int) -> int:
    """Bytes of what is stored of the norm of so many features: two vectors, and the number of batches."""
    return 2 * 4 * width + 8


def attach(net: ModelView) -> None:
    """Puts the norm before the head, behind whatever else a method has put there."""
    slot = net.head_slot
    net.attach(slot, "before", HeadNorm(slot.d_in))
