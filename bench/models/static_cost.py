"""What is known of a method on a backbone before training: whether it fits, its parameters, compute and storage."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cache

import torch

from bench.core.errors import Incompatible, UnsupportedBackbone, UsageError
from bench.core.record import Storage
from bench.models import backbones, cost
from bench.models.families import build_view
from bench.models.method import Method, attach
from bench.models.view import ModelView

ENOUGH = 10**6  # epochs that any method can divide among its phases


@dataclass(frozen=True)
class UnmergedMerged:
    """A number before and after the method is merged into the backbone; None where it cannot be."""

    unmerged: int
    merged: int | None


@dataclass(frozen=True)
class CountedParams:
    method: int
    head: int
    total: int


@dataclass(frozen=True)
class Deployed:
    """What is left after training of a method that removes parameters between its phases.

    Where `least` and `most` differ, what training finds important decides; the rest is then counted on a model of
    random weights that was made smaller in the same way.
    """

    removals: int  # times that something is removed
    least: int  # trained parameters, head not counted
    most: int
    params: CountedParams
    flops: int
    storage_bytes: Storage


@dataclass(frozen=True)
class Counted:
    params: CountedParams  # at the start
    macs: UnmergedMerged
    flops: UnmergedMerged
    flops_linear_conv: UnmergedMerged  # attention products left out, as most papers count
    flops_counter: str
    storage_bytes: Storage
    deployed: Deployed | None = None  # where that is not what it starts with


def count_params(method: Method, backbone: str, classes: int) -> CountedParams:
    """Before training; no weights are made. Raises Incompatible."""
    return _counted_params(_bare(method, backbone, classes, "meta"))


def count(method: Method, backbone: str, classes: int) -> Counted:
    """Parameters, compute and storage of a method before training, on random weights. Raises Incompatible, and
    UsageError where such a model cannot be made."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # what is counted of random weights is the same each time
        try:
            count_params(method, backbone, classes)
            net = _bare(method, backbone, classes, "cpu")
        except (MemoryError, RuntimeError, TypeError, OverflowError) as error:  # more numbers than memory, or integers
            told = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UsageError(
                f"{type(method).__name__} of this size on {backbone} cannot be made here: {told}."
            ) from error
        return _counted(method, net)


def _counted(method: Method, net: ModelView) -> Counted:
    size = backbones.input_size(net.model)
    own, merged = cost.compute(net, size), cost.merged(method, net)
    other = cost.compute(merged, size) if merged else None
    return Counted(
        params=_counted_params(net),
        macs=UnmergedMerged(own.macs, other.macs if other else None),
        flops=UnmergedMerged(own.flops, other.flops if other else None),
        flops_linear_conv=UnmergedMerged(own.flops_linear_conv or 0, other.flops_linear_conv if other else None),
        flops_counter=cost.COUNTER,
        storage_bytes=cost.storage(method, net),
        deployed=_deployed(method, net, size),
    )


def _deployed(method: Method, net: ModelView, size: int) -> Deployed | None:
    left = method.count_deployed(net.shape)
    if left is None:
        return None
    images, labels = torch.randn(2, 3, size, size), torch.zeros(2, dtype=torch.long)
    steps = [phase.then for phase in method.phases(ENOUGH) if phase.then is not None]
    twin = copy.deepcopy(net)
    method.calibrate(twin, lambda number: iter([(images, labels)] * number))
    for then in steps:
        then(twin, lambda number: iter([(images, labels)] * number))
    params, flops = _counted_params(twin), cost.compute(twin, size).flops
    removals = len(steps) or int(params != _counted_params(net))  # all before training is one
    return Deployed(removals, *left, params, flops, cost.storage(method, twin))


def check_supported(backbone: str) -> None:
    """Raises UsageError where there is no such backbone, or none that methods can be put on; nothing is fetched."""
    try:
        build_view(backbones.create_empty(backbone))
    except UnsupportedBackbone as error:
        raise UsageError(f"--backbone {backbone} is not supported: {error}") from error


@cache
def head_width(backbone: str) -> int:
    """Features that the head of a backbone reads; no weights are made."""
    return build_view(backbones.create_empty(backbone)).head.in_features


def check_fit(method: Method, backbone: str) -> str | None:
    """Why the method does not fit this backbone; None where it does, or where only a run can tell. No weights are made.

    Raises UsageError where the method's hyper-parameters make no sense on this backbone.
    """
    try:
        _bare(method, backbone, 2, "meta")
    except UsageError:
        raise
    except (Incompatible, UnsupportedBackbone) as error:
        return str(error)
    except Exception:
        return None  # what does not work becomes a record of every run, with its reason
    return None


def _bare(method: Method, backbone: str, classes: int, device: str) -> ModelView:
    with torch.device(device):
        net = build_view(backbones.create(backbone, classes=classes, weights="random", device=device))
        attach(method, net)
    return net


def _counted_params(net: ModelView) -> CountedParams:
    return CountedParams(cost.method_params(net), cost.head_params(net), cost.total_params(net))
