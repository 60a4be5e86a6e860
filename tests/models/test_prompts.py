"""Prompts against the whole forward pass rewritten in plain tensors: every image and every window by itself, float64."""

from __future__ import annotations

import copy
import math

import pytest
import timm
import torch
from helpers.views import random_view
from timm.models.swin_transformer import SwinTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from bench.core.errors import Incompatible, SideChannelError
from bench.models import backbones, cost
from bench.models.families import build_view
from bench.models.method import build
from bench.models.view import ModelView
from methods._prompts import Prompts, xavier_bound
from methods.vpt_deep import VPTDeep
from methods.vpt_shallow import VPTShallow

IMAGES = torch.randn(3, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
SWIN, VIT = "swin_tiny_patch4_window7_224", "vit_base_patch16_224"
METHODS = {"vpt_shallow": VPTShallow, "vpt_deep": VPTDeep}
Weights = dict[str, Tensor]


def prompted(backbone: str, indices: tuple[int, ...], number: int = 3) -> tuple[ModelView, dict[int, Tensor]]:
    """A random backbone with random prompts at some of its blocks, and these prompts."""
    net = random_view(backbone)
    modules = {i: Prompts(number + i % 2, net.blocks[i].dim, 2.0) for i in indices}
    net.add_prompts(modules)
    net.model.eval()
    return net, {i: m.tokens.detach() for i, m in modules.items()}


def attached(name: str, backbone: str, **settings: object) -> ModelView:
    net = random_view(backbone)
    build(METHODS[name], settings, name).attach(net)
    net.model.eval()
    return net


# ------------------------------------------------------------------------------------ the papers' networks, plainly


def norm(w: Weights, name: str, x: Tensor, eps: float = 1e-5) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt() * w[f"{name}.weight"] + w[f"{name}.bias"]


def mlp(w: Weights, path: str, x: Tensor) -> Tensor:
    hidden = x @ w[f"{path}.fc1.weight"].T + w[f"{path}.fc1.bias"]
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
    return hidden @ w[f"{path}.fc2.weight"].T + w[f"{path}.fc2.bias"]


def attention(w: Weights, path: str, x: Tensor, heads: int, added: Tensor | None = None) -> Tensor:
    """Of one set of tokens (N, D), with something (heads, N, N) added before the softmax."""
    size = x.shape[1] // heads
    q, k, v = (x @ w[f"{path}.qkv.weight"].T + w[f"{path}.qkv.bias"]).split(x.shape[1], dim=1)
    out = []
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        scores = q[:, part] @ k[:, part].T / math.sqrt(size)
        out.append((scores if added is None else scores + added[head]).softmax(-1) @ v[:, part])
    return torch.cat(out, dim=1) @ w[f"{path}.proj.weight"].T + w[f"{path}.proj.bias"]


def vit(w: Weights, image: Tensor, tokens: dict[int, Tensor], patch: int = 4, heads: int = 4, depth: int = 6) -> Tensor:
    """Logits of one image."""
    patches = image.unfold(1, patch, patch).unfold(2, patch, patch).permute(1, 2, 0, 3, 4).flatten(2).flatten(0, 1)
    x = patches @ w["patch_embed.proj.weight"].flatten(1).T + w["patch_embed.proj.bias"]
    x = torch.cat((w["cls_token"][0], x)) + w["pos_embed"][0]
    count = len(x) - 1
    for i in range(depth):
        if i in tokens:
            x = torch.cat((x[:1], tokens[i], x[-count:]))
        x = x + attention(w, f"blocks.{i}.attn", norm(w, f"blocks.{i}.norm1", x, 1e-6), heads)
        x = x + mlp(w, f"blocks.{i}.mlp", norm(w, f"blocks.{i}.norm2", x, 1e-6))
    return norm(w, "norm", x, 1e-6)[0] @ w["head.weight"].T + w["head.bias"]


def swin(w: Weights, image: Tensor, tokens: dict[int, Tensor]) -> Tensor:
    """Logits of one image from the pocket Swin: patch 2, window 4, every second block of a stage shifted by 2."""
    patches = image.unfold(1, 2, 2).unfold(2, 2, 2).permute(1, 2, 0, 3, 4).flatten(2)
    x = patches @ w["patch_embed.proj.weight"].flatten(1).T + w["patch_embed.proj.bias"]
    x = norm(w, "patch_embed.norm", x)
    p: Tensor | None = None
    for index in range(6):
        stage, number = divmod(index, 2)
        if stage and not number:
            path = f"layers.{stage}.downsample"
            four = [x[row::2, column::2] for column in range(2) for row in range(2)]
            x = norm(w, f"{path}.norm", torch.cat(four, dim=-1)) @ w[f"{path}.reduction.weight"].T
            if p is not None:
                p = norm(w, f"{path}.norm", torch.cat((p, p, p, p), dim=-1)) @ w[f"{path}.reduction.weight"].T
        p = tokens.get(index, p)
        shift = 2 if number and len(x) > 4 else 0
        x, p = swin_block(w, f"layers.{stage}.blocks.{number}", x, p, heads=2 * 2**stage, shift=shift)
    x = x.flatten(0, 1)
    last = norm(w, "norm", x if p is None else torch.cat((p, x)))
    return last.mean(0) @ w["head.fc.weight"].T + w["head.fc.bias"]


def swin_block(
    w: Weights, path: str, x: Tensor, p: Tensor | None, heads: int, shift: int, side: int = 4
) -> tuple[Tensor, Tensor | None]:
    """x (H, W, D) and prompts p (P, D)."""
    p = x.new_zeros(0, x.shape[-1]) if p is None else p
    size, table = len(x), w[f"{path}.attn.relative_position_bias_table"]
    places = [(row, column) for row in range(side) for column in range(side)]
    normed, entering = norm(w, f"{path}.norm1", x), norm(w, f"{path}.norm1", p)
    out, leaving = torch.zeros_like(x), []
    for top in range(0, size, side):
        for left in range(0, size, side):
            cells = [((top + r + shift) % size, (left + c + shift) % size) for r, c in places]
            wrapped = [(top + r + shift >= size, left + c + shift >= size) for r, c in places]  # came round the edge
            added = x.new_zeros(heads, len(p) + side * side, len(p) + side * side)
            for i, (r1, c1) in enumerate(places):
                for j, (r2, c2) in enumerate(places):
                    line = (r1 - r2 + side - 1) * (2 * side - 1) + c1 - c2 + side - 1
                    far = wrapped[i] != wrapped[j]
                    added[:, len(p) + i, len(p) + j] = -torch.inf if far else table[line]
            window = torch.stack([normed[cell] for cell in cells])
            both = attention(w, f"{path}.attn", torch.cat((entering, window)), heads, added)
            leaving.append(both[: len(p)])
            for cell, value in zip(cells, both[len(p) :], strict=True):
                out[cell] = value
    x, p = x + out, p + sum(leaving) / len(leaving)
    x, p = (t + mlp(w, f"{path}.mlp", norm(w, f"{path}.norm2", t)) for t in (x, p))
    return x, p if len(p) else None


PLACES = {"none": (), "shallow": (0,), "deep": (0, 1, 2, 3, 4, 5), "from the middle of a stage": (3,), "some": (1, 4)}


@pytest.mark.parametrize("where", PLACES)
def test_prompts_take_part_as_in_the_paper(where: str, backbone: str) -> None:
    net, tokens = prompted(backbone, PLACES[where]) if PLACES[where] else (random_view(backbone), {})
    weights = {name: value.detach() for name, value in net.model.state_dict().items()}
    plain = swin if backbone == "pocket_swin" else vit
    with torch.no_grad():
        expected = torch.stack([plain(weights, image, tokens) for image in IMAGES])
        assert float((net.model.eval()(IMAGES) - expected).abs().max()) < 1e-10
        features = net.model.forward_features(IMAGES)  # type: ignore[operator]
        pooled = net.model.forward_head(features, pre_logits=True)  # type: ignore[operator]
    torch.testing.assert_close(net.head(pooled), expected, rtol=0, atol=1e-10)


def test_prompts_stand_behind_the_registers() -> None:
    model = timm.create_model("test_vit3", num_classes=2, reg_tokens=2, class_token=True, pretrained=False).eval()
    net = build_view(model)
    prefix = net.blocks[0].prefix
    assert prefix == 3
    tokens = [Prompts(2, net.blocks[0].dim, 1.0), Prompts(5, net.blocks[0].dim, 1.0)]
    net.add_prompts({0: tokens[0], 1: tokens[1]})
    seen: list[Tensor] = []
    for block in model.blocks:
        block.norm1.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    size = model.patch_embed.img_size[0]
    model(torch.randn(2, 3, size, size))
    patches = math.prod(net.blocks[0].grid)
    for x, m in zip(seen, tokens, strict=False):
        assert x.shape[1] == prefix + len(m.tokens) + patches
        for image in x:
            assert torch.equal(image[prefix:-patches], m.tokens)


# --------------------------------------------------------------------------------------------------------- the methods


@pytest.mark.parametrize(
    ("name", "number", "backbone", "expected"),
    [
        ("vpt_deep", 100, VIT, 921_600),
        ("vpt_deep", 5, VIT, 46_080),
        ("vpt_shallow", 50, VIT, 38_400),
        ("vpt_deep", 100, SWIN, 441_600),
        ("vpt_deep", 10, SWIN, 44_160),
        ("vpt_shallow", 10, SWIN, 960),
        ("vpt_deep", 1, "swin_base_patch4_window7_224", 12_032),
        ("vpt_shallow", 1, "swin_base_patch4_window7_224", 128),
    ],
)
def test_counts(name: str, number: int, backbone: str, expected: int) -> None:
    method = build(METHODS[name], {"prompts": number}, name)
    with torch.device("meta"):
        net = build_view(backbones.create(backbone, classes=100, weights="random", device="meta"))
        method.attach(net)
    assert cost.method_params(net) == method.count(net.shape) == expected
    if (number, backbone) == (100, SWIN):
        assert sum(p.numel() for p in net.trainable_parameters().values()) == 518_500


@pytest.mark.parametrize(
    ("number", "linears", "total"), [(10, 9.6417, 10.0481), (50, 13.4107, 14.5548), (100, 18.1219, 20.7136)]
)
def test_flops_of_vpt_deep_on_swin_t_equal_the_published_numbers(number: int, linears: float, total: float) -> None:
    with torch.device("meta"):
        net = build_view(backbones.create(SWIN, classes=102, weights="random", device="meta"))
        VPTDeep(prompts=number).attach(net)
        compute = cost.compute(net, 224)
    assert compute.flops / 1e9 == pytest.approx(total, abs=5e-5)
    assert compute.flops_linear_conv is not None
    assert compute.flops_linear_conv / 1e9 == pytest.approx(linears, abs=5e-5)


@pytest.mark.parametrize("name", ["vpt_shallow", "vpt_deep"])
def test_prompts_start_uniform_in_the_range_of_the_patch_embedding(name: str, backbone: str) -> None:
    bound = {"pocket_vit": math.sqrt(6 / (3 * 16 + 128)), "pocket_swin": math.sqrt(6 / (3 * 4 + 48))}[backbone]
    for p in attached(name, backbone, prompts=200).pet.parameters():
        assert 0.99 * bound < float(p.detach().abs().max()) <= bound
        assert float(p.detach().std()) == pytest.approx(bound / math.sqrt(3), rel=0.03)


def test_the_range_on_vit_b_is_a_sixteenth() -> None:
    with torch.device("meta"):
        assert xavier_bound(build_view(timm.create_model(VIT, num_classes=2))) == 0.0625


def test_only_the_first_block_or_every_block_gets_prompts(backbone: str) -> None:
    for name, blocks in (("vpt_shallow", [0]), ("vpt_deep", [0, 1, 2, 3, 4, 5])):
        net = attached(name, backbone, prompts=7)
        assert {n: tuple(p.shape) for n, p in net.pet.named_parameters()} == {
            f"prompts_{i}.tokens": (7, net.blocks[i].dim) for i in blocks
        }


def test_dropout_acts_on_the_prompts_while_training() -> None:
    for name, rate in (("vpt_deep", 0.1), ("vpt_shallow", 0.0), ("vpt_shallow", 0.5)):
        net = attached(name, "pocket_vit", **({} if (name, rate) != ("vpt_shallow", 0.5) else {"dropout": 0.5}))
        m = net.pet["prompts_0"]
        assert isinstance(m, Prompts) and m.dropout.p == rate
        assert torch.equal(m(), m.tokens)
        m.train()
        kept = m() != 0
        assert bool(kept.all()) == (rate == 0)
        torch.testing.assert_close(m()[m() != 0].abs().max(), m.tokens.abs().max() / (1 - rate), rtol=0.2, atol=0)


def test_settings_without_sense_are_refused() -> None:
    for name in ("vpt_shallow", "vpt_deep"):
        for wrong in ({"prompts": 0}, {"dropout": 1.0}):
            with pytest.raises(Exception, match="must be at least 1"):
                build(METHODS[name], wrong, name)


def test_a_swin_that_does_not_end_with_an_average_is_refused() -> None:
    with torch.device("meta"):
        try:
            model = timm.create_model(SWIN, num_classes=2, global_pool="max")
        except AssertionError:
            pytest.skip(f"timm {timm.__version__} builds no such Swin")
        net = build_view(model)
        with pytest.raises(Incompatible, match="final average"):
            VPTDeep().attach(net)


# ----------------------------------------------------------------------------------------- what else a model is put to


def gradients(net: ModelView, images: Tensor = IMAGES) -> list[Tensor]:
    net.model.zero_grad()
    net.model(images).square().sum().backward()
    found = [p.grad for p in net.trainable_parameters().values()]
    assert all(g is not None for g in found)
    return [g.clone() for g in found if g is not None]


def fuse(net: ModelView, fused: bool) -> None:
    for module in net.model.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = fused  # type: ignore[assignment]


@pytest.mark.parametrize("name", ["vpt_shallow", "vpt_deep"])
def test_fused_attention_gives_the_same(name: str, backbone: str) -> None:
    net = attached(name, backbone)
    results = []
    for fused in (False, True):
        fuse(net, fused)
        results.append([net.model(IMAGES).detach(), *gradients(net)])
    for plain, quick in zip(*results, strict=True):
        torch.testing.assert_close(plain, quick, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["vpt_shallow", "vpt_deep"])
def test_bf16_autocast_stays_near_with_fused_attention_too(name: str, backbone: str) -> None:
    net, images = attached(name, backbone), IMAGES.float()
    net.model.float()
    exact = net.model(images).detach()
    for fused in (False, True):
        fuse(net, fused)
        with torch.autocast("cpu", torch.bfloat16):
            out = net.model(images)
        gap = (out.detach().float() - exact).norm() / exact.norm()
        assert float(gap) < 0.05
    out.float().square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in net.trainable_parameters().values())


