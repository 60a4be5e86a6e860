"""Fused attention or not, of each model by itself."""

from __future__ import annotations

import pytest
import timm
import torch
from timm.layers.attention import Attention
from timm.layers.config import use_fused_attn

from bench.models import backbones
from bench.models.attention import choose_attention


def fused(name: str, precision: str = "fp32", device: str = "cpu") -> set[bool]:
    model = backbones.create_empty(name)
    choose_attention(model, device, precision)
    return {bool(m.fused_attn) for m in model.modules() if hasattr(m, "fused_attn")}


@pytest.mark.parametrize(
    ("name", "precision", "device", "expected"),
    [
        ("pocket_vit", "fp32", "cpu", False),  # 65 tokens
        ("pocket_swin", "fp32", "cpu", False),  # windows of 16
        ("vit_tiny_patch16_224", "fp32", "cpu", True),  # 197 tokens
        ("swin_tiny_patch4_window7_224", "fp32", "cpu", False),  # windows of 49
        ("vit_tiny_patch16_224", "bf16", "cpu", False),
        ("pocket_vit", "fp32", "cuda", True),
        ("pocket_swin", "bf16", "cuda", True),
    ],
)
def test_attention_is_chosen_by_tokens_device_and_precision(
    name: str, precision: str, device: str, expected: bool
) -> None:
    assert fused(name, precision, device) == {expected}


def test_a_models_choice_is_its_own() -> None:
    """Neither timm's own models nor those made before or after feel it."""
    before = use_fused_attn()
    large = backbones.create("vit_tiny_patch16_224", classes=2, weights="random")
    small = backbones.create("pocket_vit", classes=2, weights="random")
    own = timm.create_model("vit_tiny_patch16_224")
    assert use_fused_attn() == before
    flags = [{m.fused_attn for m in model.modules() if isinstance(m, Attention)} for model in (large, small, own)]
    assert flags == [{True}, {False}, {bool(before)}]


@pytest.mark.parametrize("name", ["pocket_vit", "pocket_swin"])
def test_both_ways_give_the_same_outputs(name: str) -> None:
    torch.manual_seed(0)
    model, x = backbones.create(name, classes=5, weights="random").double(), torch.randn(3, 3, 32, 32).double()
    choose_attention(model, "cpu", "fp32")
    products = model(x)
    choose_attention(model, "cuda", "fp32")
    torch.testing.assert_close(model(x), products, rtol=1e-12, atol=1e-12)
