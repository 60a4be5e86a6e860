"""ARC: linear bottlenecks before attention and MLP whose projection all blocks share; each block re-weights its rank.

    f_l(x) = x + U diag(c_l) U^T x + b_l      U: (M, r), one for attention, one for the MLP  c_l: (r)  b_l: (M)

x is the norm's output; the up-projection is the down-projection transposed; r = 50. Dropout acts on diag(c) U^T x.
U is Xavier-uniform, c and b start at zero, so the model starts as the frozen one. After training f merges into the
linear behind it exactly: W' = W (I + U diag(c) U^T), b' = b + W b_l. A Swin has one pair of U for every width.

Dong et al., "Efficient Adaptation of Large Vision Transformer via Adapter Re-Composing", NeurIPS 2023,
arXiv 2310.06234, section 3.
Ours differs: c starts at zero everywhere; in the released code that of the MLP starts from Xavier's distribution.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.models.method import Method, Shape, recorded_as
from bench.models.view import ModelView


class Recomposed(nn.Module):
    def __init__(self, U: nn.Parameter, dropout: float) -> None:
        super().__init__()
        self.U = U
        self.c = nn.Parameter(torch.zeros(U.shape[1]))
        self.b = nn.Parameter(torch.zeros(U.shape[0]))
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return x + F.linear(self.drop(self.c * (x @ self.U)), self.U) + self.b  # (..., M) -> (..., M)

    def merged_weights(self, W: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return W + (W @ self.U * self.c) @ self.U.T, b + W @ self.b


@dataclass(frozen=True)
class ARC(Method):
    rank: int = 50
    dropout: float = 0.1
    branches: Literal["both", "attn"] = recorded_as("before", "both")

    family = "low-rank"
    paper = "Dong et al. 2023, arXiv 2310.06234"
    supports = "vit swin swinv2 eva"
    merges = True

    def __post_init__(self) -> None:
        if self.rank < 1 or not 0 <= self.dropout < 1:
            raise ValueError(f"rank = {self.rank} must be at least 1, and dropout = {self.dropout} in [0, 1)")

    def attach(self, net: ModelView) -> None:
        shared: dict[tuple[int, int], nn.Parameter] = {}  # U by width and branch
        for block in net.blocks:
            for which, branch in enumerate((block.attn,) if self.branches == "attn" else (block.attn, block.mlp)):
                if (block.dim, which) not in shared:
                    U = nn.init.xavier_uniform_(torch.empty(block.dim, self.rank))
                    shared[block.dim, which] = nn.Parameter(U)
                branch.before(Recomposed(shared[block.dim, which], self.dropout))

    def count(self, shape: Shape) -> int:
        one = sum(self.rank * dim for dim in shape.stages) + sum(self.rank + dim for dim in shape.dims)
        return one if self.branches == "attn" else 2 * one
