"""A transformer block of a method's own, which starts as the identity."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class TransformerBlock(nn.Module):
    """A pre-norm block on the tokens (B, ..., D), whatever their layout.

    Each token attends to all. The last linear of both branches starts at zero, the other two from N(0, 0.02).
    """

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        for linear in (self.qkv, self.fc1):
            nn.init.trunc_normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)
        for linear in (self.proj, self.fc2):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        z = x.flatten(1, -2)  # (B, N, D)
        z = z + self.proj(self.attend(self.norm1(z)))
        z = z + self.fc2(F.gelu(self.fc1(self.norm2(z))))
        return z.view_as(x)

    def attend(self, n: Tensor) -> Tensor:
        qkv = self.qkv(n).unflatten(-1, (3, self.heads, -1))  # (B, N, 3, heads, D / heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(dim=-1)
        return (weights @ v).transpose(1, 2).flatten(2)


def block_size(dim: int, hidden: int) -> int:
    """Its number of parameters."""
    return 4 * dim + 4 * dim * (dim + 1) + 2 * dim * hidden + hidden + dim
