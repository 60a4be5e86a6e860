"""DTL: a side path collects low-rank views of every block's input and is added behind the blocks of the second half.

    h_l = h_(l-1) + C_l A_l x_l      x_(l+1) = block_l(x_l)                  in the first half,     h_0 = 0
                                     x_(l+1) = block_l(x_l) + theta(h_l)     in the second half

A_l: (r, M)  C_l: (M, r), r = 2; theta(h) = h sigmoid(beta h), beta = 100. Nothing is added to the first half of the
blocks, so that no gradient passes through them. C starts at zero, so the model starts as the frozen one; A is
Kaiming-uniform (a = sqrt 5). DTL+ (`plus=true`): g(theta(h)), g one depth-wise 3 x 3 convolution for all blocks over
the grid of patches; the tokens before them pass it by.

Fu et al., "DTL: Disentangled Transfer Learning for Visual Recognition", AAAI 2024, arXiv 2312.07856, section 3.
Ours differs: the head reads what the backbone's head reads, not an average over the patches, and g passes its input on
at the start. Plain ViTs only: the widths of a Swin change along the side path.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.core.errors import Incompatible
from bench.models.method import Method, Shape
from bench.models.view import Block, ModelView, SideChannel
from methods._spatial import from_map, to_map


class Global(nn.Module):
    """g: the depth-wise convolution that all blocks share."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.grid, self.prefix = block.grid, block.prefix
        self.conv = nn.Conv2d(block.dim, block.dim, 3, padding=1, groups=block.dim, bias=False)
        nn.init.dirac_(self.conv.weight, groups=block.dim)

    def forward(self, h: Tensor) -> Tensor:
        patches, prefix = to_map(h, self.grid, self.prefix)
        return from_map(self.conv(patches), prefix, like=h)


class Side(nn.Module):
    """One step of the side path: takes h of the block before, hands on its own; what it returns is added to x."""

    def __init__(self, dim: int, rank: int, beta: float, g: nn.Module | None) -> None:
        super().__init__()
        self.beta, self.g = beta, g  # without g: nothing is added yet
        self.A = nn.Parameter(torch.empty(rank, dim))
        self.C = nn.Parameter(torch.zeros(dim, rank))
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))
        self.before: SideChannel | None = None
        self.behind: SideChannel | None = None

    def forward(self, x: Tensor) -> Tensor:
        h = F.linear(F.linear(x, self.A), self.C)  # (B, N, M)
        if self.before:
            h = h + self.before.take()
        if self.behind:
            self.behind.put(h)
        if self.g is None:
            return h.new_zeros(())
        added: Tensor = self.g(h * torch.sigmoid(self.beta * h))
        return added


@dataclass(frozen=True)
class DTL(Method):
    rank: int = 2
    beta: float = 100.0
    start: int | None = None  # the first block, from 0, behind which h is added; by default that at half the depth
    plus: bool = False

    family = "low-rank"
    paper = "Fu et al. 2024, arXiv 2312.07856"
    supports = "vit eva eva02"
    version = 2  # DTL+: theta before g, and no convolution of class tokens

    def __post_init__(self) -> None:
        if self.rank < 1 or (self.start is not None and self.start < 0):
            raise ValueError(f"rank = {self.rank} must be at least 1, and start = {self.start} not be negative")

    def attach(self, net: ModelView) -> None:
        start = len(net.blocks) // 2 if self.start is None else self.start
        if start >= len(net.blocks):
            raise Incompatible(f"start = {start}, but {type(net.model).__name__} has {len(net.blocks)} blocks.")
        g = Global(net.blocks[0]) if self.plus else nn.Identity()
        path = [Side(block.dim, self.rank, self.beta, g if block.index >= start else None) for block in net.blocks]
        for side, following in zip(path, path[1:], strict=False):
            side.behind = following.before = SideChannel()
        for block, side in zip(net.blocks, path, strict=True):
            block.out.add(side)

    def count(self, shape: Shape) -> int:
        return sum(2 * self.rank * dim for dim in shape.dims) + 9 * self.plus * shape.dims[0]
