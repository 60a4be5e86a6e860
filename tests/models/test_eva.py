"""Handles on timm's Eva (DINOv3): what hooks reach, what a merged model computes, and what is refused and why."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from helpers import tiny_backbones
from torch import Tensor

from bench.core.errors import Incompatible, UnsupportedBackbone
from bench.models import cost, registry
from bench.models.families import build_view
from bench.models.method import attach, build
from bench.models.view import ModelView
from bench.tools import conformance

IMAGES = torch.randn(2, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
REFUSING = {"cvpt", "da_vpt", "lepe", "rpb", "vpt_deep", "vpt_shallow", "vqt"}  # what moves tokens, or biases logits
OF_02 = {"arc", "repadapter", "ssf"}  # what stands in front of q, k and v at once, or behind all three
SLICED = {"cara", "fact_tk", "fact_tt"}  # its MLP is not four times as wide


def bare(**kwargs: bool) -> torch.nn.Module:
    torch.manual_seed(0)
    model = tiny_backbones.tiny_eva(num_classes=5, **kwargs).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def attached(name: str, **settings: object) -> ModelView:
    net = build_view(bare())
    attach(build(registry.load(name), settings, name), net)
    with torch.no_grad():
        for parameter in net.pet.parameters():
            parameter.copy_(torch.randn_like(parameter) / 3)
    return net


@torch.no_grad()
def logits(model: torch.nn.Module) -> Tensor:
    out: Tensor = model.eval()(IMAGES)
    return out


@pytest.mark.parametrize("qkv_bias", [True, False])
def test_handles_change_nothing(qkv_bias: bool) -> None:
    before = logits(bare(qkv_bias=qkv_bias))
    net = build_view(bare(qkv_bias=qkv_bias))
    torch.testing.assert_close(logits(net.model), before, rtol=0, atol=1e-12)
    assert [(block.dim, block.heads, block.grid, block.prefix) for block in net.blocks] == [(32, 2, (4, 4), 5)] * 3


def test_an_update_of_q_and_fc1_is_one_of_their_weights() -> None:
    """timm computes the fused qkv without calling its module unless it is told to: a hook there would act on nothing."""
    net, plain = attached("lora", targets=("q", "fc1"), rank=3, alpha=6.0), bare()
    with torch.no_grad():
        for block in net.blocks:
            inner = plain.get_submodule(block.path)
            for target, weight in (("q", inner.attn.qkv.weight[:32]), ("fc1", inner.mlp.fc1.weight)):  # type: ignore[union-attr, index]
                m = net.pet[block.linear[target].label.replace(".", "_")]
                weight += 2.0 * m.B @ m.A  # type: ignore[operator]
    torch.testing.assert_close(logits(net.model), logits(plain), rtol=0, atol=1e-10)
    assert not torch.allclose(logits(net.model), logits(bare()))


@pytest.mark.parametrize("name", ["lora", "ssf", "arc", "fact_tk", "karst"])
def test_merged_models_give_the_same_outputs(name: str) -> None:
    net = attached(name)
    merged = cost.merged(build(registry.load(name), {}, name), net)
    assert merged is not None
    torch.testing.assert_close(logits(merged.model), logits(net.model), rtol=0, atol=1e-10)


def test_bitfit_trains_the_biases_that_stand_beside_the_fused_linear() -> None:
    trained = set(attached("bitfit").trainable_parameters())
    assert {"blocks.0.attn.q_bias", "blocks.0.attn.v_bias", "blocks.0.attn.proj.bias"} <= trained


@pytest.mark.parametrize(
    ("build_model", "family", "refusing"),
    [(tiny_backbones.tiny_eva, "eva", REFUSING), (tiny_backbones.tiny_eva02, "eva02", REFUSING | OF_02)],
)
def test_what_does_not_fit_is_refused(
    build_model: Callable[..., torch.nn.Module], family: str, refusing: set[str]
) -> None:
    assert {name for name, entry in registry.entries().items() if family not in entry.supports} == refusing
    for name in refusing:
        with pytest.raises(Incompatible, match=rf"is not defined for Eva \({family}\)"):
            attach(build(registry.load(name), {}, name), build_view(build_model(num_classes=5)))
    if family == "eva02":
        for name in SLICED:
            with pytest.raises(Incompatible, match="85 is not 4 x 32"):
                attach(build(registry.load(name), {}, name), build_view(build_model(num_classes=5)))


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (
            "eva02_tiny_patch14_224",
            "mlp is a GluMlp; only Mlp is understood. It is gated, and what fc1 puts out is twice",
        ),
        ("swinv2_cr_tiny_224", "SwinTransformerV2Cr is not understood: only timm's SwinTransformerV2 is"),
        ("convnext_atto", "ConvNeXt is not understood: it is a convolutional network, without attention"),
    ],
)
def test_other_architectures_are_refused_with_the_reason(model: str, told: str) -> None:
    with torch.device("meta"), pytest.raises(UnsupportedBackbone, match=told):
        build_view(timm.create_model(model))


def test_dinov3_is_understood() -> None:
    with torch.device("meta"):
        net = build_view(timm.create_model("vit_small_patch16_dinov3", num_classes=2))
        attach(build(registry.load("lora"), {}, "lora"), net)
    assert (len(net.blocks), net.blocks[0].dim, net.blocks[0].prefix) == (12, 384, 5)
    assert cost.method_params(net) == 4 * 12 * 384 * 8


def test_of_eva_02_q_k_v_and_the_gated_linear_are_reached() -> None:
    torch.manual_seed(0)
    model = tiny_backbones.tiny_eva02(num_classes=5).double().eval()
    plain = copy.deepcopy(model)
    net = build_view(model)
    attach(build(registry.load("lora"), {"targets": ("k", "fc1"), "rank": 2, "alpha": 2.0}, "lora"), net)
    with torch.no_grad():
        for block in net.blocks:
            inner: Any = plain.get_submodule(block.path)
            for target, weight in (("k", inner.attn.k_proj.weight), ("fc1", inner.mlp.fc1_x.weight)):
                m: Any = net.pet[block.linear[target].label.replace(".", "_")]
                m.B.normal_()
                weight += m.B @ m.A
    torch.testing.assert_close(logits(net.model), logits(plain), rtol=0, atol=1e-10)
    with torch.device("meta"):
        base = build_view(timm.create_model("eva02_base_patch14_224", num_classes=2))
    assert (len(base.blocks), base.shape.mlp_ratio) == (12, 2048 / 768)


@pytest.mark.parametrize("name", ["lora", "convpass", "rlrr"])
@pytest.mark.parametrize("backbone", ["tiny_eva", "tiny_eva02"])
def test_methods_keep_their_promises(name: str, backbone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them do: `test_every_method_keeps_its_promises`, which takes longer."""
    tiny_backbones.add(monkeypatch)
    method = build(registry.load(name), {}, name)
    assert {check: fault for check, fault in conformance.run(method, backbone) if fault} == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "backbone"),
    [(name, "tiny_eva") for name in sorted(set(registry.entries()) - REFUSING)]
    + [(name, "tiny_eva02") for name in sorted(set(registry.entries()) - REFUSING - OF_02 - SLICED)],
)
def test_every_method_keeps_its_promises(name: str, backbone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_backbones.add(monkeypatch)
    found = conformance.run(build(registry.load(name), {}, name), backbone)
    assert {check: fault for check, fault in found if fault} == {}
