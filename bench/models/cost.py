"""Parameters, FLOPs and storage of a model, each by one definition."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from safetensors.torch import save
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from bench.core.errors import NotMergeable, UsageError
from bench.core.record import Compute, Storage
from bench.models.head_norm import HeadNorm
from bench.models.method import Method
from bench.models.view import ModelView

COUNTER = f"torch.utils.flop_counter {torch.__version__.split('+')[0]}: linears, convolutions and attention products"


def method_params(net: ModelView) -> int:
    """Trained parameters, head not counted."""
    return sum(p.numel() for p in net.trainable_parameters().values()) - head_params(net)


def head_params(net: ModelView) -> int:
    return sum(p.numel() for p in net.classifier.parameters())


def total_params(net: ModelView) -> int:
    return sum(p.numel() for p in net.model.parameters())


def compute(net: ModelView, size: int) -> Compute:
    """Of one image's forward pass."""
    counts = by_operator(net, size)
    flops = sum(counts.values())
    products = sum(counts.get(operator, 0) for operator in (torch.ops.aten.bmm, torch.ops.aten.baddbmm))
    return Compute(macs=flops // 2, flops=flops, flops_linear_conv=flops - products)


@torch.no_grad()
def by_operator(net: ModelView, size: int) -> dict[object, int]:
    """FLOPs of one image's forward pass, by operator of torch. Attention is computed unfused while counting, so that
    its products are seen."""
    net.model.eval()
    fused = [m for m in net.model.modules() if getattr(m, "fused_attn", False)]
    for module in fused:
        module.fused_attn = False  # type: ignore[assignment]
    try:
        with FlopCounterMode(display=False) as counter:
            net.model(torch.zeros(1, 3, size, size, device=next(net.model.parameters()).device))
    finally:
        for module in fused:
            module.fused_attn = True  # type: ignore[assignment]
    return dict(counter.get_flop_counts()["Global"])


def merged(method: Method, net: ModelView) -> ModelView | None:
    """A copy with the update merged into the backbone's weights; None where the method cannot be merged."""
    twin = copy.deepcopy(net)
    try:
        method.merge(twin)
    except NotMergeable:
        return None
    return twin


def delta(net: ModelView) -> dict[str, Tensor]:
    """What turns the backbone into this model, by name: every trained tensor, head included, and what is fixed."""
    tensors: dict[str, Tensor] = net.trainable_parameters() | net.saved_buffers()
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


@torch.no_grad()
def restore(net: ModelView, tensors: Mapping[str, Tensor]) -> None:
    """Loads a delta. Raises UsageError where its names or shapes are not those that train here."""
    own: dict[str, Tensor] = net.trainable_parameters() | net.saved_buffers()
    wrong = set(tensors) ^ set(own) or {name for name, tensor in own.items() if tensor.shape != tensors[name].shape}
    if wrong:
        raise UsageError(f"This delta does not belong to this model: {', '.join(sorted(wrong)[:5])}.")
    for name, tensor in own.items():
        tensor.copy_(tensors[name])


def storage(method: Method, net: ModelView) -> Storage:
    """Bytes of the delta, as the method packs it, in a safetensors file. A norm before the head is the head's."""
    tensors = delta(net)
    norms = [module for module in net.pet.values() if isinstance(module, HeadNorm)]
    head = {id(tensor) for part in (net.classifier, *norms) for tensor in (*part.parameters(), *part.buffers())}
    of_head = {name for name, t in (net.trainable_parameters() | net.saved_buffers()).items() if id(t) in head}
    without = {name: tensor for name, tensor in tensors.items() if name not in of_head}
    return Storage(*(len(save(dict(method.pack(net, part)))) for part in (tensors, without)))
