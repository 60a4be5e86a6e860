from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import timm
import torch
from helpers.views import random_view
from torch import Tensor, nn

from bench.core.errors import BenchError, Incompatible, NotMergeable, UnsupportedBackbone
from bench.models import registry
from bench.models.families import build_view
from bench.models.method import attach, build
from bench.models.view import HookPoint


class Affine(nn.Module):
    """m(x) = x W^T + c with random W, c."""

    def __init__(self, d_in: int, d_out: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(d_out, d_in, dtype=torch.float64) / d_in**0.5)
        self.c = nn.Parameter(torch.randn(d_out, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.w.T + self.c

    def merged_weights(self, W: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return W + self.w, b + self.c


def watch(module: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """Inputs and outputs of a module, as it runs."""
    seen: list[tuple[Tensor, Tensor]] = []
    module.register_forward_hook(lambda _, args, out: seen.append((args[0].detach(), out.detach())))
    return seen


def around(slot: HookPoint, attach: Callable[[], object]) -> tuple[Tensor, Tensor, Tensor]:
    """The input of a slot's module, its output before what `attach` puts on it, and after."""
    plain = watch(slot.module)
    attach()
    changed = watch(slot.module)
    slot.net.model(IMAGES)
    (x, before), (_, after) = plain[0], changed[0]
    return x, before.clone(), after


IMAGES = torch.randn(2, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("letter", ["q", "k", "v"])
def test_each_third_of_qkv_is_changed_by_its_own_slot_alone(letter: str, backbone: str) -> None:
    net = random_view(backbone)
    slot = net.blocks[1].linear[letter]
    m = Affine(slot.d_in, slot.d_out)
    x, before, after = around(slot, lambda: slot.add(m))
    third = {"q": 0, "k": 1, "v": 2}[letter]
    for index in range(3):
        part = slice(index * slot.d_out, (index + 1) * slot.d_out)
        expected = before[..., part] + (m(x) if index == third else 0)
        torch.testing.assert_close(after[..., part], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("letter", ["q", "k", "v"])
def test_then_changes_one_third_alone_and_before_refuses_one(letter: str, backbone: str) -> None:
    net = random_view(backbone)
    slot = net.blocks[0].linear[letter]
    m = Affine(slot.d_out, slot.d_out)
    _, expected, after = around(slot, lambda: slot.then(m))
    expected[..., slot.columns] = m(expected[..., slot.columns]).detach()
    torch.testing.assert_close(after, expected, rtol=0, atol=1e-12)
    with pytest.raises(Incompatible, match="no input of its own"):
        slot.before(Affine(slot.d_in, slot.d_in))


def test_q_k_v_slots_are_what_attention_uses_as_q_k_and_v() -> None:
    """A key that is the same for every token makes attention uniform; a constant value makes its output constant."""
    for letter in ("k", "v"):
        net = random_view("pocket_vit")
        slot = net.blocks[0].linear[letter]
        weight, bias = slot.module.weight, slot.module.bias
        assert isinstance(weight, Tensor) and isinstance(bias, Tensor)
        with torch.no_grad():
            weight[slot.columns] = 0
        seen = watch(net.model.get_submodule("blocks.0.attn.proj"))
        net.model(IMAGES)
        mixed = seen[0][0]
        spread = float((mixed - mixed.mean(1, keepdim=True)).abs().max())
        assert spread < 1e-12  # every token's attention output is the same, for either reason
        if letter == "v":
            torch.testing.assert_close(mixed[0, 0], bias[slot.columns].detach(), rtol=0, atol=1e-12)


def test_verbs_act_in_the_order_they_were_called(backbone: str) -> None:
    net = random_view(backbone)
    slot = net.blocks[0].linear["fc1"]
    plain = watch(slot.module)
    first, second, third = Affine(slot.d_in, slot.d_out), Affine(slot.d_out, slot.d_out), Affine(slot.d_in, slot.d_in)
    slot.add(first)
    slot.then(second)
    changed = watch(slot.module)
    net.model(IMAGES)
    x, y = plain[0]
    torch.testing.assert_close(changed[0][1], second(y + first(x)))
    slot.before(third)
    plain.clear()
    net.model(IMAGES)
    torch.testing.assert_close(plain[0][0], third(x))


def test_a_series_module_acts_on_the_branch_before_the_residual_sum(backbone: str) -> None:
    """Block output against x + m(attn(norm1(x))), then x + m'(mlp(norm2(x))), in plain calls."""
    net = random_view(backbone)
    block = net.blocks[1]
    inner = net.model.get_submodule(block.path)
    modules = [Affine(block.dim, block.dim) for _ in range(2)]
    block.attn.then(modules[0])
    block.mlp.then(modules[1])
    seen = watch(inner)
    net.model(IMAGES)
    x, out = seen[0]
    attend = inner._attn if net.family == "swin" else inner.attn  # type: ignore[union-attr]
    h = x + modules[0](attend(inner.norm1(x)))  # type: ignore[operator]
    expected = h + modules[1](inner.mlp(inner.norm2(h)))  # type: ignore[operator]
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-10)


def test_detach_leaves_the_backbone_as_it_was(backbone: str) -> None:
    net = random_view(backbone)
    before = net.model(IMAGES)
    names = [net.blocks[0].attn.then(Affine(net.blocks[0].dim, net.blocks[0].dim)) for _ in range(2)]
    assert len(set(names)) == 2
    assert not torch.equal(net.model(IMAGES), before)
    for name in names:
        net.detach(name)
    assert torch.equal(net.model(IMAGES), before)
    assert not net.pet and not net.added_modules


def test_detaching_from_a_copy_leaves_the_original_attached(backbone: str) -> None:
    net = random_view(backbone)
    name = net.blocks[0].mlp.then(Affine(net.blocks[0].dim, net.blocks[0].dim))
    before = net.model(IMAGES)
    twin = copy.deepcopy(net)
    twin.detach(name)
    assert torch.equal(net.model(IMAGES), before)
    assert not torch.equal(twin.model(IMAGES), before)


def test_fold_refuses_what_it_cannot_fold(backbone: str) -> None:
    net = random_view(backbone)
    net.blocks[0].attn.then(Affine(net.blocks[0].dim, net.blocks[0].dim))
    with pytest.raises(NotMergeable, match="cannot be merged"):
        net.merge()


def test_everything_but_the_head_starts_frozen(backbone: str) -> None:
    net = random_view(backbone)
    assert sum(p.numel() for p in net.trainable_parameters().values()) == sum(p.numel() for p in net.head.parameters())
    assert net.only_head_trains()


@pytest.mark.parametrize(
    "name",
    [
        "vit_tiny_patch16_224",
        "vit_small_patch14_reg4_dinov2",
        "deit3_small_patch16_224",
        "swin_tiny_patch4_window7_224",
    ],
)
def test_timm_models_of_both_families_dissect(name: str) -> None:
    with torch.device("meta"):
        net = build_view(timm.create_model(name, num_classes=3))
    assert len(net.blocks) == 12 and net.blocks[0].linear["q"].d_out == net.blocks[0].dim


@pytest.mark.parametrize(
    "name",
    [
        "convnext_atto",
        "beit_base_patch16_224",
        "swinv2_cr_tiny_224",
        "vit_base_patch16_rpn_224",
        "resnet18",
        "aimv2_large_patch14_224",
    ],
)
def test_a_backbone_that_is_not_understood_is_refused_by_name(name: str) -> None:
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=3)
    with pytest.raises(UnsupportedBackbone, match=r"not understood|only .* is understood|which a plain block has"):
        build_view(model)


def hooks_of(model: nn.Module) -> list[object]:
    return [
        hook
        for module in model.modules()
        for table in (
            module._forward_hooks,
            module._forward_pre_hooks,
            module._forward_hooks_with_kwargs,
            module._forward_pre_hooks_with_kwargs,
        )
        for hook in table
    ]


@pytest.mark.parametrize("name", list(registry.entries()))
def test_detaching_all_that_a_method_added_leaves_the_bare_backbone(name: str, backbone: str) -> None:
    net = random_view(backbone)
    before = net.model(IMAGES)
    try:
        attach(build(registry.load(name), {}, name), net)
    except Incompatible:
        return
    for each in (copy.deepcopy(net), net):
        while each.added_modules:
            each.detach(next(iter(each.added_modules)))
        assert not each.pet and not hooks_of(each.model)
        assert not any("_get_rel_pos_bias" in vars(module) for module in each.model.modules())
        assert torch.equal(each.model(IMAGES), before)


def test_merging_that_is_refused_half_way_changes_nothing(backbone: str) -> None:
    net = random_view(backbone)
    dim = net.blocks[0].dim
    net.blocks[0].linear["q"].add(Affine(dim, dim))
    net.blocks[1].attn.then(Affine(dim, dim))
    before = net.model(IMAGES)
    with pytest.raises(NotMergeable):
        net.merge()
    assert torch.equal(net.model(IMAGES), before)


@pytest.mark.parametrize("base_first", [True, False])
def test_what_add_reads_does_not_depend_on_the_order_of_calls(base_first: bool, backbone: str) -> None:
    """Hydra's two branches: y + A(x) + B(y0)."""
    net = random_view(backbone)
    slot = net.blocks[0].linear["fc2"]
    torch.manual_seed(3)
    parallel, sequential = Affine(slot.d_in, slot.d_out), Affine(slot.d_out, slot.d_out)
    with torch.no_grad():
        plain = watch(slot.module)
        net.model(IMAGES)
        x, y = plain[0]
    calls = [lambda: slot.add(sequential, reads="base_output"), lambda: slot.add(parallel, reads="input")]
    for call in calls if base_first else reversed(calls):
        call()
    changed = watch(slot.module)
    net.model(IMAGES)
    assert torch.equal(changed[0][1], y + sequential(y) + parallel(x))
    with pytest.raises(BenchError, match="Two modules cannot read the base output of .*fc2"):
        slot.add(Affine(slot.d_out, slot.d_out), reads="base_output")


class Ahead(Affine):
    """The same, folded into the layer that reads it: W (x M^T + c)^T + b."""

    def merged_weights(self, W: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return W @ self.w, b + W @ self.c


def test_modules_on_both_sides_of_a_layer_merge_in_any_order(backbone: str) -> None:
    net = random_view(backbone)
    slot = net.blocks[0].linear["fc2"]
    torch.manual_seed(3)
    slot.before(Ahead(slot.d_in, slot.d_in))
    slot.add(Affine(slot.d_in, slot.d_out))
    slot.before(Ahead(slot.d_in, slot.d_in))
    with torch.no_grad():
        expected = net.model(IMAGES)
        net.merge()
        assert not net.pet and torch.allclose(net.model(IMAGES), expected, rtol=0, atol=1e-9)
