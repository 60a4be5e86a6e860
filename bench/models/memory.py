"""Memory that a model needs to train and to answer, in bytes of tensors: the same at every call, on any device.

Between devices it may differ by the attention that is chosen there: fused, it keeps no products of queries and keys.
An accelerator's own counters stand beside it in the records of such devices, and say something else: its peak has what
is rounded up, what kernels use inside and the gradients of activations, while gradients of weights may take the place
of activations that are no longer needed. The memory of a process on a CPU tells little: it depends on the allocator, on
what ran before, and on the libraries that were loaded.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bench.models.view import ModelView

MOMENTS = {"adamw": 2, "sgd": 1}
"""How many numbers an optimiser of a protocol keeps for every trained one."""


def training(net: ModelView, size: int, images: int, moments: int) -> int:
    """Bytes of a step on `images` images of `size` pixels, a sum: weights and buffers, what the forward pass keeps for
    the backward pass, and for every trained parameter its gradient and the `moments` that the optimiser keeps.

    What is kept is measured on two images and on three: from there it grows by the same bytes with each. (Of one image
    fewer copies are made: where q, k and v lie is already what attention asks for.) torch's random state is left as it
    was; a buffer that a training forward pass updates is updated.
    """
    trained = sum(p.nbytes for p in net.trainable_parameters().values())
    two, three = (_kept_for_backward(net, _images(net, size, number)) for number in (2, 3))
    return _weights(net) + (1 + moments) * trained + two + (images - 2) * (three - two)


def inference(net: ModelView, size: int) -> int:
    """Bytes while one image of `size` pixels is scored: weights and buffers, and the tensors of the pass that are alive
    at one time, at most."""
    image, mode = _images(net, size, 1), net.pet.training
    net.model.eval()
    with torch.no_grad(), LiveBytes() as live:
        net.model(image)
    net.pet.train(mode)
    return _weights(net) + live.most


def _kept_for_backward(net: ModelView, images: Tensor) -> int:
    mode, device = net.pet.training, images.device
    net.model.eval()
    net.pet.train()
    kept = KeptBytes([*_tensors(net), images])
    with torch.random.fork_rng([device] if device.type == "cuda" else []), kept:
        net.model(images)
    net.pet.train(mode)
    return kept.total


class KeptBytes(saved_tensors_hooks):
    """Counts the bytes that what runs within it saves for its backward pass: a storage once, whole; those of the
    tensors `without` (weights, which are there in any case) do not count."""

    def __init__(self, without: Iterable[Tensor]) -> None:
        super().__init__(self._note, lambda tensor: tensor)
        self._without = {tensor.untyped_storage().data_ptr() for tensor in without}
        self._kept: dict[int, Tensor] = {}  # the tensors too, so that no address serves twice

    def _note(self, tensor: Tensor) -> Tensor:
        address = tensor.untyped_storage().data_ptr()
        if address not in self._without:
            self._kept[address] = tensor
        return tensor

    @property
    def total(self) -> int:
        return sum(tensor.untyped_storage().nbytes() for tensor in self._kept.values())


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of the tensors that are made within it: `now` alive, and at `most`."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.most = 0

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        seen = {storage._cdata for storage in _storages((args, kwargs))}  # views, and what is written in place
        for storage in _storages(out):
            if storage._cdata not in seen:
                seen.add(storage._cdata)
                self.now += storage.nbytes()
                self.most = max(self.most, self.now)
                weakref.finalize(storage, self._freed, storage.nbytes())
        return out

    def _freed(self, number: int) -> None:
        self.now -= number


def _storages(tree: Any) -> list[torch.UntypedStorage]:
    return [leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _images(net: ModelView, size: int, number: int) -> Tensor:
    return torch.zeros(number, 3, size, size, device=net.head.weight.device)


def _weights(net: ModelView) -> int:
    return sum(tensor.nbytes for tensor in _tensors(net))


def _tensors(net: ModelView) -> list[Tensor]:
    return [*net.model.parameters(), *net.model.buffers()]
