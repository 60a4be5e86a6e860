"""SPT, DA-VPT and LST against their equations: plain tensors, every weight random, float64; choice, counts, merging."""

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
from torch import Tensor
from torch.nn import functional as F

from bench.core.errors import Incompatible, UsageError
from bench.models import cost, registry, static_cost
from bench.models.families import build_view
from bench.models.method import Method, build
from bench.models.tuned_model import TunedModel
from bench.models.view import ModelView
from bench.tools import conformance
from methods import _kmeans, da_vpt, spt_adapter

VIT = "vit_base_patch16_224"
IMAGES = torch.randn(4, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
LABELS = torch.tensor([0, 1, 0, 3])

bare = cache(random_view)  # never changed: copied, or only called


def make(name: str, **settings: object) -> Method:
    return build(registry.load(name), settings, name)


def batches(count: int) -> Iterator[tuple[Tensor, Tensor]]:
    return iter([(IMAGES, LABELS), (IMAGES.flip(0), LABELS)][:count])


def randomised(net: ModelView) -> ModelView:
    with torch.no_grad():
        for parameter in net.pet.parameters():
            parameter.copy_(torch.randn_like(parameter) / parameter.shape[-1] ** 0.5)
    net.model.eval()
    return net


def calibrated(method: Method, backbone: str) -> ModelView:
    net = copy.deepcopy(bare(backbone))
    method.attach(net)
    method.calibrate(net, batches)
    return net


def same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9 * float(expected.detach().abs().max()))


# SPT ------------------------------------------------------------------------------------------------------------------


@cache
def squares(backbone: str) -> dict[str, Tensor]:
    """The squared gradients of the cross-entropy of two batches, summed, by the label of a linear; by backward()."""
    net = copy.deepcopy(bare(backbone))
    for _, parameter in net.backbone_parameters():
        parameter.requires_grad_(True)
    total: dict[str, Tensor] = {}
    for images, labels in batches(2):
        net.model.zero_grad()
        (-net.model(images).log_softmax(1)[torch.arange(4), labels]).mean().backward()
        for block in net.blocks:
            for name in ("q", "k", "v", "proj", "fc1", "fc2"):
                slot = block.linear[name]
                gradient = slot.module.get_parameter("weight").grad
                assert gradient is not None
                total[slot.label] = total.get(slot.label, torch.tensor(0.0)) + gradient[slot.columns] ** 2
    return total


def test_spt_trains_the_most_sensitive_weights_and_gives_matrices_with_many_a_low_rank_update(backbone: str) -> None:
    method = make("spt", budget=0.02, rank=2, batches=2)
    net, S = calibrated(method, backbone), squares(backbone)
    tau = round(0.02 * sum(s.numel() for s in S.values()))
    threshold = torch.cat([s.flatten() for s in S.values()]).sort(descending=True).values[tau - 1]
    kinds = set()
    for label, s in S.items():
        places = set((s >= threshold).flatten().nonzero()[:, 0].tolist())
        m: Any = dict(net.pet.items()).get(label.replace(".", "_"))
        if len(places) >= 2 * sum(s.shape):
            assert type(m).__name__ == "LowRank" and (m.A.shape, m.B.shape) == ((2, s.shape[1]), (s.shape[0], 2))
            bound = s.shape[1] ** -0.5
            assert not m.B.any() and 0.9 * bound < float(m.A.detach().abs().max()) <= bound
        elif places:
            assert set(m.index.tolist()) == places and not m.values.any()
        kinds.add(type(m).__name__)
    assert kinds >= {"LowRank", "SparseUpdate"}  # both kinds of tuning take part in this test
    assert cost.method_params(net) <= tau
    assert not any(p.requires_grad for _, p in net.backbone_parameters())


