"""Transformer probing: one more transformer block, trained, behind the frozen ones.

    z = x + W_o MHSA(LN(x))      h = z + W_2 gelu(W_1 LN(z))      W_o: (D, D)  W_1: (hidden, D)  W_2: (D, hidden)

x are all tokens of the last block, class token included, and h is what the frozen final norm reads. Every token attends
to every other (on Swin the windows are gone) and there is no further position encoding. W_o and W_2 start at zero, so
the model starts as the frozen one, and as neither multiplies the other's gradient both learn from the first step. The
other matrices come from a normal distribution of std 0.02, biases are zero, norms the identity.

He et al., "Parameter-efficient Model Adaptation for Vision Transformers", AAAI 2023, arXiv 2203.16329, experiments. The
paper gives neither width nor start; its 3.2 M on ViT-B/16 is a block of the backbone's width with `hidden=512`.
"""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from bench.models.method import Method, Shape
from bench.models.view import ModelView


class TransformerBlock(nn.Module):
    """A pre-norm block on the tokens (B, ..., D), whatever their layout."""

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


@dataclass(frozen=True)
class TransformerProbe(Method):
    hidden: int | None = None  # width of the MLP; None is four times the backbone's

    family = "baseline"
    paper = "He et al. 2023, arXiv 2203.16329"

    def __post_init__(self) -> None:
        if self.hidden is not None and self.hidden < 1:
            raise ValueError(f"hidden = {self.hidden} must be at least 1")

    def attach(self, net: ModelView) -> None:
        last = net.blocks[-1]
        last.out.then(TransformerBlock(last.dim, last.heads, self.hidden or 4 * last.dim))

    def count(self, shape: Shape) -> int:
        dim = shape.dims[-1]
        hidden = self.hidden or 4 * dim
        return 4 * dim + 4 * dim * (dim + 1) + 2 * dim * hidden + hidden + dim
