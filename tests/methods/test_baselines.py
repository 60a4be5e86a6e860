"""The baselines against their equations in plain tensors, float64, all weights random; counts; what trains and what not."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from helpers.views import random_view
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from bench.core.errors import Incompatible
from bench.models import cost, registry, static_cost
from bench.models.families import build_view
from bench.models.method import attach as attach_declared
from bench.models.method import build
from bench.models.view import ModelView
from methods._spatial import blocks_with_patches_out, from_map, to_map

SWIN, VIT = "swin_tiny_patch4_window7_224", "vit_base_patch16_224"
CLIP, POOLED = (
    "vit_base_patch32_clip_quickgelu_224",
    "vit_base_patch16_siglip_gap_224",
)  # POOLED: head on the mean patch
IN_PLACE = ("att_blocks", "mlp_blocks", "ln_tuning")


def oblong_vit() -> ModelView:
    """2 x 4 patches behind a class token and two registers: rows are not columns, and one prefix token is not three."""
    torch.manual_seed(0)
    model = VisionTransformer((8, 16), 4, embed_dim=24, depth=2, num_heads=3, num_classes=5, reg_tokens=2).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return build_view(model.eval())


NETS: dict[str, Callable[[], ModelView]] = {
    "oblong_vit": oblong_vit,
    "pocket_vit": lambda: random_view("pocket_vit"),
    "pocket_swin": lambda: random_view("pocket_swin"),
}


def attach(net: ModelView, name: str, **settings: object) -> ModelView:
    """The method on the net, all that it added random."""
    torch.manual_seed(1)
    build(registry.load(name), settings, name).attach(net)
    with torch.no_grad():
        for parameter in net.pet.parameters():
            parameter.copy_(torch.randn_like(parameter) / 2)
    return net


def images(net: ModelView) -> Tensor:
    size = (8, 16) if net.blocks[0].dim == 24 else (32, 32)
    return torch.randn(2, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


def seen(net: ModelView, path: str) -> tuple[Tensor, Tensor]:
    """What went into a module and what came out."""
    pairs: list[tuple[Tensor, Tensor]] = []
    handle = net.model.get_submodule(path).register_forward_hook(lambda _, args, out: pairs.append((args[0], out)))
    with torch.no_grad():
        net.model(images(net))
    handle.remove()
    return pairs[0]


def added(net: ModelView, index: int, rest: str) -> Tensor:
    """A tensor that the method put on a block."""
    return net.model.get_parameter(f"pet.{net.blocks[index].path.replace('.', '_')}_{rest}").detach()


def attention(net: ModelView, index: int, n: Tensor, bias: Tensor | None = None, beside: Callable[[Tensor], Tensor] | None = None) -> Tensor:  # fmt: skip
    """proj(softmax(Q K^T / sqrt d + B) V + beside(V)) of the frozen weights; bias (heads, N, N)."""
    block = net.blocks[index]
    inner = net.model.get_submodule(block.path)
    attn = inner.attn
    q, k, v = (n @ attn.qkv.weight.T + attn.qkv.bias).chunk(3, dim=-1)
    out = torch.empty_like(v)
    size = block.dim // block.heads
    mask = getattr(inner, "attn_mask", None)  # of a Swin, one per window
    for head in range(block.heads):
        part = slice(head * size, (head + 1) * size)
        logits = q[..., part] @ k[..., part].transpose(1, 2) / size**0.5
        if net.family == "swin":
            logits = logits + attn.relative_position_bias_table[attn.relative_position_index][..., head]
        if mask is not None:
            logits = logits + mask.repeat(len(n) // len(mask), 1, 1)
        if bias is not None:
            logits = logits + bias[head]
        out[..., part] = logits.softmax(-1) @ v[..., part]
    if beside is not None:
        out = out + beside(v)
    return out @ attn.proj.weight.T + attn.proj.bias


def depthwise(v: Tensor, weight: Tensor, bias: Tensor, grid: tuple[int, int], prefix: int) -> Tensor:
    """A 3 x 3 kernel per channel on the patches of v (B, N, D), patch by patch; nothing for the tokens before them."""
    rows, columns = grid
    out = torch.zeros_like(v)
    for r in range(rows):
        for c in range(columns):
            here = prefix + r * columns + c
            out[:, here] = bias
            for i in (-1, 0, 1):
                for j in (-1, 0, 1):
                    if 0 <= r + i < rows and 0 <= c + j < columns:
                        out[:, here] += weight[:, 0, i + 1, j + 1] * v[:, here + i * columns + j]
    return out


@pytest.mark.parametrize(
    ("name", "index"), [("oblong_vit", 0), ("pocket_vit", 1), ("pocket_swin", 0), ("pocket_swin", 1)]
)
def test_lepe_adds_a_depthwise_convolution_of_the_values(name: str, index: int) -> None:
    net = attach(NETS[name](), "lepe")
    block = net.blocks[index]
    n, out = seen(net, block.attn.op)
    grid = (4, 4) if net.family == "swin" else block.grid
    weight, bias = added(net, index, "attn_v.conv.weight"), added(net, index, "attn_v.conv.bias")
    expected = attention(NETS[name](), index, n, beside=lambda v: depthwise(v, weight, bias, grid, block.prefix))
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("name", ["oblong_vit", "pocket_vit"])
def test_rpb_is_a_bias_by_relative_position_on_the_logits(name: str, fused: bool) -> None:
    net = attach(NETS[name](), "rpb")
    block = net.blocks[0]
    net.model.get_submodule(block.attn.op).fused_attn = fused
    n, out = seen(net, block.attn.op)
    table, (rows, columns), prefix = added(net, 0, "attn.table"), block.grid, block.prefix
    bias = torch.zeros(block.heads, prefix + rows * columns, prefix + rows * columns, dtype=torch.float64)
    for query in range(rows * columns):
        for key in range(rows * columns):
            down, right = query // columns - key // columns, query % columns - key % columns
            bias[:, prefix + query, prefix + key] = table[:, down + rows - 1, right + columns - 1]
    expected = attention(NETS[name](), 0, n, bias)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-10)


def test_rpb_trains_the_tables_a_swin_has() -> None:
    net = random_view("pocket_swin")
    build(registry.load("rpb"), {}, "rpb").attach(net)
    backbone = {name for name, p in net.backbone_parameters() if p.requires_grad}
    assert backbone == {f"{block.path}.attn.relative_position_bias_table" for block in net.blocks}
    assert not net.pet


@pytest.mark.parametrize("hidden", [None, 20])
@pytest.mark.parametrize("name", NETS)
def test_transformer_probe_is_torchs_pre_norm_encoder_layer(name: str, hidden: int | None) -> None:
    net = attach(NETS[name](), "transformer_probe", hidden=hidden)
    block = net.blocks[-1]
    _, out = seen(net, block.path)
    _, x = seen(NETS[name](), block.path)
    oracle = nn.TransformerEncoderLayer(
        block.dim, block.heads, hidden or 4 * block.dim, 0.0, "gelu", 1e-6, True, True, dtype=torch.float64
    )
    theirs = {
        "norm1": oracle.norm1,
        "norm2": oracle.norm2,
        "proj": oracle.self_attn.out_proj,
        "fc1": oracle.linear1,
        "fc2": oracle.linear2,
    }
    tensors = {f"{key}.{kind}": getattr(module, kind) for key, module in theirs.items() for kind in ("weight", "bias")}
    tensors |= {"qkv.weight": oracle.self_attn.in_proj_weight, "qkv.bias": oracle.self_attn.in_proj_bias}
    assert len(tensors) == len(list(net.pet.parameters()))
    with torch.no_grad():
        for key, tensor in tensors.items():
            tensor.copy_(net.model.get_parameter(f"pet.{block.path.replace('.', '_')}.{key}"))
        expected = oracle(x.flatten(1, -2)).view_as(x)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-9)


def test_transformer_probe_starts_as_the_frozen_model_and_both_sublayers_learn_at_once() -> None:
    net = random_view("pocket_vit")
    before = net.model(images(net))
    build(registry.load("transformer_probe"), {}, "transformer_probe").attach(net)
    after = net.model(images(net))
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    after.square().sum().backward()
    (block,) = net.pet.children()
    assert block.proj.weight.grad.abs().min() > 0 and block.fc2.weight.grad.abs().min() > 0


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("att_blocks", lambda path, module: ".attn" in path),
        ("mlp_blocks", lambda path, module: ".mlp" in path),
        ("ln_tuning", lambda path, module: isinstance(module, nn.LayerNorm)),
    ],
)
def test_in_place_baselines_train_one_kind_of_module_whole(name: str, kept: Callable[..., bool], backbone: str) -> None:
    net = random_view(backbone)
    build(registry.load(name), {}, name).attach(net)
    trained = {key for key, p in net.backbone_parameters() if p.requires_grad}
    wanted = {
        f"{path}.{key}"
        for path, module in net.model.named_modules()
        if kept(path, module) and module is not net.head
        for key, _ in module.named_parameters(recurse=False)
    }
    assert trained == wanted
    norms = {key for key in trained if ".norm" in f".{key}"}
    assert bool(norms) == (name == "ln_tuning")


@pytest.mark.parametrize("name", IN_PLACE)
def test_in_place_baselines_are_merged_as_they_are(name: str, backbone: str) -> None:
    net = random_view(backbone)
    method = build(registry.load(name), {}, name)
    method.attach(net)
    merged = cost.merged(method, net)
    assert merged is not None and not merged.pet
    assert merged.model.state_dict().keys() == net.model.state_dict().keys()


@pytest.mark.parametrize("name", ["att_blocks", "mlp_blocks"])
def test_lr_factor_scales_the_learning_rate_of_the_only_phase(name: str) -> None:
    cls = registry.load(name)
    (phase,) = build(cls, {"lr_factor": 0.5}, name).phases(7)
    assert (phase.epochs, phase.lr_factor) == (7, 0.5)
    with pytest.raises(ValueError, match="lr_factor = 0"):
        cls(lr_factor=0)


def test_transformer_probe_refuses_an_empty_mlp() -> None:
    with pytest.raises(ValueError, match="hidden = 0"):
        registry.load("transformer_probe")(hidden=0)


@pytest.mark.parametrize("name", ["lepe", "rpb", "ssf", "repadapter", "arc", "rlrr", "dtl", "vpt_deep", "vpt_shallow"])
def test_what_has_no_place_in_a_cvt_says_so(name: str) -> None:
    net = random_view("pocket_swin")
    net.family = "cvt"
    with pytest.raises(Incompatible, match="SwinTransformer"):
        attach_declared(build(registry.load(name), {}, name), net)
    assert not net.pet and not any(p.requires_grad for _, p in net.backbone_parameters())


@pytest.mark.parametrize("name", ["lepe", "rpb"])
def test_every_added_tensor_gets_a_gradient_and_the_last_block_has_none_that_only_patches_would_read(name: str) -> None:
    net = attach(random_view("pocket_vit"), name)
    assert [block.index for block in blocks_with_patches_out(net)] == [0, 1, 2, 3, 4]
    net.model(images(net)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.pet.parameters())
    pooled = copy.deepcopy(random_view("pocket_vit"))
    pooled.model.global_pool = "avg"
    attach(pooled, name)
    assert len(pooled.pet) == 6
    pooled.model(images(pooled)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in pooled.pet.parameters())


@pytest.mark.parametrize("prefix", [0, 1, 3])
def test_a_map_has_rows_and_columns_where_the_tokens_had_them(prefix: int) -> None:
    rows, columns = 2, 3
    x = torch.randn(4, prefix + rows * columns, 5)
    patches, before = to_map(x, (rows, columns), prefix)
    assert patches.shape == (4, 5, rows, columns) and before.shape == (4, prefix, 5)
    assert torch.equal(patches[1, :, 1, 2], x[1, prefix + 1 * columns + 2])
    assert torch.equal(from_map(patches, before, like=x), x)
    assert from_map(patches[:, :2], before[..., :2], like=x).shape == (4, prefix + rows * columns, 2)


def test_a_picture_of_tokens_keeps_its_layout() -> None:
    x = torch.randn(4, 2, 3, 5).transpose(1, 2)  # (B, H, W, D), not contiguous
    patches, before = to_map(x, (3, 2), 0)
    assert torch.equal(patches, x.permute(0, 3, 1, 2)) and before.shape == (4, 0, 5)
    assert torch.equal(from_map(patches, before, like=x), x)


# method, settings, backbone, trained parameters without head
COUNTS = [
    ("att_blocks", {}, SWIN, 8_667_162),
    ("att_blocks", {}, VIT, 28_348_416),
    ("mlp_blocks", {}, SWIN, 17_274_432),
    ("mlp_blocks", {}, VIT, 12 * 4_722_432),
    ("ln_tuning", {}, SWIN, 24_768),
    ("ln_tuning", {}, VIT, 38_400),
    ("ln_tuning", {}, CLIP, 39_936),  # a norm before the blocks
    ("transformer_probe", {"hidden": 512}, VIT, 3_226_866 - 73_714),  # published 3.2 M with the mean head
    ("transformer_probe", {}, VIT, 7_087_872),
    ("transformer_probe", {}, SWIN, 7_087_872),
    ("lepe", {}, POOLED, 92_160),
    ("lepe", {}, VIT, 92_160 // 12 * 11),
    ("lepe", {}, SWIN, 44_160),
    ("rpb", {}, POOLED, 104_976),
    ("rpb", {}, VIT, 104_976 // 12 * 11),
    ("rpb", {}, CLIP, 24_336 // 12 * 11),
    ("rpb", {}, SWIN, 75_546 - 52_224),  # published BitFit on Swin-T with the tables, less its true biases
]


@pytest.mark.parametrize(("name", "settings", "backbone", "expected"), COUNTS)
def test_trained_parameters(name: str, settings: dict[str, object], backbone: str, expected: int) -> None:
    assert static_cost.count_params(build(registry.load(name), settings, name), backbone, 345).method == expected
