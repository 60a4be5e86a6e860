"""Uniform handles on the blocks of timm's ViT and Swin, so that a method is written once.

A pre-norm block is twice `x + exit(op(entry(x)))`. Both families keep `norm1/norm2` (entry) and `drop_path1/drop_path2`
(exit) as modules that see the residual layout, so three verbs on a slot reach everything: `add` (y + m(x)), `then`
(m(y)) and `before` (m(x) takes x's place). Verbs on one slot act in the order they were called. Whatever a method adds
lives under `model.pet`; the frozen backbone keeps timm's names.

Shapes: B images, N tokens, D width; a Swin block sees (B, H, W, D), a ViT block (B, N, D).
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

import torch
from timm.models.swin_transformer import SwinTransformer, SwinTransformerBlock
from timm.models.vision_transformer import Block as VitBlock
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from bench.errors import Incompatible, UnsupportedBackbone

Verb = Literal["add", "then", "before"]


class Hook:
    """A forward hook that calls an adopted module. A class, not a closure: a deep copy takes its module along."""

    def __init__(self, key: str, module: nn.Module, columns: slice) -> None:
        self.key, self.module, self.columns = key, module, columns

    def on_columns(self, change: Callable[[Tensor], Tensor], y: Tensor) -> Tensor:
        """y with the slot's columns changed: all of them, or one third of a fused qkv."""
        start, stop = self.columns.start, self.columns.stop
        if stop - start == y.shape[-1]:
            return change(y)
        return torch.cat((y[..., :start], change(y[..., start:stop]), y[..., stop:]), dim=-1)


class Add(Hook):
    def __call__(self, _: nn.Module, args: tuple[Tensor, ...], y: Tensor) -> Tensor:
        return self.on_columns(lambda part: part + self.module(args[0]), y)


class Then(Hook):
    def __call__(self, _: nn.Module, args: tuple[Tensor, ...], y: Tensor) -> Tensor:
        return self.on_columns(self.module, y)


