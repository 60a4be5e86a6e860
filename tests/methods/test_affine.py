"""Methods that are affine between two frozen layers: each against its paper's equation in plain tensors, then merged."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import cache

import pytest
import timm
import torch
from helpers.views import random_view
from torch import Tensor, nn
from torch.nn import functional as F

from bench.core.errors import Incompatible, UsageError
from bench.models import cost, registry
from bench.models.families import build_view
from bench.models.method import Method, build
from bench.models.view import ModelView

IMAGES = torch.randn(2, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
VIT, SWIN = "vit_base_patch16_224", "swin_base_patch4_window7_224"


load = cache(registry.load)


@cache
def published(backbone: str) -> ModelView:
    with torch.device("meta"):
        return build_view(timm.create_model(backbone, num_classes=1))


def make(name: str, **settings: object) -> Method:
    return build(load(name), settings, name)


def attached(name: str, backbone: str, **settings: object) -> ModelView:
    """A random backbone with the method on it, every one of whose parameters is random, too."""
    net = random_view(backbone)
    make(name, **settings).attach(net)
    with torch.no_grad():
        for parameter in net.pet.parameters():
            parameter.copy_(torch.randn_like(parameter) / parameter.shape[-1] ** 0.5)
    net.model.eval()
    return net


def oracle(
    backbone: str,
    after: Mapping[str, Callable[[Tensor, Tensor], Tensor]] | None = None,
    before: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
) -> Tensor:
    """The bare backbone's logits with functions of (input, output) behind, and of the input before, some layers."""
    model = random_view(backbone).model
    for path, f in (after or {}).items():
        model.get_submodule(path).register_forward_hook(lambda _, args, y, f=f: f(args[0], y))
    for path, f in (before or {}).items():
        model.get_submodule(path).register_forward_pre_hook(lambda _, args, f=f: (f(args[0]), *args[1:]))
    out: Tensor = model(IMAGES)
    return out


def tensors(net: ModelView, path: str) -> dict[str, Tensor]:
    """The parameters of what the method put at `path`."""
    return dict(net.pet[path.replace(".", "_")].named_parameters())


def same(net: ModelView, expected: Tensor) -> None:
    torch.testing.assert_close(net.model(IMAGES), expected, rtol=0, atol=1e-10 * float(expected.detach().abs().max()))


def norm_paths(net: ModelView) -> list[str]:
    return [name for name, m in net.model.named_modules() if isinstance(m, nn.LayerNorm)]


def scale_shift(net: ModelView, path: str) -> Callable[[Tensor, Tensor], Tensor]:
    p = tensors(net, path)
    if path == "patch_embed.proj":
        return lambda x, y: p["gamma"][:, None, None] * y + p["beta"][:, None, None]
    return lambda x, y: p["gamma"] * y + p["beta"]


def test_ssf_scales_and_shifts_every_channel_behind_every_layer(backbone: str) -> None:
    net = attached("ssf", backbone)
    linears = [f"{b.path}.{part}" for b in net.blocks for part in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")]
    sites = ["patch_embed.proj", *norm_paths(net), *linears]
    assert set(net.pet) == {site.replace(".", "_") for site in sites}
    assert len(sites) == (6 * 6 + 2 if backbone == "pocket_vit" else 6 * 6 + 5)  # Swin: patch norm, two mergings
    same(net, oracle(backbone, after={site: scale_shift(net, site) for site in sites}))


def test_ssf_starts_from_its_two_normal_distributions() -> None:
    net = random_view("pocket_vit")
    torch.manual_seed(0)
    make("ssf").attach(net)
    for letter, mean in (("gamma", 1.0), ("beta", 0.0)):
        values = torch.cat([p.detach() for name, p in net.pet.named_parameters() if name.endswith(letter)])
        assert float(values.mean()) == pytest.approx(mean, abs=2e-3)
        assert float(values.std()) == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"hidden": 4, "groups": 1, "scale": 3.0},
        {"hidden": 8, "groups": 4, "dropout": 0.0},
        {"branches": "attn", "scale": 0.5},
    ],
)
def test_repadapter_is_a_grouped_linear_bottleneck_before_qkv_and_fc1(
    settings: dict[str, object], backbone: str
) -> None:
    net = attached("repadapter", backbone, **settings)
    scale, groups = settings.get("scale", 1.0), settings.get("groups", 2)

    def adapter(path: str) -> Callable[[Tensor], Tensor]:
        p = tensors(net, path)

        def f(x: Tensor) -> Tensor:
            hidden = (x @ p["A.weight"].T + p["A.bias"]).chunk(groups, dim=-1)  # type: ignore[arg-type]
            return x + scale * (torch.cat([h @ B.T for h, B in zip(hidden, p["B"], strict=True)], dim=-1) + p["b"])

        return f

    parts = ("attn.qkv",) if settings.get("branches") == "attn" else ("attn.qkv", "mlp.fc1")
    sites = [f"{block.path}.{part}" for block in net.blocks for part in parts]
    assert len(net.pet) == len(sites)
    same(net, oracle(backbone, before={site: adapter(site) for site in sites}))


