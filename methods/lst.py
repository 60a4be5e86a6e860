"""LST: a narrow transformer beside the backbone reads what every block puts out, and the head reads the narrow one.

    g_0 = D_0 h_0      g_l = block_l(mu_l g_(l-1) + (1 - mu_l) D_l h_l)      mu_l = sigmoid(a_l / T)      l = 1 ... N
    logits = W U LN(g_N) + b

h_0 are the tokens that enter the frozen backbone and h_l those that leave its block l: (n, M). D_l: (M / r, M) and U:
(M, M / r) are linears with biases, a_l a number, T = 0.1, r = 8. block_l is a pre-norm transformer block of width M / r
with the heads and the MLP ratio of the backbone's. Of g_N the head gets what it gets of the backbone: the class token,
or the mean of the patches. No gradient passes through the backbone. a_l starts at zero, so that mu_l is 1/2; U and D_l
are uniform in +-1 / sqrt of their inputs. The features of the backbone are gone from the start.

Sung, Cho, Bansal, "LST: Ladder Side-Tuning for Parameter and Memory Efficient Transfer Learning", NeurIPS 2022, arXiv
2206.06522, section 3, on text and on images with text.
Ours differs: block_l starts as the identity, where the paper takes the backbone's weights, pruned by Fisher
information; no layers are dropped; h_l are read in the same pass, so that an untouched backbone need not run twice.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.core.errors import Incompatible
from bench.models.hooks import SendBefore, SideChannel
from bench.models.method import Method, Shape
from bench.models.view import ModelView
from methods._transformer import TransformerBlock, block_size


class Ladder(nn.Module):
    """(f, h_1, ..., h_N) -> U LN(g_N) (B, M); h_0 comes by the wire `first`"""

    def __init__(self, net: ModelView, width: int, temperature: float) -> None:
        super().__init__()
        dim, heads = net.blocks[0].dim, net.blocks[0].heads
        self.first, self.temperature = SideChannel(), temperature
        self.skipped = 0 if net.model.global_pool == "token" else net.blocks[0].prefix
        self.token = net.model.global_pool == "token"
        hidden = int(net.shape.mlp_ratio * width)
        self.down = nn.ModuleList(nn.Linear(dim, width) for _ in range(len(net.blocks) + 1))
        self.blocks = nn.ModuleList(TransformerBlock(width, heads, hidden) for _ in net.blocks)
        self.a = nn.Parameter(torch.zeros(len(net.blocks)))
        self.norm, self.up = nn.LayerNorm(width), nn.Linear(width, dim)

    def forward(self, f: Tensor, *h: Tensor) -> Tensor:
        g = self.down[0](self.first.take())
        for mu, down, block, out in zip(self.gates(), self.down[1:], self.blocks, h, strict=True):
            g = block(mu * g + (1 - mu) * down(out))
        pooled = g[:, 0] if self.token else g[:, self.skipped :].mean(1)
        features: Tensor = self.up(self.norm(pooled))
        return features

    def gates(self) -> Tensor:
        return torch.sigmoid(self.a / self.temperature)


@dataclass(frozen=True)
class LST(Method):
    reduction: int = 8  # r
    temperature: float = 0.1  # T

    family = "side network"
    paper = "Sung et al. 2022, arXiv 2206.06522"
    supports = "vit eva eva02"
    identity_at_start = False

    def __post_init__(self) -> None:
        if self.reduction < 1 or self.temperature <= 0:
            raise ValueError(
                f"reduction = {self.reduction} must be at least 1, temperature = {self.temperature} positive"
            )

    def attach(self, net: ModelView) -> None:
        dim, heads, pool = net.blocks[0].dim, net.blocks[0].heads, net.model.global_pool
        if dim % self.reduction or dim // self.reduction % heads:
            raise Incompatible(f"Width {dim} / reduction {self.reduction} must be a multiple of the {heads} heads.")
        if pool not in ("token", "avg"):
            raise Incompatible(f"The head must read the class token or an average of the patches, not {pool!r}.")
        m = Ladder(net, dim // self.reduction, self.temperature)
        name = net.at_head(m, reads=[block.out for block in net.blocks])
        net.hook(name, net.blocks[0].out.module, SendBefore(nn.Identity(), m.first), before=True)

    def count(self, shape: Shape) -> int:
        dim, blocks = shape.dims[0], len(shape.dims)
        width = dim // self.reduction
        ladders = (blocks + 1) * (dim + 1) * width + (width + 1) * dim
        return ladders + blocks * (block_size(width, int(shape.mlp_ratio * width)) + 1) + 2 * width
