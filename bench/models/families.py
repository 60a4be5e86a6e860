"""Finds the handles of the anatomy in a model. A backbone whose blocks are not understood is refused by name."""

from __future__ import annotations

import re
from typing import Any

from timm.layers.attention import Attention
from timm.layers.mlp import Mlp
from timm.models.swin_transformer import SwinTransformer, SwinTransformerBlock, WindowAttention
from timm.models.vision_transformer import Block as VitBlock
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from bench.core.errors import UnsupportedBackbone
from bench.models.cvt import Cvt
from bench.models.view import Block, Branch, HookPoint, ModelView, Shape


def build_view(model: nn.Module) -> ModelView:
    """Handles on a timm ViT or Swin, or on our CvT; every parameter frozen but the head's.

    Raises UnsupportedBackbone, by name, where a block is not the pre-norm kind that the handles describe.
    """
    if type(model) is VisionTransformer:
        net = _vit(model)
    elif type(model) is SwinTransformer:
        net = _swin(model)
    elif type(model) is Cvt:
        net = _cvt(model)
    else:
        known = "timm's VisionTransformer and SwinTransformer, and CvT"
        raise UnsupportedBackbone(f"{type(model).__name__} is not understood. Known: {known}.")
    model.requires_grad_(False)
    net.classifier.requires_grad_(True)
    model.add_module("pet", nn.ModuleDict())
    return net


def _vit(model: VisionTransformer) -> ModelView:
    net = ModelView(model, "vit")
    paths = _paths(model, r"blocks\.\d+", VitBlock)
    embedding: Any = model.patch_embed
    grid: tuple[int, int] = embedding.grid_size
    net.blocks = tuple(_block(net, path, i, grid, model.num_prefix_tokens) for i, path in enumerate(paths))
    net.stem = _stem(net, "patch_embed.proj", "patch_embed.norm")
    net.final = _norm(net, "fc_norm" if isinstance(model.norm, nn.Identity) else "norm")
    net.shape = _shape(net, grid[0])
    return net


def _swin(model: SwinTransformer) -> ModelView:
    net = ModelView(model, "swin")
    paths = _paths(model, r"layers\.\d+\.blocks\.\d+", SwinTransformerBlock)
    blocks: list[Any] = [model.get_submodule(path) for path in paths]
    net.blocks = tuple(
        _block(net, path, i, block.input_resolution, 0)
        for i, (path, block) in enumerate(zip(paths, blocks, strict=True))
    )
    net.stem = _stem(net, "patch_embed.proj", "patch_embed.norm")
    net.merging = tuple(
        (_norm(net, f"{path}.norm"), _linear(net, f"{path}.reduction"))
        for path, _ in model.named_modules()
        if re.fullmatch(r"layers\.\d+\.downsample", path) and not isinstance(model.get_submodule(path), nn.Identity)
    )
    net.final = _norm(net, "norm")
    net.shape = _shape(net, blocks[0].window_size[0])
    return net


def _cvt(model: Cvt) -> ModelView:
    net = ModelView(model, "cvt")
    blocks: list[Block] = []
    ends: list[tuple[HookPoint, ...]] = []  # the convolution and the norm at the entry of every stage
    side = model.size
    for number, stage in enumerate(model.stages):
        path = f"cvt.encoder.stages.{number}"
        entry = f"{path}.embedding.convolution_embeddings"
        ends.append(_stem(net, f"{entry}.projection", f"{entry}.normalization"))
        conv: Any = ends[-1][0].module
        side = (side + 2 * conv.padding[0] - conv.kernel_size[0]) // conv.stride[0] + 1
        for layer in range(len(stage.layers)):
            blocks.append(_cvt_block(net, f"{path}.layers.{layer}", len(blocks), side, hasattr(stage, "cls_token")))
    net.blocks, net.stem, net.merging = tuple(blocks), ends[0], tuple(ends[1:])
    net.final = _norm(net, "layernorm")
    net.shape = _shape(net, 0)  # its tokens attend to those of a coarser grid
    return net


def _paths(model: nn.Module, pattern: str, kind: type[nn.Module]) -> list[str]:
    paths = [name for name, _ in model.named_modules() if re.fullmatch(pattern, name)]
    for path in paths:
        _only(model, path, kind)
    return paths


def _only(model: nn.Module, path: str, kind: type[nn.Module]) -> nn.Module:
    module = model.get_submodule(path)
    if type(module) is not kind:
        raise UnsupportedBackbone(f"{path} is a {type(module).__name__}; only {kind.__name__} is understood.")
    return module


def _shape(net: ModelView, side: int) -> Shape:
    first = net.blocks[0]
    return Shape(
        dims=tuple(block.dim for block in net.blocks),
        mlp_ratio=first.linear["fc1"].d_out / first.dim,
        heads=tuple(block.heads for block in net.blocks),
        side=side,
        patch_norm=len(net.stem) > 1,
    )


