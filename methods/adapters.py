"""Adapters: a bottleneck in series after the attention and after the MLP of every block, before each residual sum.

    h = x + W_up gelu(W_down x)      W_down: (N, M)  W_up: (M, N)      N = M / sigma

Both matrices start from a normal distribution of std 0.02: near the identity, not at it.

Houlsby et al., "Parameter-Efficient Transfer Learning for NLP", ICML 2019, arXiv 1902.00751, section 2.1; without
biases and with sigma = M / N as in Marouf et al., "MiMi", WACV 2024, section 3.1. Published counts labelled
sigma = 32 on Swin divide the MLP's hidden width instead: `basis=mlp sigma=32` is the same network as the default.
`stage_sigmas=128+128+32+none` is a row of the preprint's (TINA) table 7: a size for each stage of a Swin.
Ours differs: layer norms stay frozen (Houlsby trains them).
"""

from dataclasses import dataclass
from typing import Literal

from bench.core.errors import Incompatible
from bench.models.method import Method, Shape, omit_default
from bench.models.view import ModelView
from methods._bottleneck import Bottleneck, hidden_size


@dataclass(frozen=True)
class Adapters(Method):
    sigma: float = 8.0
    basis: Literal["dim", "mlp"] = "dim"
    hidden: int | None = None  # the same N for every adapter, instead of sigma
    bias: bool = False
    stage_sigmas: tuple[str, ...] = omit_default(
        ()
    )  # sigma of each stage of a Swin, instead; "none": no adapters there

    family = "adapters"
    paper = "Houlsby et al. 2019, arXiv 1902.00751"
    identity_at_start = False

    def __post_init__(self) -> None:
        if self.sigma <= 0 or (self.hidden is not None and self.hidden < 1):
            raise ValueError(f"sigma = {self.sigma} must be positive, and hidden = {self.hidden} at least 1")
        for sigma in self.stage_sigmas:
            if sigma != "none" and not (sigma.replace(".", "", 1).isdecimal() and float(sigma) > 0):
                raise ValueError(f"stage_sigmas: {sigma!r} is neither a positive number nor none")

    def sizes_of(self, shape: Shape) -> list[int]:
        """N of the adapters of every block, 0 where it has none."""
        if not self.stage_sigmas:
            return [self.hidden or hidden_size(dim, self.sigma, self.basis, shape.mlp_ratio) for dim in shape.dims]
        if len(self.stage_sigmas) != len(shape.stages):
            raise Incompatible(f"stage_sigmas names {len(self.stage_sigmas)} stages; there are {len(shape.stages)}.")
        sigmas = dict(zip(shape.stages, self.stage_sigmas, strict=True))
        return [
            0 if sigmas[dim] == "none" else hidden_size(dim, float(sigmas[dim]), self.basis, shape.mlp_ratio)
            for dim in shape.dims
        ]

    def attach(self, net: ModelView) -> None:
        for block, size in zip(net.blocks, self.sizes_of(net.shape), strict=True):
            for branch in (block.attn, block.mlp) if size else ():
                branch.then(Bottleneck(block.dim, size, self.bias))

    def count(self, shape: Shape) -> int:
        sizes = zip(shape.dims, self.sizes_of(shape), strict=True)
        return sum(2 * (2 * dim * n + self.bias * (dim + n)) for dim, n in sizes if n)