@pytest.mark.parametrize("settings", [{}, {"rank": 7}, {"branches": "attn"}])
def test_arc_recomposes_one_shared_projection(settings: dict[str, object], backbone: str) -> None:
    net = attached("arc", backbone, **settings)

    def adapter(path: str) -> Callable[[Tensor], Tensor]:
        p = net.pet[path.replace(".", "_")]
        return lambda x: x + x @ (p.U @ torch.diag(p.c) @ p.U.T) + p.b  # type: ignore[union-attr, operator, arg-type]

    parts = ("attn.qkv",) if settings.get("branches") == "attn" else ("attn.qkv", "mlp.fc1")
    sites = [f"{block.path}.{part}" for block in net.blocks for part in parts]
    assert len(net.pet) == len(sites)
    same(net, oracle(backbone, before={site: adapter(site) for site in sites}))
    shared = {
        (block.dim, part): {
            id(net.pet[f"{b.path}.{part}".replace(".", "_")].U) for b in net.blocks if b.dim == block.dim
        }
        for block in net.blocks
        for part in parts
    }
    assert all(len(one) == 1 for one in shared.values())  # one U for a width and a branch
    assert len(set.union(*shared.values())) == len(shared)  # and no other has it


@pytest.mark.parametrize("patches", [False, True])
def test_rlrr_rescales_each_weight_and_shifts_each_output(patches: bool, backbone: str) -> None:
    net = attached("rlrr", backbone, patches=patches)
    bare = random_view(backbone)

    def rescaled(layer: str, labels: tuple[str, ...]) -> Callable[[Tensor, Tensor], Tensor]:
        W, b = bare.model.get_parameter(f"{layer}.weight"), bare.model.get_parameter(f"{layer}.bias")
        parts = []
        for rows, label in zip(W.chunk(len(labels)), labels, strict=True):
            p = tensors(net, label)
            parts.append(rows * (1 + torch.outer(p["l"].flatten(), p["c"].flatten())))
        shift = torch.cat([tensors(net, label)["t"] for label in labels])
        return lambda x, y: x @ torch.cat(parts).T + b + shift

    after = {path: scale_shift(net, path) for path in [*norm_paths(net), *["patch_embed.proj"][:patches]]}
    for block in net.blocks:
        qkv = tuple(f"{block.path}.attn.{letter}" for letter in "qkv")
        after[f"{block.path}.attn.qkv"] = rescaled(f"{block.path}.attn.qkv", qkv)
        for part in ("attn.proj", "mlp.fc1", "mlp.fc2"):
            after[f"{block.path}.{part}"] = rescaled(f"{block.path}.{part}", (f"{block.path}.{part}",))
    assert len(net.pet) == len(after) + 2 * len(net.blocks)
    same(net, oracle(backbone, after))


def test_rlrr_reads_the_frozen_weight_of_its_own_model_without_owning_it(backbone: str) -> None:
    net = attached("rlrr", backbone)
    before = net.model(IMAGES)
    twin = copy.deepcopy(net)
    label = net.blocks[1].linear["k"].label.replace(".", "_")
    path = net.blocks[1].linear["k"].path
    assert twin.pet[label].frozen[0] is twin.model.get_submodule(path) is not net.model.get_submodule(path)
    assert torch.equal(twin.model(IMAGES), before)
    with torch.no_grad():
        net.model.get_parameter(f"{path}.weight").mul_(2)
    assert not torch.equal(net.model(IMAGES), before) and torch.equal(twin.model(IMAGES), before)
    assert {name.rpartition(".")[2] for name in net.pet.state_dict()} == {"c", "l", "t", "gamma", "beta"}


