"""Prompt tokens in a ViT and in a Swin (Jia et al., "Visual Prompt Tuning", ECCV 2022, section 3.2 and appendix).

A ViT carries its prompts in the sequence. A Swin's blocks see a map, so its prompts (B, P, D) travel on wires beside
the map: through each norm, into every window, averaged over the windows, through the MLP, and, with their channels
repeated four times, through every patch merging. Each block has its own wires, so that one that is computed again in
the backward pass never takes what another left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
from timm.models.swin_transformer import PatchMerging
from torch import Tensor, nn

from bench.core.errors import Incompatible
from bench.models.hooks import SideChannel

if TYPE_CHECKING:
    from bench.models.view import Block


class Handle(Protocol):
    """What takes a hook away again, as torch's RemovableHandle does."""

    def remove(self) -> None: ...


def into_vit(blocks: Sequence[Block], model: nn.Module, tokens: Mapping[int, nn.Module]) -> list[Handle]:
    """The handles of the hooks that bring the tokens in."""
    there, handles = 0, list[Handle]()
    for index, m in sorted(tokens.items()):
        block = blocks[index]
        handles.append(model.get_submodule(block.path).register_forward_pre_hook(Insert(m, block.prefix, there)))
        there = len(m())
    return handles


def into_swin(blocks: Sequence[Block], model: nn.Module, tokens: Mapping[int, nn.Module]) -> list[Handle]:
    """The same in a Swin. Raises Incompatible where the model does not end with an average."""
    pool = model.get_submodule("head.global_pool")
    if getattr(pool, "pool_type", "") != "avg":
        raise Incompatible("Prompts in a Swin are part of the final average; this model does not end with one.")
    links = {block.index: SideChannel() for block in blocks}  # the prompts on their way into each block
    out = SideChannel()  # and behind the last
    handles: list[Handle] = []
    for block in blocks[min(tokens) :]:
        get, wire, link = model.get_submodule, SideChannel(), links[block.index]
        whole, attention, mlp = get(block.path), get(block.attn.op), get(block.mlp.op)
        stage, number = block.path.split(".blocks.")
        merging = get(f"{stage}.downsample")
        if number == "0" and isinstance(merging, PatchMerging) and block.index > min(tokens):
            handles.append(merging.register_forward_hook(Merge(link)))
        handles += [
            whole.register_forward_pre_hook(Enter(tokens.get(block.index), link, wire)),
            PaddedBias(attention, wire),
            attention.register_forward_pre_hook(IntoWindows(block.attn.entry.module, wire), with_kwargs=True),
            attention.register_forward_hook(OutOfWindows(wire)),
            mlp.register_forward_pre_hook(IntoTokens(block.mlp.entry.module, wire)),
            mlp.register_forward_hook(OutOfTokens(wire)),
            whole.register_forward_hook(Leave(links.get(block.index + 1, out), wire)),
        ]
    handles.append(model.get_submodule("norm").register_forward_hook(Final(out)))
    handles.append(pool.register_forward_hook(PoolWithPrompts(out)))
    return handles


def for_each_image(m: nn.Module, x: Tensor) -> Tensor:
    """The prompts of m, once for each image of x. A copy: what is counted or compiled takes no view of a parameter."""
    p: Tensor = m().to(x.dtype)
    return p.repeat(len(x), 1, 1)


