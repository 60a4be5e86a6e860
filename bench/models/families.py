"""Families of backbones: how the parts of a block are called in each, and the handles of a model made from that.

A family is one `Family` below, data but for where its tokens lie: a backbone of the same kind under other names is one
more entry. What is not understood is refused by name.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from timm.layers.attention import Attention
from timm.layers.mlp import Mlp, SwiGLU
from timm.models.eva import Eva, EvaAttention, EvaBlock
from timm.models.swin_transformer import SwinTransformer, SwinTransformerBlock, WindowAttention
from timm.models.swin_transformer_v2 import SwinTransformerV2, SwinTransformerV2Block
from timm.models.swin_transformer_v2 import WindowAttention as CosineWindowAttention
from timm.models.vision_transformer import Block as VitBlock
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from bench.core.errors import UnsupportedBackbone
from bench.models import prompts
from bench.models.clip import ClipVisual
from bench.models.cvt import Cvt
from bench.models.view import Block, Branch, HookPoint, ModelView, Shape

REASONS = {
    "ConvNeXt": ": it is a convolutional network, without attention",
    "ResNet": ": it is a convolutional network, without attention",
    "SwinTransformerV2Cr": ": only timm's SwinTransformerV2 is, of the two that it has",
}
LAYERS = (nn.Linear, nn.LayerNorm, nn.Conv2d)
TIMM_LINEARS = {"qkv": "attn.qkv", "proj": "attn.proj", "fc1": "mlp.fc1", "fc2": "mlp.fc2"}


@dataclass(frozen=True)
class Ends:
    """A residual branch of a block: paths, from the block, of its operator and of what its output leaves through."""

    op: str
    exit: str
    label: str  # of the exit, in the names of what is added there


@dataclass(frozen=True)
class Tokens:
    """What one block sees."""

    grid: tuple[int, int]  # rows and columns of patches
    prefix: int = 0  # tokens before the patches: class token and registers


@dataclass(frozen=True)
class Family:
    """Names of the parts of a vision transformer. Paths of parts of a block start at the block."""

    name: str  # by which a method says what it supports
    title: str  # in messages
    model: type[nn.Module]
    blocks: str  # pattern of the paths of its blocks, first to last
    kinds: Mapping[str, type[nn.Module]]  # parts of a block that must be of this very class ("" is the block)
    linears: Mapping[str, str]  # proj, fc1, fc2, and q, k, v or the fused qkv
    norms: tuple[str, str]
    attn: Ends
    mlp: Ends
    heads: str  # the part of a block that knows `num_heads`
    stem: tuple[str, str]  # patch convolution, and the norm behind it (or an identity)
    final: tuple[str, ...]  # the last norm: the first of these that is one
    tokens: Callable[[Any, str], Tokens]  # of the block at this path
    side: Callable[[Any, Block], int]  # of the square of tokens that attend to each other; 0 where it is none
    merging: str = ""  # pattern of the paths of what lies between two stages
    merging_parts: tuple[str, ...] = ()  # its layers, in order
    prompts: Callable[..., list[prompts.Handle]] | None = None  # brings prompts in; None where none are defined
    attention_bias: bool = False  # its attention takes a bias (heads, N, N) on the logits
    prepare: Callable[[Any], None] | None = None  # of a block: has it call its layers as modules, where hooks act
    fits: Callable[[Any], bool] = lambda model: True  # where models of one class are built in several ways
    gated: bool = False  # the MLP's first linear is one of two that read the norm's output
    entries: tuple[str, str] | None = None  # where norms end the branches: what takes the stream in, of each branch
    refused: str = ""  # what else timm builds of this class, and why it is refused


def _swin_tokens(model: Any, path: str) -> Tokens:
    block: Any = model.get_submodule(path)
    return Tokens(block.input_resolution)


def _cvt_tokens(model: Any, path: str) -> Tokens:
    """The grid behind the convolutions at the entries of all stages up to this block's."""
    number, side = int(path.split(".")[3]), model.size
    for stage in model.stages[: number + 1]:
        conv: Any = stage.embedding.convolution_embeddings.projection
        side = (side + 2 * conv.padding[0] - conv.kernel_size[0]) // conv.stride[0] + 1
    return Tokens((side, side), int(hasattr(model.stages[number], "cls_token")))


VIT = Family(
    name="vit",
    title="timm's VisionTransformer",
    model=VisionTransformer,
    blocks=r"blocks\.\d+",
    kinds={"": VitBlock, "attn": Attention, "mlp": Mlp},
    linears=TIMM_LINEARS,
    norms=("norm1", "norm2"),
    attn=Ends("attn", "drop_path1", "attn"),
    mlp=Ends("mlp", "drop_path2", "mlp"),
    heads="attn",
    stem=("patch_embed.proj", "patch_embed.norm"),
    final=("norm", "fc_norm"),
    tokens=lambda model, path: Tokens(model.patch_embed.grid_size, model.num_prefix_tokens),
    side=lambda model, first: first.grid[0],
    prompts=prompts.into_vit,
    attention_bias=True,
)

