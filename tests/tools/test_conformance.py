"""Planted faults: each check must catch the fault it is for."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.core.errors import BenchError
from bench.models.method import Method, ParamGroup, Shape
from bench.models.view import HookPoint, ModelView
from bench.tools import conformance


class Scale(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.s = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.s * x


class Dead(Scale):
    """Has a second tensor that the forward pass never uses."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.unused = nn.Parameter(torch.zeros(dim))


class Leaky(Scale):
    """Adds a little of the batch's mean to every image."""

    def forward(self, x: Tensor) -> Tensor:
        return self.s * x + 1e-3 * x.mean(0, keepdim=True)


class Thief(Scale):
    """Changes a frozen weight whenever it runs."""

    def __init__(self, slot: HookPoint) -> None:
        super().__init__(slot.d_out)
        self.victim = [slot.net.blocks[0].linear["fc1"].module]

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            weight: Any = self.victim[0].weight
            weight.add_(1e-6)
        return self.s * x


class Forgetful(Scale):
    """Half of what it does stands in a plain attribute that no checkpoint stores."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.hidden = 1 + torch.rand(dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.s * self.hidden.to(x.dtype) * x


class Fickle(Scale):
    """Another function at every call."""

    def forward(self, x: Tensor) -> Tensor:
        return self.s * x + 1e-3 * torch.rand(1, generator=DICE).to(x.dtype)


DICE = torch.Generator().manual_seed(0)


class WrongDelta(nn.Module):
    """Claims a fold that is off by a thousandth."""

    def __init__(self, slot: HookPoint) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(slot.d_out, slot.d_in))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.w.T

    def merged_weights(self, W: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return W + 1.001 * self.w, b


class Heavy(nn.Linear):
    """Folds, but leaves a needless product in the backbone."""

    def merged_weights(self, W: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return self.weight @ W, self.weight @ b + self.bias


@dataclass(frozen=True)
class Planted(Method):
    fault: str = ""

    def attach(self, net: ModelView) -> None:
        slot = net.blocks[0].linear["proj"]
        layers = {"dead": Dead, "leaky": Leaky, "forgetful": Forgetful, "fickle": Fickle}
        if self.fault == "thief":
            slot.then(Thief(slot))
        elif self.fault == "delta":
            slot.add(WrongDelta(slot))
        elif self.fault == "heavy":
            slot.then(Heavy(slot.d_out, slot.d_out))
            slot.module.register_forward_hook(lambda _, args, y: y + 0 * (y @ torch.ones_like(y).mT).sum())
        elif self.fault == "closure":
            m = Scale(slot.d_out)
            net.pet["closure"] = m
            slot.module.register_forward_hook(lambda _, args, y: m(y))
        elif self.fault == "chance":
            slot.then(Scale(slot.d_out))
            with torch.no_grad():
                net.pet["blocks_0_attn_proj"].s.copy_(
                    torch.rand(slot.d_out, generator=torch.Generator().manual_seed(id(net)))
                )  # type: ignore[union-attr, operator, unused-ignore]
        else:
            slot.then(layers.get(self.fault, Scale)(slot.d_out))

    def count(self, shape: Shape) -> int | None:
        return shape.dims[0] + (self.fault == "count") if self.fault in ("", "count") else None


class Stale(nn.Module):
    """At the head: gives the summary of the pass before this one."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.s = nn.Parameter(torch.full((dim,), 0.1))
        self.before = [torch.zeros(1, dim)]

    def forward(self, f: Tensor, y: Tensor) -> Tensor:
        late, self.before[0] = self.before[0], y.mean(1).detach()
        return f + self.s * late.mean(0).to(f.dtype)


@dataclass(frozen=True)
class AtHead(Method):
    fault: str = ""

    def attach(self, net: ModelView) -> None:
        dim = net.blocks[0].dim
        net.at_head(Stale(dim) if self.fault else Fresh(dim), reads=[net.blocks[0].out])


class Fresh(Scale):
    def forward(self, f: Tensor, y: Tensor) -> Tensor:  # type: ignore[override]
        return f + (self.s - 1) * y.mean(1)


@dataclass(frozen=True)
class Leak(Method):
    """Its auxiliary loss takes the validation split from the training loop, and trains on its labels too."""

    def attach(self, net: ModelView) -> None:
        net.blocks[0].linear["proj"].then(Scale(net.blocks[0].dim))

    def loss(self, logits: Tensor, labels: Tensor, net: ModelView) -> Tensor | None:
        frame: Any = sys._getframe(1)
        while frame is not None and "val" not in frame.f_locals:
            frame = frame.f_back
        return frame and F.cross_entropy(logits, torch.from_numpy(frame.f_locals["val"].labels))


