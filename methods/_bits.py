"""Booleans as bits: what takes one of two values is stored in an eighth of a byte."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def to_bytes(bits: Tensor) -> Tensor:
    """(n) booleans as (ceil(n / 8)) bytes, the first in the lowest bit."""
    eights = F.pad(bits, (0, -len(bits) % 8)).view(-1, 8)
    return (eights * 2 ** torch.arange(8)).sum(1).to(torch.uint8)


def from_bytes(packed: Tensor) -> Tensor:
    return (packed[:, None] >> torch.arange(8, dtype=torch.uint8) & 1).bool().flatten()
