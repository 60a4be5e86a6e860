"""Backbones of a few thousand parameters, of the families of which none ships with the package."""

from __future__ import annotations

from typing import Any

import pytest
from timm.models.eva import Eva
from timm.models.swin_transformer_v2 import SwinTransformerV2
from torch import nn

from bench.models import backbones


def tiny_eva(**kwargs: Any) -> nn.Module:
    """As DINOv3: rotary positions, four registers, a scale for each branch."""
    return Eva(
        img_size=32,
        patch_size=8,
        embed_dim=32,
        depth=3,
        num_heads=2,
        init_values=0.5,
        use_rot_pos_emb=True,
        use_abs_pos_emb=False,
        num_reg_tokens=4,
        global_pool="token",
        **kwargs,
    )


def tiny_eva02(**kwargs: Any) -> nn.Module:
    """As EVA-02 base: rotary positions beside learned ones, q, k and v apart, a gated MLP with a norm inside."""
    return Eva(
        img_size=32,
        patch_size=8,
        embed_dim=32,
        depth=3,
        num_heads=2,
        qkv_fused=False,
        mlp_ratio=8 / 3,
        swiglu_mlp=True,
        scale_mlp=True,
        use_rot_pos_emb=True,
        global_pool="avg",
        **kwargs,
    )


def tiny_swinv2(**kwargs: Any) -> nn.Module:
    """Two stages of two blocks, whose second is shifted in the first stage."""
    return SwinTransformerV2(
        img_size=32,
        patch_size=4,
        embed_dim=32,
        depths=(2, 2),
        num_heads=(2, 4),
        window_size=4,
        **kwargs,
    )


def add(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives them names that `backbones.create` knows."""
    for build in (tiny_eva, tiny_eva02, tiny_swinv2):
        monkeypatch.setitem(backbones.POCKET, build.__name__, backbones.Pocket(build, "32 px, width 32, depth 3"))