@pytest.mark.parametrize("name", ["vpt_shallow", "vpt_deep"])
def test_checkpointing_gives_the_same_gradients_or_is_refused(name: str, backbone: str) -> None:
    net = attached(name, backbone, dropout=0.0)
    expected = gradients(net)
    net.model.set_grad_checkpointing(True)  # type: ignore[operator]
    if (name, backbone) == ("vpt_shallow", "pocket_swin"):
        with pytest.raises(SideChannelError, match="gradient checkpointing cannot be used"):
            gradients(net)
        net.model.set_grad_checkpointing(False)  # type: ignore[operator]
    for _ in range(2):
        for found, right in zip(gradients(net), expected, strict=True):
            torch.testing.assert_close(found, right, rtol=1e-9, atol=1e-9)


def test_a_recomputed_block_never_takes_prompts_that_another_left() -> None:
    """In the backward pass block 5, which has its own, is recomputed right before block 4, which has not."""
    net, _ = prompted("pocket_swin", (0, 5))
    net.model.set_grad_checkpointing(True)  # type: ignore[operator]
    with pytest.raises(SideChannelError, match="gradient checkpointing cannot be used"):
        gradients(net)


@pytest.mark.slow
def test_a_compiled_swin_gives_the_same() -> None:
    """In one graph, with a shifted block and a merging. (`compiles` of bench.tools.conformance runs the pocket backbones.)"""
    small = {"img_size": 16, "patch_size": 2, "embed_dim": 8, "depths": (2, 1), "num_heads": (1, 2), "window_size": 4}
    net = build_view(SwinTransformer(**small, num_classes=2, drop_path_rate=0.0).double().eval())
    net.add_prompts({0: Prompts(2, 8, 1.0), 1: Prompts(3, 8, 1.0)})
    torch._dynamo.reset()
    compiled = torch.compile(net.model, backend="aot_eager", fullgraph=True)
    for images in (IMAGES[..., :16, :16], IMAGES[..., 16:, 16:]):
        torch.testing.assert_close(compiled(images), net.model(images), rtol=0, atol=1e-10)
    torch._dynamo.reset()