@pytest.mark.parametrize("settings", [{}, {"rank": 5, "scale": 0.3}])
def test_hydra_adds_a_branch_on_the_input_and_one_on_the_output(settings: dict[str, object], backbone: str) -> None:
    net = attached("hydra", backbone, **settings)
    scale = settings.get("scale", 1.0)

    def branches(path: str) -> Callable[[Tensor, Tensor], Tensor]:
        sequential, parallel = tensors(net, path), tensors(net, f"{path}x")

        def branch(p: dict[str, Tensor], x: Tensor) -> Tensor:
            return (x @ p["A.weight"].T + p["A.bias"]) @ p["B.weight"].T + p["B.bias"]

        return lambda x, y: y + scale * branch(parallel, x) + scale * branch(sequential, y)

    sites = [f"{block.path}.{part}" for block in net.blocks for part in ("attn.proj", "mlp.fc2")]
    assert len(net.pet) == 2 * len(sites)
    same(net, oracle(backbone, after={site: branches(site) for site in sites}))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("ssf", {}),
        ("repadapter", {"scale": 0.5}),
        ("repadapter", {"hidden": 8, "groups": 4, "branches": "attn"}),
        ("arc", {}),
        ("arc", {"rank": 9, "branches": "attn"}),
        ("rlrr", {}),
        ("rlrr", {"patches": False}),
        ("hydra", {}),
        ("hydra", {"rank": 3, "scale": 0.1}),
    ],
)
def test_folded_models_give_the_same_outputs_and_keep_nothing(
    name: str, settings: dict[str, object], backbone: str
) -> None:
    net = attached(name, backbone, **settings)
    bare = random_view(backbone).model
    merged = cost.merged(make(name, **settings), net)
    assert merged is not None and not merged.pet and not merged.added_modules
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in merged.model.modules())
    assert dict(merged.model.named_parameters()).keys() == dict(bare.named_parameters()).keys()
    with torch.no_grad():
        out, after, before = net.model(IMAGES), merged.model(IMAGES), bare(IMAGES)
    assert float((after - out).abs().max() / out.abs().max()) < 1e-12
    assert not torch.allclose(out, before)  # there was something to fold


@pytest.mark.parametrize("name", ["repadapter", "arc"])
def test_dropout_acts_in_training_alone(name: str) -> None:
    net = attached(name, "pocket_vit", dropout=0.5)
    still = net.model(IMAGES)
    assert torch.equal(net.model(IMAGES), still)
    net.pet.train()
    assert not torch.allclose(net.model(IMAGES), still)
    net = attached(name, "pocket_vit", dropout=0.0)
    still = net.model(IMAGES)
    net.pet.train()
    assert torch.equal(net.model(IMAGES), still)


@pytest.mark.parametrize(
    ("name", "settings", "backbone", "expected"),
    [
        ("ssf", {}, VIT, 205_824),
        ("ssf", {}, SWIN, 274_432),
        ("repadapter", {}, VIT, 239_808),
        ("repadapter", {}, SWIN, 313_216),
        ("repadapter", {"branches": "attn"}, VIT, 239_808 // 2),
        ("arc", {}, VIT, 96_432),
        ("arc", {"branches": "attn"}, VIT, 48_216),
        ("rlrr", {"patches": False}, VIT, 287_232),
        ("rlrr", {}, VIT, 288_768),
        ("hydra", {}, VIT, 239_712),
    ],
)
def test_trained_parameters_equal_the_published_integer(
    name: str, settings: dict[str, object], backbone: str, expected: int
) -> None:
    net = copy.deepcopy(published(backbone))
    with torch.device("meta"):
        make(name, **settings).attach(net)
    assert cost.method_params(net) == expected == make(name, **settings).count(net.shape)


@pytest.mark.parametrize(
    ("name", "settings", "told"),
    [
        ("repadapter", {"hidden": 9}, "hidden = 9 must be a positive multiple of groups = 2"),
        ("repadapter", {"dropout": 1.0}, "dropout = 1.0 in"),
        ("arc", {"rank": 0}, "rank = 0 must be at least 1"),
        ("hydra", {"scale": 0.0}, "scale = 0.0 not zero"),
        ("arc", {"branches": "mlp"}, "branches"),
    ],
)
def test_settings_that_make_no_sense_are_refused(name: str, settings: dict[str, object], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        make(name, **settings)


def test_a_width_that_does_not_divide_into_groups_is_refused() -> None:
    with pytest.raises(Incompatible, match="width 128 of blocks.0 does not divide into 3 groups"):
        make("repadapter", hidden=9, groups=3).attach(random_view("pocket_vit"))


def test_gelu_stands_behind_the_scale_and_shift_of_fc1() -> None:
    """Not after the activation: the layer behind fc1 reads gelu(gamma * y + beta)."""
    net = attached("ssf", "pocket_vit")
    seen: list[Tensor] = []
    net.model.get_submodule("blocks.0.mlp.act").register_forward_hook(lambda _, args, y: seen.extend((args[0], y)))
    net.model(IMAGES)
    torch.testing.assert_close(seen[1], F.gelu(seen[0]))
