"""Handles on timm's Swin-v2, whose norms end the branches: what each verb reads, what merging gives, what is refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import timm
import torch
from helpers import tiny_backbones
from torch import Tensor, nn

from bench.core.errors import Incompatible
from bench.models import cost, registry, static_cost
from bench.models.families import build_view
from bench.models.method import attach, build
from bench.models.view import ModelView
from bench.tools import conformance

IMAGES = torch.randn(2, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
REFUSING = {"cvpt", "da_vpt", "dtl", "lepe", "lst", "rpb", "vpt_deep", "vpt_shallow", "vqt"}


def bare() -> nn.Module:
    torch.manual_seed(0)
    model = tiny_backbones.tiny_swinv2(num_classes=5).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


class Square(nn.Module):
    """No identity, no linear map: whether it reads the right thing, in the right order, shows in every output."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.1 * x.square()


@torch.no_grad()
def logits(model: nn.Module) -> Tensor:
    out: Tensor = model.eval()(IMAGES)
    return out


@torch.no_grad()
def expected(which: int, verb: str) -> Tensor:
    """The logits of plain blocks with m on the attention's or the MLP's branch of every block, by the equations."""
    model: Any = bare()
    m = Square()

    def branch(block: Any, x: Tensor, op: Any, norm: Any, touched: bool) -> Tensor:
        if not touched:
            return x + norm(op(x))  # type: ignore[no-any-return]
        if verb == "then":
            return x + m(norm(op(x)))  # type: ignore[no-any-return]
        if verb == "before":
            return x + norm(op(m(x)))  # type: ignore[no-any-return]
        if verb == "add_to_sum":
            z = x + norm(op(x))
            return z + m(z)  # type: ignore[no-any-return]
        return x + norm(op(x)) + m(x)  # type: ignore[no-any-return]

    x = model.patch_embed(IMAGES)
    for stage in model.layers:
        x = stage.downsample(x)
        for block in stage.blocks:
            x = branch(block, x, block._attn, block.norm1, which == 0)
            x = branch(block, x, block.mlp, block.norm2, which == 1)
    out: Tensor = (
        model.head(model.norm(x).mean((1, 2)))
        if isinstance(model.head, nn.Linear)
        else model.forward_head(model.norm(x))
    )
    return out


@pytest.mark.parametrize("verb", ["then", "before", "add", "add_of_stream", "add_to_sum"])
@pytest.mark.parametrize("which", [0, 1], ids=["attention", "mlp"])
def test_verbs_act_where_the_equations_say(which: int, verb: str) -> None:
    net = build_view(bare())
    for block in net.blocks:
        branch = (block.attn, block.mlp)[which]
        if verb == "add_of_stream":
            branch.add(Square(), of="stream")
        else:
            getattr(branch, verb)(Square())
    found = logits(net.model)
    torch.testing.assert_close(found, expected(which, verb), rtol=0, atol=1e-10)
    assert not torch.allclose(found, logits(bare()), atol=1e-4)


def test_handles_change_nothing_and_tell_the_shape() -> None:
    net = build_view(bare())
    torch.testing.assert_close(logits(net.model), logits(bare()), rtol=0, atol=1e-12)
    assert [(b.dim, b.heads, b.grid, b.prefix) for b in net.blocks] == [(32, 2, (8, 8), 0)] * 2 + [
        (64, 4, (4, 4), 0)
    ] * 2
    assert (net.shape.side, net.shape.patch_norm, net.shape.merging_norms) == (4, True, (64,))
    assert [[part.path for part in parts] for parts in net.merging] == [
        ["layers.1.downsample.reduction", "layers.1.downsample.norm"]
    ]


def test_an_update_of_q_and_fc1_is_one_of_their_weights() -> None:
    """timm computes the fused qkv without calling its module unless it is told to: a hook there would act on nothing."""
    net, plain = build_view(bare()), bare()
    attach(build(registry.load("lora"), {"targets": ("q", "fc1"), "rank": 3, "alpha": 6.0}, "lora"), net)
    with torch.no_grad():
        for block in net.blocks:
            inner: Any = plain.get_submodule(block.path)
            for target, weight in (("q", inner.attn.qkv.weight[: block.dim]), ("fc1", inner.mlp.fc1.weight)):
                m: Any = net.pet[block.linear[target].label.replace(".", "_")]
                m.B.normal_()
                weight += 2.0 * m.B @ m.A
    torch.testing.assert_close(logits(net.model), logits(plain), rtol=0, atol=1e-10)


def attached(name: str) -> ModelView:
    net = build_view(bare())
    attach(build(registry.load(name), {}, name), net)
    with torch.no_grad():
        for parameter in net.pet.parameters():
            parameter.copy_(torch.randn_like(parameter) / 3)
    return net


@pytest.mark.parametrize("name", ["lora", "ssf", "arc", "repadapter", "fact_tk", "karst"])
def test_merged_models_give_the_same_outputs(name: str) -> None:
    net = attached(name)
    merged = cost.merged(build(registry.load(name), {}, name), copy.deepcopy(net))
    assert merged is not None
    torch.testing.assert_close(logits(merged.model), logits(net.model), rtol=0, atol=1e-10)


def test_bitfit_trains_the_biases_that_stand_beside_the_fused_linear() -> None:
    trained = set(attached("bitfit").trainable_parameters())
    assert {"layers.0.blocks.0.attn.q_bias", "layers.0.blocks.0.attn.v_bias", "layers.0.blocks.0.norm1.bias"} <= trained


def test_what_does_not_fit_is_refused() -> None:
    assert {name for name, entry in registry.entries().items() if "swinv2" not in entry.supports} == REFUSING
    for name in REFUSING:
        with pytest.raises(Incompatible, match=r"is not defined for SwinTransformerV2 \(swinv2\)"):
            attach(build(registry.load(name), {}, name), build_view(bare()))


def test_the_models_of_timm_are_understood() -> None:
    with torch.device("meta"):
        net = build_view(timm.create_model("swinv2_tiny_window8_256", num_classes=2))
    assert (len(net.blocks), net.shape.stages, net.shape.side) == (12, (96, 192, 384, 768), 8)
    assert (net.shape.merging_norms, net.shape.mlp_ratio) == ((192, 384, 768), 4.0)
    # SSF, by hand: 2 (8 of linears, 2 of norms) M of each block, norms of 2 M behind each of three mergings, both ends
    expected = 2 * ((9 + 2) * sum(net.shape.dims) + (192 + 384 + 768) + 2 * 96 + 768)
    assert (
        static_cost.count_params(build(registry.load("ssf"), {}, "ssf"), "swinv2_tiny_window8_256", 10).method
        == expected
    )


@pytest.mark.parametrize("name", ["lora", "adapters", "mona"])
def test_methods_keep_their_promises(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them do: `test_every_method_keeps_its_promises`, which takes longer."""
    tiny_backbones.add(monkeypatch)
    found = conformance.run(build(registry.load(name), {}, name), "tiny_swinv2")
    assert {check: fault for check, fault in found if fault} == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(registry.entries()) - REFUSING))
def test_every_method_keeps_its_promises(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_backbones.add(monkeypatch)
    found = conformance.run(build(registry.load(name), {}, name), "tiny_swinv2")
    assert {check: fault for check, fault in found if fault} == {}
