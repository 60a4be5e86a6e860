"""The neighbours of the adapters against their papers' equations (plain tensors, random weights, float64) and counts."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache

import pytest
import torch
from helpers.views import random_view
from torch import Tensor, nn
from torch.nn import functional as F

from bench.core.errors import Incompatible, UsageError
from bench.models import registry, static_cost
from bench.models.method import build, params, variant
from bench.models.view import ModelView

SWIN, VIT = "swin_tiny_patch4_window7_224", "vit_base_patch16_224"
IMAGES = torch.randn(2, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
load = registry.load
bare = cache(random_view)  # never changed: copied, or only called
Get = Callable[[str], Tensor]


def attached(name: str, backbone: str, **settings: object) -> ModelView:
    """The method on a random backbone, its own parameters random too, dropout off."""
    net = copy.deepcopy(bare(backbone))
    build(load(name), settings, name).attach(net)
    with torch.no_grad():
        for parameter in net.pet.parameters():
            parameter.copy_(torch.randn_like(parameter) / parameter.shape[-1] ** 0.5)
    net.model.eval()
    return net


def passed(net: ModelView, index: int) -> tuple[Tensor, Tensor]:
    """What goes into a block and what comes out."""
    seen: list[tuple[Tensor, Tensor]] = []
    block = net.model.get_submodule(net.blocks[index].path)
    handle = block.register_forward_hook(lambda _, args, out: seen.append((args[0].detach(), out.detach())))
    net.model(IMAGES)
    handle.remove()
    return seen[0]


def plain(net: ModelView, index: int, x: Tensor, attn=None, mlp=None, stream=None) -> Tensor:  # type: ignore[no-untyped-def]
    """A bare pre-norm block; each function gets a branch's output, what the branch read, and the stream before it."""
    block: nn.Module = net.model.get_submodule(net.blocks[index].path)
    attend = block._attn if net.family == "swin" else block.attn
    n = block.norm1(x)
    h = x + (attn or first)(attend(n), n, x)
    n = block.norm2(h)
    h = h + (mlp or first)(block.mlp(n), n, h)
    return stream(h) if stream else h


def first(o: Tensor, n: Tensor, x: Tensor) -> Tensor:
    return o


def getter(net: ModelView, index: int, branch: str) -> Get:
    path = net.blocks[index].path.replace(".", "_")
    return lambda name: net.model.get_parameter(f"pet.{path}_{branch}.{name}").detach()


def linear(get: Get, name: str, x: Tensor) -> Tensor:
    return x @ get(f"{name}.weight").T + get(f"{name}.bias")


def agree(net: ModelView, backbone: str, index: int = 1, **functions: object) -> None:
    x, out = passed(net, index)
    torch.testing.assert_close(out, plain(bare(backbone), index, x, **functions), rtol=0, atol=1e-10)


@pytest.mark.parametrize("branches", ["mlp", "both"])
def test_parallel_adapters_read_what_the_branch_reads(branches: str, backbone: str) -> None:
    net = attached("parallel_adapters", backbone, branches=branches, hidden=5, scale=3.0)

    def beside(branch: str):  # type: ignore[no-untyped-def]
        get = getter(net, 1, branch)
        return lambda o, n, x: o + 3.0 * linear(get, "up", linear(get, "down", n).relu())

    agree(net, backbone, mlp=beside("mlp"), attn=beside("attn") if branches == "both" else None)


@pytest.mark.parametrize("norm", [False, True])
def test_adaptformer_reads_the_stream_before_the_norm(norm: bool, backbone: str) -> None:
    net = attached("adaptformer", backbone, norm=norm, hidden=6)
    get = getter(net, 1, "mlp")

    def beside(o: Tensor, n: Tensor, x: Tensor) -> Tensor:
        read = F.layer_norm(x, x.shape[-1:], get("norm.weight"), get("norm.bias")) if norm else x
        return o + 0.1 * linear(get, "up", linear(get, "down", read).relu())

    agree(net, backbone, mlp=beside)


def test_adaptformer_drops_hidden_neurons_in_training() -> None:
    net = attached("adaptformer", "pocket_vit", dropout=0.5, hidden=6)
    adapter, x = net.pet["blocks_1_mlp"].train(), torch.randn(2, 3, 128, dtype=torch.float64)
    torch.manual_seed(7)
    out = adapter(x)
    torch.manual_seed(7)
    hidden = F.dropout(adapter.down(x).relu(), 0.5)
    torch.testing.assert_close(out, 0.1 * adapter.up(hidden))


def test_adapter_plus_acts_on_the_block_output(backbone: str) -> None:
    net = attached("adapter_plus", backbone)
    get = getter(net, 1, "mlp")
    agree(net, backbone, stream=lambda h: h + get("gamma") * linear(get, "up", F.gelu(linear(get, "down", h))))


def test_adapter_plus_leaves_single_images_without_adapter() -> None:
    adapter = attached("adapter_plus", "pocket_vit", drop_path=0.25).pet["blocks_0_mlp"]
    h = torch.randn(64, 3, 128, dtype=torch.float64)
    whole, part = adapter.eval()(h), adapter.train()(h)
    without = part.flatten(1).abs().sum(1) == 0
    assert 4 < without.sum() < 32
    torch.testing.assert_close(part[~without], whole[~without] / 0.75)


