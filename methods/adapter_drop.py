"""AdapterDrop: adapters in the last blocks only, so that neither training nor inference pays for the first.

    h = x + W_up gelu(W_down x)      W_down: (N, M)  W_up: (M, N)      N = M / sigma, in the last `keep` blocks

Both matrices start from a normal distribution of std 0.02: near the identity, not at it.

Rücklé et al., "AdapterDrop: On the Efficiency of Adapters in Transformers", EMNLP 2021, arXiv 2010.11918, section 3,
the specialised form: the same blocks go without in training and in inference. Default: the first 5 of 12 blocks go
without, as in the paper's measurements of speed, and in proportion where a backbone is not twelve deep.
He et al. 2023 (PEViT, arXiv 2203.16329) keep the last block's alone: `keep=1`. Their released adapter, one per block,
is `branches=mlp norm=true hidden=64 bias=true`: x + W_up relu(W_down LN(x)) with a layer norm that trains.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from bench.core.errors import Incompatible
from bench.models.method import Method, Shape, recorded_as
from bench.models.view import ModelView
from methods._bottleneck import Bottleneck, hidden_size


class NormedBottleneck(Bottleneck):
    """h = x + W_up relu(W_down LN(x))"""

    def __init__(self, dim: int, hidden: int, bias: bool) -> None:
        super().__init__(dim, hidden, bias)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.up(F.relu(self.down(self.norm(x))))


@dataclass(frozen=True)
class AdapterDrop(Method):
    keep: int | None = None  # last blocks with adapters; None: all but the first 5/12
    sigma: float = 8.0
    hidden: int | None = None  # the same N for every adapter, instead of sigma
    bias: bool = False
    branches: Literal["both", "mlp"] = recorded_as("after", "both")
    norm: bool = False  # the adapter that PEViT released: a layer norm in front, and relu

    family = "adapters"
    paper = "Rücklé et al. 2021, arXiv 2010.11918"
    identity_at_start = False

    def __post_init__(self) -> None:
        if self.sigma <= 0 or (self.hidden is not None and self.hidden < 1):
            raise ValueError(f"sigma = {self.sigma} must be positive, and hidden = {self.hidden} at least 1")
        if self.keep is not None and self.keep < 1:
            raise ValueError(f"keep = {self.keep} must be at least 1: without adapters this is a linear probe")

    def kept(self, depth: int) -> int:
        return depth - 5 * depth // 12 if self.keep is None else self.keep

    def attach(self, net: ModelView) -> None:
        count = self.kept(len(net.blocks))
        if count > len(net.blocks):
            raise Incompatible(f"adapter_drop: keep = {count}, but the backbone has {len(net.blocks)} blocks.")
        adapter = NormedBottleneck if self.norm else Bottleneck
        for block in net.blocks[-count:]:
            size = self.hidden or hidden_size(block.dim, self.sigma, "dim", 0)
            for branch in (block.mlp,) if self.branches == "mlp" else (block.attn, block.mlp):
                branch.then(adapter(block.dim, size, self.bias))

    def count(self, shape: Shape) -> int:
        dims = shape.dims[-self.kept(len(shape.dims)) :]
        sizes = [(dim, self.hidden or hidden_size(dim, self.sigma, "dim", 0)) for dim in dims]
        each = sum(2 * dim * n + self.bias * (dim + n) + 2 * self.norm * dim for dim, n in sizes)
        return (1 if self.branches == "mlp" else 2) * each
