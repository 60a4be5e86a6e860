"""Methods of 2023 to 2025 against their papers' equations: plain tensors, every weight random, float64; counts, merging."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.views import random_view
from torch import Tensor, nn
from torch.nn import functional as F

from bench.core.errors import Incompatible, UsageError
from bench.models import cost, registry, static_cost
from bench.models.method import Method, build, optimizer_groups
from bench.models.tuned_model import TunedModel
from bench.models.view import Block, ModelView
from bench.tools import conformance
from methods import gps
from methods._bits import from_bytes, to_bytes

VIT, SWIN = "vit_base_patch16_224", "swin_tiny_patch4_window7_224"
IMAGES = torch.randn(4, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
LABELS = torch.tensor([0, 1, 0, 1])
LAYERS = {"qkv": "attn.qkv", "q": "attn.qkv", "k": "attn.qkv", "v": "attn.qkv", "proj": "attn.proj"}
LAYERS |= {"fc1": "mlp.fc1", "fc2": "mlp.fc2"}

bare = cache(random_view)  # never changed: copied, or only called


def make(name: str, **settings: object) -> Method:
    return build(registry.load(name), settings, name)


def attached(name: str, backbone: str, **settings: object) -> ModelView:
    """The method on a random backbone, its own parameters random too, dropout off."""
    net = copy.deepcopy(bare(backbone))
    make(name, **settings).attach(net)
    with torch.no_grad():
        for parameter in net.pet.parameters():
            parameter.copy_(torch.randn_like(parameter) / parameter.shape[-1] ** 0.5)
    net.model.eval()
    return net


def part(net: ModelView, block: Block, target: str, again: str = "") -> nn.Module:
    return net.pet[block.linear[target].label.replace(".", "_") + again]


def passed(net: ModelView, index: int) -> tuple[Tensor, Tensor]:
    """What goes into a block and what comes out."""
    seen: list[tuple[Tensor, Tensor]] = []
    block = net.model.get_submodule(net.blocks[index].path)
    handle = block.register_forward_hook(lambda _, args, out: seen.append((args[0].detach(), out.detach())))
    net.model(IMAGES)
    handle.remove()
    return seen[0]


def updated(backbone: str, changes: dict[tuple[int, str], tuple[Tensor, Tensor]]) -> Tensor:
    """The logits of a bare backbone with other weights and biases of the named linears of its blocks."""
    net = copy.deepcopy(bare(backbone))
    with torch.no_grad():
        for (index, target), (W, b) in changes.items():
            slot = net.blocks[index].linear[target]
            slot.module.get_parameter("weight")[slot.columns] = W
            slot.module.get_parameter("bias")[slot.columns] = b
        out: Tensor = net.model(IMAGES)
    return out


def weights(net: ModelView, index: int, target: str) -> tuple[Tensor, Tensor]:
    slot = net.blocks[index].linear[target]
    return slot.module.get_parameter("weight")[slot.columns], slot.module.get_parameter("bias")[slot.columns]


def same(net: ModelView, expected: Tensor) -> None:
    torch.testing.assert_close(net.model(IMAGES), expected, rtol=0, atol=1e-9 * float(expected.abs().max()))


# KARST ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"rank": 3, "kernels": 2, "targets": ("k", "proj", "fc1", "fc2")}])
def test_karst_rescales_a_sum_of_kronecker_products(settings: dict[str, object], backbone: str) -> None:
    net, changes = attached("karst", backbone, **settings), {}
    for index, block in enumerate(net.blocks):
        for target in settings.get("targets", ("q", "v")):  # type: ignore[attr-defined]
            kernels, scale = part(net, block, target), part(net, block, target, "x")
            W, b = weights(bare(backbone), index, target)
            dW = sum(torch.kron(k.C, k.A @ k.B) for k in kernels)  # type: ignore[union-attr, operator]
            changes[index, target] = ((1 + scale.s1)[:, None] * (W + dW), (1 + scale.s1) * b + scale.s2)  # type: ignore[operator]
        sides = {len(k.C) for k in part(net, block, "k" if settings else "q")}  # type: ignore[union-attr, arg-type]
        assert sides == ({2, 4} if settings else {2, 4, 8, 16})
    same(net, updated(backbone, changes))


# CaRA -----------------------------------------------------------------------------------------------------------------


def test_cara_is_two_tensors_in_canonical_form(backbone: str) -> None:
    net, changes, s = attached("cara", backbone, rank=5, scale=3.0), {}, 3.0
    for index, block in enumerate(net.blocks):
        heads = part(net, block, "qkv")
        first = torch.einsum("pr,rm,hr,er->phem", heads.p, heads.u, heads.h, heads.e)  # (3, heads, M / heads, M)
        M = block.dim
        W, b = weights(bare(backbone), index, "qkv")
        changes[index, "qkv"] = (W + s * first.reshape(3 * M, M), b)
        for target, rows, columns in (("proj", 1, 1), ("fc1", 4, 1), ("fc2", 1, 4)):
            m = part(net, block, target)
            slices = torch.einsum("pqr,rm,nr->pnqm", m.p, m.U, m.V)  # each M x M, where it stands in the weight
            W, b = weights(bare(backbone), index, target)
            changes[index, target] = (W + s * slices.reshape(rows * M, columns * M), b)
    same(net, updated(backbone, changes))
    widths = set(net.shape.dims)
    for target, letters in (("qkv", "uhe"), ("fc2", "UV")):
        for letter in letters:
            assert len({id(getattr(part(net, block, target), letter)) for block in net.blocks}) == len(widths)


# LoRA+ ----------------------------------------------------------------------------------------------------------------


def test_lora_plus_is_lora_whose_b_is_faster(backbone: str) -> None:
    net = attached("lora_plus", backbone)
    assert net.trainable_parameters().keys() == attached("lora", backbone).trainable_parameters().keys()
    groups = optimizer_groups(make("lora_plus", ratio=4.0), net, lr=0.1, weight_decay=0.0)
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    for name, parameter in net.trainable_parameters().items():
        assert rates[id(parameter)] == (0.4 if name.endswith(".B") else 0.1)


def test_lora_plus_has_the_groups_of_hugging_face() -> None:
    peft = pytest.importorskip("peft")
    theirs = peft.get_peft_model(random_view("pocket_vit").model, peft.LoraConfig(r=4, target_modules=["qkv"]))
    from peft.optimizers import create_loraplus_optimizer

    optimizer = create_loraplus_optimizer(theirs, torch.optim.AdamW, lr=0.1, loraplus_lr_ratio=16.0)
    fast = {p.shape for group in optimizer.param_groups if group["lr"] > 0.1 for p in group["params"]}
    assert fast == {(384, 4)}  # B, at 1.6
    net = TunedModel.attach(random_view("pocket_vit").model, make("lora_plus", rank=4, targets=("qkv",)))
    ours = {p.shape for group in net.optimizer_groups(lr=0.1) if group["lr"] > 0.1 for p in group["params"]}
    assert ours == fast


# LoRA's options, against Hugging Face's PEFT ---------------------------------------------------------------------------


def by_hugging_face(**config: object) -> nn.Module:
    peft = pytest.importorskip("peft")
    asked = peft.LoraConfig(r=4, lora_alpha=6, target_modules=["qkv", "fc1"], **config)
    model: nn.Module = peft.get_peft_model(random_view("pocket_vit").model.float(), asked).double()
    return model


@pytest.mark.parametrize(
    ("settings", "config"),
    [({"scale": "rslora"}, {"use_rslora": True}), ({"magnitude": True}, {"use_dora": True})],
)
def test_rslora_and_dora_equal_hugging_faces_in_outputs_and_gradients(
    settings: dict[str, object], config: dict[str, object]
) -> None:
    theirs = by_hugging_face(**config)
    net = attached("lora", "pocket_vit", rank=4, alpha=6.0, targets=("qkv", "fc1"), **settings)
    net.model.float().double()  # PEFT takes a backbone in float32, whose numbers ours then has too
    pairs = []
    for block in net.blocks:
        for target in ("qkv", "fc1"):
            layer: Any = theirs.base_model.model.get_submodule(f"{block.path}.{LAYERS[target]}")  # type: ignore[union-attr, operator]
            update: Any = part(net, block, target)
            own = [(update.A, layer.lora_A["default"].weight), (update.B, layer.lora_B["default"].weight)]
            if "magnitude" in settings:
                m: Any = part(net, block, target, "x")
                own.append((m.m, layer.lora_magnitude_vector["default"].weight))
            for mine, other in own:
                with torch.no_grad():
                    other.copy_(torch.rand_like(other) + 0.5)
                    mine.copy_(other)
            pairs += own
    out = [model(IMAGES) for model in (net.model, theirs)]
    torch.testing.assert_close(*out, rtol=0, atol=1e-9 * float(out[0].detach().abs().max()))
    for each in out:
        each.square().sum().backward()
    for mine, other in pairs:
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-7, atol=1e-9)


def test_pissa_starts_from_the_principal_part_as_hugging_faces_does() -> None:
    theirs = by_hugging_face(init_lora_weights="pissa")
    net = copy.deepcopy(bare("pocket_vit"))
    make("lora", rank=4, alpha=6.0, targets=("qkv", "fc1"), start="pissa").attach(net)
    for block in net.blocks:
        for target in ("qkv", "fc1"):
            layer: Any = theirs.base_model.model.get_submodule(f"{block.path}.{LAYERS[target]}")  # type: ignore[union-attr, operator]
            update: Any = part(net, block, target).update
            product = layer.lora_B["default"].weight @ layer.lora_A["default"].weight
            torch.testing.assert_close(update.B @ update.A, product, rtol=0, atol=1e-4)
            W = weights(bare("pocket_vit"), block.index, target)[0]
            U, S, V = torch.linalg.svd(W, full_matrices=False)
            torch.testing.assert_close(1.5 * update.B @ update.A, (U[:, :4] * S[:4]) @ V[:4], rtol=0, atol=1e-4)
            torch.testing.assert_close(layer.base_layer.weight, W - 1.5 * product, rtol=0, atol=1e-4)
    same(net, bare("pocket_vit").model(IMAGES).detach())


# GPS ------------------------------------------------------------------------------------------------------------------


def batches(count: int) -> Iterator[tuple[Tensor, Tensor]]:
    return iter([(IMAGES, LABELS)] * count)


def supervised_contrastive(f: Tensor, labels: Tensor) -> Tensor:
    """Khosla et al. 2020, eq. 2, image by image."""
    f, terms = f / f.norm(dim=1, keepdim=True), []
    for i in range(len(f)):
        partners = [p for p in range(len(f)) if p != i and labels[p] == labels[i]]
        below = sum(math.exp(f[i] @ f[j] / 0.07) for j in range(len(f)) if j != i)
        if partners:
            terms += [-sum(math.log(math.exp(f[i] @ f[p] / 0.07) / below) for p in partners) / len(partners)]
    return torch.tensor(sum(terms) / len(terms), dtype=f.dtype)


def test_the_contrastive_loss_is_khoslas() -> None:
    f, labels = torch.randn(6, 8, dtype=torch.float64), torch.tensor([0, 1, 0, 2, 1, 0])  # 2 is alone
    torch.testing.assert_close(gps.contrastive(f, labels), supervised_contrastive(f, labels))
    assert float(gps.contrastive(f, torch.arange(6))) == 0.0


def test_gps_trains_the_weights_with_the_largest_gradient_in_every_row(backbone: str) -> None:
    net, other = copy.deepcopy(bare(backbone)), copy.deepcopy(bare(backbone))
    method = make("gps", k=2, batches=1)
    method.attach(net)
    method.calibrate(net, batches)
    assert not any(p.requires_grad for _, p in net.backbone_parameters())
    features: list[Tensor] = []
    other.head.register_forward_pre_hook(lambda _, args: features.append(args[0]))
    for _, parameter in other.backbone_parameters():
        parameter.requires_grad_(True)
    other.model(IMAGES)
    gps.contrastive(features[0], LABELS).backward()
    for block in other.blocks:
        for target in ("qkv", "proj", "fc1", "fc2"):
            gradient = block.linear[target].module.get_parameter("weight").grad
            m = part(net, block, target)
            assert gradient is not None
            found = m.get_buffer("index").sort(dim=1).values
            expected = gradient.abs().argsort(dim=1, descending=True)[:, :2].sort(dim=1).values
            assert torch.equal(found.long(), expected)


def test_gps_changes_these_weights_and_no_others(backbone: str) -> None:
    net, changes = copy.deepcopy(bare(backbone)), {}
    method = make("gps", k=3, batches=1)
    method.attach(net)
    method.calibrate(net, batches)
    with torch.no_grad():
        for parameter in net.pet.parameters():
            parameter.copy_(torch.randn_like(parameter))
    for index, block in enumerate(net.blocks):
        for target in ("qkv", "proj", "fc1", "fc2"):
            m, (W, b) = part(net, block, target), weights(bare(backbone), index, target)
            W = W.detach().clone()
            for row, (places, values) in enumerate(zip(m.get_buffer("index"), m.get_parameter("values"), strict=True)):
                W[row, places.long()] += values.detach()
            changes[index, target] = (W, b)
    same(net, updated(backbone, changes))


# Mona -----------------------------------------------------------------------------------------------------------------


def test_mona_filters_the_stream_behind_both_branches(backbone: str) -> None:
    net = attached("mona", backbone, hidden=6)
    x, out = passed(net, 1)
    block = bare(backbone).blocks[1]
    inner = bare(backbone).model.get_submodule(block.path)
    attend = inner._attn if net.family == "swin" else inner.attn  # type: ignore[union-attr]

    def mona(branch: str, z: Tensor) -> Tensor:
        get = net.pet[f"{block.path}_{branch}".replace(".", "_")].get_parameter
        n = F.layer_norm(z, z.shape[-1:], get("norm.weight"), get("norm.bias"))
        a = (get("s1") * n + get("s2") * z) @ get("D.weight").T + get("D.bias")
        tokens = a.flatten(1, -2)

        def c(picture: Tensor) -> Tensor:
            mixed = picture
            for i, k in enumerate((3, 5, 7)):
                mixed = (
                    mixed
                    + F.conv2d(picture, get(f"c.w.{i}.weight"), get(f"c.w.{i}.bias"), padding=k // 2, groups=6) / 3
                )
            return (
                mixed
                + torch.einsum("oi,bihw->bohw", get("c.P.weight")[:, :, 0, 0], mixed)
                + get("c.P.bias")[:, None, None]
            )

        picture = tokens[:, block.prefix :].mT.unflatten(2, block.grid)
        single = [c(tokens[:, i, :, None, None])[:, None, :, 0, 0] for i in range(block.prefix)]
        filtered = torch.cat((*single, c(picture).flatten(2).mT), dim=1).view_as(a)
        return z + F.gelu(filtered) @ get("U.weight").T + get("U.bias")

    h = mona("attn", x + attend(inner.norm1(x)))  # type: ignore[operator]
    expected = mona("mlp", h + inner.mlp(inner.norm2(h)))  # type: ignore[operator]
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-9 * float(out.abs().max()))


# Bi-AdaptFormer -------------------------------------------------------------------------------------------------------


def two_valued(W: Tensor) -> Tensor:
    """Standardised, to the nearer of +-0.6745, and back."""
    z = (W - W.mean()) / W.std(correction=0)
    levels = torch.tensor([-0.6745, 0.6745], dtype=W.dtype)
    return levels[(z[..., None] - levels).abs().argmin(-1)] * W.std(correction=0) + W.mean()


def test_bi_adaptformer_computes_with_two_valued_matrices(backbone: str) -> None:
    net = attached("bi_adaptformer", backbone, hidden=6, scale=0.7)
    x, out = passed(net, 1)
    block = bare(backbone).blocks[1]
    inner = bare(backbone).model.get_submodule(block.path)
    attend = inner._attn if net.family == "swin" else inner.attn  # type: ignore[union-attr]
    get = net.pet[f"{block.path}_mlp".replace(".", "_")].get_parameter
    h = x + attend(inner.norm1(x))  # type: ignore[operator]
    adapter = (h @ two_valued(get("down.W")).T).relu() @ two_valued(get("up.W")).T
    expected = h + inner.mlp(inner.norm2(h)) + 0.7 * adapter  # type: ignore[operator]
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-9 * float(out.abs().max()))


def test_the_gradient_passes_the_rounding_unchanged() -> None:
    net = attached("bi_adaptformer", "pocket_vit", hidden=6)
    m, x = net.pet["blocks_0_mlp"].down, torch.randn(3, 128, dtype=torch.float64)  # type: ignore[union-attr]
    m(x).square().sum().backward()  # type: ignore[operator]
    W = two_valued(m.W.detach()).requires_grad_()  # type: ignore[union-attr, operator]
    F.linear(x, W).square().sum().backward()
    torch.testing.assert_close(m.W.grad, W.grad)  # type: ignore[union-attr]


def test_bi_adaptformer_is_stored_in_one_bit_a_weight(tmp_path: Path) -> None:
    counted = static_cost.count(make("bi_adaptformer"), "pocket_vit", 10)
    matrices, entry = 12, 200  # bytes that safetensors take to name two tensors
    expected = counted.params.method / 8 + matrices * 2 * 4
    assert expected < counted.storage_bytes.without_head < expected + matrices * entry
    torch.manual_seed(0)
    net = TunedModel.attach(random_view("pocket_vit", torch.float32).model, make("bi_adaptformer")).eval()
    net.save(tmp_path / "delta.safetensors")
    before = net(IMAGES.float())
    net.load(tmp_path / "delta.safetensors")
    assert torch.equal(net(IMAGES.float()), before)


@pytest.mark.parametrize("count", [1, 8, 13])
def test_booleans_are_bits_and_back(count: int) -> None:
    bits = torch.rand(count) < 0.5
    packed = to_bytes(bits)
    assert packed.dtype == torch.uint8 and len(packed) == -(-count // 8)
    assert torch.equal(from_bytes(packed)[:count], bits)
    assert int(packed[0]) == sum(int(bit) << i for i, bit in enumerate(bits[:8]))


# the frozen attention, lent: CVPT and VQT -----------------------------------------------------------------------------


def attention(block: Any, n: Tensor, tokens: Tensor) -> Tensor:
    """Of queries that look at other tokens, head by head, with the weights of a timm block."""
    M, heads = n.shape[-1], block.attn.num_heads
    (Wq, Wk, Wv), (bq, bk, bv) = block.attn.qkv.weight.chunk(3), block.attn.qkv.bias.chunk(3)
    q, k, v = n @ Wq.T + bq, tokens @ Wk.T + bk, tokens @ Wv.T + bv
    parts = []
    for h in range(heads):
        own = slice(h * M // heads, (h + 1) * M // heads)
        weights = (torch.einsum("bqd,bnd->bqn", q[..., own], k[..., own]) / (M // heads) ** 0.5).softmax(-1)
        parts.append(weights @ v[..., own])
    return torch.cat(parts, dim=-1) @ block.attn.proj.weight.T + block.attn.proj.bias


def test_cvpt_lets_the_stream_look_at_prompts_behind_the_attention() -> None:
    net = attached("cvpt", "pocket_vit", prompts=3)
    x, out = passed(net, 1)
    inner: Any = bare("pocket_vit").model.get_submodule("blocks.1")
    P = net.pet["blocks_1_attn"].get_parameter("P.tokens").expand(len(x), -1, -1)
    torch.testing.assert_close(attention(inner, inner.norm1(x), inner.norm1(x)), inner.attn(inner.norm1(x)))
    z = x + inner.attn(inner.norm1(x))
    z = z + attention(inner, inner.norm1(z), P)
    torch.testing.assert_close(out, z + inner.mlp(inner.norm2(z)), rtol=0, atol=1e-9 * float(out.abs().max()))


def test_vqt_gives_the_head_a_summary_of_every_block() -> None:
    net = attached("vqt", "pocket_vit", queries=2)
    model: Any = bare("pocket_vit").model
    x = model._pos_embed(model.patch_embed(IMAGES))
    summaries, m = [], net.pet["head"]
    for index, block in enumerate(model.blocks):
        Q = m.get_parameter(f"Q.{index}.tokens").expand(len(x), -1, -1)
        z = Q + attention(block, block.norm1(Q), block.norm1(x))
        summaries.append((z + block.mlp(block.norm2(z))).flatten(1))
        x = block(x)
    wide = torch.cat((model.head.weight, m.get_parameter("W.weight")), dim=1)
    features = torch.cat((model.norm(x)[:, 0], *summaries), dim=1)
    same(net, (features @ wide.T + model.head.bias).detach())


def test_no_gradient_of_vqt_passes_through_the_backbone() -> None:
    net, needs = attached("vqt", "pocket_vit"), []
    for block in net.blocks:
        net.model.get_submodule(block.path).register_forward_hook(lambda _, args, out: needs.append(out.requires_grad))
    net.model(IMAGES).sum().backward()
    assert needs == [False] * 6 and all(p.grad is not None and bool(p.grad.any()) for p in net.pet.parameters())


# all of them ----------------------------------------------------------------------------------------------------------

COUNTS = [
    ("gps", {}, VIT, 82_944),  # 9 k sum of D
    ("gps", {"k": 3}, VIT, 248_832),
    ("mona", {}, VIT, 2_684_928),
    ("bi_adaptformer", {}, VIT, 589_824),  # published: 72 KB of bits
    ("lora_plus", {}, VIT, 294_912),
    ("lora", {"magnitude": True}, VIT, 294_912 + 12 * 2 * 768),
    ("lora", {"start": "pissa"}, VIT, 294_912),
    ("karst", {}, VIT, 12 * 2 * (4 + 16 + 64 + 256 + 2 * 1536 * 15 // 16 + 2 * 768)),
    ("cvpt", {}, VIT, 12 * 10 * 768),
    ("vqt", {}, VIT, 12 * 768 * (1 + 10)),  # with a head of 10 classes
    ("cara", {}, VIT, 32 * ((768 + 12 + 64 + 36) + (768 + 768 + 108))),
    ("cara", {"rank": 8}, SWIN, 8 * sum(3 * dim + dim // 32 + 32 for dim in (96, 192, 384, 768)) + 8 * 12 * 12),
]


@pytest.mark.parametrize(("name", "settings", "backbone", "expected"), COUNTS)
def test_trained_parameters_are_those_of_the_closed_form(
    name: str, settings: dict[str, object], backbone: str, expected: int
) -> None:
    method = make(name, **settings)
    assert static_cost.count_params(method, backbone, 10).method == expected


OPTIONS: list[tuple[str, dict[str, object]]] = [
    ("gps", {"k": 4}),
    ("karst", {"rank": 3, "kernels": 3, "targets": ("qkv", "fc2")}),
    ("cara", {"rank": 7, "scale": 0.5}),
    ("lora_plus", {"targets": ("qkv", "proj")}),
    ("lora", {"magnitude": True, "targets": ("q", "fc1"), "alpha": 20.0}),
    ("lora", {"start": "pissa", "scale": "rslora"}),
]


@pytest.mark.parametrize(("name", "settings"), OPTIONS)
def test_merged_models_give_the_same_outputs(name: str, settings: dict[str, object], backbone: str) -> None:
    net, method = attached(name, backbone, **settings), make(name, **settings)
    assert method.count(net.shape) == cost.method_params(net)
    merged = cost.merged(method, net)
    assert merged is not None and not merged.pet
    out, before = conformance.logits(net, IMAGES), conformance.logits(bare(backbone), IMAGES)
    same(merged, out)
    assert not torch.allclose(out, before)


@pytest.mark.parametrize(
    ("name", "settings", "told"),
    [
        ("gps", {"k": 0}, "k = 0 and batches = 8 must be at least 1"),
        ("mona", {"dropout": 1.0}, "dropout = 1.0 in"),
        ("bi_adaptformer", {"scale": 0.0}, "scale not zero"),
        ("karst", {"kernels": 0}, "kernels = 0 must be at least 1"),
        ("karst", {"targets": ("q", "q")}, "each once"),
        ("cara", {"rank": 0}, "rank must be at least 1"),
        ("lora", {"start": "pissa", "magnitude": True}, "are two methods"),
        ("lora_plus", {"ratio": 0.0}, "ratio = 0.0 must be positive"),
        ("lora_plus", {"rank": 0}, "rank = 0 must be at least 1"),
    ],
)
def test_values_that_make_no_sense_are_refused(name: str, settings: dict[str, object], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        make(name, **settings)


def test_what_does_not_fit_is_refused_with_the_reason() -> None:
    with pytest.raises(Incompatible, match="A kernel of 32 must divide 48 and 48"):
        make("karst", kernels=5).attach(copy.deepcopy(bare("pocket_swin")))
    with pytest.raises(Incompatible, match=r"k = 200, but a neuron of blocks.0.attn.qkv has 128 inputs"):
        make("gps", k=200).attach(copy.deepcopy(bare("pocket_vit")))
