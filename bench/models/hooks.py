"""The forward hooks behind the verbs of hook points. Classes, not closures: a deep copy takes its own module along."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.core.errors import SideChannelError


class SideChannel:
    """Carries a tensor from one hook to a later one of the same forward pass; never survives it."""

    def __init__(self) -> None:
        self.value: Tensor | None = None

    def put(self, value: Tensor) -> None:
        self.value = value

    def take(self) -> Tensor:
        if self.value is None:
            raise SideChannelError(
                "This method hands a tensor from one block to the next: a single block cannot be recomputed, "
                "so gradient checkpointing cannot be used with it."
            )
        value, self.value = self.value, None
        return value

    def __deepcopy__(self, memo: dict[int, Any]) -> SideChannel:
        memo[id(self)] = twin = SideChannel()
        return twin


class Hook:
    """A hook of an added module, on some columns of its tensor (all, or a third of a fused qkv)."""

    def __init__(self, module: nn.Module, columns: slice = slice(None), channel: int = -1) -> None:
        self.module, self.columns, self.channel = module, columns, channel

    def read(self, y: Tensor) -> Tensor:
        """The hook point's columns of y, channels last."""
        return y.movedim(self.channel, -1)[..., self.columns]

    def write(self, y: Tensor, part: Tensor) -> Tensor:
        """y with the hook point's columns replaced."""
        if part.shape[-1] < y.shape[self.channel]:
            y = y.movedim(self.channel, -1)
            start, stop = self.columns.start, self.columns.stop
            return torch.cat((y[..., :start], part, y[..., stop:]), dim=-1).movedim(-1, self.channel)
        return part.movedim(-1, self.channel)


class Add(Hook):
    """y + m(x), or y + m(y)"""

    def __init__(self, module: nn.Module, columns: slice, channel: int, reads: str = "input") -> None:
        super().__init__(module, columns, channel)
        self.reads = reads

    def __call__(self, _: nn.Module, args: tuple[Tensor, ...], y: Tensor) -> Tensor:
        own = self.read(y)
        delta = self.module(args[0] if self.reads == "input" else own)
        if own.shape[-1] == y.shape[self.channel]:
            return self.write(y, own + delta)
        # columns of a linear: zeros beside them cost less than to cut y and put it together, backward above all
        return y + F.pad(delta, (self.columns.start, y.shape[-1] - self.columns.stop))


class Then(Hook):
    """m(y)"""

    def __call__(self, _: nn.Module, args: tuple[Tensor, ...], y: Tensor) -> Tensor:
        return self.write(y, self.module(self.read(y)))


class Before(Hook):
    """m(x) instead of x"""

    def __call__(self, _: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (self.module(args[0]), *args[1:])


class Send(Hook):
    """Puts m(input) or m(output) on a wire."""

    def __init__(self, module: nn.Module, wire: SideChannel, of: str, columns: slice = slice(None)) -> None:
        super().__init__(module, columns)
        self.wire, self.of = wire, of

    def __call__(self, _: nn.Module, args: tuple[Tensor, ...], y: Tensor) -> None:
        self.wire.put(self.module(args[0] if self.of == "input" else self.read(y)))


class SendBefore(Hook):
    """Puts m(input) on a wire before the module itself runs."""

    def __init__(self, module: nn.Module, wire: SideChannel) -> None:
        super().__init__(module)
        self.wire = wire

    def __call__(self, _: nn.Module, args: tuple[Tensor, ...]) -> None:
        self.wire.put(self.module(args[0]))


class Receive(Hook):
    """Adds what is on the wire to the output."""

    def __init__(self, wire: SideChannel) -> None:
        self.wire = wire

    def __call__(self, _: nn.Module, args: tuple[Tensor, ...], y: Tensor) -> Tensor:
        return y + self.wire.take()


class ReceiveBefore(Receive):
    """Adds what is on the wire to the input."""

    def __call__(self, _: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:  # type: ignore[override]
        return (args[0] + self.wire.take(), *args[1:])


class AddToSum(Hook):
    """o + m(x + o) at the end of a residual branch, x on the wire: the stream becomes (x + o) + m(x + o)."""

    def __init__(self, module: nn.Module, wire: SideChannel) -> None:
        super().__init__(module)
        self.wire = wire

    def __call__(self, _: nn.Module, args: tuple[Tensor, ...], y: Tensor) -> Tensor:
        return y + self.module(self.wire.take() + y)


class AtHead:
    """Hands what the head reads, and what other slots have put out in the same pass, to a module."""

    def __init__(self, module: nn.Module, wires: list[SideChannel]) -> None:
        self.module, self.wires = module, wires

    def read(self, features: Tensor) -> Tensor:
        out: Tensor = self.module(features, *[wire.take() for wire in self.wires])
        return out


class BeforeHead(AtHead):
    """The head reads m(f, y...) instead of f."""

    def __call__(self, _: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor]:
        return (self.read(args[0]),)


class BesideHead(AtHead):
    """logits + m(f, y...)"""

    def __call__(self, _: nn.Module, args: tuple[Tensor, ...], logits: Tensor) -> Tensor:
        return logits + self.read(args[0])


class AddToLogits(Hook):
    """Gives a ViT's attention an additive bias m() (heads, N, N)."""

    def __call__(self, _: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, kwargs | {"attn_mask": self.module()[None]}
