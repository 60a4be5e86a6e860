"""Low-rank and factorised methods: equations in plain tensors, counts, merging, options, and Hugging Face's PEFT."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import pytest
import torch
from helpers.views import random_view
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from bench.core.errors import Incompatible, UsageError
from bench.models import cost, registry, static_cost
from bench.models.families import build_view
from bench.models.method import build, params, variant
from bench.models.view import Block, ModelView
from bench.tools import conformance

SWIN, VIT = "swin_tiny_patch4_window7_224", "vit_base_patch16_224"
ALL = ("q", "k", "v", "proj", "fc1", "fc2")
LAYERS = {"q": "attn.qkv", "k": "attn.qkv", "v": "attn.qkv", "qkv": "attn.qkv", "proj": "attn.proj"}
LAYERS |= {"fc1": "mlp.fc1", "fc2": "mlp.fc2"}
IMAGES = torch.randn(2, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(5))

Updates = dict[str, tuple[Tensor, Tensor | float]]  # what is added to weight and bias of a target


def attached(name: str, net: ModelView, *, start: bool = False, **settings: object) -> ModelView:
    """With the method on it, without dropout, every parameter of it random unless the start is wanted."""
    torch.manual_seed(1)
    build(registry.load(name), settings, name).attach(net)
    net.pet.eval()
    with torch.no_grad():
        for parameter in () if start else net.pet.parameters():
            parameter.copy_(torch.randn_like(parameter) / parameter.shape[-1] ** 0.5)
    return net


def part(net: ModelView, block: Block, target: str) -> nn.Module:
    return net.pet[block.linear[target].label.replace(".", "_")]


def assert_blocks_compute(net: ModelView, backbone: str, updates: Callable[[Block], Updates]) -> None:
    """Every block of net gives what a bare block with updated weights gives."""
    seen: list[tuple[Tensor, Tensor]] = []
    for block in net.blocks:
        inner = net.model.get_submodule(block.path)
        inner.register_forward_hook(lambda _, args, out: seen.append((args[0].detach(), out.detach())))
    net.model(IMAGES)
    bare = random_view(backbone)
    for block, (x, out) in zip(net.blocks, seen, strict=True):
        inner = bare.model.get_submodule(block.path)
        with torch.no_grad():
            for target, (dW, db) in updates(block).items():
                layer = inner.get_submodule(LAYERS[target])
                rows = slice(None)
                if target in ("q", "k", "v"):
                    rows = slice("qkv".index(target) * block.dim, ("qkv".index(target) + 1) * block.dim)
                layer.weight[rows] += dW
                layer.bias[rows] += db
        torch.testing.assert_close(out, inner(x), rtol=0, atol=1e-9)


# counts ---------------------------------------------------------------------------------------------------------------

COUNTS = [
    ("lora", {"bias": "lora_only"}, SWIN, 419_865 - 265_305),  # published 0.42 M, with a 345-class head
    ("lora", {"bias": "lora_only", "rank": 4}, SWIN, 349_209 - 265_305),
    ("lora_fix", {}, VIT, 73_728),
    ("kadaptation", {}, VIT, 50_176),  # published
    ("kadaptation", {"targets": ("fc1", "fc2"), "bias": False}, VIT, 96_256),
    ("kadaptation", {"targets": ("fc1", "fc2")}, VIT, 142_336),
    ("kadaptation", {"n": 4}, VIT, 46_144),
    ("kadaptation", {"n": 4, "slow": "full"}, VIT, 46_208),
    ("fact_tt", {"rank": 4}, VIT, 8_448),
    ("fact_tt", {"rank": 8}, VIT, 21_504),
    ("fact_tt", {}, VIT, 61_440),
    ("fact_tt", {"rank": 32}, SWIN, 239_616),
    ("fact_tk", {"rank": 8}, VIT, 13_952),
    ("fact_tk", {"rank": 16}, VIT, 30_976),
    ("fact_tk", {}, VIT, 86_528),
    ("fact_tk", {}, SWIN, 129_536),
]


@pytest.mark.parametrize(("name", "settings", "backbone", "expected"), COUNTS)
def test_counts(name: str, settings: dict[str, object], backbone: str, expected: int) -> None:
    assert static_cost.count_params(build(registry.load(name), settings, name), backbone, 345).method == expected


OPTIONS = [
    ("lora", {"bias": "lora_only", "dropout": 0.2, "targets": ("qkv", "fc2")}),
    ("lora", {"bias": "lora_only", "targets": ("q", "v", "proj", "fc1")}),
    ("lora_fix", {"targets": ALL, "alpha": 2.0}),
    ("kadaptation", {"slow": "full", "rank": 2, "n": 4, "scale": 3.0}),
    ("kadaptation", {"targets": ("qkv", *ALL), "n": 8}),
    ("kadaptation", {"bias": False}),
    ("fact_tt", {"rank": 3, "scale": 10.0, "dropout": 0.5}),
    ("fact_tk", {"rank": 5, "scale": 10.0}),
]


@pytest.mark.parametrize(("name", "settings"), OPTIONS)
def test_options_start_count_and_merge_as_declared(name: str, settings: dict[str, object], backbone: str) -> None:
    method, net = (
        build(registry.load(name), settings, name),
        attached(name, random_view(backbone), start=True, **settings),
    )
    assert method.count(net.shape) == cost.method_params(net)
    bare = conformance.logits(random_view(backbone), IMAGES)
    assert torch.equal(conformance.logits(net, IMAGES), bare)
    with torch.no_grad():
        for parameter in net.trainable_parameters().values():
            parameter.add_(0.1 * torch.randn_like(parameter))
    expected, merged = conformance.logits(net, IMAGES), cost.merged(method, net)
    assert merged is not None and not merged.pet
    assert not torch.allclose(expected, bare, atol=1e-3)
    gap = (conformance.logits(merged, IMAGES) - expected).abs().max() / expected.abs().max()
    assert float(gap) < 1e-12


# LoRA -----------------------------------------------------------------------------------------------------------------


def test_lora_draws_what_it_drew_before_it_had_further_options(backbone: str) -> None:
    net = attached("lora", random_view(backbone, torch.float32), start=True)
    torch.manual_seed(1)
    for block in net.blocks:
        for target in ("q", "v"):
            label = block.linear[target].label.replace(".", "_")
            assert [name for name, _ in net.pet[label].named_parameters()] == ["A", "B"]
            A = nn.init.kaiming_uniform_(torch.empty(8, block.dim), a=math.sqrt(5))
            assert torch.equal(net.pet[label].A, A)
    default = build(registry.load("lora"), {}, "lora")
    assert params(default) == {"rank": 8, "alpha": 8.0, "targets": ("q", "v")} and variant(default) == ""
    assert variant(dataclasses.replace(default, bias="lora_only")) == "bias=lora_only"


def test_lora_only_trains_the_bias_of_every_linear_it_touches(backbone: str) -> None:
    net = attached("lora", random_view(backbone), bias="lora_only", targets=("q", "v", "fc2"))
    own = {name for name, p in net.backbone_parameters() if p.requires_grad}
    assert own == {f"{block.path}.{layer}.bias" for block in net.blocks for layer in ("attn.qkv", "mlp.fc2")}


def test_lora_only_needs_biases() -> None:
    net = build_view(VisionTransformer(img_size=8, patch_size=4, embed_dim=32, depth=1, num_heads=2, qkv_bias=False))
    with pytest.raises(Incompatible, match=r"blocks.0.attn.qkv has not"):
        attached("lora", net, bias="lora_only")


@pytest.mark.parametrize("fixed", [False, True])
def test_lora_is_that_of_hugging_face_with_dropout_biases_and_a_fixed_a(fixed: bool) -> None:
    """On a fused qkv both have one A and one B a layer; weights are copied from theirs to ours."""
    peft = pytest.importorskip("peft")
    drop, bias = (0.0, "none") if fixed else (0.3, "lora_only")
    targets = ("qkv", "proj", "fc2")
    settings: dict[str, object] = {"rank": 4, "alpha": 6.0, "targets": targets}
    settings |= {} if fixed else {"dropout": drop, "bias": bias}
    ours = attached("lora_fix" if fixed else "lora", random_view("pocket_vit"), **settings)
    config = peft.LoraConfig(
        r=4, lora_alpha=6, lora_dropout=drop, bias=bias, target_modules=["qkv", "attn.proj", "fc2"]
    )
    theirs = peft.get_peft_model(random_view("pocket_vit").model, config).double()
    pairs = []
    for block in ours.blocks:
        for target in targets:
            layer = theirs.base_model.model.get_submodule(f"{block.path}.{LAYERS[target]}")
            mine = part(ours, block, target)
            with torch.no_grad():
                mine.A.copy_(layer.lora_A["default"].weight)
                layer.lora_B["default"].weight.copy_(mine.B)
            pairs.append((mine.B, layer.lora_B["default"].weight))
            if not fixed:
                own = ours.model.get_submodule(f"{block.path}.{LAYERS[target]}").bias
                pairs += [(mine.A, layer.lora_A["default"].weight), (own, layer.base_layer.bias)]
    trained = {name for name, p in theirs.named_parameters() if p.requires_grad and "lora" not in name}
    own_trained = {name for name, p in ours.backbone_parameters() if p.requires_grad}
    assert {name.removeprefix("base_model.model.").replace(".base_layer", "") for name in trained} == own_trained
    ours.pet.train()
    theirs.train()
    outputs = []
    for model in (ours.model, theirs):
        torch.manual_seed(3)  # the same neurons drop out
        outputs.append(model(IMAGES))
        outputs[-1].square().sum().backward()
    torch.testing.assert_close(*outputs, rtol=0, atol=1e-10)
    for own, other in pairs:
        torch.testing.assert_close(own.grad, other.grad, rtol=1e-9, atol=1e-12)
    ours.pet.eval()
    assert torch.allclose(ours.model(IMAGES), outputs[0]) is (drop == 0)


def test_lora_fix_updates_by_trained_b_times_fixed_a(backbone: str) -> None:
    net = attached("lora_fix", random_view(backbone), rank=3, alpha=5.0, targets=ALL)

    def updates(block: Block) -> Updates:
        parts = {target: part(net, block, target) for target in ALL}
        return {target: (5 / 3 * m.B @ m.A, 0.0) for target, m in parts.items()}

    assert_blocks_compute(net, backbone, updates)
    assert all(name.endswith(".B") for name in net.trainable_parameters() if name.startswith("pet."))
    assert {name.rsplit(".", 1)[1] for name in net.saved_buffers()} == {"A"}
    assert len(net.saved_buffers()) == len(ALL) * len(net.blocks)


# KAdaptation ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("targets", "slow", "rank"),
    [(("q", "v"), "rank1", 1), (("fc1", "fc2"), "full", 2), (("k", "proj"), "rank1", 3), (("q", "fc1"), "full", 1)],
)
def test_kadaptation_is_a_sum_of_kronecker_products(
    targets: tuple[str, ...], slow: str, rank: int, backbone: str
) -> None:
    n, s = 8, 3.0
    net = attached("kadaptation", random_view(backbone), n=n, scale=s, rank=rank, slow=slow, targets=targets)

    def updates(block: Block) -> Updates:
        found: Updates = {}
        for target in targets:
            m = part(net, block, target)
            first = part(net, net.blocks[0], target)
            A = [
                torch.outer(*(f[i].flatten() for f in first.slow)) if slow == "rank1" else first.slow[0][i]
                for i in range(n)
            ]
            dW = sum(torch.kron(A[i], m.u[i] @ m.v[i]) for i in range(n))
            found[target] = (s * dW, m.bias)
        return found

    assert_blocks_compute(net, backbone, updates)


def test_kadaptation_shares_slow_weights_over_layers_and_the_bias_between_q_and_v(backbone: str) -> None:
    net = attached("kadaptation", random_view(backbone), start=True)
    parts = {target: [part(net, block, target) for block in net.blocks] for target in ("q", "v")}
    slow = {id(p) for target in parts for m in parts[target] for p in m.slow}
    assert len(slow) == 2 * 2  # a and b, for q and for v
    for name in ("u", "v"):
        assert len({id(getattr(m, name)) for target in parts for m in parts[target]}) == 2 * len(net.blocks)
    assert all(q.bias is v.bias for q, v in zip(*parts.values(), strict=True))
    assert len({id(m.bias) for m in parts["q"]}) == len(net.blocks)


def test_kadaptation_starts_at_zero_with_live_gradients(backbone: str) -> None:
    net = attached("kadaptation", random_view(backbone), start=True)
    with torch.no_grad():
        assert torch.equal(net.model(IMAGES), random_view(backbone).model(IMAGES))
    net.model(IMAGES).square().sum().backward()
    for block in net.blocks:
        for target in ("q", "v"):
            m = part(net, block, target)
            assert float(m.u.grad.abs().sum()) > 0
            assert float(m.v.grad.abs().sum()) == 0  # moves as soon as u has


@pytest.mark.parametrize(("backbone", "n"), [("pocket_vit", 32), ("pocket_swin", 16), (VIT, 32), (SWIN, 32)])
def test_kadaptation_chooses_an_n_that_divides_every_width(backbone: str, n: int) -> None:
    dims = {"pocket_vit": (128,), "pocket_swin": (48, 96, 192), VIT: (768,), SWIN: (96, 192, 384, 768)}
    shape = cost.ModelView(nn.Identity(), "vit").shape
    method = build(registry.load("kadaptation"), {}, "kadaptation")
    assert method.products(dataclasses.replace(shape, dims=dims[backbone])) == n  # type: ignore[attr-defined]


def test_kadaptation_refuses_an_n_that_does_not_divide_a_width() -> None:
    with pytest.raises(Incompatible, match="n = 12 must divide 128"):
        attached("kadaptation", random_view("pocket_vit"), n=12)


@pytest.mark.parametrize("slow", ["rank1", "full"])
def test_kadaptation_is_cheaper_than_the_matrix_it_stands_for(slow: str) -> None:
    net = build_view(VisionTransformer(img_size=32, patch_size=4, embed_dim=768, depth=1, num_heads=12))
    attached("kadaptation", net, targets=("q",), slow=slow)
    tokens = 197
    with FlopCounterMode(display=False) as counter:
        part(net, net.blocks[0], "q")(torch.zeros(1, tokens, 768))
    flops = 2 * tokens * (2 * 768 * 32 + (32**3 if slow == "full" else 0))
    assert flops <= counter.get_total_flops() <= 1.02 * flops  # the rest: columns and rows, once for all tokens
    assert flops < 2 * tokens * 768**2 / 7


def test_one_product_of_kadaptation_is_lokr_of_hugging_face() -> None:
    """Their w1 belongs to a layer, our A to all: with the same in every layer, its gradients add up to ours."""
    peft = pytest.importorskip("peft")
    n, rank, targets = 8, 2, ("proj", "fc1")
    settings = {"n": n, "rank": rank, "scale": 1.5, "slow": "full", "bias": False, "targets": targets}
    ours = attached("kadaptation", random_view("pocket_vit"), **settings)
    config = peft.LoKrConfig(r=rank, alpha=3, decompose_factor=n, target_modules=["attn.proj", "fc1"])
    theirs = peft.get_peft_model(random_view("pocket_vit").model, config).double()
    layers = {}
    with torch.no_grad():
        for target in targets:
            part(ours, ours.blocks[0], target).slow[0][1:] = 0  # one product only
            for block in ours.blocks:
                layer = theirs.base_model.model.get_submodule(f"{block.path}.{LAYERS[target]}")
                mine = part(ours, block, target)
                layer.lokr_w1["default"].copy_(mine.slow[0][0])
                layer.lokr_w2_a["default"].copy_(mine.u[0])
                layer.lokr_w2_b["default"].copy_(mine.v[0])
                layers[block.index, target] = (mine, layer)
    outputs = [model(IMAGES) for model in (ours.model, theirs)]
    torch.testing.assert_close(*outputs, rtol=0, atol=1e-10)
    for out in outputs:
        out.square().sum().backward()
    for mine, layer in layers.values():
        torch.testing.assert_close(mine.u.grad[0], layer.lokr_w2_a["default"].grad, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(mine.v.grad[0], layer.lokr_w2_b["default"].grad, rtol=1e-9, atol=1e-12)
    for target in targets:
        found = [pair for (_, name), pair in layers.items() if name == target]
        total = sum(layer.lokr_w1["default"].grad for _, layer in found)
        torch.testing.assert_close(found[0][0].slow[0].grad[0], total, rtol=1e-9, atol=1e-12)


# FacT -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["fact_tt", "fact_tk"])
def test_fact_updates_every_slice_by_shared_factors_and_its_own_core(name: str, backbone: str) -> None:
    """dW_j = s V Sigma_j U, slice by slice: fc1 in blocks of outputs, fc2 in blocks of inputs."""
    r, s = 3, 10.0
    net = attached(name, random_view(backbone), rank=r, scale=s)

    def core(m: nn.Module, row: int, column: int) -> Tensor:
        if name == "fact_tt":
            found: Tensor = m.sigma[row * r : (row + 1) * r, column * r : (column + 1) * r]
            return found
        return sum(m.P[row, column, k] * m.C[k] for k in range(r))  # type: ignore[return-value]

    def updates(block: Block) -> Updates:
        found: Updates = {}
        first = next(b for b in net.blocks if b.dim == block.dim)
        U, V = part(net, first, "proj").U, part(net, first, "proj").V
        for target, rows, columns in (("qkv", 3, 1), ("proj", 1, 1), ("fc1", 4, 1), ("fc2", 1, 4)):
            m = part(net, block, target)
            slices = [[s * V @ core(m, row, column) @ U for column in range(columns)] for row in range(rows)]
            found[target] = (torch.cat([torch.cat(row, dim=1) for row in slices]), 0.0)
        return found

    assert_blocks_compute(net, backbone, updates)


@pytest.mark.parametrize("name", ["fact_tt", "fact_tk"])
def test_fact_has_one_pair_of_factors_for_each_width(name: str, backbone: str) -> None:
    net = attached(name, random_view(backbone), start=True)
    widths = set(net.shape.dims)
    for letter in ("U", "V"):
        assert len({id(getattr(m, letter)) for m in net.pet.values()}) == len(widths)
    assert all(not m.V.any() and m.U.any() for m in net.pet.values())
    if name == "fact_tk":
        assert len({id(m.C) for m in net.pet.values()}) == 1
        assert sum(m.P[..., 0].numel() for m in net.pet.values()) == 12 * len(net.blocks)


@pytest.mark.parametrize("name", ["fact_tt", "fact_tk"])
def test_fact_on_separate_q_k_v_is_fact_on_a_fused_one(name: str) -> None:
    fused, apart = random_view("pocket_vit"), random_view("pocket_vit")
    for block in apart.blocks:
        del block.linear["qkv"]
    for net in (attached(name, fused, rank=4), attached(name, apart, rank=4)):
        for parameter in {p for m in net.pet.values() for p in (m.U, m.V, *([m.C] if name == "fact_tk" else []))}:
            with torch.no_grad():
                parameter.copy_(torch.linspace(-0.5, 0.5, parameter.numel()).sin().view_as(parameter))
    own = "sigma" if name == "fact_tt" else "P"
    for one, other in zip(fused.blocks, apart.blocks, strict=True):
        for target in ("proj", "fc1", "fc2"):
            part(apart, other, target).load_state_dict(part(fused, one, target).state_dict())
        whole = getattr(part(fused, one, "qkv"), own).detach().chunk(3)
        for target, rows in zip(("q", "k", "v"), whole, strict=True):
            getattr(part(apart, other, target), own).data.copy_(rows)
    torch.testing.assert_close(fused.model(IMAGES), apart.model(IMAGES), rtol=0, atol=1e-10)
    assert cost.method_params(fused) == cost.method_params(apart)


def test_fact_drops_what_v_reads_in_training_only() -> None:
    net = attached("fact_tt", random_view("pocket_vit"), dropout=0.5)
    m = part(net, net.blocks[0], "fc1")
    x = torch.randn(2, 5, 128, dtype=torch.float64)
    m.train()
    torch.manual_seed(4)
    out = m(x)
    torch.manual_seed(4)
    hidden = F.dropout(F.linear(F.linear(x, m.U), m.sigma), 0.5)
    expected = torch.cat([part @ m.V.T for part in hidden.chunk(4, dim=-1)], dim=-1)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["fact_tt", "fact_tk"])
def test_fact_needs_an_mlp_four_times_as_wide(name: str) -> None:
    net = build_view(VisionTransformer(img_size=8, patch_size=4, embed_dim=32, depth=1, num_heads=2, mlp_ratio=2))
    with pytest.raises(Incompatible, match="64 is not 4 x 32"):
        attached(name, net)


# wrong questions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("lora", {"dropout": 1.0}, r"dropout = 1.0 must lie in \[0, 1\)"),
        ("lora", {"bias": "all"}, "bias = 'all' is not one of none, lora_only"),
        ("lora_fix", {"rank": 0}, "rank = 0 must be at least 1"),
        ("lora_fix", {"targets": ()}, "name each once"),
        ("kadaptation", {"n": 0}, "n = 0 must be at least 1"),
        ("kadaptation", {"targets": ("q", "q")}, "each once"),
        ("kadaptation", {"slow": "rank2"}, "slow = 'rank2' is not one of rank1, full"),
        ("fact_tt", {"rank": 0}, "rank = 0 must be at least 1"),
        ("fact_tk", {"dropout": -0.1}, "dropout = -0.1 lie in"),
    ],
)
def test_values_that_make_no_sense_are_refused(name: str, settings: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build(registry.load(name), settings, name)


@pytest.mark.parametrize("name", ["lora", "lora_fix", "kadaptation"])
def test_targets_are_names_of_linears_that_the_block_has(name: str) -> None:
    with pytest.raises(UsageError, match="no target is called 'fc3'"):
        attached(name, random_view("pocket_vit"), targets=("q", "fc3"))
    net = random_view("pocket_vit")
    for block in net.blocks:
        del block.linear["qkv"]
    with pytest.raises(Incompatible, match="separate linears"):
        attached(name, net, targets=("qkv",))
