"""Hydra: a low-rank branch beside a linear and another behind it, both linear, on the projection and on fc2.

    y = W x + b      y' = y + s (B_p (A_p x + a_p) + b_p) + s (B_s (A_s y + a_s) + b_s)

A_p: (r, d_in)  A_s: (r, d_out)  B: (d_out, r)  a: (r)  b_p, b_s: (d_out); r = 2. The parallel branch reads the layer's
input, the sequential one its output y. A is Xavier-uniform, B and the biases start at zero, so the model starts as the
frozen one. After training both merge into the layer exactly: W' = W + s (B_p A_p + B_s A_s W), and b' likewise.

Kim et al., "Hydra: Multi-head Low-rank Adaptation for Parameter Efficient Fine-tuning", arXiv 2309.06922, section 3.
Ours differs: s is 1 and there is no dropout; the paper's runs search both per task.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from bench.models.method import Method, Shape
from bench.models.view import ModelView


class LowRank(nn.Module):
    """s (B (A x + a) + b): what one branch adds."""

    def __init__(self, d_in: int, d_out: int, rank: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.A = nn.Linear(d_in, rank)
        self.B = nn.Linear(rank, d_out)
        nn.init.xavier_uniform_(self.A.weight)
        for zero in (self.A.bias, self.B.weight, self.B.bias):
            nn.init.zeros_(zero)

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.scale * self.B(self.A(x))
        return added  # (..., d_in) -> (..., d_out)

    def merged_weights(self, W: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return W + self.scale * self.B.weight @ self.A.weight, b + self.scale * self.B(self.A.bias)


class Sequential(LowRank):
    """The same of y, what the frozen layer puts out."""

    def merged_weights(self, W: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return W + self.scale * self.B.weight @ (self.A.weight @ W), b + self(b)


@dataclass(frozen=True)
class Hydra(Method):
    rank: int = 2
    scale: float = 1.0

    family = "low-rank"
    paper = "Kim et al. 2023, arXiv 2309.06922"
    merges = True

    def __post_init__(self) -> None:
        if self.rank < 1 or self.scale == 0:
            raise ValueError(f"rank = {self.rank} must be at least 1, and scale = {self.scale} not zero")

    def attach(self, net: ModelView) -> None:
        for block in net.blocks:
            for slot in (block.linear["proj"], block.linear["fc2"]):
                slot.add(Sequential(slot.d_out, slot.d_out, self.rank, self.scale), reads="base_output")
                slot.add(LowRank(slot.d_in, slot.d_out, self.rank, self.scale))

    def count(self, shape: Shape) -> int:
        ends = 4 * 2 + shape.mlp_ratio - 1  # (d_in + d_out) / M of four branches: proj and fc2, parallel and sequential
        return sum(int(self.rank * ends * dim) + 4 * (self.rank + dim) for dim in shape.dims)
