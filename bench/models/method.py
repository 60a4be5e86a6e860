"""The contract of a method: a frozen dataclass whose fields are its hyper-parameters, and one verb, `attach`."""

from __future__ import annotations

import dataclasses
import difflib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, get_args, get_type_hints

from torch import Tensor, nn

from bench.core.errors import BenchError, Incompatible, NotMergeable, UsageError
from bench.core.schema import parse, plain
from bench.core.spec import Value, identity, omit_default, recorded_as, recorded_name
from bench.models.view import ModelView, Shape

__all__ = [
    "Batches",
    "Method",
    "ParamGroup",
    "Phase",
    "Shape",
    "attach",
    "build",
    "omit_default",
    "optimizer_groups",
    "params",
    "recorded_as",
    "variant",
]

Batches = Callable[[int], Iterator[tuple[Tensor, Tensor]]]
"""batches(n) yields n batches (images (B, 3, H, W) normalised, labels (B)) of the training data, the same ones at every
call: for methods that look at data to choose or to score something."""


@dataclass(frozen=True)
class Phase:
    """A part of training with its own optimiser and learning-rate schedule; `then` runs after its last step."""

    epochs: int
    name: str = "train"
    then: Callable[[ModelView, Batches], None] | None = None
    lr_factor: float = 1.0  # on the protocol's learning rate


@dataclass(frozen=True)
class ParamGroup:
    """Trained parameters with a learning rate and a weight decay of their own, as factors on the protocol's."""

    wanted: Callable[[str], bool]  # by the parameter's name in the model
    lr_factor: float = 1.0
    weight_decay_factor: float = 1.0


