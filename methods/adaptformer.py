"""AdaptFormer: a scaled bottleneck beside the MLP of every block, which reads the residual stream before its norm.

    x + MLP(LN(x)) + s (W_2 relu(W_1 x + b_1) + b_2)      W_1: (N, M)  W_2: (M, N)      N = 64, s = 0.1

W_2 and the biases start at zero, so the model starts as the frozen one; W_1 is Kaiming-uniform (a = sqrt 5). Dropout
acts on the hidden neurons.

Chen et al., "AdaptFormer: Adapting Vision Transformers for Scalable Visual Recognition", NeurIPS 2022,
arXiv 2205.13535, section 3.2. The counts that Marouf et al. (MiMi) print for it include a layer norm in front of W_1:
`norm=true`.
"""

from dataclasses import dataclass

from bench.models.method import Method, Shape
from bench.models.view import ModelView
from methods._parallel import Parallel


@dataclass(frozen=True)
class AdaptFormer(Method):
    hidden: int = 64
    scale: float = 0.1
    dropout: float = 0.1
    norm: bool = False  # a layer norm of its own on what the bottleneck reads

    family = "adapters"
    paper = "Chen et al. 2022, arXiv 2205.13535"

    def __post_init__(self) -> None:
        if self.hidden < 1 or self.scale == 0 or not 0 <= self.dropout < 1:
            asked = f"hidden = {self.hidden}, scale = {self.scale}, dropout = {self.dropout}"
            raise ValueError(f"{asked}: hidden must be at least 1, scale not zero, dropout in [0, 1)")

    def attach(self, net: ModelView) -> None:
        for block in net.blocks:
            block.mlp.add(Parallel(block.dim, self.hidden, self.scale, self.dropout, self.norm), of="stream")

    def count(self, shape: Shape) -> int:
        return sum((2 * dim + 1) * self.hidden + dim + 2 * self.norm * dim for dim in shape.dims)
