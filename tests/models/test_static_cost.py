"""Parameter counts and FLOPs against published integers and closed forms (research notes of the papers, timm shapes)."""

from __future__ import annotations

import pytest

from bench.models import static_cost
from bench.models.method import build
from bench.models.registry import load

SWIN, VIT = "swin_tiny_patch4_window7_224", "vit_base_patch16_224"
SWIN_HEAD_345 = 265_305

# method, settings, backbone, trained parameters without head
COUNTS = [
    ("linear_probe", {}, SWIN, 0),
    ("full", {}, SWIN, 27_784_659 - SWIN_HEAD_345),
    ("bitfit", {}, SWIN, 52_224),
    ("bitfit", {"tables": True}, SWIN, 340_851 - SWIN_HEAD_345),  # published 0.34 M
    ("adapters", {"sigma": 32, "basis": "mlp"}, SWIN, 1_078_272),
    ("adapters", {}, SWIN, 1_078_272),  # sigma = 8 of the width is sigma = 32 of the MLP
    ("adapters", {"sigma": 64, "basis": "mlp"}, SWIN, 804_441 - SWIN_HEAD_345),  # published 0.80 M
    ("adapters", {"sigma": 1024, "basis": "mlp"}, SWIN, 29_952),  # N = max(1, floor)
    ("adapters", {"hidden": 47}, SWIN, 830_208),
    ("mimi", {}, SWIN, 1_078_272),
    ("lora", {}, SWIN, 141_312),
    ("lora", {"rank": 4}, SWIN, 335_961 - SWIN_HEAD_345),
    ("bitfit", {}, VIT, 102_912),
    ("lora", {}, VIT, 294_912),
    ("lora", {"rank": 4, "targets": ("q", "k")}, VIT, 147_456),
    ("lora", {"targets": ("q", "k", "v", "proj", "fc1", "fc2")}, VIT, 1_327_104),
    ("adapters", {"hidden": 8, "bias": True}, VIT, 313_536),  # Houlsby r = 8
    ("adapters", {"hidden": 64, "bias": True}, VIT, 2_379_264),
    ("adapters", {"sigma": 32}, VIT, 884_736),
]


@pytest.mark.parametrize(("name", "settings", "backbone", "expected"), COUNTS)
def test_trained_parameters_equal_the_published_integer(
    name: str, settings: dict[str, object], backbone: str, expected: int
) -> None:
    assert static_cost.count_params(build(load(name), settings, name), backbone, 345).method == expected


def test_the_swin_t_head_of_domainnet_has_its_published_size() -> None:
    counted = static_cost.count_params(build(load("linear_probe"), {}, "linear_probe"), SWIN, 345)
    assert (counted.head, counted.total) == (SWIN_HEAD_345, 27_784_659)


def test_flops_of_swin_t_count_attention_products_and_merging_removes_the_overhead() -> None:
    bare = static_cost.count(build(load("linear_probe"), {}, "linear_probe"), SWIN, 102)
    assert bare.flops.unmerged / 1e9 == pytest.approx(8.9798, abs=5e-5)
    assert bare.macs.unmerged * 2 == bare.flops.unmerged
    adapters = static_cost.count(build(load("adapters"), {}, "adapters"), SWIN, 102)
    assert adapters.flops.unmerged / 1e9 == pytest.approx(9.3266, abs=5e-5)
    assert adapters.flops.merged is None
    lora = static_cost.count(build(load("lora"), {}, "lora"), SWIN, 102)
    assert lora.flops.unmerged / 1e9 == pytest.approx(9.071, abs=5e-4)
    assert lora.flops.merged == bare.flops.unmerged


def test_flops_of_vit_b_equal_the_published_total() -> None:
    assert static_cost.count(build(load("full"), {}, "full"), VIT, 1000).flops.unmerged / 1e9 == pytest.approx(
        35.13, abs=5e-3
    )


@pytest.mark.parametrize(
    ("settings", "neurons"),
    [({}, 96), ({"cycles": 4}, 24), ({"cycles": 0}, 384), ({"scope": "local", "cycles": 3}, 48), ({"iterative": False}, 96),
     ({"score": "snip"}, 96), ({"score": "random", "sigma_target": 64.0}, 48)],
)  # fmt: skip
def test_mimi_is_counted_as_it_is_deployed(settings: dict[str, object], neurons: int) -> None:
    """The pocket ViT: 12 adapters of 128 / 8 = 16 neurons, of 2 * 128 weights each; halved at every removal."""
    method = build(load("mimi"), {"sigma": 4.0, **settings} if "sigma_target" not in settings else settings, "mimi")
    start = 12 * 128 // (8 if "sigma_target" in settings else 4)
    end = static_cost.count(method, "pocket_vit", 10).deployed
    neurons = start // 2**3 if "sigma_target" in settings else neurons
    assert end is not None and end.least == end.most == end.params.method == 2 * 128 * neurons


def test_on_a_swin_the_bounds_hold_what_pruning_leaves_whatever_it_finds_important() -> None:
    method = build(load("mimi"), {}, "mimi")
    counted = static_cost.count(method, "pocket_swin", 10)
    end = counted.deployed
    assert end is not None and end.least < end.params.method < end.most < counted.params.method
    sizes = [
        (48 * 2**stage, 48 * 2**stage // 8) for stage in range(3) for _ in range(4)
    ]  # two blocks, two adapters each
    widths = sorted(dim for dim, n in sizes for _ in range(n))
    kept = len(widths) // 4
    assert (end.least, end.most) == (2 * sum(widths[:kept]), 2 * sum(widths[-kept:]))
    assert end.flops < counted.flops.unmerged


def test_a_method_that_removes_nothing_is_deployed_as_it_starts() -> None:
    assert static_cost.count(build(load("adapters"), {}, "adapters"), "pocket_vit", 10).deployed is None


def test_storage_is_four_bytes_a_parameter_and_a_header() -> None:
    counted = static_cost.count(build(load("lora"), {}, "lora"), "pocket_vit", 10)
    for size, params in (
        (counted.storage_bytes.with_head, counted.params.method + counted.params.head),
        (counted.storage_bytes.without_head, counted.params.method),
    ):
        assert 4 * params < size < 4 * params + 4096
