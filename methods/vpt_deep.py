"""VPT-deep: every block gets learned tokens of its own beside the patches, in place of those of the block before.

    [c_i, _, E_i] = L_i([c_{i-1}, P_{i-1}, E_{i-1}])      P_i: (p, M_i), trained      i = 1 ... N

c is the class token, E are the patches, L_i the frozen blocks; what a block makes of its prompts is dropped. P has no
position and starts uniform in +-sqrt(6 / (3 K K + M)), K the patch size and M the first width. In a Swin the prompts
enter every window, are averaged over the windows after attention, and the last ones are part of the final average.

Jia et al., "Visual Prompt Tuning", ECCV 2022, arXiv 2203.12119, section 3.2. The paper searches p in 1 ... 200.
Ours differs: the images of a batch share one dropout mask on the prompts.
"""

from dataclasses import dataclass

from bench.models.method import Method, Shape
from bench.models.view import ModelView
from methods._prompts import Prompts, xavier_bound


@dataclass(frozen=True)
class VPTDeep(Method):
    prompts: int = 10
    dropout: float = 0.1

    family = "prompts"
    paper = "Jia et al. 2022, arXiv 2203.12119"
    supports = "vit swin"
    identity_at_start = False

    def __post_init__(self) -> None:
        if self.prompts < 1 or not 0 <= self.dropout < 1:
            raise ValueError(f"prompts = {self.prompts} must be at least 1, and dropout = {self.dropout} in [0, 1)")

    def attach(self, net: ModelView) -> None:
        bound = xavier_bound(net)
        net.add_prompts({block.index: Prompts(self.prompts, block.dim, bound, self.dropout) for block in net.blocks})

    def count(self, shape: Shape) -> int:
        return self.prompts * sum(shape.dims)
