"""SPT-Adapter: as SPT, but a matrix with many sensitive weights gets a bottleneck beside it.

    y = W x + b + W_2 gelu(W_1 x + b_1) + b_2      where at least sigma weights of W are sensitive
    y = (W + M * V) x + b                          elsewhere      M: one at the sensitive weights, else zero

W_1: (r, d_in)  W_2: (d_out, r); sigma is the number of parameters of the bottleneck, its biases included. What is
sensitive, the budget and the unstructured part are SPT's. W_2, b_2 and V start at zero, so the model starts as the
frozen one; W_1 and b_1 are uniform in +-1 / sqrt(d_in). A bottleneck cannot be merged.

He, Cai, Zhang, Tao, Zhuang, "Sensitivity-Aware Visual Parameter-Efficient Fine-Tuning", ICCV 2023, arXiv 2303.08566,
section 3. Where the bottleneck stands, and its GELU, are those of the released code. Ours differs as SPT does.
"""

from dataclasses import dataclass

from torch import nn

from bench.models.view import HookPoint
from methods.spt import SPT


class Bottleneck(nn.Sequential):
    """x -> W_2 gelu(W_1 x + b_1) + b_2"""

    def __init__(self, d_in: int, d_out: int, rank: int) -> None:
        super().__init__(nn.Linear(d_in, rank), nn.GELU(), nn.Linear(rank, d_out))
        for parameter in self[2].parameters():
            nn.init.zeros_(parameter)


@dataclass(frozen=True)
class SPTAdapter(SPT):
    merges = False

    def structured(self, slot: HookPoint) -> nn.Module:
        return Bottleneck(slot.d_in, slot.d_out, self.rank)

    def structured_size(self, slot: HookPoint) -> int:
        return super().structured_size(slot) + self.rank + slot.d_out