def test_spt_adds_what_it_trains_to_these_weights(backbone: str) -> None:
    net = randomised(calibrated(make("spt", budget=0.02, rank=2, batches=2), backbone))
    plain = copy.deepcopy(bare(backbone))
    with torch.no_grad():
        for block in plain.blocks:
            for name in ("q", "k", "v", "proj", "fc1", "fc2"):
                slot = block.linear[name]
                W = slot.module.get_parameter("weight")[slot.columns]
                m: Any = dict(net.pet.items()).get(slot.label.replace(".", "_"))
                if m is not None and hasattr(m, "index"):
                    for place, value in zip(m.index.tolist(), m.values[0], strict=True):
                        W[place // slot.d_in, place % slot.d_in] += value
                elif m is not None:
                    W += m.B @ m.A
    same(net.model(IMAGES), plain.model(IMAGES))
    merged = cost.merged(make("spt"), net)
    assert merged is not None and not merged.pet
    same(conformance.logits(merged, IMAGES), conformance.logits(net, IMAGES))


def test_spt_adapter_puts_bottlenecks_beside_the_sensitive_matrices() -> None:
    method = make("spt_adapter", budget=0.02, rank=2, batches=2, ease=1e9)  # wherever there is one sensitive weight
    net = randomised(calibrated(method, "pocket_vit"))
    m: Any = net.pet["blocks_1_attn_proj"]
    seen: list[Tensor] = []
    proj = net.blocks[1].linear["proj"].module
    proj.register_forward_hook(lambda _, args, y: seen.extend((args[0], y)))
    net.model(IMAGES)
    x, y = seen
    W, b = proj.get_parameter("weight"), proj.get_parameter("bias")
    hidden = F.gelu(x @ m[0].weight.T + m[0].bias)
    same(y, x @ W.T + b + hidden @ m[2].weight.T + m[2].bias)
    assert cost.merged(method, net) is None
    start: Any = spt_adapter.Bottleneck(6, 5, 2)
    assert not start(torch.randn(3, 6)).any()


def test_spt_comes_back_from_a_file(tmp_path: Path) -> None:
    """A fresh model has other places, and no low-rank updates, until it is told."""
    method = make("spt", budget=0.02, rank=2, batches=2)
    single = [(images.float(), labels) for images, labels in batches(2)]
    net = TunedModel.attach(random_view("pocket_vit", torch.float32).model, method)
    net.calibrate(lambda count: iter(single[:count]))
    randomised(net.view)
    before = net.eval()(IMAGES.float())
    net.save(tmp_path / "delta.safetensors")
    other = TunedModel.attach(random_view("pocket_vit", torch.float32).model, method).eval()
    assert not torch.equal(other(IMAGES.float()), before)
    other.load(tmp_path / "delta.safetensors")
    assert torch.equal(other(IMAGES.float()), before)
    assert set(other.trainable_parameters()) == set(net.trainable_parameters())


@pytest.mark.parametrize("name", ["spt", "spt_adapter"])
def test_spt_keeps_its_promises_where_matrices_are_tuned_as_a_whole(name: str) -> None:
    method = make(name, budget=0.02, rank=2, ease=5.0)
    assert {check: fault for check, fault in conformance.run(method, "pocket_vit") if fault} == {}


def test_the_threshold_of_spt_adapter_counts_the_biases() -> None:
    slot = bare("pocket_vit").blocks[0].linear["fc1"]
    sizes = [make(name, rank=2).structured_size(slot) for name in ("spt", "spt_adapter")]  # type: ignore[attr-defined]
    assert sizes == [2 * (128 + 512), 2 * (128 + 512) + 2 + 512]
    assert sizes[1] == sum(p.numel() for p in make("spt_adapter", rank=2).structured(slot).parameters())  # type: ignore[attr-defined]


# DA-VPT ---------------------------------------------------------------------------------------------------------------


def slow_anchor(z: Tensor, P: Tensor, prompt_of: list[int], labels: Tensor) -> float:
    """Kim et al. 2020, eq. 4, pair by pair; both sums averaged over all prompts."""
    total = 0.0
    for p, prompt in enumerate(P):
        pull = push = 0.0
        for i, row in enumerate(z):
            s = float(row @ prompt / row.norm() / prompt.norm())
            if prompt_of[int(labels[i])] == p:
                pull += math.exp(-32 * (s - 0.1))
            else:
                push += math.exp(32 * (s + 0.1))
        total += math.log(1 + pull) + math.log(1 + push)
    return total / len(P)


def test_da_vpt_draws_prompts_to_the_tokens_of_their_classes() -> None:
    method = make("da_vpt", prompts=3, beta=0.7, lambda_=0.2, guided=2, batches=2)
    net = randomised(calibrated(method, "pocket_vit"))
    seen: list[Tensor] = []
    for block in net.blocks[-2:]:
        block.norm["norm1"].module.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    term = method.loss(net.model(IMAGES), LABELS, net)
    prompt_of, expected = da_vpt.guide(net).prompt_of.tolist(), 0.0
    for index, tokens in zip((4, 5), seen, strict=True):
        P = net.pet[f"prompts_{index}"].get_parameter("tokens").detach()
        torch.testing.assert_close(tokens[:, 1:4], P.expand(4, -1, -1))
        x, c = tokens[:, 4:].mean(1), tokens[:, 0]
        expected += 0.7 * slow_anchor(x, P, prompt_of, LABELS) + 0.2 * slow_anchor(c, P, prompt_of, LABELS)
    assert term is not None
    assert float(term.detach()) == pytest.approx(expected / 2, rel=1e-5)  # the term is computed in float32
    term.backward()
    assert net.pet["prompts_5"].get_parameter("tokens").grad is not None


def test_da_vpt_counts_an_image_of_several_classes_for_each_of_them() -> None:
    hot = F.one_hot(LABELS, 5)
    method = make("da_vpt", prompts=5, batches=1)
    net = randomised(calibrated(method, "pocket_vit"))
    assert torch.equal(da_vpt.hot(LABELS, 5), hot) and da_vpt.hot(hot, 5) is hot
    terms = [method.loss(net.model(IMAGES), labels, net) for labels in (LABELS, hot.double())]
    assert terms[0] is not None and torch.equal(terms[0], terms[1])  # type: ignore[arg-type]


def test_da_vpt_is_vpt_deep_with_a_term_of_the_loss() -> None:
    net, other = (copy.deepcopy(bare("pocket_vit")) for _ in range(2))
    make("da_vpt", prompts=4).attach(net)
    make("vpt_deep", prompts=4).attach(other)
    randomised(net)
    with torch.no_grad():
        for name, prompts in other.pet.items():
            prompts.get_parameter("tokens").copy_(net.pet[name].get_parameter("tokens"))
    assert torch.equal(net.model(IMAGES), other.model.eval()(IMAGES))


def test_classes_that_look_alike_share_a_prompt() -> None:
    directions = torch.eye(8, dtype=torch.float64)[[0, 3, 3, 0, 6, 3]]
    means = directions * torch.tensor([1.0, 2, 5, 9, 1, 3])[:, None] + 0.01 * torch.randn(6, 8, dtype=torch.float64)
    found = _kmeans.clusters(means, 3).tolist()
    assert found[0] == found[3] and found[1] == found[2] == found[5] and len(set(found)) == 3
    assert _kmeans.clusters(means, 6).tolist() == list(range(6))


def test_a_class_without_images_has_a_prompt_all_the_same() -> None:
    net = calibrated(make("da_vpt", prompts=2, batches=2), "pocket_vit")
    found = da_vpt.guide(net).prompt_of.tolist()
    assert found[2] == 0 and found[4] == 0 and set(found) == {0, 1}  # 2 and 4 of five classes are not in LABELS


# LST ------------------------------------------------------------------------------------------------------------------


def plain_block(m: Any, x: Tensor, heads: int) -> Tensor:
    """A pre-norm transformer block, head by head."""
    width = x.shape[-1]
    n = F.layer_norm(x, (width,), m.norm1.weight, m.norm1.bias, 1e-6)
    q, k, v = (n @ W.T + b for W, b in zip(m.qkv.weight.chunk(3), m.qkv.bias.chunk(3), strict=True))
    parts = []
    for h in range(heads):
        own = slice(h * width // heads, (h + 1) * width // heads)
        weights = (q[..., own] @ k[..., own].mT / (width // heads) ** 0.5).softmax(-1)
        parts.append(weights @ v[..., own])
    x = x + torch.cat(parts, -1) @ m.proj.weight.T + m.proj.bias
    n = F.layer_norm(x, (width,), m.norm2.weight, m.norm2.bias, 1e-6)
    return x + F.gelu(n @ m.fc1.weight.T + m.fc1.bias) @ m.fc2.weight.T + m.fc2.bias  # type: ignore[no-any-return]


def test_lst_reads_every_block_and_gives_the_head_its_own_features() -> None:
    net = copy.deepcopy(bare("pocket_vit"))
    make("lst", reduction=4, temperature=0.5).attach(net)
    m: Any = randomised(net).pet["head"]
    model: Any = bare("pocket_vit").model
    x = model._pos_embed(model.patch_embed(IMAGES))
    g = x @ m.down[0].weight.T + m.down[0].bias
    for index, block in enumerate(model.blocks):
        x = block(x)
        mu = 1 / (1 + torch.exp(-m.a[index] / 0.5))
        g = plain_block(
            m.blocks[index], mu * g + (1 - mu) * (x @ m.down[index + 1].weight.T + m.down[index + 1].bias), 4
        )
    f = F.layer_norm(g[:, 0], (32,), m.norm.weight, m.norm.bias) @ m.up.weight.T + m.up.bias
    same(net.model(IMAGES), f @ model.head.weight.T + model.head.bias)


def test_no_gradient_of_lst_passes_through_the_backbone() -> None:
    net, needs = copy.deepcopy(bare("pocket_vit")), []
    make("lst").attach(net)
    for block in net.blocks:
        net.model.get_submodule(block.path).register_forward_hook(lambda _, args, out: needs.append(out.requires_grad))
    randomised(net).model(IMAGES).sum().backward()
    assert needs == [False] * 6 and all(p.grad is not None and bool(p.grad.any()) for p in net.pet.parameters())


def test_lst_averages_the_patches_where_the_backbone_does() -> None:
    from timm.models.vision_transformer import VisionTransformer

    torch.manual_seed(0)
    model = VisionTransformer(
        img_size=16, patch_size=8, embed_dim=16, depth=1, num_heads=2, num_classes=3, reg_tokens=2, global_pool="avg"
    )
    net = build_view(model.eval())
    make("lst", reduction=2).attach(net)
    m: Any = net.pet["head"]
    seen: list[Tensor] = []
    m.blocks[-1].register_forward_hook(lambda _, args, out: seen.append(out))
    m.norm.register_forward_hook(lambda _, args, out: seen.append(args[0]))
    model(torch.randn(2, 3, 16, 16))
    torch.testing.assert_close(seen[1], seen[0][:, 3:].mean(1))  # behind a class token and two registers


# all of them ----------------------------------------------------------------------------------------------------------

COUNTS = [
    ("da_vpt", {}, 12 * 20 * 768),
    ("da_vpt", {"biases": True}, 12 * 20 * 768 + 12 * 11 * 768),
    # 13 ladders of 768 + 1 times 96, one way back, and 12 blocks of width 96 with a gate each
    ("lst", {}, 13 * 769 * 96 + 97 * 768 + 12 * (12 * 96**2 + 13 * 96 + 1) + 2 * 96),
    ("spt", {}, 48 * 2949 + 24 * 11_796),  # what each matrix has of the budget, until data are seen
]


@pytest.mark.parametrize(("name", "settings", "expected"), COUNTS)
def test_trained_parameters_are_those_of_the_closed_form(name: str, settings: dict[str, object], expected: int) -> None:
    assert static_cost.count_params(make(name, **settings), VIT, 10).method == expected


@pytest.mark.parametrize(
    ("name", "settings", "told"),
    [
        ("spt", {"budget": 0.0}, "budget = 0.0 must lie in"),
        ("spt", {"rank": 0}, "rank = 0 and batches = 8 must be at least 1"),
        ("da_vpt", {"prompts": 0}, "prompts = 0, guided = 1"),
        ("da_vpt", {"beta": -1.0}, "beta = -1.0"),
        ("lst", {"reduction": 0}, "reduction = 0 must be at least 1"),
        ("lst", {"temperature": 0.0}, "temperature = 0.0 positive"),
    ],
)
def test_values_that_make_no_sense_are_refused(name: str, settings: dict[str, object], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        make(name, **settings)


def test_what_does_not_fit_is_refused_with_the_reason() -> None:
    net = copy.deepcopy(bare("pocket_vit"))
    with pytest.raises(
        Incompatible, match="guided = 9 blocks with a class token are needed; there are 6 blocks with 1"
    ):
        make("da_vpt", guided=9).attach(net)
    with pytest.raises(Incompatible, match="Width 128 / reduction 64 must be a multiple of the 4 heads"):
        make("lst", reduction=64).attach(net)
    with pytest.raises(Incompatible, match="is less than one weight of"):
        make("spt", budget=1e-6).attach(net)