@dataclass(frozen=True)
class Grouped(Leak):
    fault: str = ""

    def param_groups(self, net: ModelView) -> tuple[ParamGroup, ...]:
        nothing, stopped = self.fault == "nothing", self.fault == "stopped"
        wanted = (lambda name: name.startswith("blocks.")) if nothing else (lambda name: name.endswith(".s"))
        return ParamGroup(wanted, lr_factor=0.0 if stopped else 2.0), ParamGroup(lambda name: name == "head.bias")

    def loss(self, logits: Tensor, labels: Tensor, net: ModelView) -> Tensor | None:
        return None


@dataclass(frozen=True)
class Packed(Grouped):
    """Stores its scale in half precision, and says nothing of what that loses; or twice."""

    def pack(self, net: ModelView, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        own = {name: tensor for name, tensor in tensors.items() if name.endswith(".s")}
        if self.fault == "rounded":
            return dict(tensors) | {name: tensor.half() for name, tensor in own.items()}
        return dict(tensors) | {
            f"{name}.again": tensor.clone() for name, tensor in own.items() if self.fault == "larger"
        }

    def unpack(self, net: ModelView, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return {name: tensor.float() for name, tensor in tensors.items() if not name.endswith("again")}


@dataclass(frozen=True)
class PlantedMerging(Planted):
    merges = True


FAULTS = {
    "dead": "every_trained_tensor_moves",
    "leaky": "images_do_not_mix",
    "thief": "frozen_tensors_stay",
    "delta": "merging_is_exact",
    "heavy": "merging_is_exact",
    "closure": "copies_are_independent",
    "count": "count_is_declared",
    "chance": "starts_as_declared",
    "forgetful": "delta_restores",
    "fickle": "seed_decides",
}


def test_a_sound_method_passes(backbone: str) -> None:
    assert {name: fault for name, fault in conformance.run(Planted(), backbone) if fault} == {}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught_by_the_check_it_is_for(fault: str) -> None:
    method = (PlantedMerging if FAULTS[fault] == "merging_is_exact" else Planted)(fault)
    promise = {promise.__name__: promise for promise in conformance.CHECKS}[FAULTS[fault]]
    with pytest.raises(conformance.Fault, match="FLOPs" if fault == "heavy" else None):
        promise(conformance.Case(method, "pocket_vit"))


@pytest.mark.parametrize("method", [Packed(), AtHead()])
def test_a_sound_method_with_the_optional_members_passes(method: Method) -> None:
    assert {name: fault for name, fault in conformance.run(method, "pocket_vit") if fault} == {}


@pytest.mark.parametrize(
    ("method", "promise", "told"),
    [
        (Leak(), "validation_does_not_train", "depends on the labels of the validation split"),
        (Grouped("nothing"), "groups_train", "group 0 of its param_groups trains nothing"),
        (Grouped("stopped"), "groups_train", "group 0 of its param_groups trains nothing"),
        (Packed("rounded"), "packed_delta_restores", "gives other outputs"),
        (AtHead("stale"), "images_do_not_mix", "output alone differs"),
        (Packed("larger"), "packed_delta_restores", "more than the"),
    ],
)
def test_faults_of_the_optional_members_are_caught(method: Method, promise: str, told: str) -> None:
    check = {check.__name__: check for check in conformance.CHECKS}[promise]
    with pytest.raises(conformance.Fault, match=told):
        check(conformance.Case(method, "pocket_vit"))


FRAGILE = """
import os, time
from dataclasses import dataclass
from bench.models.view import ModelView
from bench.models.method import Method

@dataclass(frozen=True)
class Fragile(Method):
    end: str = "dies"
    supports = "swin"

    def attach(self, net: ModelView) -> None:
        os._exit(1) if self.end == "dies" else time.sleep(3600)
"""


@pytest.mark.parametrize("end", ["dies", "sleeps"])
def test_nobody_waits_for_a_worker_that_will_not_answer(
    end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fragile.py").write_text(FRAGILE)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    cases = [("fragile", "pocket_vit"), ("fragile", "pocket_swin")]
    found = conformance.run_all(cases, {"end": end}, (tmp_path / "fragile.py",))
    if end == "dies":
        with pytest.raises(BenchError, match="A process of the check died"):
            list(found)
    else:
        assert next(found) == [("refuses", "Fragile is not defined for VisionTransformer (vit), only for: swin.")]
        found.close()  # type: ignore[attr-defined]
    assert not multiprocessing.active_children()
