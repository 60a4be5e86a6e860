"""Uniform handles on the blocks of a vision transformer, so that a method is written once for every family.

A block is twice `x + exit(op(norm(x)))`, or where norms end the branches `x + exit(norm(op(x)))`. Three verbs on a
hook point reach what a linear or a norm computes: `add` (y + m(x), or y + m(y0) of the module's own output y0), `then`
(m(y)) and `before` (m(x) takes x's place); a branch has the same verbs on the way around its operator. What `add` reads
is said by its argument; several `then`, and several `before`, act in the order they were called. Whatever a method adds
lives under `model.pet`; the frozen backbone keeps its own names.

Shapes: B images, N tokens, D width. A module sees channels last: (B, N, D) in a ViT and in every MLP branch,
(B, H, W, D) around a Swin's attention, (B x windows, N, D) inside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bench.core.errors import BenchError, Incompatible, NotMergeable, UsageError
from bench.models import hooks
from bench.models.hooks import Hook, SideChannel
from bench.models.prompts import Handle


@dataclass(frozen=True)
class Shape:
    """What a closed-form parameter count may depend on."""

    dims: tuple[int, ...]  # width of every block, first to last
    mlp_ratio: float
    heads: tuple[int, ...] = ()  # of every block
    side: int = 0  # of the square of tokens that attend to each other: the whole image's, or a window's
    patch_norm: bool = False  # a layer norm after the patch embedding
    merging_norms: tuple[int, ...] = ()  # widths of the layer norms between stages

    @property
    def stages(self) -> tuple[int, ...]:
        """The widths, each once: one for a ViT."""
        return tuple(dict.fromkeys(self.dims))


@dataclass(eq=False)
class HookPoint:
    """A place where a module can be put: a linear, columns of a fused linear, a convolution, a norm, a branch's end."""

    net: ModelView
    module: nn.Module
    path: str  # of the module in the model, "blocks.0.attn.qkv"
    label: str  # of the slot, "blocks.0.attn.q"
    d_in: int
    d_out: int
    columns: slice  # of the module's output
    channel: int = -1  # dimension of the output that holds the channels

    def add(self, m: nn.Module, reads: Literal["input", "base_output"] = "input") -> str:
        """y <- y + m(x), or y <- y + m(y0) with `reads="base_output"`, y0 being what the frozen module alone computes.

        Whether it is called before or after other verbs makes no difference to what m reads.
        """
        return self.net.attach(self, "add" if reads == "input" else "add_to_base", m)

    def then(self, m: nn.Module) -> str:
        """y <- m(y), y with all that was added before this call"""
        return self.net.attach(self, "then", m)

    def before(self, m: nn.Module) -> str:
        """x <- m(x)"""
        return self.net.attach(self, "before", m)

    def feed(self, m: nn.Module, target: HookPoint) -> str:
        """x of the target <- x + m(y of this slot)"""
        name, wire = self.net.register(self, m), SideChannel()
        self.net.hook(name, self.module, hooks.Send(m, wire, "output", self.columns))
        self.net.hook(name, target.module, hooks.ReceiveBefore(wire), before=True)
        return name