CLIP = dataclasses.replace(VIT, title="CLIP's image tower", model=ClipVisual)  # a ViT to every method

SWIN = Family(
    name="swin",
    title="timm's SwinTransformer",
    model=SwinTransformer,
    blocks=r"layers\.\d+\.blocks\.\d+",
    kinds={"": SwinTransformerBlock, "attn": WindowAttention, "mlp": Mlp},
    linears=TIMM_LINEARS,
    norms=("norm1", "norm2"),
    attn=Ends("attn", "drop_path1", "attn"),
    mlp=Ends("mlp", "drop_path2", "mlp"),
    heads="attn",
    stem=("patch_embed.proj", "patch_embed.norm"),
    merging=r"layers\.\d+\.downsample",
    merging_parts=("norm", "reduction"),
    final=("norm",),
    tokens=_swin_tokens,
    side=lambda model, first: model.get_submodule(first.path).window_size[0],
    prompts=prompts.into_swin,
)

CVT = Family(  # q, k and v are linears of their own, each behind its own convolution
    name="cvt",
    title="CvT",
    model=Cvt,
    blocks=r"cvt\.encoder\.stages\.\d+\.layers\.\d+",
    kinds={},
    linears={
        "q": "attention.attention.projection_query",
        "k": "attention.attention.projection_key",
        "v": "attention.attention.projection_value",
        "proj": "attention.output.dense",
        "fc1": "intermediate.dense",
        "fc2": "output.dense",
    },
    norms=("layernorm_before", "layernorm_after"),
    # A branch ends at its last dropout. What drops paths stands behind the sum in the MLP, and is at rate zero.
    attn=Ends("attention", "attention.output.dropout", "attention.output"),
    mlp=Ends("intermediate", "output.dropout", "output"),
    heads="attention.attention",
    stem=(
        "cvt.encoder.stages.0.embedding.convolution_embeddings.projection",
        "cvt.encoder.stages.0.embedding.convolution_embeddings.normalization",
    ),
    merging=r"cvt\.encoder\.stages\.[1-9]\d*\.embedding\.convolution_embeddings",
    merging_parts=("projection", "normalization"),
    final=("layernorm",),
    tokens=_cvt_tokens,
    side=lambda model, first: 0,  # its tokens attend to those of a coarser grid
)


def _apart(block: Any) -> None:
    """The fused qkv is called as a module, and its bias, which is no part of it, is added behind it."""
    block.attn.qkv_bias_separate = True


EVA = dataclasses.replace(  # DINOv3, EVA: positions are rotations of q and k, so no prompts can stand among the patches
    VIT,
    name="eva",
    title="timm's Eva",
    model=Eva,
    kinds={"": EvaBlock, "attn": EvaAttention, "mlp": Mlp},
    prompts=None,
    attention_bias=False,
    prepare=_apart,
    refused="It is gated, and what fc1 puts out is twice as wide as what fc2 reads.",
)

EVA_02 = dataclasses.replace(  # base and large: fc1 is the linear that is gated, not the one that gates
    EVA,
    name="eva02",
    kinds={"": EvaBlock, "attn": EvaAttention, "mlp": SwiGLU},
    linears={
        **{name: f"attn.{name}_proj" for name in "qkv"},
        **{"proj": "attn.proj", "fc1": "mlp.fc1_x", "fc2": "mlp.fc2"},
    },
    prepare=None,
    fits=lambda model: type(model.blocks[0].mlp) is SwiGLU,
    gated=True,
    refused="",
)

SWIN_V2 = dataclasses.replace(  # x + norm(op(x)); positions are a function of coordinates, so there is no table
    SWIN,
    name="swinv2",
    title="timm's SwinTransformerV2",
    model=SwinTransformerV2,
    kinds={"": SwinTransformerV2Block, "attn": CosineWindowAttention, "mlp": Mlp},
    merging_parts=("reduction", "norm"),
    prompts=None,
    prepare=_apart,
    entries=("", "mlp"),
)

FAMILIES = (VIT, CLIP, SWIN, SWIN_V2, EVA_02, EVA, CVT)


