"""Mona: a bottleneck with filters of three sizes behind attention and behind the MLP of every block.

    z + U gelu(c(D n))      n = s_1 LN(z) + s_2 z      D: (h, M)  U: (M, h)  s_1, s_2: (M)      h = 64
    c(a) = b + P b          b = a + (w_3 * a + w_5 * a + w_7 * a) / 3      P: (h, h)

z is the residual stream behind the branch; w_k are depth-wise k x k convolutions with biases over the grid of patches
and P is a 1 x 1 convolution. s_1 starts at 1e-6 and s_2 at one, all else as torch's linears and convolutions do: near
the identity, not at it. Dropout acts in front of U. In a Swin the filters run over the whole map of its stage. Each
token before the patches (class, registers) is filtered on its own, as a picture of one patch.

Yin et al., "5%>100%: Breaking Performance Shackles of Full Fine-Tuning on Visual Recognition Tasks", CVPR 2025,
arXiv 2408.08345, section 3. The paper tunes Swins; class tokens are our addition.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.models.method import Method, Shape
from bench.models.view import Block, ModelView
from methods._spatial import from_map, to_map


class Filters(nn.Module):
    """c, of maps (B, h, rows, cols)"""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.w = nn.ModuleList(nn.Conv2d(hidden, hidden, k, padding=k // 2, groups=hidden) for k in (3, 5, 7))
        self.P = nn.Conv2d(hidden, hidden, 1)

    def forward(self, a: Tensor) -> Tensor:
        b = a + torch.stack([w(a) for w in self.w]).mean(0)
        mixed: Tensor = b + self.P(b)
        return mixed


class Multi(nn.Module):
    """What is added to z."""

    def __init__(self, block: Block, hidden: int, dropout: float) -> None:
        super().__init__()
        self.grid, self.prefix = block.grid, block.prefix
        self.norm = nn.LayerNorm(block.dim)
        self.s1, self.s2 = nn.Parameter(torch.full((block.dim,), 1e-6)), nn.Parameter(torch.ones(block.dim))
        self.D, self.U = nn.Linear(block.dim, hidden), nn.Linear(hidden, block.dim)
        self.c, self.drop = Filters(hidden), nn.Dropout(dropout)

    def forward(self, z: Tensor) -> Tensor:
        a = self.D(self.s1 * self.norm(z) + self.s2 * z)  # (..., M) -> (..., h)
        patches, prefix = to_map(a, self.grid, self.prefix)
        if self.prefix:
            prefix = self.c(prefix.flatten(0, 1)[:, :, None, None]).view_as(prefix)
        added: Tensor = self.U(self.drop(F.gelu(from_map(self.c(patches), prefix, like=a))))
        return added  # (..., M)


@dataclass(frozen=True)
class Mona(Method):
    hidden: int = 64
    dropout: float = 0.1

    family = "adapters"
    paper = "Yin et al. 2025, arXiv 2408.08345"
    identity_at_start = False

    def __post_init__(self) -> None:
        if self.hidden < 1 or not 0 <= self.dropout < 1:
            raise ValueError(f"hidden = {self.hidden} must be at least 1, and dropout = {self.dropout} in [0, 1)")

    def attach(self, net: ModelView) -> None:
        for block in net.blocks:
            for branch in (block.attn, block.mlp):
                branch.add_to_sum(Multi(block, self.hidden, self.dropout))

    def count(self, shape: Shape) -> int:
        h = self.hidden
        return 2 * sum((2 * h + 5) * dim + 88 * h + h * h for dim in shape.dims)
