"""VQT: learned queries summarise the tokens of every block, which do not notice, and the head reads the summaries too.

    S_l = L_l(Q_l | X_l)      logits = W [f; S_1; ...; S_N] + b      Q_l, S_l: (t, M)      l = 1 ... N

X_l are the tokens that enter block l and f is what the head reads without. L_l(Q | X) is the frozen block with queries
from Q alone and keys and values from X alone: S = z + MLP(LN(z)), z = Q + W_o softmax((W_q LN(Q)) (W_k LN(X))^T /
sqrt d) (W_v LN(X)). No X depends on a Q, so no gradient passes through the backbone. Q starts as VPT's prompts do; the
columns of W that read summaries start at zero, so the model starts as the frozen one.

Tu, Mai, Chao, "Visual Query Tuning: Towards Effective Usage of Intermediate Representations for Parameter and Memory
Efficient Transfer Learning", CVPR 2023, arXiv 2212.03220, section 3.
Ours differs: these columns, t M a block and class, are counted as the method's, not as the head's; all of them stay,
where the paper leaves out those that a group lasso finds least useful.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.models.frozen_block import FrozenBlock
from bench.models.method import Method
from bench.models.view import ModelView
from methods._prompts import Prompts, xavier_bound


class Summaries(nn.Module):
    """(f, LN(X_1), ..., LN(X_N)) -> what the summaries add to the logits (B, C)"""

    def __init__(self, queries: list[Prompts], blocks: list[FrozenBlock], classes: int) -> None:
        super().__init__()
        self.Q, self.blocks = nn.ModuleList(queries), blocks
        self.W = nn.Linear(sum(Q.tokens.numel() for Q in queries), classes, bias=False)
        nn.init.zeros_(self.W.weight)

    def forward(self, f: Tensor, *normed: Tensor) -> Tensor:
        summaries = []
        for Q, block, n in zip(self.Q, self.blocks, normed, strict=True):
            q = Q().expand(len(f), -1, -1)
            z = q + block.attend(block.norm1(q), n)
            summaries.append((z + block.mlp(z)).flatten(1))
        added: Tensor = self.W(torch.cat(summaries, dim=1))
        return added


@dataclass(frozen=True)
class VQT(Method):
    queries: int = 1  # t

    family = "prompts"
    paper = "Tu et al. 2023, arXiv 2212.03220"
    supports = "vit"

    def __post_init__(self) -> None:
        if self.queries < 1:
            raise ValueError(f"queries = {self.queries} must be at least 1")

    def attach(self, net: ModelView) -> None:
        queries = [Prompts(self.queries, block.dim, xavier_bound(net)) for block in net.blocks]
        m = Summaries(queries, [FrozenBlock(net, block) for block in net.blocks], net.head.out_features)
        net.at_head(m, reads=[block.norm["norm1"] for block in net.blocks], verb="beside")