def test_adapter_plus_starts_from_houlsbys_truncated_normal() -> None:
    net = copy.deepcopy(bare("pocket_vit"))
    build(load("adapter_plus"), {}, "adapter_plus").attach(net)
    for name, parameter in net.pet.named_parameters():
        if name.endswith("weight"):
            assert parameter.abs().max() < 0.02 and parameter.std() > 0.005
        else:
            assert torch.equal(parameter, torch.full_like(parameter, float(name.endswith("gamma"))))


def test_adapters_on_attention_touch_no_mlp(backbone: str) -> None:
    net = attached("adapters_on_attention", backbone, bias=True)
    get = getter(net, 1, "attn")
    agree(net, backbone, attn=lambda o, n, x: o + linear(get, "up", F.gelu(linear(get, "down", o))))


@pytest.mark.parametrize("branches", ["both", "mlp"])
@pytest.mark.parametrize("norm", [False, True])
def test_adapter_drop_has_its_adapters_in_the_last_blocks(branches: str, norm: bool, backbone: str) -> None:
    net = attached("adapter_drop", backbone, keep=2, branches=branches, norm=norm, bias=True)

    def adapter(branch: str):  # type: ignore[no-untyped-def]
        get = getter(net, 4, branch)

        def series(o: Tensor, n: Tensor, x: Tensor) -> Tensor:
            if not norm:
                return o + linear(get, "up", F.gelu(linear(get, "down", o)))
            read = F.layer_norm(o, o.shape[-1:], get("norm.weight"), get("norm.bias"))
            return o + linear(get, "up", linear(get, "down", read).relu())

        return series

    agree(net, backbone, index=3)
    agree(net, backbone, index=4, mlp=adapter("mlp"), attn=adapter("attn") if branches == "both" else None)
    assert len(net.pet) == (4 if branches == "both" else 2)


def test_adapter_drop_leaves_the_first_five_twelfths_of_the_blocks_alone(backbone: str) -> None:
    net = attached("adapter_drop", backbone)
    with_adapter = [i for i, block in enumerate(net.blocks) if any(block.path.replace(".", "_") in k for k in net.pet)]
    assert with_adapter == [2, 3, 4, 5]
    assert load("adapter_drop")().kept(12) == 7


def kronecker(get: Get, name: str) -> Tensor:
    """W from its definition."""
    A = get(f"{name}.A")
    try:
        B = get(f"{name}.B")
    except AttributeError:
        B = get(f"{name}.s") @ get(f"{name}.t")
    return sum(torch.kron(a, b) for a, b in zip(A, B, strict=True))  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("phm_adapter", {}),
        ("phm_adapter", {"n": 2, "hidden": 6, "rule": "shared", "branches": "mlp"}),
        ("compacter", {}),
        ("compacter", {"n": 2, "hidden": 6, "rule": "own", "branches": "mlp", "norm": True}),
    ],
)
def test_weights_are_sums_of_kronecker_products(name: str, settings: dict[str, object], backbone: str) -> None:
    net = attached(name, backbone, **settings)

    def adapter(branch: str):  # type: ignore[no-untyped-def]
        get = getter(net, 1, branch)

        def series(o: Tensor, n: Tensor, x: Tensor) -> Tensor:
            y = F.layer_norm(o, o.shape[-1:], get("norm.weight"), get("norm.bias")) if "norm" in settings else o
            hidden = F.gelu(y @ kronecker(get, "down").T + get("down.b"))
            return o + hidden @ kronecker(get, "up").T + get("up.b")

        return series

    agree(net, backbone, mlp=adapter("mlp"), attn=None if "branches" in settings else adapter("attn"))


@pytest.mark.parametrize(("name", "rule", "distinct"), [("compacter", "shared", 1), ("phm_adapter", "own", 24)])
def test_a_rule_is_one_parameter_or_every_layers_own(name: str, rule: str, distinct: int) -> None:
    net = attached(name, "pocket_vit", rule=rule)
    rules = {id(p) for key, p in net.pet.named_parameters(remove_duplicate=False) if key.endswith(".A")}
    assert len(rules) == distinct
    assert (
        attached(name, "pocket_vit").trainable_parameters().keys() == net.trainable_parameters().keys()
    )  # it is the default


def test_kronecker_adapters_start_near_the_identity(backbone: str) -> None:
    for name in ("phm_adapter", "compacter"):
        net = copy.deepcopy(bare(backbone))
        before = net.model(IMAGES)
        build(load(name), {}, name).attach(net)
        change = (net.model(IMAGES) - before).abs().max()
        assert 0 < change < 1e-2 * before.abs().max()