class Before(Hook):
    def __call__(self, _: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (self.module(args[0]), *args[1:])


@dataclass(eq=False)
class Slot:
    """A place where a module can be put: a linear, columns of a fused linear, a norm, the end of a residual branch."""

    net: Anatomy
    module: nn.Module
    path: str  # of the module in the model, "blocks.0.attn.qkv"
    label: str  # of the slot, "blocks.0.attn.q"
    d_in: int
    d_out: int
    columns: slice  # of the module's output

    def add(self, m: nn.Module) -> str:
        """y <- y + m(x)"""
        return self.net.attach(self, "add", m)

    def then(self, m: nn.Module) -> str:
        """y <- m(y)"""
        return self.net.attach(self, "then", m)

    def before(self, m: nn.Module) -> str:
        """x <- m(x)"""
        return self.net.attach(self, "before", m)


@dataclass(eq=False)
class Branch:
    """One residual branch of a block: x + exit(op(entry(x)))."""

    entry: Slot
    exit: Slot

    def then(self, m: nn.Module) -> str:
        """The branch's output goes through m before the residual sum (series)."""
        return self.exit.then(m)


@dataclass(eq=False)
class Block:
    index: int
    path: str
    dim: int
    attn: Branch
    mlp: Branch
    linear: dict[str, Slot]  # q k v qkv proj fc1 fc2
    norm: dict[str, Slot]  # norm1 norm2


@dataclass(eq=False)
class Anatomy:
    model: nn.Module
    family: Literal["vit", "swin"]
    blocks: tuple[Block, ...] = ()
    verbs: dict[str, tuple[Verb, Slot]] = field(default_factory=dict)  # what was attached, by its name in model.pet

    @property
    def pet(self) -> nn.ModuleDict:
        """Every module a method has added, by name."""
        pet = self.model.pet
        assert isinstance(pet, nn.ModuleDict)
        return pet

    @property
    def head(self) -> nn.Linear:
        head = self.model.get_classifier()  # type: ignore[operator]
        assert isinstance(head, nn.Linear)
        return head

    def unfreeze(self, wanted: Callable[[str], bool]) -> None:
        """Trains the backbone's own parameters whose name is wanted. The head is not among them: it always trains."""
        for name, parameter in self.backbone_parameters():
            if wanted(name):
                parameter.requires_grad_(True)

    def attach(self, slot: Slot, verb: Verb, m: nn.Module) -> str:
        """Adopts m into model.pet and hooks it to the slot. The name it got there."""
        name = slot.label.replace(".", "_")
        while name in self.pet:
            name += "x"
        weight = next(self.model.parameters())
        self.pet[name] = m.to(weight.device, weight.dtype)
        if verb == "before":
            if isinstance(slot.module, nn.Linear) and slot.d_out != slot.module.out_features:
                raise Incompatible(f"{slot.label} has no input of its own: q, k and v share it. Use 'qkv'.")
            slot.module.register_forward_pre_hook(Before(name, m, slot.columns))
        elif verb == "add":
            slot.module.register_forward_hook(Add(name, m, slot.columns))
        else:
            slot.module.register_forward_hook(Then(name, m, slot.columns))
        self.verbs[name] = (verb, slot)
        return name

    def detach(self, name: str) -> None:
        """Removes an adopted module and its hook: the slot is as if it had never been there."""
        _, slot = self.verbs.pop(name)
        for hooks in (slot.module._forward_hooks, slot.module._forward_pre_hooks):
            for number, hook in list(hooks.items()):
                if isinstance(hook, Hook) and hook.key == name:
                    del hooks[number]
        del self.pet[name]

    @torch.no_grad()
    def fold(self) -> None:
        """Folds every added module with a `delta()` ((d_out, d_in), for y + delta @ x) into the linear it sits on.

        Raises Incompatible where a module has none, or where it is not added to a linear.
        """
        for name, (verb, slot) in list(self.verbs.items()):
            delta = getattr(self.pet[name], "delta", None)
            if verb != "add" or delta is None or not isinstance(slot.module, nn.Linear):
                raise Incompatible(f"{name} ({type(self.pet[name]).__name__}) cannot be folded into {slot.path}.")
            slot.module.weight[slot.columns] += delta()
            self.detach(name)

    def backbone_parameters(self) -> Iterable[tuple[str, nn.Parameter]]:
        """The backbone's own parameters: neither the head's nor a method's."""
        head = {id(parameter) for parameter in self.head.parameters()}
        for name, parameter in self.model.named_parameters():
            if id(parameter) not in head and not name.startswith("pet."):
                yield name, parameter

    def trained(self) -> dict[str, nn.Parameter]:
        """Every parameter that trains, head included, by its name in the model: what a checkpoint stores."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def is_frozen(self) -> bool:
        """True where only the head trains and nothing was added: features can be computed once."""
        return not self.pet and not any(p.requires_grad for _, p in self.backbone_parameters())

    def snapshot(self) -> Anatomy:
        """An independent copy that shares the frozen tensors with the original."""
        shared = [p for p in self.model.parameters() if not p.requires_grad] + list(self.model.buffers())
        return copy.deepcopy(self, {id(tensor): tensor for tensor in shared})


def dissect(model: nn.Module) -> Anatomy:
    """Handles on a timm ViT or Swin, every parameter frozen but the head's.

    Raises UnsupportedBackbone, by name, where a block is not the pre-norm kind that the handles describe.
    """
    kind: type[nn.Module]
    if type(model) is VisionTransformer:
        net, kind = Anatomy(model, "vit"), VitBlock
    elif type(model) is SwinTransformer:
        net, kind = Anatomy(model, "swin"), SwinTransformerBlock
    else:
        known = "timm's VisionTransformer and SwinTransformer"
        raise UnsupportedBackbone(f"{type(model).__name__} is not understood. Known: {known}.")
    paths = [name for name, _ in model.named_modules() if re.fullmatch(r"(layers\.\d+\.)?blocks\.\d+", name)]
    for path in paths:
        block = model.get_submodule(path)
        if type(block) is not kind:
            raise UnsupportedBackbone(f"{path} is a {type(block).__name__}; only {kind.__name__} is understood.")
    model.requires_grad_(False)
    net.head.requires_grad_(True)
    model.add_module("pet", nn.ModuleDict())
    net.blocks = tuple(_block(net, path, index) for index, path in enumerate(paths))
    return net


def _block(net: Anatomy, path: str, index: int) -> Block:
    get = net.model.get_submodule

    def linear(name: str, label: str = "", third: int | None = None) -> Slot:
        try:
            module = get(f"{path}.{name}")
        except AttributeError as error:
            raise UnsupportedBackbone(f"{path} has no {name}, which a plain block has.") from error
        if not isinstance(module, nn.Linear):
            raise UnsupportedBackbone(f"{path}.{name} is a {type(module).__name__}, not a Linear.")
        size = module.out_features // (1 if third is None else 3)
        start = size * (third or 0)
        label = f"{path}.{label or name}"
        return Slot(net, module, f"{path}.{name}", label, module.in_features, size, slice(start, start + size))

    linears = {
        "qkv": linear("attn.qkv"),
        "q": linear("attn.qkv", "attn.q", 0),
        "k": linear("attn.qkv", "attn.k", 1),
        "v": linear("attn.qkv", "attn.v", 2),
        "proj": linear("attn.proj"),
        "fc1": linear("mlp.fc1"),
        "fc2": linear("mlp.fc2"),
    }
    dim = linears["q"].d_in

    def place(name: str, label: str) -> Slot:
        return Slot(net, get(f"{path}.{name}"), f"{path}.{name}", f"{path}.{label}", dim, dim, slice(0, dim))

    return Block(
        index=index,
        path=path,
        dim=dim,
        attn=Branch(place("norm1", "norm1"), place("drop_path1", "attn")),
        mlp=Branch(place("norm2", "norm2"), place("drop_path2", "mlp")),
        linear=linears,
        norm={"norm1": place("norm1", "norm1"), "norm2": place("norm2", "norm2")},
    )