@dataclass(frozen=True)
class Method(ABC):
    family: ClassVar[str] = "other"
    paper: ClassVar[str] = ""
    version: ClassVar[int] = 1  # raised when the same fields train a different model
    supports: ClassVar[str] = "vit swin swinv2 cvt eva eva02"  # families of backbones; attach refuses the others
    merges: ClassVar[bool] = False  # the trained model can be had with the bare backbone's modules, exactly
    identity_at_start: ClassVar[bool] = True  # attach leaves the outputs unchanged

    @abstractmethod
    def attach(self, net: ModelView) -> None:
        """Puts the method on the frozen backbone. Raises Incompatible, with the reason, where it does not fit."""

    def calibrate(self, net: ModelView, batches: Batches) -> None:
        """Runs once, after attach and before training, for what depends on the data (which channels to train)."""

    def phases(self, epochs: int) -> tuple[Phase, ...]:
        """The protocol's epochs, divided; one phase unless the method does something between two."""
        return (Phase(epochs),)

    def param_groups(self, net: ModelView) -> tuple[ParamGroup, ...]:
        """Parameters that train at other rates; each is in the first group that wants it, and the rest in none."""
        return ()

    def loss(self, logits: Tensor, labels: Tensor, net: ModelView) -> Tensor | None:
        """A term () that is added to the protocol's loss of every training batch; None adds nothing.

        logits (B, C) in float32; labels (B), or (B, C) where an image has several classes.
        """
        return None

    def pack(self, net: ModelView, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """What is stored of a delta, or of some tensors of it, on the CPU: fewer bits where outputs need no more."""
        return tensors

    def unpack(self, net: ModelView, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """A delta from what `pack` made of one: the model gives the same outputs to the bit. Its net is one that the
        method is freshly attached to."""
        return tensors

    def merge(self, net: ModelView) -> None:
        """Merges the trained update into the frozen weights. Raises NotMergeable where that cannot be done exactly."""
        if not self.merges:
            raise NotMergeable(f"{type(self).__name__} cannot be merged into the backbone.")
        net.merge()

    def count(self, shape: Shape) -> int | None:
        """Closed form of the number of trained parameters, head not counted; None where there is none."""
        return None

    def count_deployed(self, shape: Shape) -> tuple[int, int] | None:
        """Of a method that removes parameters on the way, the least and the most that are left after training, head not
        counted; None where all of them stay."""
        return None

    def sizes(self, net: ModelView) -> dict[str, int]:
        """Sizes of the parts that training changes (neurons left per adapter)."""
        return {}

    def reshape(self, net: ModelView, tensors: Mapping[str, Tensor]) -> None:
        """Gives a freshly attached method the sizes of a stored one, before `tensors` are loaded into it."""


def attach(method: Method, model: ModelView) -> None:
    """Puts a method on a frozen backbone that it is declared for: the one place where that is checked.

    Raises Incompatible where the method is not for this family of backbones, or does not fit this one.
    """
    declared = method.supports.split()
    if model.family not in declared:
        raise Incompatible(
            f"{type(method).__name__} is not defined for {type(model.model).__name__} ({model.family}), "
            f"only for: {', '.join(declared)}."
        )
    method.attach(model)


def optimizer_groups(method: Method | None, net: ModelView, lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """Every trained parameter in a parameter group of torch's optimisers: the method's groups, then all others.

    Matrices are decayed, vectors never. `lr_factor` stays in a group, for schedules to multiply by. Raises BenchError
    where one of the method's groups trains nothing.
    """
    rest, groups = net.trainable_parameters(), list[tuple[ParamGroup, list[nn.Parameter]]]()
    for number, group in enumerate(method.param_groups(net) if method else ()):
        names = [name for name in rest if group.wanted(name)]
        if not names or group.lr_factor <= 0:
            raise BenchError(f"{type(method).__name__}: group {number} of its param_groups trains nothing.")
        groups.append((group, [rest.pop(name) for name in names]))
    groups.append((ParamGroup(rest.__contains__), list(rest.values())))
    return [
        {
            "params": [p for p in parameters if (p.ndim >= 2) == decayed],
            "lr": lr * group.lr_factor,
            "lr_factor": group.lr_factor,
            "weight_decay": weight_decay * group.weight_decay_factor if decayed else 0.0,
        }
        for group, parameters in groups
        for decayed in (True, False)
    ]


def build(cls: type[Method], settings: Mapping[str, Any], name: str) -> Method:
    """A method from TOML values or command-line strings, read by the type of each field; all faults at once."""
    hints = get_type_hints(cls)
    fields = [f.name for f in dataclasses.fields(cls)]
    now = {recorded_name(f): f.name for f in dataclasses.fields(cls)}
    for old, new in now.items():
        if old != new and old in settings and new in settings:
            raise UsageError(f"{name}: {old} is the earlier name of {new}. Give one of the two.")
    settings = {now.get(key, key): value for key, value in settings.items()}
    for key in settings:
        if key not in fields:
            close = difflib.get_close_matches(key, fields, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else f"It has: {', '.join(fields) or 'none'}."
            raise UsageError(f"{name} has no hyper-parameter {key!r}. {hint}")
    values = {f.name: plain(f.default) for f in dataclasses.fields(cls) if f.default is not dataclasses.MISSING}
    for key, value in settings.items():
        values[key] = _read(value, hints[key]) if isinstance(value, str) else value
    return parse(cls, values, name)  # defaults too, so that 8 and 8.0 are one question


def _read(text: str, kind: Any) -> Any:
    """A command-line string as the field's type; a string that does not fit stays one and is refused by `parse`."""
    for option in get_args(kind) if type(None) in get_args(kind) else (kind,):
        if option is type(None) and text.lower() == "none":
            return None
        if option is bool and text.lower() in ("true", "false"):
            return text.lower() == "true"
        for number in (int, float):
            if option is number or (option is float and number is int):
                try:
                    return option(text)
                except ValueError:
                    break
        if getattr(option, "__origin__", None) is tuple:
            return tuple(part for part in text.replace("+", ",").split(",") if part)
    return text


def params(method: Method) -> dict[str, Value]:
    """Every hyper-parameter, for the run's identity."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in identity(method).items()}


def variant(method: Method) -> str:
    """The hyper-parameters that are not at their defaults, "rank=4,targets=q+k"; empty where all are."""
    changed = []
    for field in dataclasses.fields(method):
        value = getattr(method, field.name)
        if value != field.default:
            changed.append(f"{field.name}={'+'.join(value) if isinstance(value, tuple) else value}")
    return ",".join(changed)
