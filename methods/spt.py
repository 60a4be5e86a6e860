"""SPT: the weights that the loss is most sensitive to are trained; a matrix with many of them gets a low-rank update.

    S_ij = sum over batches of (dL / dW_ij)^2      sensitive are the weights of the tau largest S, of all matrices
    W' = W + B A          where at least sigma weights of W are sensitive      A: (r, d_in)  B: (d_out, r)
    W' = W + M * V        elsewhere      M: one at the sensitive weights, else zero; V is trained there

for W_q, W_k, W_v, the projection, fc1 and fc2 of every block; a matrix without sensitive weights stays frozen. L is the
cross-entropy of the frozen model with its fresh head. sigma is the number of weights that A and B have, so that no more
than tau are trained; `ease` divides it. tau is `budget` times the number of all these weights, 424,673 of ViT-B/16. B
and V start at zero, so the model starts as the frozen one; A is Kaiming-uniform (a = sqrt 5). After training all merges
into W exactly. The sensitive places are stored, four bytes each. This is SPT-LoRA; `spt_adapter` is SPT-Adapter.

He, Cai, Zhang, Tao, Zhuang, "Sensitivity-Aware Visual Parameter-Efficient Fine-Tuning", ICCV 2023, arXiv 2303.08566,
section 3: squared gradients as sensitivity, a threshold between the two kinds of tuning.
Ours differs: norms, biases and the class token are left alone, which the released code trains too, structurally where
a fifth of a vector is sensitive. It uses ease = 10, searches tau so that the number trained meets the budget, and drops
paths of the structured updates in training. Squares are of the gradients of `batches` batches, as there, not of images.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.core.errors import Incompatible
from bench.models.method import Batches, Method
from bench.models.view import HookPoint, ModelView
from methods._lowrank import LowRank
from methods._sparse import SparseUpdate, weight_gradients


@dataclass(frozen=True)
class SPT(Method):
    budget: float = 0.005  # tau, as a share of the weights of all linears of the blocks
    rank: int = 8
    ease: float = 1.0
    batches: int = 8  # of training data that tell the sensitivity

    family = "selection"
    paper = "He et al. 2023, arXiv 2303.08566"
    merges = True

    def __post_init__(self) -> None:
        if not 0 < self.budget <= 1 or self.ease <= 0:
            raise ValueError(f"budget = {self.budget} must lie in (0, 1], and ease = {self.ease} be positive")
        if self.rank < 1 or self.batches < 1:
            raise ValueError(f"rank = {self.rank} and batches = {self.batches} must be at least 1")

    def attach(self, net: ModelView) -> None:
        """Until data are seen, every matrix has its share of the budget."""
        for slot in linears(net):
            share = round(self.budget * slot.d_in * slot.d_out)
            if not share:
                raise Incompatible(f"budget = {self.budget} is less than one weight of {slot.label}.")
            slot.add(SparseUpdate(slot, torch.arange(share)))

    def calibrate(self, net: ModelView, batches: Batches) -> None:
        slots = linears(net)
        losses = (F.cross_entropy(net.model(images), labels) for images, labels in batches(self.batches))
        S = [torch.zeros_like(slot.module.get_parameter("weight")[slot.columns]) for slot in slots]
        for gradients in weight_gradients(slots, losses):
            S = [total + gradient.square() for total, gradient in zip(S, gradients, strict=True)]
        flat = torch.cat([matrix.flatten() for matrix in S])
        sensitive = torch.zeros(len(flat), dtype=torch.bool, device=flat.device)
        sensitive[flat.topk(round(self.budget * len(flat))).indices] = True
        for name in list(net.added_modules):
            net.detach(name)
        for slot, part in zip(slots, sensitive.split([matrix.numel() for matrix in S]), strict=True):
            index = part.nonzero()[:, 0]
            if len(index) >= self.structured_size(slot) / self.ease:
                slot.add(self.structured(slot))
            elif len(index):
                slot.add(SparseUpdate(slot, index))

    def structured(self, slot: HookPoint) -> nn.Module:
        """What a matrix with many sensitive weights gets."""
        return LowRank(slot.d_in, slot.d_out, self.rank, scale=1.0)

    def structured_size(self, slot: HookPoint) -> int:
        """sigma: the number of its parameters."""
        return self.rank * (slot.d_in + slot.d_out)

    def reshape(self, net: ModelView, tensors: Mapping[str, Tensor]) -> None:
        for slot in linears(net):
            name = slot.label.replace(".", "_")
            if name in net.pet:
                net.detach(name)
            if (index := tensors.get(f"pet.{name}.index")) is not None:
                slot.add(SparseUpdate(slot, index))
            elif any(key.startswith(f"pet.{name}.") for key in tensors):
                slot.add(self.structured(slot))


def linears(net: ModelView) -> list[HookPoint]:
    return [block.linear[name] for block in net.blocks for name in ("q", "k", "v", "proj", "fc1", "fc2")]