def _linear(net: ModelView, path: str, label: str | None = None, third: int | None = None) -> HookPoint:
    try:
        module = net.model.get_submodule(path)
    except AttributeError as error:
        raise UnsupportedBackbone(f"{path} is missing, which a plain block has.") from error
    if not isinstance(module, nn.Linear):
        raise UnsupportedBackbone(f"{path} is a {type(module).__name__}, not a Linear.")
    size = module.out_features // (1 if third is None else 3)
    start = size * (third or 0)
    return HookPoint(net, module, path, label or path, module.in_features, size, slice(start, start + size))


def _norm(net: ModelView, path: str) -> HookPoint:
    module = net.model.get_submodule(path)
    if not isinstance(module, nn.LayerNorm):
        raise UnsupportedBackbone(f"{path} is a {type(module).__name__}, not a LayerNorm.")
    dim = module.normalized_shape[0]
    return HookPoint(net, module, path, path, dim, dim, slice(0, dim))


def _stem(net: ModelView, conv: str, norm: str) -> tuple[HookPoint, ...]:
    module = net.model.get_submodule(conv)
    if not isinstance(module, nn.Conv2d):
        raise UnsupportedBackbone(f"{conv} is a {type(module).__name__}, not a Conv2d.")
    dim = module.out_channels
    slots = [HookPoint(net, module, conv, conv, module.in_channels, dim, slice(0, dim), channel=1)]
    if not isinstance(net.model.get_submodule(norm), nn.Identity):
        slots.append(_norm(net, norm))
    return tuple(slots)


def _block(net: ModelView, path: str, index: int, grid: tuple[int, int], prefix: int) -> Block:
    attention = _only(net.model, f"{path}.attn", WindowAttention if net.family == "swin" else Attention)
    _only(net.model, f"{path}.mlp", Mlp)
    linears = {
        "qkv": _linear(net, f"{path}.attn.qkv"),
        "q": _linear(net, f"{path}.attn.qkv", f"{path}.attn.q", 0),
        "k": _linear(net, f"{path}.attn.qkv", f"{path}.attn.k", 1),
        "v": _linear(net, f"{path}.attn.qkv", f"{path}.attn.v", 2),
        "proj": _linear(net, f"{path}.attn.proj"),
        "fc1": _linear(net, f"{path}.mlp.fc1"),
        "fc2": _linear(net, f"{path}.mlp.fc2"),
    }
    dim = linears["q"].d_in
    norm = {name: _place(net, f"{path}.{name}", dim) for name in ("norm1", "norm2")}
    ends = [_place(net, f"{path}.drop_path{i}", dim, f"{path}.{part}") for i, part in ((1, "attn"), (2, "mlp"))]
    return Block(
        index=index,
        path=path,
        dim=dim,
        heads=attention.num_heads,  # type: ignore[arg-type]
        grid=grid,
        prefix=prefix,
        attn=Branch(norm["norm1"], ends[0], f"{path}.attn", linears["qkv"]),
        mlp=Branch(norm["norm2"], ends[1], f"{path}.mlp", linears["fc1"]),
        out=_place(net, path, dim),
        linear=linears,
        norm=norm,
    )


def _cvt_block(net: ModelView, path: str, index: int, side: int, has_class_token: bool) -> Block:
    """q, k and v are linears of their own, each behind its own convolution: no single linear reads the norm's output.

    A branch ends at its last dropout. What drops paths stands behind the sum in the MLP, and is at rate zero.
    """
    where = {
        "q": "attention.attention.projection_query",
        "k": "attention.attention.projection_key",
        "v": "attention.attention.projection_value",
        "proj": "attention.output.dense",
        "fc1": "intermediate.dense",
        "fc2": "output.dense",
    }
    linears = {name: _linear(net, f"{path}.{part}") for name, part in where.items()}
    dim = linears["q"].d_in
    norm = {"norm1": _norm(net, f"{path}.layernorm_before"), "norm2": _norm(net, f"{path}.layernorm_after")}
    ends = [_place(net, f"{path}.{part}.dropout", dim, f"{path}.{part}") for part in ("attention.output", "output")]
    return Block(
        index=index,
        path=path,
        dim=dim,
        heads=net.model.get_submodule(f"{path}.attention.attention").num_heads,  # type: ignore[arg-type]
        grid=(side, side),
        prefix=int(has_class_token),
        attn=Branch(norm["norm1"], ends[0], f"{path}.attention", None),
        mlp=Branch(norm["norm2"], ends[1], f"{path}.intermediate", linears["fc1"]),
        out=_place(net, path, dim),
        linear=linears,
        norm=norm,
    )


def _place(net: ModelView, path: str, dim: int, label: str | None = None) -> HookPoint:
    return HookPoint(net, net.model.get_submodule(path), path, label or path, dim, dim, slice(0, dim))
