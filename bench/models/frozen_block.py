"""The frozen layers of a ViT's block, lent to a method for tokens of its own."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from bench.models.view import Block, ModelView


class FrozenBlock:
    """Norm, attention and MLP of a block, whose weights a method uses and does not own: not a module, so that nothing
    is stored twice, but a deep copy of a model takes its own along. No hook on the layers themselves acts here."""

    def __init__(self, net: ModelView, block: Block) -> None:
        self.block: Any = net.model.get_submodule(block.path)
        self.parts = {name: (slot.module, slot.columns) for name, slot in block.linear.items()}
        self.norms = block.norm["norm1"].module, block.norm["norm2"].module
        self.heads = block.heads

    def norm1(self, z: Tensor) -> Tensor:
        """What the attention reads of tokens (B, N, D)."""
        n: Tensor = self.norms[0].forward(z)
        return n

    def attend(self, queries: Tensor, tokens: Tensor) -> Tensor:
        """What the branch of attention adds to queries (B, Q, D) that look at tokens (B, N, D), both behind norm1."""
        attention = self.block.attn
        q = attention.q_norm(self._heads("q", queries))
        k, v = attention.k_norm(self._heads("k", tokens)), self._heads("v", tokens)
        weights = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(dim=-1)
        out: Tensor = self.block.ls1(self._linear("proj", (weights @ v).transpose(1, 2).flatten(2)))
        return out

    def mlp(self, z: Tensor) -> Tensor:
        """What the branch of the MLP adds to tokens (B, N, D), its norm included."""
        hidden = self.block.mlp.act(self._linear("fc1", self.norms[1].forward(z)))
        out: Tensor = self.block.ls2(self._linear("fc2", hidden))
        return out

    def _linear(self, name: str, x: Tensor) -> Tensor:
        layer, rows = self.parts[name]
        bias: Any = layer.bias
        return F.linear(x, layer.get_parameter("weight")[rows], None if bias is None else bias[rows])

    def _heads(self, name: str, x: Tensor) -> Tensor:
        return self._linear(name, x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, N, D / heads)
