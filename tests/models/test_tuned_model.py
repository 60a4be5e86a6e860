"""A model with a method on it: attached in one place, trained, merged, stored and brought back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from bench.core.errors import BenchError, Incompatible, UnsupportedBackbone, UsageError
from bench.models import backbones, cost, static_cost
from bench.models.method import Batches, Method, Phase, build
from bench.models.registry import load
from bench.models.tuned_model import TunedModel
from bench.models.view import ModelView

IMAGES = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(5))
LABELS = torch.tensor([0, 1, 2, 3])


def batches(count: int) -> Any:
    return iter([(IMAGES, LABELS)] * count)


def tuned(name: str, backbone: str = "pocket_vit", seed: int = 1, **settings: object) -> TunedModel:
    torch.manual_seed(0)
    model = backbones.create(backbone, classes=5, weights="random")
    torch.manual_seed(seed)
    return TunedModel.attach(model, build(load(name), settings, name))


def step(net: TunedModel, steps: int = 2) -> None:
    optimizer = torch.optim.AdamW(net.trainable_parameters().values(), lr=1e-2)
    net.train()
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(net(IMAGES), LABELS).backward()
        optimizer.step()
    net.eval()


@torch.no_grad()
def logits(net: TunedModel) -> Tensor:
    return net(IMAGES)


@dataclass(frozen=True)
class OnlyViT(Method):
    supports = "vit"

    def attach(self, net: ModelView) -> None:
        net.unfreeze(lambda name: name.endswith("norm1.bias"))


@dataclass(frozen=True)
class Gradual(Method):
    """Norms' biases first, then the patch embedding's too."""

    def attach(self, net: ModelView) -> None:
        net.unfreeze(lambda name: name.endswith("norm1.bias"))

    def phases(self, epochs: int) -> tuple[Phase, ...]:
        return Phase(1, then=self.unfreeze_more), Phase(1)

    def unfreeze_more(self, net: ModelView, batches: Batches) -> None:
        net.unfreeze(lambda name: name.startswith("patch_embed"))


@dataclass(frozen=True)
class Forgetful(Gradual):
    def unfreeze_more(self, net: ModelView, batches: Batches) -> None:
        net.blocks[0].norm["norm1"].module.requires_grad_(False)


def test_a_timm_model_is_tuned_in_a_plain_loop_and_starts_as_the_backbone() -> None:
    model = timm.create_model("test_vit", num_classes=5).eval()
    size = backbones.input_size(model)
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        before = model(images)
    net = TunedModel.attach(model, build(load("lora"), {"rank": 4}, "lora"))
    assert torch.equal(net(images), before) and net.model is model
    assert all(name.startswith(("pet.", "head.")) for name in net.trainable_parameters())


def test_a_backbone_that_the_method_does_not_declare_is_refused_in_one_place() -> None:
    model = backbones.create("pocket_swin", classes=5, weights="random")
    with pytest.raises(Incompatible, match=r"OnlyViT is not defined for SwinTransformer \(swin\), only for: vit\."):
        TunedModel.attach(model, OnlyViT())
    with pytest.raises(UnsupportedBackbone, match="ResNet is not understood"):
        TunedModel.attach(timm.create_model("resnet10t"), OnlyViT())


def test_two_methods_on_one_model_are_refused() -> None:
    net = tuned("lora")
    with pytest.raises(UsageError, match="has a method on it already"):
        TunedModel.attach(net.model, net.method)


@pytest.mark.parametrize("backbone", ["pocket_vit", "pocket_swin"])
def test_a_model_without_classifier_gives_features_and_the_method_trains_alone(backbone: str) -> None:
    model = backbones.create(backbone, classes=5, weights="random")
    model.reset_classifier(0)  # type: ignore[operator]
    net = TunedModel.attach(model, build(load("lora"), {}, "lora"))
    assert net(IMAGES).shape == (4, model.num_features)
    assert all(name.startswith("pet.") for name in net.trainable_parameters())
    net.restore(net.snapshot())
    with pytest.raises(UsageError, match="num_classes=0"):
        _ = net.view.head


def test_nothing_to_train_is_refused() -> None:
    model = timm.create_model("test_vit", num_classes=0)
    with pytest.raises(Incompatible, match="trains nothing"):
        TunedModel.attach(model, build(load("linear_probe"), {}, "linear_probe"))


@pytest.mark.parametrize("backbone", ["pocket_vit", "pocket_swin"])
@pytest.mark.parametrize("name", ["lora", "lora_fix", "mimi", "full", "vpt_deep", "sct"])
def test_a_snapshot_brings_back_the_same_bits(name: str, backbone: str) -> None:
    net = tuned(name, backbone)
    net.calibrate(batches)
    step(net)
    taken, before = net.snapshot(), logits(net)
    for phase in net.method.phases(6):
        step(net)
        net.end_phase(phase, batches)
    step(net)
    assert not torch.equal(logits(net), before)
    state = torch.get_rng_state()
    net.restore(taken)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(logits(net), before)
    assert set(net.trainable_parameters()) == taken.trained


def test_a_snapshot_is_small_and_a_copy() -> None:
    net = tuned("lora")
    taken = net.snapshot()
    own = {name: tensor.clone() for name, tensor in taken.tensors.items()}
    assert sum(t.numel() for t in taken.tensors.values()) == sum(p.numel() for p in net.trainable_parameters().values())
    step(net)
    assert all(torch.equal(own[name], tensor) for name, tensor in taken.tensors.items())


def test_what_trains_only_since_a_later_phase_goes_back_and_forth() -> None:
    torch.manual_seed(0)
    net = TunedModel.attach(backbones.create("pocket_vit", classes=5, weights="random"), Gradual())
    step(net)
    first, early = net.snapshot(), logits(net)
    net.end_phase(net.method.phases(2)[0], batches)
    step(net)
    second, late = net.snapshot(), logits(net)
    for _ in range(2):
        net.restore(first)
        assert torch.equal(logits(net), early)
        net.restore(second)
        assert torch.equal(logits(net), late)


def test_a_method_may_not_freeze_what_has_trained() -> None:
    net = TunedModel.attach(backbones.create("pocket_vit", classes=5, weights="random"), Forgetful())
    with pytest.raises(BenchError, match=r"Forgetful freezes blocks.0.norm1.bias"):
        net.end_phase(net.method.phases(2)[0], batches)


@pytest.mark.parametrize("name", ["lora_fix", "mimi", "full", "sparse_adapter"])
def test_a_file_brings_back_the_same_bits(name: str, tmp_path: Path) -> None:
    net = tuned(name)
    net.calibrate(batches)
    for phase in net.method.phases(6):
        step(net)
        net.end_phase(phase, batches)
    net.save(tmp_path / "delta.safetensors")
    other = tuned(name, seed=7)
    other.load(tmp_path / "delta.safetensors")
    assert torch.equal(logits(net), logits(other.eval()))


@dataclass(frozen=True)
class Halved(OnlyViT):
    """Stores what it trains in half precision."""

    def pack(self, net: ModelView, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return {name: t.half() if name.endswith("norm1.bias") else t for name, t in tensors.items()}

    def unpack(self, net: ModelView, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return {name: t.float() for name, t in tensors.items()}

    def loss(self, logits: Tensor, labels: Tensor, net: ModelView) -> Tensor | None:
        return logits.sum() * 0 + 3.0


def test_a_file_holds_what_the_method_packs_and_the_loss_what_it_adds(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = TunedModel.attach(backbones.create("pocket_vit", classes=5, weights="random"), Halved())
    step(net)
    path = tmp_path / "delta.safetensors"
    net.save(path)
    own = [name for name in net.delta() if name.endswith("norm1.bias")]
    assert {load_file(path)[name].dtype for name in own} == {torch.float16}
    expected = {name: net.delta()[name].half().float() for name in own}
    net.load(path)
    assert len(own) == 6 and all(torch.equal(net.delta()[name], expected[name]) for name in own)
    assert cost.storage(Halved(), net.view).without_head < cost.storage(OnlyViT(), net.view).without_head
    torch.testing.assert_close(net.loss(logits(net), LABELS), F.cross_entropy(logits(net), LABELS) + 3)


def damaged(path: Path, metadata: dict[str, str], tensors: dict[str, Tensor]) -> Path:
    with safe_open(path, "pt") as file:
        found = file.metadata()
    own = load_file(path) | tensors
    save_file({name: t for name, t in own.items() if t.numel()}, path, found | metadata)
    return path


BIAS = "head.bias"
DAMAGES: list[tuple[dict[str, str], dict[str, Tensor], str]] = [
    ({"method": "MiMi"}, {}, "its method is 'MiMi', this one's 'LoRA'"),
    ({"version": "2"}, {}, "its version is '2'"),
    ({"settings": "{}"}, {}, "its settings is '{}'"),
    ({"backbone": "x" * 10**6}, {}, "its backbone is 'xx"),
    ({"format": ""}, {}, "its format is"),
    ({}, {"../up": torch.zeros(1)}, r"does not belong to this model: \.\./up"),
    ({}, {BIAS: torch.zeros(0)}, f"it lacks {BIAS}"),
    ({}, {BIAS: torch.zeros(6)}, f"does not belong to this model: {BIAS}"),
    ({}, {BIAS: torch.zeros(5, dtype=torch.float64)}, f"{BIAS} is stored in torch.float64"),
    ({}, {BIAS: torch.full((5,), torch.nan)}, f"{BIAS} has numbers that are not finite"),
    ({}, {"large": torch.zeros(10**7)}, "is larger"),
]


@pytest.mark.parametrize(("metadata", "tensors", "message"), DAMAGES)
def test_a_file_that_does_not_fit_is_refused_and_changes_nothing(
    metadata: dict[str, str], tensors: dict[str, Tensor], message: str, tmp_path: Path
) -> None:
    net = tuned("lora")
    step(net)
    before, path = logits(net), tmp_path / "delta.safetensors"
    tuned("lora", seed=3).save(path)
    with pytest.raises(UsageError, match=message) as refusal:
        net.load(damaged(path, metadata, tensors))
    assert len(str(refusal.value)) < 1000
    assert torch.equal(logits(net), before)


def test_what_is_no_file_or_no_safetensors_file_is_refused(tmp_path: Path) -> None:
    net = tuned("lora")
    with pytest.raises(UsageError, match="There is no file"):
        net.load(tmp_path / "none")
    (tmp_path / "text").write_bytes(b"not one")
    with pytest.raises(UsageError, match="is not a safetensors file"):
        net.load(tmp_path / "text")


def test_a_wrong_size_of_a_method_that_changes_its_sizes_is_refused(tmp_path: Path) -> None:
    net, path = tuned("mimi"), tmp_path / "delta.safetensors"
    before = logits(net)
    net.save(path)
    with pytest.raises(UsageError, match="does not fit MiMi"):
        net.load(damaged(path, {}, {"pet.blocks_0_attn.down.weight": torch.zeros(900, 128)}))
    assert torch.equal(logits(net), before)


def test_merging_leaves_the_backbones_own_modules() -> None:
    net = tuned("lora")
    step(net)
    before = logits(net)
    net.merge()
    assert not net.view.pet
    torch.testing.assert_close(logits(net), before, rtol=1e-4, atol=1e-5)


def test_an_unsupported_backbone_is_refused_by_name_without_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("a connection was tried"))
    for name in ("pocket_vit", "pocket_swin", "vit_base_patch16_224.augreg_in21k", "swin_tiny_patch4_window7_224"):
        static_cost.check_supported(name)
    with pytest.raises(
        UsageError,
        match=r"^--backbone resnet50 is not supported: ResNet is not understood: it is a convolutional network, without attention\. Known: .*SwinTransformer.*CvT\.$",
    ):
        static_cost.check_supported("resnet50")
    with pytest.raises(UsageError, match=r"ConvNeXt is not"):
        static_cost.check_supported("convnext_tiny.fb_in1k")
    with pytest.raises(UsageError, match="Did you mean"):
        static_cost.check_supported("vit_base_patch16_225")
    with pytest.raises(UsageError, match="nosuchtag"):
        static_cost.check_supported("vit_base_patch16_224.nosuchtag")
