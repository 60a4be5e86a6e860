"""The bottleneck that adapters share: x + W_up gelu(W_down x), after Houlsby et al. 2019, fig. 2."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Bottleneck(nn.Module):
    """h = x + W_up gelu(W_down x)      W_down: (N, M)  W_up: (M, N)      M width, N hidden neurons"""

    def __init__(self, dim: int, hidden: int, bias: bool = False) -> None:
        super().__init__()
        self.down = nn.Linear(dim, hidden, bias=bias)
        self.up = nn.Linear(hidden, dim, bias=bias)
        for linear in (self.down, self.up):
            nn.init.trunc_normal_(linear.weight, std=0.02)
            if bias:
                nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.up(F.gelu(self.down(x)))  # (..., M) -> (..., M)

    @property
    def hidden(self) -> int:
        return self.down.out_features

    @torch.no_grad()
    def keep(self, neurons: Tensor) -> None:
        """Removes every hidden neuron but those at the given indices: their rows of W_down, their columns of W_up."""
        down, up = self.down, self.up
        like: dict[str, Any] = {"bias": down.bias is not None, "device": down.weight.device, "dtype": down.weight.dtype}
        self.down = nn.Linear(down.in_features, len(neurons), **like)
        self.up = nn.Linear(len(neurons), up.out_features, **like)
        self.down.weight.copy_(down.weight[neurons])
        self.up.weight.copy_(up.weight[:, neurons])
        if down.bias is not None:
            self.down.bias.copy_(down.bias[neurons])
            self.up.bias.copy_(up.bias)


def hidden_size(dim: int, sigma: float, basis: str, mlp_ratio: float) -> int:
    """N of an adapter at compression rate sigma: M / sigma ("dim") or the MLP's hidden width / sigma ("mlp")."""
    return max(1, int((dim if basis == "dim" else dim * mlp_ratio) / sigma))