@dataclass(eq=False)
class Branch:
    """One residual branch of a block: x + exit(op(norm(x))), or x + exit(norm(op(x))) where the norm ends it."""

    entry: HookPoint  # the norm in front of the operator; without one, what takes x in
    exit: HookPoint
    op: str  # path of the operator, "blocks.0.attn"
    first: HookPoint | None  # the linear that reads what the operator reads, where there is exactly one
    pre_norm: bool = True

    def then(self, m: nn.Module) -> str:
        """o <- m(o): the branch's output goes through m before the residual sum (series)."""
        return self.exit.then(m)

    def before(self, m: nn.Module) -> str:
        """n <- m(n): what the operator reads, the norm's output or x itself, goes through m."""
        return self.first.before(m) if self.first else self.entry.then(m)

    def add(self, m: nn.Module, of: Literal["norm", "stream"] = "norm") -> str:
        """o <- o + m(n), or o + m(x) with `of="stream"`: a parallel branch that reads what the operator reads, or x.

        The two are the same where no norm stands in front of the operator.
        """
        net, wire = self.exit.net, SideChannel()
        name = net.register(self.exit, m)
        self._send(name, m, wire, "output" if of == "norm" else "input")
        net.hook(name, self.exit.module, hooks.Receive(wire))
        return name

    def add_to_sum(self, m: nn.Module) -> str:
        """x + o <- (x + o) + m(x + o): m reads the residual stream behind this branch."""
        net, wire = self.exit.net, SideChannel()
        name = net.register(self.exit, m)
        self._send(name, nn.Identity(), wire, "input")
        net.hook(name, self.exit.module, hooks.AddToSum(m, wire))
        return name

    def _send(self, name: str, m: nn.Module, wire: SideChannel, of: str) -> None:
        """Puts m of the stream, or of the norm's output, on the wire."""
        if self.pre_norm:
            self.entry.net.hook(name, self.entry.module, hooks.Send(m, wire, of))
        else:
            self.entry.net.hook(name, self.entry.module, hooks.SendBefore(m, wire), before=True)


@dataclass(eq=False)
class Block:
    index: int
    path: str
    dim: int
    heads: int
    grid: tuple[int, int]  # rows and columns of the patches it sees
    prefix: int  # tokens before the patches: class token and registers
    attn: Branch
    mlp: Branch
    out: HookPoint  # the block's output
    linear: dict[str, HookPoint]  # q k v proj fc1 fc2, and qkv where it is fused
    norm: dict[str, HookPoint]  # norm1 norm2


@dataclass(eq=False)
class AddedModule:
    """Where a method's module sits, and the hooks through which it acts."""

    slot: HookPoint
    verb: str  # empty where it does more than act on its slot
    handles: list[Handle] = field(default_factory=list)
    together: tuple[str, ...] = ()  # names of what is removed with it, as prompts that pass on to the next block