class Insert:
    """Puts prompts behind the prefix tokens of a ViT, in place of those that are `there`."""

    def __init__(self, m: nn.Module, prefix: int, there: int) -> None:
        self.m, self.prefix, self.there = m, prefix, there

    def __call__(self, _: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        x: Tensor = args[0]
        before, behind = x[:, : self.prefix], x[:, self.prefix + self.there :]
        return (torch.cat((before, for_each_image(self.m, x), behind), dim=1), *args[1:])


class Enter:
    """At the start of a block: the prompts are the block's own, or those that left the block before."""

    def __init__(self, m: nn.Module | None, link: SideChannel, wire: SideChannel) -> None:
        self.m, self.link, self.wire = m, link, wire

    def __call__(self, _: nn.Module, args: tuple[Tensor, ...]) -> None:
        if self.m is None:
            self.wire.put(self.link.take())
        else:
            self.link.value = None  # what arrived is replaced
            self.wire.put(for_each_image(self.m, args[0]))


class Travel:
    """A hook on the way of the prompts (B, P, D) through one block."""

    def __init__(self, wire: SideChannel) -> None:
        self.wire = wire


class IntoWindows(Travel):
    """Puts the normed prompts before the tokens of every window, and pads the shift mask with zeros."""

    def __init__(self, norm: nn.Module, wire: SideChannel) -> None:
        super().__init__(wire)
        self.norm = norm

    def __call__(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        x, p = args[0], self.wire.take()  # (B x windows, N, D) and (B, P, D)
        self.wire.put(p)
        every = self.norm(p).repeat_interleave(len(x) // len(p), dim=0)  # windows of one image lie together
        if kwargs.get("mask") is not None:
            size = p.shape[1]
            kwargs = kwargs | {"mask": nn.functional.pad(kwargs["mask"], (size, 0, size, 0))}
        return (torch.cat((every.to(x.dtype), x), dim=1), *args[1:]), kwargs


class PaddedBias(Travel):
    """In place of a window attention's `_get_rel_pos_bias`: zero rows and columns for the prompts.

    timm asks for the bias inside the attention's forward, where no hook reaches.
    """

    def __init__(self, attention: nn.Module, wire: SideChannel) -> None:
        super().__init__(wire)
        self.attention = attention
        attention._get_rel_pos_bias = self  # type: ignore[assignment]

    def remove(self) -> None:
        """Gives the attention its own function back."""
        vars(self.attention).pop("_get_rel_pos_bias", None)

    def __call__(self) -> Tensor:
        bias: Tensor = type(self.attention)._get_rel_pos_bias(self.attention)  # type: ignore[attr-defined]
        p = self.wire.take()
        self.wire.put(p)
        return nn.functional.pad(bias, (p.shape[1], 0, p.shape[1], 0))


class OutOfWindows(Travel):
    """Averages each prompt over the windows of its image and adds it to its residual."""

    def __call__(self, _: nn.Module, args: tuple[Any, ...], y: Tensor) -> Tensor:
        p = self.wire.take()
        size = p.shape[1]
        self.wire.put(p + y[:, :size].unflatten(0, (len(p), -1)).mean(1))
        return y[:, size:]


class IntoTokens(Travel):
    """Puts the normed prompts before the tokens that the MLP sees."""

    def __init__(self, norm: nn.Module, wire: SideChannel) -> None:
        super().__init__(wire)
        self.norm = norm

    def __call__(self, _: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        p = self.wire.take()
        self.wire.put(p)
        return (torch.cat((self.norm(p).to(args[0].dtype), args[0]), dim=1), *args[1:])


class OutOfTokens(Travel):
    """Adds to each prompt what the MLP made of it."""

    def __call__(self, _: nn.Module, args: tuple[Tensor, ...], y: Tensor) -> Tensor:
        p = self.wire.take()
        size = p.shape[1]
        self.wire.put(p + y[:, :size])
        return y[:, size:]


class Leave(Travel):
    """At the end of a block: the prompts go on to the next."""

    def __init__(self, link: SideChannel, wire: SideChannel) -> None:
        super().__init__(wire)
        self.link = link

    def __call__(self, _: nn.Module, args: tuple[Tensor, ...], y: Tensor) -> None:
        self.link.put(self.wire.take())


class Merge(Travel):
    """At a patch merging every prompt's channels are repeated four times, then normed and reduced as the patches'."""

    def __call__(self, merging: nn.Module, args: tuple[Tensor, ...], y: Tensor) -> None:
        p = self.wire.take()
        self.wire.put(merging.reduction(merging.norm(p.repeat(1, 1, 4))))  # type: ignore[operator]


class Final(Travel):
    """The last norm is the prompts' too."""

    def __call__(self, norm: nn.Module, args: tuple[Tensor, ...], y: Tensor) -> None:
        p = self.wire.take()
        self.wire.put(nn.functional.layer_norm(p, p.shape[-1:], norm.weight, norm.bias, norm.eps))  # type: ignore[arg-type]


class PoolWithPrompts(Travel):
    """The average over all patches becomes the average over prompts and patches."""

    def __call__(self, _: nn.Module, args: tuple[Tensor, ...], y: Tensor) -> Tensor:
        p, patches = self.wire.take(), args[0].shape[1] * args[0].shape[2]  # args[0]: (B, H, W, D)
        return (y * patches + p.sum(1)) / (patches + p.shape[1])
