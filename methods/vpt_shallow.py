"""VPT-shallow: learned tokens stand beside the patches from the first block on, and pass through all of them.

    [c_1, Z_1, E_1] = L_1([c_0, P, E_0])      P: (p, M), trained
    [c_i, Z_i, E_i] = L_i([c_{i-1}, Z_{i-1}, E_{i-1}])      i = 2 ... N

c is the class token, E are the patches, L_i the frozen blocks. P has no position and starts uniform in
+-sqrt(6 / (3 K K + M)), K the patch size. In a Swin the prompts enter every window, are averaged over the windows after
attention, have their channels repeated four times at a patch merging, and are part of the final average.

Jia et al., "Visual Prompt Tuning", ECCV 2022, arXiv 2203.12119, section 3.2. The paper searches p in 1 ... 200.
Ours differs: on Swin, an image's prompts meet that image's windows alone (the released code mixes the batch).
"""

from dataclasses import dataclass

from bench.models.method import Method, Shape
from bench.models.view import ModelView
from methods._prompts import Prompts, xavier_bound


@dataclass(frozen=True)
class VPTShallow(Method):
    prompts: int = 10
    dropout: float = 0.0

    family = "prompts"
    paper = "Jia et al. 2022, arXiv 2203.12119"
    supports = "vit swin"
    identity_at_start = False

    def __post_init__(self) -> None:
        if self.prompts < 1 or not 0 <= self.dropout < 1:
            raise ValueError(f"prompts = {self.prompts} must be at least 1, and dropout = {self.dropout} in [0, 1)")

    def attach(self, net: ModelView) -> None:
        net.add_prompts({0: Prompts(self.prompts, net.blocks[0].dim, xavier_bound(net), self.dropout)})

    def count(self, shape: Shape) -> int:
        return self.prompts * shape.dims[0]