def build_view(model: nn.Module) -> ModelView:
    """Handles on a timm ViT, Swin, Swin-v2 or Eva, or on our CvT; every parameter frozen but the head's.

    Raises UnsupportedBackbone, by name, where a block is not of the kind that the handles describe.
    """
    family = next((each for each in FAMILIES if type(model) is each.model and each.fits(model)), None)
    if family is None:
        known = ", ".join(dict.fromkeys(each.title for each in FAMILIES))
        name = type(model).__name__
        raise UnsupportedBackbone(f"{name} is not understood{REASONS.get(name, '')}. Known: {known}.")
    net = ModelView(model, family.name, enter_prompts=family.prompts, attention_bias=family.attention_bias)
    paths = _matching(model, family.blocks)
    net.blocks = tuple(_block(net, family, path, index) for index, path in enumerate(paths))
    patches, norm = family.stem
    net.stem = (
        _layer(net, patches, nn.Conv2d),
        *(_layer(net, path, nn.LayerNorm) for path in [norm] if _is_there(model, path)),
    )
    net.merging = tuple(
        tuple(_layer(net, f"{path}.{part}", *LAYERS) for part in family.merging_parts)
        for path in _matching(model, family.merging)
        if _is_there(model, path)
    )
    net.final = _layer(net, next(path for path in family.final if _is_there(model, path)), nn.LayerNorm)
    first = net.blocks[0]
    net.shape = Shape(
        dims=tuple(block.dim for block in net.blocks),
        mlp_ratio=first.linear["fc1"].d_out / first.dim,
        heads=tuple(block.heads for block in net.blocks),
        side=family.side(model, first),
        patch_norm=len(net.stem) > 1,
        merging_norms=tuple(
            point.d_out for parts in net.merging for point in parts if isinstance(point.module, nn.LayerNorm)
        ),
    )
    model.requires_grad_(False)
    net.classifier.requires_grad_(True)
    model.add_module("pet", nn.ModuleDict())
    return net


def _block(net: ModelView, family: Family, path: str, index: int) -> Block:
    for part, kind in family.kinds.items():
        where = f"{path}.{part}" if part else path
        if type(module := net.model.get_submodule(where)) is not kind:
            told = f"{where} is a {type(module).__name__}; only {kind.__name__} is understood."
            raise UnsupportedBackbone(f"{told} {family.refused}".strip())
    if family.prepare:
        family.prepare(net.model.get_submodule(path))
    linear: dict[str, HookPoint] = {}
    for name, part in family.linears.items():
        linear[name] = _layer(net, f"{path}.{part}", nn.Linear)
        if name == "qkv":
            linear |= {each: _third(linear["qkv"], f"{path}.attn.{each}", i) for i, each in enumerate("qkv")}
    dim = linear["q"].d_in
    norm1, norm2 = (_place(net, f"{path}.{part}", dim) for part in family.norms)
    exits = [_place(net, f"{path}.{end.exit}", dim, f"{path}.{end.label}") for end in (family.attn, family.mlp)]
    tokens = family.tokens(net.model, path)
    starts = [_place(net, f"{path}.{part}".rstrip("."), dim) for part in family.entries or family.norms]
    return Block(
        index=index,
        path=path,
        dim=dim,
        heads=net.model.get_submodule(f"{path}.{family.heads}").num_heads,  # type: ignore[arg-type]
        grid=tokens.grid,
        prefix=tokens.prefix,
        attn=Branch(starts[0], exits[0], f"{path}.{family.attn.op}", linear.get("qkv"), family.entries is None),
        mlp=Branch(
            starts[1],
            exits[1],
            f"{path}.{family.mlp.op}",
            None if family.gated else linear["fc1"],
            family.entries is None,
        ),
        out=_place(net, path, dim),
        linear=linear,
        norm={"norm1": norm1, "norm2": norm2},
    )


def _matching(model: nn.Module, pattern: str) -> list[str]:
    return [name for name, _ in model.named_modules() if re.fullmatch(pattern, name)] if pattern else []


def _is_there(model: nn.Module, path: str) -> bool:
    return not isinstance(model.get_submodule(path), nn.Identity)


def _layer(net: ModelView, path: str, *kinds: type[nn.Module]) -> HookPoint:
    """The handle of a whole layer of one of these kinds."""
    try:
        module = net.model.get_submodule(path)
    except AttributeError as error:
        raise UnsupportedBackbone(f"{path} is missing, which a plain block has.") from error
    if not isinstance(module, kinds):
        raise UnsupportedBackbone(f"{path} is a {type(module).__name__}, not a {kinds[0].__name__}.")
    if isinstance(module, nn.Linear):
        d_in, d_out = module.in_features, module.out_features
    elif isinstance(module, nn.Conv2d):
        d_in, d_out = module.in_channels, module.out_channels
    else:
        d_in = d_out = module.normalized_shape[0]  # type: ignore[assignment, index]
    channel = 1 if isinstance(module, nn.Conv2d) else -1
    return HookPoint(net, module, path, path, d_in, d_out, slice(0, d_out), channel)


def _third(qkv: HookPoint, label: str, number: int) -> HookPoint:
    """The handle of q, k or v in a fused linear."""
    size = qkv.d_out // 3
    columns = slice(number * size, (number + 1) * size)
    return dataclasses.replace(qkv, label=label, d_out=size, columns=columns)


def _place(net: ModelView, path: str, dim: int, label: str | None = None) -> HookPoint:
    """The handle of a module that passes on tokens of one width."""
    return HookPoint(net, net.model.get_submodule(path), path, label or path, dim, dim, slice(0, dim))
