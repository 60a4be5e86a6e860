"""Bi-AdaptFormer: AdaptFormer whose two matrices are one bit a weight, so that more of them can be stored.

    x + MLP(LN(x)) + s W_2^ relu(W_1^ x)      W_1: (h, M)  W_2: (M, h)      h = 32, no biases
    W^ = mu + sigma q sign((W - mu) / sigma)      mu, sigma: mean and deviation of all of W      q = 0.6745

q halves the normal distribution's either side, so that each half is rounded to its median. Training keeps W and passes
the gradient of W^ on to it unchanged. What is stored is the sign of each weight and the two values that it stands for:
`pack`. x is the residual stream. W_1 is Kaiming-uniform (a = sqrt 5), W_2 starts from a normal distribution of std
0.001, as zeros have no deviation: near the identity, not at it. Dropout acts on the hidden neurons.

Jie, Wang, Deng, "Revisiting the Parameter Efficiency of Adapters from the Perspective of Precision Redundancy",
ICCV 2023, arXiv 2307.16867, section 3.
Ours differs: s is 0.1 unless asked; the paper searches it per task among 0.01, 0.1, 1, 10.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.models.method import Method, Shape
from bench.models.view import ModelView
from methods._bits import from_bytes, to_bytes

Q = 0.6745


class Binary(nn.Module):
    """x -> W^ x. Where `binary` is true, W has been unpacked: it is W^ already."""

    binary: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.W = nn.Parameter(weight)
        self.register_buffer("binary", torch.tensor(False))

    def rounded(self) -> Tensor:
        """W^"""
        mu, sigma = self.W.mean(), self.W.std(correction=0)
        return torch.where(self.binary, self.W, mu + torch.where(mu < self.W, sigma * Q, -sigma * Q))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.rounded().detach() + (self.W - self.W.detach()))


class BinaryBottleneck(nn.Module):
    def __init__(self, dim: int, hidden: int, scale: float, dropout: float) -> None:
        super().__init__()
        self.scale, self.drop = scale, nn.Dropout(dropout)
        self.down = Binary(nn.init.kaiming_uniform_(torch.empty(hidden, dim), a=math.sqrt(5)))
        self.up = Binary(nn.init.trunc_normal_(torch.empty(dim, hidden), std=0.001))

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.scale * self.up(self.drop(F.relu(self.down(x))))
        return added  # (..., M) -> (..., M)


@dataclass(frozen=True)
class BiAdaptFormer(Method):
    hidden: int = 32
    scale: float = 0.1
    dropout: float = 0.1

    family = "adapters"
    paper = "Jie et al. 2023, arXiv 2307.16867"
    identity_at_start = False

    def __post_init__(self) -> None:
        if self.hidden < 1 or self.scale == 0 or not 0 <= self.dropout < 1:
            asked = f"hidden = {self.hidden}, scale = {self.scale}, dropout = {self.dropout}"
            raise ValueError(f"{asked}: hidden must be at least 1, scale not zero, dropout in [0, 1)")

    def attach(self, net: ModelView) -> None:
        for block in net.blocks:
            block.mlp.add(BinaryBottleneck(block.dim, self.hidden, self.scale, self.dropout), of="stream")

    @torch.no_grad()
    def pack(self, net: ModelView, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        packed = dict(tensors)
        for name, m in matrices(net).items():
            del packed[f"{name}.W"], packed[f"{name}.binary"]
            W = m.rounded().cpu()
            packed[f"{name}.values"] = torch.stack((W.min(), W.max()))
            packed[f"{name}.signs"] = to_bytes(W.flatten() > W.mean())
        return packed

    def unpack(self, net: ModelView, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        delta = dict(tensors)
        for name, m in matrices(net).items():
            low, high = delta.pop(f"{name}.values")
            signs = from_bytes(delta.pop(f"{name}.signs"))[: m.W.numel()]
            delta[f"{name}.W"] = torch.where(signs, high, low).view_as(m.W)
            delta[f"{name}.binary"] = torch.tensor(True)
        return delta

    def count(self, shape: Shape) -> int:
        return sum(2 * dim * self.hidden for dim in shape.dims)


def matrices(net: ModelView) -> dict[str, Binary]:
    return {f"pet.{name}": m for name, m in net.pet.named_modules() if isinstance(m, Binary)}
