"""A CLIP of a few thousand parameters: Hugging Face's, with both towers, and ours with the weights of its image tower."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from timm.layers.activations import QuickGELU
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from bench.models.clip import ClipVisual, keep_projection

SIZE, WIDTH, SHARED = 32, 32, 16  # pixels; features of an image before the projection and behind it
LETTERS = "abcdefghijklmnopqrstuvwxyz."


def theirs(transformers: Any, seed: int = 0) -> Any:
    """A random CLIPModel whose features differ from image to image and from text to text."""
    shape = {"hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    vision = {**shape, "image_size": SIZE, "patch_size": 8}
    text = {**shape, "vocab_size": 2 + 2 * len(LETTERS), "max_position_embeddings": 40, "eos_token_id": 1}
    torch.manual_seed(seed)
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=SHARED)
    model = transformers.CLIPModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def tokenizer(transformers: Any) -> Any:
    vocab = {"<|startoftext|>": 0, "<|endoftext|>": 1}
    for letter in LETTERS:
        vocab |= {letter: len(vocab), letter + "</w>": len(vocab) + 1}
    return transformers.CLIPTokenizer(vocab=vocab, merges=[])


def ours(classes: int, *, pretrained: bool = False, **_: Any) -> ClipVisual:
    """The same shape as timm has it."""
    vit = VisionTransformer(
        img_size=SIZE,
        patch_size=8,
        embed_dim=WIDTH,
        depth=2,
        num_heads=4,
        mlp_ratio=2,
        num_classes=SHARED,
        pre_norm=True,
        norm_layer=partial(nn.LayerNorm, eps=1e-5),
        act_layer=QuickGELU,
    )
    return keep_projection(vit, classes, pretrained=pretrained)


def as_pocket(num_classes: int) -> ClipVisual:
    return ours(num_classes)


def openai_names(model: Any) -> dict[str, Tensor]:
    """The image tower under the names of OpenAI's file, which timm's converter reads."""
    state, found = model.state_dict(), {}
    plain = {
        "embeddings.class_embedding": "class_embedding",
        "embeddings.patch_embedding.weight": "conv1.weight",
        "embeddings.position_embedding.weight": "positional_embedding",
        **{f"pre_layrnorm.{end}": f"ln_pre.{end}" for end in ("weight", "bias")},
        **{f"post_layernorm.{end}": f"ln_post.{end}" for end in ("weight", "bias")},
    }
    for theirs_, openai in plain.items():
        found[f"visual.{openai}"] = state[f"vision_model.{theirs_}"]
    for number in range(2):
        layer, block = f"vision_model.encoder.layers.{number}", f"visual.transformer.resblocks.{number}"
        for end in ("weight", "bias"):
            parts = [state[f"{layer}.self_attn.{name}_proj.{end}"] for name in "qkv"]
            found[f"{block}.attn.in_proj_{end}"] = torch.cat(parts)
            found[f"{block}.attn.out_proj.{end}"] = state[f"{layer}.self_attn.out_proj.{end}"]
            for mine, other in (
                ("layer_norm1", "ln_1"),
                ("layer_norm2", "ln_2"),
                ("mlp.fc1", "mlp.c_fc"),
                ("mlp.fc2", "mlp.c_proj"),
            ):
                found[f"{block}.{other}.{end}"] = state[f"{layer}.{mine}.{end}"]
    found["visual.proj"] = state["visual_projection.weight"].T.contiguous()
    return {name: tensor.clone() for name, tensor in found.items()}


def write_weights(model: Any, path: Path) -> Path:
    save_file(openai_names(model), path)
    return path