@torch.no_grad()
def test_a_copy_has_prompts_and_hooks_of_its_own(backbone: str) -> None:
    for name in ("vpt_shallow", "vpt_deep"):
        net = attached(name, backbone)
        before = net.model(IMAGES)
        twin = copy.deepcopy(net)
        for p in twin.pet.parameters():
            p.copy_(torch.randn_like(p))
        changed = twin.model(IMAGES)
        assert torch.equal(net.model(IMAGES), before) and not torch.allclose(changed, before)
        for p in net.pet.parameters():
            p.copy_(torch.randn_like(p))
        assert torch.equal(twin.model(IMAGES), changed) and not torch.allclose(net.model(IMAGES), before)


def test_nothing_is_left_on_the_wires_of_a_forward_pass() -> None:
    from bench.models.hooks import SideChannel

    for name in ("vpt_shallow", "vpt_deep"):
        net = attached(name, "pocket_swin")
        net.model(IMAGES)
        hooks = [
            hook
            for module in net.model.modules()
            for table in (module._forward_hooks, module._forward_pre_hooks)
            for hook in table.values()
        ]
        wires = [value for hook in hooks for value in vars(hook).values() if isinstance(value, SideChannel)]
        assert len(wires) > 6 and all(wire.value is None for wire in wires)


def test_modules_of_a_norm_act_on_the_prompts_too() -> None:
    """A prompt goes through the same norms as the patches, whatever stands on them: here the norm's scale is doubled."""

    class Double(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * x

    net, tokens = prompted("pocket_swin", (0,))
    weights = {n: v.detach().clone() for n, v in net.model.state_dict().items()}
    for block in net.blocks:
        block.attn.entry.then(Double())
        for part in ("weight", "bias"):
            weights[f"{block.path}.norm1.{part}"] *= 2
    with torch.no_grad():
        expected = torch.stack([swin(weights, image, tokens) for image in IMAGES])
        assert float((F.mse_loss(net.model(IMAGES), expected)).sqrt()) < 1e-10
