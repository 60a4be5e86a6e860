"""RLRR: every frozen weight matrix is rescaled, entry by entry, by one plus a matrix of rank one.

    y = (W * (1 + l c^T)) x + b + t      W: (d_out, d_in)  c: (d_in)  l, t: (d_out)

for q, k, v, proj, fc1 and fc2, each with its own c, l and shift t; every layer norm gets a scale and a shift as in SSF.
The patch convolution gets one too. c and l are Kaiming-uniform, c in +-sqrt(6 / d_in) and l in +-sqrt 6, so that an
entry of l c^T starts with a deviation of 2 / sqrt(d_in), 0.07 at a width of 768: small, not zero; t starts at zero.
After training all of it merges into the layers exactly.

Dong et al., "Low-Rank Rescaled Vision Transformer Fine-Tuning: A Residual Design Approach", CVPR 2024,
arXiv 2403.19067, section 3; the start is that of the released code. `patches=false` leaves the patch convolution as it
is: the published 0.33 M, a mean head included, fits both.
Ours differs: the sum is computed as W x + l * (W (c * x)), which multiplies by W twice until it is merged. In a Swin
the norms are also those of the patches and in front of the patch mergings, whose linears are left as they are.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.models.method import Method, Shape
from bench.models.view import HookPoint, ModelView
from methods._scale_shift import ScaleShift, norm_widths, norms

LINEARS = ("q", "k", "v", "proj", "fc1", "fc2")


class Rescaled(nn.Module):
    """What the rescaling adds to W x: l * (W (c * x)) + t."""

    def __init__(self, slot: HookPoint) -> None:
        super().__init__()
        self.frozen = (slot.module, slot.columns)  # in a tuple: not a submodule, but a deep copy takes its own along
        self.c = nn.Parameter(torch.empty(1, slot.d_in))
        self.l = nn.Parameter(torch.empty(slot.d_out, 1))
        self.t = nn.Parameter(torch.zeros(slot.d_out))
        for vector in (self.c, self.l):
            nn.init.kaiming_uniform_(vector)

    def forward(self, x: Tensor) -> Tensor:
        linear, rows = self.frozen
        W = linear.get_parameter("weight")[rows]
        return self.l[:, 0] * F.linear(self.c[0] * x, W) + self.t  # (..., d_in) -> (..., d_out)

    def merged_weights(self, W: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return W * (1 + self.l * self.c), b + self.t


@dataclass(frozen=True)
class RLRR(Method):
    patches: bool = True  # scale and shift what the patch convolution puts out

    family = "scale and shift"
    paper = "Dong et al. 2024, arXiv 2403.19067"
    supports = "vit swin swinv2 eva eva02"
    merges = True
    version = 2  # the released start, and the patch convolution
    identity_at_start = False

    def attach(self, net: ModelView) -> None:
        for slot in (*net.stem[: self.patches], *norms(net)):
            slot.then(ScaleShift(slot.d_out))
        for block in net.blocks:
            for name in LINEARS:
                block.linear[name].add(Rescaled(block.linear[name]))

    def count(self, shape: Shape) -> int:
        ends = 4 * 3 + (1 + 2 * shape.mlp_ratio) + (shape.mlp_ratio + 2)  # (d_in + 2 d_out) / M, summed over LINEARS
        return int(ends * sum(shape.dims)) + 2 * (norm_widths(shape) + self.patches * shape.stages[0])
