"""Prompt tokens in a ViT and in a Swin (Jia et al., "Visual Prompt Tuning", ECCV 2022, section 3.2 and appendix).

A ViT carries its prompts in the sequence. A Swin's blocks see a map, so its prompts (B, P, D) travel on wires beside
the map: through each norm, into every window, averaged over the windows, through the MLP, and, with their channels
repeated four times, through every patch merging.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bench.hooks import Wire

if TYPE_CHECKING:
    from bench.anatomy import Block


def into_vit(blocks: Sequence[Block], model: nn.Module, tokens: Mapping[int, nn.Module]) -> None:
    there = 0
    for index, m in sorted(tokens.items()):
        block = blocks[index]
        model.get_submodule(block.path).register_forward_pre_hook(Insert(m, block.prefix, there))
        there = len(m())


class Insert:
    """Puts prompts behind the prefix tokens, in place of those that are `there`."""

    def __init__(self, m: nn.Module, prefix: int, there: int) -> None:
        self.m, self.prefix, self.there = m, prefix, there

    def __call__(self, _: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        x = args[0]
        p = self.m().expand(len(x), -1, -1).to(x.dtype)
        return (torch.cat((x[:, : self.prefix], p, x[:, self.prefix + self.there :]), dim=1), *args[1:])


def into_swin(blocks: Sequence[Block], model: nn.Module, tokens: Mapping[int, nn.Module]) -> None:
    stream = Wire()  # the prompts as they leave one block and enter the next
    merging = {path: module for path, module in model.named_modules() if path.endswith(".downsample")}
    for block in blocks[min(tokens) :]:
        get, wire = model.get_submodule, Wire()
        whole, attention, mlp = get(block.path), get(block.attn.op), get(block.mlp.op)
        norm1, norm2 = block.attn.entry.module, block.mlp.entry.module
        before = merging.get(f"{block.path.split('.blocks')[0]}.downsample")
        first = block.path.endswith("blocks.0") and isinstance(getattr(before, "reduction", None), nn.Linear)
        if first and block.index > min(tokens):
            assert before is not None
            before.register_forward_hook(Merge(stream))
        whole.register_forward_pre_hook(Enter(tokens.get(block.index), stream, wire))
        attention._get_rel_pos_bias = PaddedBias(attention)  # type: ignore[assignment]
        attention.register_forward_pre_hook(IntoWindows(norm1, wire), with_kwargs=True)
        attention.register_forward_hook(OutOfWindows(wire))
        mlp.register_forward_pre_hook(IntoTokens(norm2, wire))
        mlp.register_forward_hook(OutOfTokens(wire))
        whole.register_forward_hook(Leave(stream, wire))
    model.get_submodule("norm").register_forward_hook(Final(stream))
    model.get_submodule("head.global_pool").register_forward_hook(PoolWithPrompts(stream))


class Enter:
    """At the start of a block: the prompts are the block's own, or those that left the block before."""

    def __init__(self, m: nn.Module | None, stream: Wire, wire: Wire) -> None:
        self.m, self.stream, self.wire = m, stream, wire

    def __call__(self, _: nn.Module, args: tuple[Tensor, ...]) -> None:
        x = args[0]
        self.wire.put(self.stream.take() if self.m is None else self.m().expand(len(x), -1, -1).to(x.dtype))


class Travel:
    """A hook on the way of the prompts through one block."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire


class IntoWindows(Travel):
    """Puts the normed prompts before the tokens of every window, and pads the shift mask with zeros."""

    def __init__(self, norm: nn.Module, wire: Wire) -> None:
        super().__init__(wire)
        self.norm = norm

    def __call__(self, attention: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        x, p = args[0], self.wire.take()  # (B * windows, N, D) and (B, P, D)
        self.wire.put(p)
        size = p.shape[1]
        attention._get_rel_pos_bias.size = size  # type: ignore[union-attr]
        every = self.norm(p).repeat_interleave(len(x) // len(p), dim=0)  # windows of one image lie together
        mask = kwargs.get("mask")
        if mask is not None:
            kwargs = kwargs | {"mask": nn.functional.pad(mask, (size, 0, size, 0))}
        return (torch.cat((every.to(x.dtype), x), dim=1), *args[1:]), kwargs


class OutOfWindows(Travel):
    """Averages each prompt over the windows and adds it to its residual."""

    def __call__(self, attention: nn.Module, args: tuple[Any, ...], y: Tensor) -> Tensor:
        p = self.wire.take()
        size = p.shape[1]
        self.wire.put(p + y[:, :size].unflatten(0, (len(p), -1)).mean(1))
        return y[:, size:]


class IntoTokens(Travel):
    """Puts the normed prompts before the tokens that the MLP sees."""

    def __init__(self, norm: nn.Module, wire: Wire) -> None:
        super().__init__(wire)
        self.norm = norm

    def __call__(self, _: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        p = self.wire.take()
        self.wire.put(p)
        return (torch.cat((self.norm(p).to(args[0].dtype), args[0]), dim=1), *args[1:])


class OutOfTokens(Travel):
    def __call__(self, _: nn.Module, args: tuple[Tensor, ...], y: Tensor) -> Tensor:
        p = self.wire.take()
        size = p.shape[1]
        self.wire.put(p + y[:, :size])
        return y[:, size:]


class Leave:
    def __init__(self, stream: Wire, wire: Wire) -> None:
        self.stream, self.wire = stream, wire

    def __call__(self, _: nn.Module, args: tuple[Tensor, ...], y: Tensor) -> None:
        self.stream.put(self.wire.take())


class Merge:
    """At a patch merging every prompt's channels are repeated four times, then normed and reduced as the patches'."""

    def __init__(self, stream: Wire) -> None:
        self.stream = stream

    def __call__(self, merging: nn.Module, args: tuple[Tensor, ...], y: Tensor) -> None:
        p = self.stream.take()
        self.stream.put(merging.reduction(merging.norm(p.repeat(1, 1, 4))))  # type: ignore[operator]


class Final:
    """The last norm is the prompts' too."""

    def __init__(self, stream: Wire) -> None:
        self.stream = stream

    def __call__(self, norm: nn.Module, args: tuple[Tensor, ...], y: Tensor) -> None:
        p = self.stream.take()
        self.stream.put(nn.functional.layer_norm(p, p.shape[-1:], norm.weight, norm.bias, norm.eps))  # type: ignore[arg-type]


class PoolWithPrompts:
    """The average over all patches becomes the average over prompts and patches."""

    def __init__(self, stream: Wire) -> None:
        self.stream = stream

    def __call__(self, _: nn.Module, args: tuple[Tensor, ...], y: Tensor) -> Tensor:
        p, patches = self.stream.take(), args[0].shape[1] * args[0].shape[2]
        return (y * patches + p.sum(1)) / (patches + p.shape[1])


class PaddedBias:
    """In place of a window attention's `_get_rel_pos_bias`: zero rows and columns for the prompts."""

    def __init__(self, attention: nn.Module) -> None:
        self.attention, self.size = attention, 0

    def __call__(self) -> Tensor:
        bias: Tensor = type(self.attention)._get_rel_pos_bias(self.attention)  # type: ignore[attr-defined]
        return nn.functional.pad(bias, (self.size, 0, self.size, 0))
