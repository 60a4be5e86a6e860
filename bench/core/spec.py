"""The identity of a run: what was asked, hashed. Where and how it was answered is provenance, never hashed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, Literal

from bench.core.schema import Pattern, Range, plain

NAME = r"(?!\.)[^/\\\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]+"
"""One part of a name of a method, a backbone or a dataset. Names become folders of the results."""

NAME_BYTES = 200

Value = bool | int | float | str | tuple[str, ...] | None

Precision = Literal["fp32", "bf16"]
"""float32; or bfloat16 autocast, where weights, their updates and the loss stay float32 and products do not."""


def omit_default(default: Any) -> Any:
    """A dataclass field born after records exist: at `default` it stays out of the hash, so old digests stand."""
    return field(default=default, metadata={"omit_default": True})


def recorded_as(name: str, default: Any) -> Any:
    """A dataclass field that was called `name` when records were first made: it is hashed and recorded so for ever."""
    return field(default=default, metadata={"recorded_as": name})


def recorded_name(f: dataclasses.Field[Any]) -> str:
    """The name of a field in records and hashes."""
    return str(f.metadata.get("recorded_as", f.name))


def identity(value: Any) -> dict[str, Any]:
    """The fields of a dataclass that enter the hash, as JSON-ready data."""
    return {
        recorded_name(f): plain(getattr(value, f.name))
        for f in dataclasses.fields(value)
        if not (f.metadata.get("omit_default") and getattr(value, f.name) == f.default)
    }


@dataclass(frozen=True)
class Protocol:
    """How every method of a comparison is trained and scored; named and versioned, `vtab1k@v1`."""

    name: str
    optimizer: Literal["adamw", "sgd"]
    lr: float
    weight_decay: float  # on tensors of two and more dimensions; vectors are never decayed
    epochs: int  # in total, whatever phases a method divides them into
    warmup: float  # fraction of the steps of each phase, linear, before a cosine to zero
    batch_size: int
    train_on: Literal["train", "train+val"]
    choose: Literal["last", "validation"]  # which epoch's model is reported
    seeds: tuple[int, ...]
    image_size: int | None = None  # None: the backbone's own input size
    label_smoothing: float = 0.0
    clip_norm: float | None = None
    precision: Precision = "fp32"  # of training and scoring alike
    resize: Literal["squash", "crop"] = omit_default("squash")  # an image to its square: as a whole, or its centre
    augment: Literal["none", "mimi"] = omit_default("none")  # of training images, on the device: bench.data.augment
    shots: int | None = omit_default(None)  # images per class, drawn by the run's seed; None: all
    val_share: float | None = omit_default(None)  # of each class, cut off train where val is that; None: the card's val
    epochs_of: Literal["run", "phase"] = omit_default("run")  # whether `epochs` are all, or those of each phase
    search_lr: tuple[float, ...] = omit_default(())  # tried on train, chosen on val, in ascending order
    search_weight_decay: tuple[float, ...] = omit_default(())
    search_epochs: int | None = omit_default(None)  # of one trial; None: `epochs`
    val_target: float | None = omit_default(None)  # share of the first phase's score on val that later ones must reach
    head: Literal["drawn", "texts"] = omit_default(
        "drawn"
    )  # how it starts: at random, or as CLIP's zero-shot classifier
    head_norm: Literal["none", "batch"] = omit_default("none")  # before the head: bench.models.head_norm
    rates: str | None = omit_default(None)  # lr is the one that datasets/rates.toml has for the method under this name

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1:
            raise ValueError("epochs and batch_size must be at least 1")
        if self.val_share is not None and not 0 < self.val_share < 1:
            raise ValueError("val_share must lie between 0 and 1")
        if self.shots is not None and self.shots < 1:
            raise ValueError("shots must be at least 1")
        if self.lr <= 0 or not 0 <= self.warmup < 1:
            raise ValueError("lr must be positive and warmup lie in [0, 1)")
        if self.val_target is not None and not 0 < self.val_target <= 1:
            raise ValueError("val_target must lie between 0 and 1: it is a share of the first phase's score")
        if self.val_target is not None and (self.train_on != "train" or self.choose != "last"):
            raise ValueError("val_target needs train_on = 'train' and choose = 'last': each phase is judged at its end")
        if self.choose == "validation" and self.train_on == "train+val":
            raise ValueError("choose = 'validation' needs train_on = 'train': a chosen epoch must not train on val")


Weights = Annotated[str, Pattern("pretrained|random|sha256:[0-9a-f]{16}", "pretrained, random or sha256:<16 digits>")]
Fingerprint = Annotated[str, Pattern("([0-9a-f]{16,64})?", "a sha256 in hexadecimal digits")]


CHANGES = ("epochs", "lr", "precision", "shots")  # fields of a protocol that a request may give in its place


def changed(protocol: Protocol, changes: Mapping[str, Value]) -> Protocol:
    """The protocol with other values, which its name tells: `pocket@v1+epochs=10+precision=bf16`."""
    apart: dict[str, Any] = {
        key: value for key, value in changes.items() if value is not None and value != getattr(protocol, key)
    }
    name = "+".join((protocol.name, *(f"{key}={value}" for key, value in apart.items())))
    return dataclasses.replace(protocol, name=name, **apart)


def changes_of(name: str) -> tuple[str, dict[str, str]]:
    """The name of the protocol that the one called `name` was changed from, and the values it was given."""
    first, *rest = name.split("+")
    changes = {key: value for key, _, value in (each.partition("=") for each in rest) if key in CHANGES}
    return "+".join((first, *(each for each in rest if each.partition("=")[0] not in changes))), changes


@dataclass(frozen=True)
class RunSpec:
    method: str
    method_version: Annotated[int, Range(0)]
    params: Mapping[str, Value]  # every hyper-parameter of the method
    backbone: str  # full timm tag, or a pocket backbone
    weights: Weights  # "pretrained", "random", or "sha256:..." of a weight file
    dataset: str  # suite/key
    fingerprint: Fingerprint  # sha256 of the data as read
    protocol: Protocol
    seed: Annotated[int, Range(0)]

    def __post_init__(self) -> None:
        """Raises ValueError where a name could not be one folder or file of the results."""
        for name, parts in (("method", 1), ("backbone", 4), ("dataset", 4)):
            value = getattr(self, name)
            if re.fullmatch(f"{NAME}(/{NAME}){{0,{parts - 1}}}", value) is None or len(value.encode()) > NAME_BYTES:
                raise ValueError(
                    f"{name} = {value[:NAME_BYTES]!r} is not a name: a name has 1 to {NAME_BYTES} bytes, begins with "
                    f"no dot and holds no {'slash, ' if parts == 1 else ''}backslash or control character"
                )

    def canonical(self) -> str:
        """Tight JSON with sorted keys; NaN and infinities are refused."""
        data = {f.name: plain(getattr(self, f.name)) for f in dataclasses.fields(self)}
        data["protocol"] = {k: v for k, v in identity(self.protocol).items() if k != "seeds"}
        return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256(self.canonical().encode()).hexdigest()[:16]


def stream(spec: RunSpec, name: Literal["data", "head", "method"]) -> int:
    """The seed of a named source of chance. "data" and "head" ignore the method, so runs at one seed pair up."""
    parts = [name, spec.backbone, spec.dataset, str(spec.seed)]
    if name == "method":
        parts.append(spec.method)
    return int.from_bytes(hashlib.sha256("|".join(parts).encode()).digest()[:7], "big")
