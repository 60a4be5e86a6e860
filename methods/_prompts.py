"""The prompts of VPT: learned tokens that stand beside the patches, after Jia et al. 2022, section 3.2."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from bench.models.view import ModelView


class Prompts(nn.Module):
    """P tokens of width M, with dropout while training: () -> (P, M)"""

    def __init__(self, number: int, dim: int, bound: float, dropout: float = 0.0) -> None:
        super().__init__()
        self.tokens = nn.Parameter(torch.empty(number, dim).uniform_(-bound, bound))
        self.dropout = nn.Dropout(dropout)

    def forward(self) -> Tensor:
        return self.dropout(self.tokens)


def xavier_bound(net: ModelView) -> float:
    """sqrt(6 / (3 K K + M)): the Xavier-uniform range of the patch embedding, K x K pixels to width M."""
    conv = net.stem[0].module
    assert isinstance(conv, nn.Conv2d)
    return math.sqrt(6 / (conv.in_channels * math.prod(conv.kernel_size) + conv.out_channels))
