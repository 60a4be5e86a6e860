"""SparseAdapter: adapters of which single weights, the least sensitive ones, are pruned before training.

    h = x + (W_up . m_up) gelu((W_down . m_down) x)      W_down, m_down: (N, M)  W_up, m_up: (M, N)      N = M / sigma
    m = 1 where |W . dL/dW| is among the largest, else 0                         of all, the fraction 1 - sparsity is 1

L is the mean cross-entropy of some training images at initialisation (SNIP, Lee et al. 2019, arXiv 1810.02340). Both
matrices start from a normal distribution of std 0.02. Only what survives is a parameter; the masks are stored with
it, a byte a weight. No FLOPs are saved: the products are dense.

He, Ding, Dong, Zhang, Tao, "SparseAdapter", Findings of EMNLP 2022, arXiv 2210.04284, which recommends SNIP at 40 %;
its Large-Sparse setting is a smaller sigma at a higher sparsity, such as sigma=4 sparsity=0.7.
Ours differs: no biases, and sigma as in MiMi, whose table 2 lists this method as local: the same fraction of every
matrix is pruned. `scope=global` ranks all weights together, as SNIP does; every matrix keeps at least its best weight,
yet at a high sparsity whole adapters are left with weights that no longer reach one another.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.models.method import Batches, Method, Shape
from bench.models.view import ModelView
from methods._bottleneck import hidden_size
from methods._importance import loss_gradient


class SparseLinear(nn.Module):
    mask: Tensor

    def __init__(self, d_in: int, d_out: int) -> None:
        super().__init__()
        self.register_buffer("mask", torch.ones(d_out, d_in, dtype=torch.bool))
        # a matrix of one row: a vector would be spared the weight decay that other adapters have
        self.values = nn.Parameter(torch.empty(1, d_out * d_in))
        self.fill()

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.values.new_zeros(self.mask.shape).masked_scatter(self.mask, self.values))

    @torch.no_grad()
    def fill(self) -> None:
        """Draws every weight anew."""
        drawn = nn.init.trunc_normal_(torch.empty(1, self.mask.numel()), std=0.02)
        self.values = nn.Parameter(drawn.to(self.values))
        self.mask.fill_(True)

    @torch.no_grad()
    def keep(self, weights: Tensor) -> None:
        """Prunes all of a filled matrix but the weights at the given indices, which are in order."""
        self.values = nn.Parameter(self.values[:, weights])
        self.mask.fill_(False).view(-1)[weights] = True


class SparseBottleneck(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.down, self.up = SparseLinear(dim, hidden), SparseLinear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.up(F.gelu(self.down(x)))  # (..., M) -> (..., M)


@dataclass(frozen=True)
class SparseAdapter(Method):
    sigma: float = 8.0
    basis: Literal["dim", "mlp"] = "dim"
    sparsity: float = 0.4
    scope: Literal["local", "global"] = "local"
    score_batches: int = 8  # of training data

    family = "adapters"
    paper = "He et al. 2022, arXiv 2210.04284"
    identity_at_start = False

    def __post_init__(self) -> None:
        if self.sigma <= 0 or not 0 <= self.sparsity < 1 or self.score_batches < 1:
            asked = f"sigma = {self.sigma}, sparsity = {self.sparsity}, score_batches = {self.score_batches}"
            raise ValueError(f"{asked}: sigma must be positive, sparsity lie in [0, 1), score_batches be at least 1")

    def left(self, weights: int) -> int:
        return max(1, round(weights * (1 - self.sparsity)))

    def attach(self, net: ModelView) -> None:
        for block in net.blocks:
            size = hidden_size(block.dim, self.sigma, self.basis, net.shape.mlp_ratio)
            for branch in (block.attn, block.mlp):
                branch.then(SparseBottleneck(block.dim, size))
        for layer in layers(net).values():  # chance decides until data are seen: the number is right from the start
            weights = layer.mask.numel()
            layer.keep(torch.rand(weights).topk(self.left(weights)).indices.sort().values)

    def calibrate(self, net: ModelView, batches: Batches) -> None:
        linears = list(layers(net).values())
        for layer in linears:
            layer.fill()
        values = [layer.values for layer in linears]
        gradients = loss_gradient(net, values, lambda: batches(self.score_batches))
        scores = [(w * g).detach().abs()[0].cpu() for w, g in zip(values, gradients, strict=True)]
        groups = [range(len(linears))] if self.scope == "global" else [range(i, i + 1) for i in range(len(linears))]
        for group in groups:
            left = sum(self.left(len(scores[i])) for i in group)
            for i, weights in zip(group, best([scores[i] for i in group], left), strict=True):
                linears[i].keep(weights.to(linears[i].mask.device))

    def count(self, shape: Shape) -> int:
        sizes = [dim * hidden_size(dim, self.sigma, self.basis, shape.mlp_ratio) for dim in shape.dims]
        return sum(4 * self.left(weights) for weights in sizes)

    def reshape(self, net: ModelView, tensors: Mapping[str, Tensor]) -> None:
        for name, layer in layers(net).items():
            layer.fill()
            layer.keep(torch.arange(tensors[f"pet.{name}.values"].shape[1], device=layer.mask.device))


def layers(net: ModelView) -> dict[str, SparseLinear]:
    return {name: module for name, module in net.pet.named_modules() if isinstance(module, SparseLinear)}


def best(scores: list[Tensor], count: int) -> list[Tensor]:
    """The indices of the `count` largest of all scores, and of the largest of each list, list by list."""
    scores = [own.index_fill(0, own.argmax(), torch.inf) for own in scores]
    flat = torch.cat(scores)
    chosen = torch.zeros(len(flat), dtype=torch.bool)
    chosen[flat.argsort(descending=True, stable=True)[:count]] = True
    return [part.nonzero()[:, 0] for part in chosen.split([len(own) for own in scores])]
