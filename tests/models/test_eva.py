"""Handles on timm's Eva (DINOv3): what hooks reach, what a merged model computes, and what is refused and why."""

from __future__ import annotations

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
REFUSING = {"cvpt", "lepe", "rpb", "vpt_deep", "vpt_shallow", "vqt"}


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


def test_what_moves_tokens_or_biases_logits_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_backbones.add(monkeypatch)
    supported = {name for name, entry in registry.entries().items() if "eva" in entry.supports}
    assert set(registry.entries()) - supported == REFUSING
    for name in REFUSING:
        with pytest.raises(Incompatible, match=r"is not defined for Eva \(eva\)"):
            attach(build(registry.load(name), {}, name), build_view(bare()))


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("eva02_tiny_patch14_224", "mlp is a GluMlp; only Mlp is understood. Of EVA-02 the MLP is gated"),
        ("eva02_base_patch14_224", "mlp is a SwiGLU; only Mlp is understood. Of EVA-02 the MLP is gated"),
        ("swinv2_tiny_window8_256", "SwinTransformerV2 is not understood: its norms stand behind attention and MLP"),
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


@pytest.mark.parametrize("name", ["lora", "convpass", "ssf"])
def test_methods_keep_their_promises(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them do: `test_every_method_keeps_its_promises`, which takes longer."""
    tiny_backbones.add(monkeypatch)
    method = build(registry.load(name), {}, name)
    assert {check: fault for check, fault in conformance.run(method, "tiny_eva") if fault} == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(registry.entries()) - REFUSING))
def test_every_method_keeps_its_promises(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_backbones.add(monkeypatch)
    found = conformance.run(build(registry.load(name), {}, name), "tiny_eva")
    assert {check: fault for check, fault in found if fault} == {}
