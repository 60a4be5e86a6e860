"""GPS: of every neuron the few incoming weights that the loss pulls at hardest are trained, where they stand.

    y = (W + dW) x + b      dW: (d_out, d_in), zero but for k entries in every row: those of the largest |dL/dW|

for every linear of every block; k is 1. Before training, L is the supervised contrastive loss of the features f that
the head reads, on the frozen model, so that no head is needed to tell which weights matter:

    L = - mean over i, and over p of i's class, of  log( exp(f_i f_p / tau) / sum over j != i of exp(f_i f_j / tau) )

with f of unit length and tau = 0.07; an image that is alone of its class in its batch says nothing. dW starts at zero,
so the model starts as the frozen one, and is added to W after training exactly. Its places are stored with it, four
bytes each.

Zhang et al., "Gradient-based Parameter Selection for Efficient Fine-Tuning", CVPR 2024, arXiv 2312.10136, section 3;
the loss is of Khosla et al. 2020, arXiv 2004.11362, eq. 2.
Ours differs: `batches` batches of training data choose the weights, not all of it; the patch embedding is left alone.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.core.errors import Incompatible
from bench.models.method import Batches, Method, Shape
from bench.models.view import ModelView
from methods._features import features
from methods._lowrank import every_linear
from methods._sparse import SparseUpdate, weight_gradients


@dataclass(frozen=True)
class GPS(Method):
    k: int = 1  # trained weights of every neuron
    batches: int = 8  # of training data that choose them

    family = "selection"
    paper = "Zhang et al. 2024, arXiv 2312.10136"
    merges = True

    def __post_init__(self) -> None:
        if self.k < 1 or self.batches < 1:
            raise ValueError(f"k = {self.k} and batches = {self.batches} must be at least 1")

    def attach(self, net: ModelView) -> None:
        for slot in every_linear(net):
            if self.k > slot.d_in:
                raise Incompatible(f"k = {self.k}, but a neuron of {slot.label} has {slot.d_in} inputs.")
            slot.add(SparseUpdate(slot, torch.arange(self.k).repeat(slot.d_out, 1)))

    def calibrate(self, net: ModelView, batches: Batches) -> None:
        slots = [added.slot for added in net.added_modules.values()]
        pull = [torch.zeros_like(slot.module.get_parameter("weight")[slot.columns]) for slot in slots]
        with features(net) as see:
            losses = (contrastive(see(images), labels) for images, labels in batches(self.batches))
            for gradients in weight_gradients(slots, losses):
                pull = [total + gradient for total, gradient in zip(pull, gradients, strict=True)]
        for name, total in zip(net.added_modules, pull, strict=True):
            net.pet[name].get_buffer("index").copy_(total.abs().topk(self.k, dim=1).indices)

    def count(self, shape: Shape) -> int:
        return self.k * sum(int((5 + shape.mlp_ratio) * dim) for dim in shape.dims)


def contrastive(f: Tensor, labels: Tensor, tau: float = 0.07) -> Tensor:
    """L of features f (B, D) and labels (B)."""
    f = F.normalize(f, dim=-1)
    others = ~torch.eye(len(f), dtype=torch.bool, device=f.device)
    partners = (labels[:, None] == labels) & others
    log_p = (f @ f.T / tau).masked_fill(~others, -torch.inf).log_softmax(dim=-1)
    per_image = log_p.masked_fill(~partners, 0).sum(-1) / partners.sum(-1).clamp(min=1)
    return -per_image.sum() / partners.any(-1).sum().clamp(min=1)
