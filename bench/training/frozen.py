"""Proof that a frozen backbone stayed frozen: a digest of each of its tensors, before and after.

A method is code that runs in this process. What it trains must stand in the record as trained parameters, and in the
delta; a tensor that changed without standing there makes the run a failed one.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping

import torch
from torch import nn

from bench.core.errors import BenchError
from bench.models.view import ModelView


class BackboneChanged(BenchError):
    """A tensor of the backbone that does not count as trained has other values than it had."""


def digests(model: nn.Module, head: nn.Module) -> dict[str, str]:
    """A digest of every parameter and buffer of the backbone by name, head and added modules left out."""
    of_head = {id(tensor) for tensor in head.parameters()}
    tensors = [*model.named_parameters(), *model.named_buffers()]
    return {
        name: _digest(tensor) for name, tensor in tensors if id(tensor) not in of_head and not name.startswith("pet.")
    }


def check_attached(before: Mapping[str, str], after: Mapping[str, str]) -> None:
    """Raises BackboneChanged where attaching a method changed a tensor. One that only has another name now is the
    same: methods may wrap a layer."""
    left = Counter(after.values())
    changed = []
    for name, digest in before.items():
        if left[digest] == 0:
            changed.append(name)
        left[digest] -= 1
    _refuse(changed, "attach")


def check_trained(before: Mapping[str, str], net: ModelView) -> None:
    """Raises BackboneChanged where a tensor changed after the method was attached and is not among the trainable
    parameters at the end, which are what is counted and stored."""
    after, trainable = digests(net.model, net.head), net.trainable_parameters()
    _refuse(
        [name for name, digest in before.items() if after.get(name) != digest and name not in trainable],
        "calibrate or training",
    )


def _refuse(changed: Collection[str], when: str) -> None:
    if changed:
        few = ", ".join(list(changed)[:3])
        raise BackboneChanged(
            f"{len(changed)} tensors of the backbone, {few} first, were changed by {when} although they are not among "
            "the trainable parameters. A method unfreezes what it trains (model.unfreeze), and leaves it unfrozen."
        )


def _digest(tensor: torch.Tensor) -> str:
    data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return hashlib.sha256(data.data).hexdigest() + f" {tuple(tensor.shape)} {tensor.dtype}"