@dataclass(eq=False)
class ModelView:
    model: nn.Module
    family: str  # of the backbone: the name of its table in families.py
    blocks: tuple[Block, ...] = ()
    stem: tuple[HookPoint, ...] = ()  # patch convolution, and the norm behind it where there is one
    merging: tuple[tuple[HookPoint, ...], ...] = ()  # norm and reduction (or convolution and norm) between stages
    final: HookPoint | None = None  # the last norm
    shape: Shape = Shape((), 0.0)
    added_modules: dict[str, AddedModule] = field(default_factory=dict)  # by name in model.pet
    enter_prompts: Callable[..., list[Handle]] | None = None  # of the family; None where no prompts are defined
    attention_bias: bool = False  # the family's attention takes a bias on its logits

    @property
    def pet(self) -> nn.ModuleDict:
        """Every module a method has added, by name."""
        pet = self.model.pet
        assert isinstance(pet, nn.ModuleDict)
        return pet

    @property
    def head(self) -> nn.Linear:
        """The classifier. Raises UsageError where the model has none."""
        if not isinstance(self.classifier, nn.Linear):
            raise UsageError(f"This {type(self.model).__name__} has no classifier (num_classes=0): it gives features.")
        return self.classifier

    @property
    def head_slot(self) -> HookPoint:
        """Where the classifier reads and answers. Raises UsageError where the model has none."""
        head = self.head
        path = next(name for name, module in self.model.named_modules() if module is head)
        return HookPoint(self, head, path, path, head.in_features, head.out_features, slice(0, head.out_features))

    @property
    def classifier(self) -> nn.Module:
        """The head, or an identity where the model gives features."""
        head = self.model.get_classifier()  # type: ignore[operator]
        assert isinstance(head, nn.Linear | nn.Identity)
        return head

    def unfreeze(self, wanted: Callable[[str], bool]) -> None:
        """Trains the backbone's own parameters whose name is wanted. The head is not among them: it always trains.

        Raises Incompatible where the backbone has none.
        """
        found = [parameter for name, parameter in self.backbone_parameters() if wanted(name)]
        if not found:
            raise Incompatible(f"{type(self.model).__name__} has no parameter of the kind that this method trains.")
        for parameter in found:
            parameter.requires_grad_(True)

    def attach(self, slot: HookPoint, verb: Literal["add", "add_to_base", "then", "before"], m: nn.Module) -> str:
        """Adopts m and hooks it to the slot. The name it got in model.pet."""
        if verb == "before" and isinstance(slot.module, nn.Linear) and slot.d_out != slot.module.out_features:
            raise Incompatible(f"{slot.label} has no input of its own: q, k and v share it. Use 'qkv'.")
        if verb == "add_to_base" and any(
            added.verb == verb and added.slot.module is slot.module and _overlap(added.slot.columns, slot.columns)
            for added in self.added_modules.values()
        ):
            raise BenchError(f"Two modules cannot read the base output of {slot.label}: make them one.")
        name = self.register(slot, m, verb)
        if verb == "before":
            self.hook(name, slot.module, hooks.Before(m), before=True)
        elif verb == "add_to_base":
            self.hook(name, slot.module, hooks.Add(m, slot.columns, slot.channel, reads="output"), first=True)
        else:
            kind = hooks.Add if verb == "add" else hooks.Then
            self.hook(name, slot.module, kind(m, slot.columns, slot.channel))
        return name

    def hook(
        self,
        name: str,
        module: nn.Module,
        hook: Callable[..., Any],
        *,
        before: bool = False,
        first: bool = False,
        with_kwargs: bool = False,
    ) -> None:
        """Hooks an added module's function to a module of the model, until the added one is removed."""
        register = module.register_forward_pre_hook if before else module.register_forward_hook
        self.added_modules[name].handles.append(register(hook, prepend=first, with_kwargs=with_kwargs))

    def register(self, slot: HookPoint, m: nn.Module, verb: str = "") -> str:
        """Puts m into model.pet under the slot's label, on the model's device and in its dtype."""
        name = slot.label.replace(".", "_")
        while name in self.pet:
            name += "x"
        weight = next(self.model.parameters())
        self.pet[name] = m.to(weight.device, weight.dtype)
        self.added_modules[name] = AddedModule(slot, verb)
        return name

    def detach(self, name: str) -> None:
        """Removes an added module and all its hooks: the backbone is as if it had never been there.

        Prompts pass from block to block: with one of them all that were added with it go.
        """
        for each in (name, *self.added_modules[name].together):
            for handle in self.added_modules.pop(each).handles:
                handle.remove()
            del self.pet[each]

    def add_to_attention(self, block: Block, m: nn.Module) -> str:
        """softmax(q k + m()) with m() of shape (heads, N, N). Raises Incompatible where attention takes no bias."""
        if not self.attention_bias:
            raise Incompatible(f"The attention of {type(self.model).__name__} takes no further bias.")
        name = self.register(block.attn.exit, m)
        attention = self.model.get_submodule(block.attn.op)
        self.hook(name, attention, hooks.AddToLogits(m), before=True, with_kwargs=True)
        return name

    def at_head(
        self, m: nn.Module, reads: Sequence[HookPoint] = (), verb: Literal["before", "beside"] = "before"
    ) -> str:
        """f <- m(f, *y) for what the head reads, f (B, D), or with `verb="beside"` logits <- logits + m(f, *y).

        y are what the slots of `reads` put out in the same pass. A head that reads more features than f is one that m
        adds to: m (B, C). Raises UsageError where the model has no classifier.
        """
        slot, head = self.head_slot, self.head
        name, wires = self.register(slot, m), [SideChannel() for _ in reads]
        for wire, read in zip(wires, reads, strict=True):
            self.hook(name, read.module, hooks.Send(nn.Identity(), wire, "output", read.columns))
        if verb == "before":
            self.hook(name, head, hooks.BeforeHead(m, wires), before=True)
        else:
            self.hook(name, head, hooks.BesideHead(m, wires))
        return name

    def add_prompts(self, tokens: Mapping[int, nn.Module]) -> None:
        """Learned tokens beside the patches: tokens[i]() of shape (P, D) enters at block i, in place of earlier ones.

        In a ViT they stand between the class token and the patches. In a Swin they enter every window, get no relative
        position and no shift mask, are averaged over the windows after attention, and are part of the final average.
        """
        if self.enter_prompts is None:
            raise Incompatible(f"No prompts are defined for {type(self.model).__name__}.")
        nowhere = nn.Identity()
        names = [
            self.register(HookPoint(self, nowhere, "", f"prompts.{index}", 0, 0, slice(0, 0)), m)
            for index, m in tokens.items()
        ]
        handles = self.enter_prompts(self.blocks, self.model, tokens)
        for name in names:
            self.added_modules[name].handles = handles
            self.added_modules[name].together = tuple(other for other in names if other != name)

    @torch.no_grad()
    def merge(self) -> None:
        """Merges every added module into the layer it sits on, and removes it.

        From the layer outwards: on its output what reads the base output first, then the others as they were added; on
        its input the last one first, which the layer reads directly. A module can be merged if it has
        `merged_weights(W, b) -> (W', b')`: W (d_out, d_in) and b (d_out) of its layer, before and after. Raises
        NotMergeable, and changes nothing, where one has not.
        """
        for name, added in self.added_modules.items():
            can = hasattr(self.pet[name], "merged_weights") and bool(added.verb)
            if not can or not isinstance(added.slot.module, nn.Linear | nn.LayerNorm | nn.Conv2d):
                kind = type(self.pet[name]).__name__
                raise NotMergeable(f"{name} ({kind}) cannot be merged into {added.slot.path or 'the backbone'}.")
        before = [item for item in self.added_modules.items() if item[1].verb == "before"]
        behind = [item for item in self.added_modules.items() if item[1].verb != "before"]
        behind.sort(key=lambda item: item[1].verb != "add_to_base")  # a stable sort
        for name, added in (*behind, *reversed(before)):
            merged_weights: Any = self.pet[name].merged_weights
            slot = added.slot
            layer: Any = slot.module
            rows = slot.columns
            weight = layer.weight.diag() if isinstance(layer, nn.LayerNorm) else layer.weight.flatten(1)
            bias = layer.weight.new_zeros(len(weight)) if layer.bias is None else layer.bias.clone()
            weight = weight.clone()
            weight[rows], bias[rows] = merged_weights(weight[rows], bias[rows])
            layer.weight.copy_(weight.diag() if isinstance(layer, nn.LayerNorm) else weight.view_as(layer.weight))
            if layer.bias is None and bias.any():
                layer.bias = nn.Parameter(bias, requires_grad=False)
            elif layer.bias is not None:
                layer.bias.copy_(bias)
            self.detach(name)

    def backbone_parameters(self) -> Iterable[tuple[str, nn.Parameter]]:
        """The backbone's own parameters: neither the head's nor a method's."""
        head = {id(parameter) for parameter in self.classifier.parameters()}
        for name, parameter in self.model.named_parameters():
            if id(parameter) not in head and not name.startswith("pet."):
                yield name, parameter

    def trainable_parameters(self) -> dict[str, nn.Parameter]:
        """Every parameter that trains, head included, by its name in the model."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def saved_buffers(self) -> dict[str, Tensor]:
        """What a method drew or chose and does not train, by its name in the model: the persistent buffers of its
        modules. One that is not persistent follows from the hyper-parameters, and attach makes it again."""
        kept = self.pet.state_dict(keep_vars=True)
        return {f"pet.{name}": buffer for name, buffer in self.pet.named_buffers() if name in kept}

    def only_head_trains(self) -> bool:
        """True where all that trains or was added reads the features: they can be computed once."""
        at_head = [name for name, m in self.added_modules.items() if m.verb == "before" and m.slot.module is self.head]
        return set(self.pet) <= set(at_head) and not any(p.requires_grad for _, p in self.backbone_parameters())


def _overlap(one: slice, other: slice) -> bool:
    return bool(one.start < other.stop and other.start < one.stop)


__all__ = ["AddedModule", "Block", "Branch", "Hook", "HookPoint", "ModelView", "Shape", "SideChannel"]
