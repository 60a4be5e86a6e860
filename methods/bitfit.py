"""BitFit: only the bias vectors of the backbone are trained.

    y = W x + b      W frozen, b trained, for every linear, convolution and norm that has a b

The model starts as the frozen one and keeps its shape, so there is nothing to merge after training.

Ben Zaken, Goldberg, Ravfogel, "BitFit", ACL 2022, arXiv 2106.10199, section 3.
`tables` also trains Swin's relative-position bias tables. They are weights by name only: counts published for Swin
(0.34 M on Swin-T with a 345-class head) matched every parameter whose name contains "bias" and so included them.
"""

from dataclasses import dataclass

from bench.models.method import Method
from bench.models.view import ModelView


@dataclass(frozen=True)
class BitFit(Method):
    tables: bool = False

    family = "baseline"
    merges = True
    paper = "Ben Zaken et al. 2022, arXiv 2106.10199"

    def attach(self, net: ModelView) -> None:
        net.unfreeze(
            lambda name: (
                name.endswith((".bias", ".q_bias", ".v_bias")) or (self.tables and name.endswith("_bias_table"))
            )
        )
