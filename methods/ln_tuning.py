"""LN-tuning: only the affine parameters of the layer norms are trained.

    y = gamma * (x - mean) / std + beta      gamma, beta: (M), trained in every LayerNorm of the backbone

That is the two of every block and the final one, and where the backbone has them those of the patch embedding and of
the patch merging. The model starts as the frozen one and keeps its shape: there is nothing to merge after training.

Basu et al., "Strong Baselines for Parameter Efficient Few-Shot Fine-tuning", AAAI 2024, arXiv 2304.01917; the baseline
"LayerNorm tuning" of He et al., "Parameter-efficient Model Adaptation for Vision Transformers", AAAI 2023, arXiv
2203.16329.
"""

from dataclasses import dataclass

from torch import nn

from bench.models.method import Method
from bench.models.view import ModelView


@dataclass(frozen=True)
class LNTuning(Method):
    family = "baseline"
    paper = "He et al. 2023, arXiv 2203.16329"
    merges = True

    def attach(self, net: ModelView) -> None:
        norms = {path for path, module in net.model.named_modules() if isinstance(module, nn.LayerNorm)}
        net.unfreeze(lambda name: name.rpartition(".")[0] in norms)
