"""CLIP's image tower with its projection into the space that images and texts share, as ELEVATER tunes it.

timm's ViT of a CLIP has the projection for a head, where a classifier takes its place. Here it stays, frozen unless a
method trains the backbone's weights, and the classifier reads what it puts out: 512 features of ViT-B/32, not 768. A
backbone of this kind is called by timm's tag and SUFFIX. Features are not normalised, and logits not scaled: ELEVATER's
toolkit does neither (its logit scale is exp 0 and stays there).

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021.
"""

from __future__ import annotations

import re
from typing import Any, cast

import torch
from timm.models import vision_transformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from bench.core.errors import UsageError

SUFFIX = "+projection"


class ClipVisual(VisionTransformer):
    """A ViT whose class token is projected, without a bias, before the head reads it."""

    projection: nn.Linear
    head: nn.Linear

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        x = self.projection(super().forward_head(x, pre_logits=True))
        return x if pre_logits else self.head(x)


def timm_tag(name: str) -> str:
    """Of a backbone's name with SUFFIX. Raises UsageError where that is of no CLIP that has its projection."""
    tag = name.removesuffix(SUFFIX)
    architecture, _, weights = tag.partition(".")
    if "_clip_" not in architecture or re.search(r"_ft_|_in1k|_in12k", weights):
        raise UsageError(f"{tag} has no projection to texts: {SUFFIX} goes with timm's ViTs of a CLIP.")
    return tag


def keep_projection(model: VisionTransformer, classes: int, *, pretrained: bool) -> ClipVisual:
    """timm's ViT, whose head is the projection, with a classifier of `classes` behind it; changed in place.

    Raises UsageError where the head has a bias, which a projection has not.
    """
    old, where = model.head, model.patch_embed.proj.weight.device
    assert isinstance(old, nn.Linear)
    if pretrained and bool(old.bias.any()):
        raise UsageError("The head of these weights has a bias: it is a classifier, not CLIP's projection.")
    model.__class__ = ClipVisual  # its blocks and weights are what they were
    assert isinstance(model, ClipVisual)
    model.projection = nn.Linear(old.in_features, old.out_features, bias=False, device=where)
    with torch.no_grad():
        if pretrained:
            model.projection.weight.copy_(old.weight)
        else:
            nn.init.normal_(model.projection.weight, std=old.in_features**-0.5)  # a new head of timm's is zero
    model.head = nn.Linear(old.out_features, classes, device=where)
    model.num_classes = classes
    return model


def checkpoint_filter_fn(stored: dict[str, Tensor], model: nn.Module) -> dict[str, Any]:
    """The tensors of a file of timm, OpenAI or OpenCLIP at the model's image size; the head there is the projection."""
    fitted = dict(vision_transformer.checkpoint_filter_fn(stored, cast(VisionTransformer, model)))
    if "projection.weight" not in fitted and "head.weight" in fitted:
        fitted["projection.weight"] = fitted["head.weight"]
    return fitted