COUNTS = [
    ("parallel_adapters", {"hidden": 8}, VIT, 156_768),
    ("parallel_adapters", {"hidden": 8, "branches": "both"}, VIT, 313_536),
    ("adaptformer", {"hidden": 8}, VIT, 156_768),
    ("adaptformer", {}, VIT, 1_189_632),
    ("adaptformer", {}, SWIN, 570_432),
    ("adaptformer", {"norm": True}, SWIN, 579_264),
    ("adaptformer", {"hidden": 256}, SWIN, 2_268_480),
    ("adaptformer", {"hidden": 256, "norm": True}, SWIN, 2_277_312),
    ("adapter_plus", {}, VIT, 165_984),
    ("adapters_on_attention", {"hidden": 8, "bias": True}, VIT, 156_768),
    ("adapters_on_attention", {}, SWIN, 1_078_272 // 2),
    ("adapter_drop", {"keep": 12}, SWIN, 1_078_272),
    ("adapter_drop", {"keep": 12, "branches": "mlp", "norm": True, "hidden": 64, "bias": True}, VIT, 1_208_064),
    ("adapter_drop", {"keep": 1, "branches": "mlp", "norm": True, "hidden": 64, "bias": True}, VIT, 100_672),
    ("phm_adapter", {"n": 12}, VIT, 175_680),
    ("phm_adapter", {"n": 12, "sigma": 8}, SWIN, 182_736),
    ("phm_adapter", {"branches": "mlp", "hidden": 64, "rule": "shared"}, VIT, 304_960),
    ("compacter", {}, VIT, 57_088),
    ("compacter", {"branches": "mlp"}, VIT, 28_576),
    ("compacter", {"branches": "mlp", "hidden": 64, "norm": True}, VIT, 48_384 + 64),  # PEViT, and the rule it left out
    ("compacter", {"branches": "mlp", "hidden": 64, "norm": True, "rule": "fixed"}, VIT, 48_384),
    ("compacter", {"n": 12, "sigma": 8, "rule": "own"}, SWIN, 112_752),
    ("compacter", {"n": 12, "sigma": 8}, SWIN, 31_536),
]


@pytest.mark.parametrize(("name", "settings", "backbone", "expected"), COUNTS)
def test_trained_parameters_equal_the_published_integer(
    name: str, settings: dict[str, object], backbone: str, expected: int
) -> None:
    assert static_cost.count_params(build(load(name), settings, name), backbone, 10).method == expected


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("parallel_adapters", {"branches": "both"}),
        ("adaptformer", {"norm": True}),
        ("adapter_drop", {"branches": "mlp", "norm": True, "bias": True, "keep": 3}),
        ("phm_adapter", {"rule": "shared", "branches": "mlp"}),
        ("compacter", {"rule": "own", "norm": True, "hidden": 8}),
    ],
)
def test_closed_forms_hold_for_the_options(name: str, settings: dict[str, object], backbone: str) -> None:
    method = build(load(name), settings, name)
    net = attached(name, backbone, **settings)
    assert method.count(net.shape) == sum(parameter.numel() for parameter in net.pet.parameters())


@pytest.mark.parametrize(
    ("name", "settings", "reason"),
    [
        ("parallel_adapters", {"hidden": 0}, "hidden = 0 at least 1"),
        ("parallel_adapters", {"scale": 0.0}, "scale = 0 switches"),
        ("adaptformer", {"dropout": 1.0}, "dropout in"),
        ("adapter_plus", {"drop_path": 1.0}, "drop_path = 1.0 in"),
        ("adapters_on_attention", {"sigma": 0.0}, "sigma = 0.0 must be positive"),
        ("adapter_drop", {"keep": 0}, "keep = 0 must be at least 1"),
        ("adapter_drop", {"branches": "attn"}, "not one of both, mlp"),
        ("phm_adapter", {"hidden": 6}, "multiple of n = 4"),
        ("compacter", {"n": 0}, "n = 0 must be at least 1"),
    ],
)
def test_senseless_hyper_parameters_are_refused(name: str, settings: dict[str, object], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        build(load(name), settings, name)


def test_what_does_not_fit_the_backbone_is_refused_with_the_reason() -> None:
    for name, settings, reason in (
        ("phm_adapter", {"n": 12}, "n = 12 must divide both sides of a Kronecker layer, here 128 and 12"),
        ("compacter", {"n": 12}, "n = 12 must divide"),
        ("adapter_drop", {"keep": 7}, "keep = 7, but the backbone has 6 blocks"),
    ):
        with pytest.raises(Incompatible, match=reason):
            attached(name, "pocket_vit", **settings)
    attached("compacter", "pocket_swin", n=12)  # its widths are multiples of 12


@pytest.mark.parametrize(
    ("name", "earlier"), [("compacter", "after"), ("repadapter", "before"), ("convpass", "beside")]
)
def test_a_hyper_parameter_has_its_earlier_name_in_records_and_is_understood_by_both(name: str, earlier: str) -> None:
    cls, value = registry.load(name), {"convpass": "attn", "repadapter": "attn", "compacter": "mlp"}[name]
    method = build(registry.load(name), {earlier: value}, name)
    assert method == build(cls, {"branches": value}, name)
    assert params(method)[earlier] == value and "branches" not in params(method)
    assert variant(method) == f"branches={value}"
    with pytest.raises(UsageError, match=f"{earlier} is the earlier name of branches"):
        build(cls, {earlier: value, "branches": value}, name)
