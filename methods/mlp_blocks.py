"""MLP-blocks: only the MLP of every block is trained.

    x + mlp(norm2(x))      mlp(n) = W_2 gelu(W_1 n + b_1) + b_2      W_1: (r M, M)  W_2: (M, r M), norm2 frozen

The model starts as the frozen one and keeps its shape, so there is nothing to merge after training. Like full
fine-tuning it takes a smaller learning rate than methods that train few or new parameters: `lr_factor` times the
protocol's.

A baseline of Marouf et al., "MiMi", WACV 2024, table 1, which does not define it; its count on Swin-T is this.
"""

from dataclasses import dataclass

from bench.models.method import Method, Phase, Shape
from bench.models.view import ModelView


@dataclass(frozen=True)
class MLPBlocks(Method):
    lr_factor: float = 0.2

    family = "baseline"
    paper = "Marouf et al. 2024, WACV"
    merges = True

    def __post_init__(self) -> None:
        if self.lr_factor <= 0:
            raise ValueError(f"lr_factor = {self.lr_factor} must be positive")

    def attach(self, net: ModelView) -> None:
        linears = tuple(f"{block.linear[name].path}." for block in net.blocks for name in ("fc1", "fc2"))
        net.unfreeze(lambda name: name.startswith(linears))

    def phases(self, epochs: int) -> tuple[Phase, ...]:
        return (Phase(epochs, lr_factor=self.lr_factor),)

    def count(self, shape: Shape) -> int:
        return sum(2 * dim * int(dim * shape.mlp_ratio) + int(dim * shape.mlp_ratio) + dim for dim in shape.dims)
