"""CVPT: learned tokens that the stream looks at behind every attention, through that attention's own weights.

    z = x + Attn(LN(x))      z <- z + CA(LN(z), P)      CA(n, P) = W_o softmax((W_q n) (W_k P)^T / sqrt d) (W_v P)

P: (p, M), trained, one of each block; LN and all W, with their biases and heads, are the frozen ones of the block's own
attention. The attention among the patches stays what it was, and the cost is linear in p.
P starts uniform in +-sqrt(6 / (3 K K + M)), K the patch size, as in VPT; what CA makes of it is not zero at the start.

Huang, Mao, Yi, Tao, Wang, "CVPT: Cross Visual Prompt Tuning", ICCV 2025, arXiv 2408.14961, section 3: cross-attention
between the attention and the MLP, with shared weights. The paper searches p per task.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from bench.models.frozen_block import FrozenBlock
from bench.models.method import Method, Shape
from bench.models.view import ModelView
from methods._prompts import Prompts, xavier_bound


class Cross(nn.Module):
    """What is added to z: (B, N, M)."""

    def __init__(self, P: Prompts, block: FrozenBlock) -> None:
        super().__init__()
        self.P, self.block = P, block

    def forward(self, z: Tensor) -> Tensor:
        return self.block.attend(self.block.norm1(z), self.P().expand(len(z), -1, -1))


@dataclass(frozen=True)
class CVPT(Method):
    prompts: int = 10
    dropout: float = 0.0

    family = "prompts"
    paper = "Huang et al. 2024, arXiv 2408.14961"
    supports = "vit"
    identity_at_start = False

    def __post_init__(self) -> None:
        if self.prompts < 1 or not 0 <= self.dropout < 1:
            raise ValueError(f"prompts = {self.prompts} must be at least 1, and dropout = {self.dropout} in [0, 1)")

    def attach(self, net: ModelView) -> None:
        bound = xavier_bound(net)
        for block in net.blocks:
            P = Prompts(self.prompts, block.dim, bound, self.dropout)
            block.attn.add_to_sum(Cross(P, FrozenBlock(net, block)))

    def count(self, shape: Shape) -> int:
        return self.prompts * sum(shape.dims)
