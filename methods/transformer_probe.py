"""Transformer probing: one more transformer block, trained, behind the frozen ones.

    z = x + W_o MHSA(LN(x))      h = z + W_2 gelu(W_1 LN(z))      W_o: (D, D)  W_1: (hidden, D)  W_2: (D, hidden)

x are all tokens of the last block, class token included, and h is what the frozen final norm reads. Every token attends
to every other (on Swin the windows are gone) and there is no further position encoding. W_o and W_2 start at zero, so
the model starts as the frozen one, and as neither multiplies the other's gradient both learn from the first step. The
other matrices come from a normal distribution of std 0.02, biases are zero, norms the identity.

He et al., "Parameter-efficient Model Adaptation for Vision Transformers", AAAI 2023, arXiv 2203.16329, experiments. The
paper gives neither width nor start; its 3.2 M on ViT-B/16 is a block of the backbone's width with `hidden=512`.
"""

from dataclasses import dataclass

from bench.models.method import Method, Shape
from bench.models.view import ModelView
from methods._transformer import TransformerBlock, block_size


@dataclass(frozen=True)
class TransformerProbe(Method):
    hidden: int | None = None  # width of the MLP; None is four times the backbone's

    family = "baseline"
    paper = "He et al. 2023, arXiv 2203.16329"

    def __post_init__(self) -> None:
        if self.hidden is not None and self.hidden < 1:
            raise ValueError(f"hidden = {self.hidden} must be at least 1")

    def attach(self, net: ModelView) -> None:
        last = net.blocks[-1]
        last.out.then(TransformerBlock(last.dim, last.heads, self.hidden or 4 * last.dim))

    def count(self, shape: Shape) -> int:
        dim = shape.dims[-1]
        return block_size(dim, self.hidden or 4 * dim)
