"""CvT behind the interface of a timm model: transformers' own network, and handles that mean what they say."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.core.errors import Incompatible, UsageError
from bench.models import backbones, cost, cvt, registry
from bench.models.families import build_view
from bench.models.method import attach, build
from bench.models.view import ModelView
from bench.tools import conformance
from methods.adapters import Adapters
from methods.full import Full
from methods.linear_probe import LinearProbe
from methods.lora import LoRA
from methods.vpt_deep import VPTDeep
from methods.vpt_shallow import VPTShallow

transformers = pytest.importorskip("transformers")

SIZE = 32
IMAGES = torch.randn(2, 3, SIZE, SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


def tiny_config(**settings: Any) -> Any:
    """Three stages of 16 x 16, 8 x 8 and 4 x 4 patches; the last has a class token. (Stage i needs i layers or more.)"""
    shape = {"embed_dim": [8, 12, 16], "num_heads": [1, 2, 2], "depth": [1, 2, 3]}
    patches = {"patch_stride": [2, 2, 2], "patch_padding": [3, 1, 1]}
    return transformers.CvtConfig(**(shape | patches | {"initializer_range": 0.3} | settings))  # attention not uniform


def tiny(classes: int = 5) -> cvt.Cvt:
    return cvt.from_config(tiny_config(), classes=classes, size=SIZE)


def random_cvt() -> ModelView:
    """Every parameter and every batch-norm statistic random."""
    torch.manual_seed(0)
    model = tiny().double().eval()
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.is_floating_point():
                tensor.add_(0.2 * torch.rand_like(tensor))
    return build_view(model)


# ------------------------------------------------------------------------------------------------- the backbone itself


def test_the_network_is_that_of_transformers() -> None:
    torch.manual_seed(0)
    theirs = transformers.CvtForImageClassification(tiny_config(num_labels=5)).eval()
    with torch.no_grad():
        for tensor in theirs.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(0.2 * torch.rand_like(tensor))
    ours = tiny().eval()
    ours.load_state_dict({k.replace("classifier.", "head."): v for k, v in theirs.state_dict().items()})
    with torch.no_grad():
        expected = theirs(IMAGES.float()).logits
        assert torch.equal(ours(IMAGES.float()), expected)
        assert torch.equal(ours(IMAGES[:1].float()), theirs(IMAGES[:1].float()).logits)
        features = ours.forward_head(ours.forward_features(IMAGES.float()), pre_logits=True)
        assert torch.equal(ours.get_classifier()(features), expected)


def test_cvt_13_has_the_published_counts() -> None:
    for method, expected in ((Full(), 19_612_480), (LinearProbe(), 0), (Adapters(sigma=32, basis="mlp"), 776_192)):
        with torch.device("meta"):
            net = build_view(backbones.create("cvt_13", classes=100, weights="random", device="meta"))
            method.attach(net)
        assert cost.method_params(net) == expected
        assert cost.head_params(net) == 38_500
        assert len(net.blocks) == 13 and backbones.input_size(net.model) == 224
        if isinstance(method, LinearProbe):
            assert cost.total_params(net) == 19_650_980  # published 19.65 M
            assert cost.compute(net, 224).macs / 1e9 == pytest.approx(4.5, abs=0.1)  # published 4.5 G


def test_no_path_is_dropped_in_training() -> None:
    for model in (tiny(), cvt.from_config(tiny_config(drop_path_rate=[0.5, 0.5, 0.5]), classes=2, size=SIZE)):
        drops = [m for name, m in model.named_modules() if name.endswith("drop_path")]
        assert len(drops) == 6 and all(isinstance(m, nn.Identity) for m in drops)


def test_weights_come_from_the_hub_or_a_file_and_the_head_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    donor = transformers.CvtForImageClassification(tiny_config(num_labels=7))
    donor.save_pretrained(tmp_path)
    monkeypatch.setitem(cvt.HUB, "cvt_13", str(tmp_path))
    from_hub = backbones.create("cvt_13", classes=3)
    assert not from_hub.training and not any(isinstance(m, type(donor.cvt)) and m.training for m in from_hub.modules())
    for name, value in donor.state_dict().items():
        if not name.startswith("classifier."):
            assert torch.equal(from_hub.state_dict()[name], value)
    library = SimpleNamespace(CvtConfig=tiny_config, CvtModel=transformers.CvtModel)
    monkeypatch.setattr(cvt, "_transformers", lambda: library)
    from_file = backbones.create("cvt_13", classes=4, weights=str(tmp_path / "model.safetensors"))
    assert backbones.weights_digest(from_file) == backbones.weights_digest(from_hub)
    with torch.no_grad():
        from_file.get_parameter("head.weight").add_(1)
    assert backbones.weights_digest(from_file) == backbones.weights_digest(from_hub)
    with torch.no_grad():
        from_file.get_parameter("layernorm.weight").add_(1)
    assert backbones.weights_digest(from_file) != backbones.weights_digest(from_hub)


def test_weights_that_cannot_be_had_are_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(cvt.HUB, "cvt_13", str(tmp_path / "nothing"))
    with pytest.raises(
        UsageError, match=r"(?s)^The weights of 'cvt_13' could not be loaded .* use --weights random\.$"
    ):
        backbones.create("cvt_13", classes=3)
    with pytest.raises(UsageError, match="No weights of 'cvt_13' at"):
        backbones.create("cvt_13", classes=3, weights=str(tmp_path / "nothing.safetensors"))


def test_without_transformers_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    for weights in ("random", "pretrained"):
        with pytest.raises(UsageError, match=r"pip install 'petbench\[cvt\]'"):
            backbones.create("cvt_13", classes=3, weights=weights)


# -------------------------------------------------------------------------------------------------------- the handles


def watch(module: nn.Module) -> list[tuple[tuple[Any, ...], Tensor]]:
    seen: list[tuple[tuple[Any, ...], Tensor]] = []
    module.register_forward_hook(lambda _, args, out: seen.append((args, out)))
    return seen


def norm(w: dict[str, Tensor], x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], w["weight"], w["bias"])


def plain_block(
    net: ModelView, index: int, x: Tensor, read: Callable[[Tensor], Tensor], after: list[Callable[[Tensor], Tensor]]
) -> Tensor:
    """A CvT block on x (B, N, D) in plain tensors, with functions on what attention reads and on both branch outputs."""
    block = net.blocks[index]
    w = {
        n.removeprefix(f"{block.path}."): v for n, v in net.model.state_dict().items() if n.startswith(f"{block.path}.")
    }

    def part(name: str) -> dict[str, Tensor]:
        return {n.removeprefix(f"{name}."): v for n, v in w.items() if n.startswith(f"{name}.")}

    def linear(name: str, y: Tensor) -> Tensor:
        return y @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    n = read(norm(part("layernorm_before"), x))
    before, patches = n[:, : block.prefix], n[:, block.prefix :]
    grid = patches.transpose(1, 2).unflatten(2, block.grid)
    qkv = []
    for letter, stride in (("query", 1), ("key", 2), ("value", 2)):
        p = part(f"attention.attention.convolution_projection_{letter}.convolution_projection")
        y = F.conv2d(grid, p["convolution.weight"], stride=stride, padding=1, groups=block.dim)
        y = (y - p["normalization.running_mean"][:, None, None]) / (
            p["normalization.running_var"][:, None, None] + 1e-5
        ).sqrt()
        y = y * p["normalization.weight"][:, None, None] + p["normalization.bias"][:, None, None]
        tokens = torch.cat((before, y.flatten(2).transpose(1, 2)), dim=1)
        qkv.append(linear(f"attention.attention.projection_{letter}", tokens).unflatten(2, (block.heads, -1)))
    scores = torch.einsum("bnhd,bmhd->bhnm", qkv[0], qkv[1]) / math.sqrt(block.dim)
    mixed = torch.einsum("bhnm,bmhd->bnhd", scores.softmax(-1), qkv[2]).flatten(2)
    h = x + after[0](linear("attention.output.dense", mixed))
    return h + after[1](linear("output.dense", F.gelu(linear("intermediate.dense", norm(part("layernorm_after"), h)))))


def affine(dim: int) -> nn.Linear:
    return nn.Linear(dim, dim).double()


def same(y: Tensor) -> Tensor:
    return y


@pytest.mark.parametrize("index", [0, 2, 4])
@torch.no_grad()
def test_modules_act_on_the_branches_before_the_residual_sums(index: int) -> None:
    net = random_cvt()
    block = net.blocks[index]
    series = [affine(block.dim) for _ in range(2)]
    block.attn.then(series[0])
    block.mlp.then(series[1])
    seen = watch(net.model.get_submodule(block.path))
    net.model(IMAGES)
    (x, *_), out = seen[0]
    assert x.shape == (2, block.prefix + math.prod(block.grid), block.dim)
    expected = plain_block(random_cvt(), index, x, same, list(series))
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("index", [1, 3])
@torch.no_grad()
def test_before_changes_what_q_k_and_v_read_and_a_parallel_module_reads_the_norm(index: int) -> None:
    net = random_cvt()
    block = net.blocks[index]
    reads, parallel = affine(block.dim), affine(block.dim)
    block.attn.before(reads)
    block.mlp.add(parallel)
    seen = watch(net.model.get_submodule(block.path))
    normed = watch(block.norm["norm2"].module)
    net.model(IMAGES)
    (x, *_), out = seen[0]
    expected = plain_block(random_cvt(), index, x, reads, [same, lambda y: y + parallel(normed[0][1])])
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("letter", ["q", "k", "v"])
@torch.no_grad()
def test_q_k_and_v_are_those_that_attention_uses(letter: str) -> None:
    """A module added to a slot is the same change of that linear's weight in the plain block."""
    net, other = random_cvt(), random_cvt()
    m = affine(net.blocks[3].dim)
    net.blocks[3].linear[letter].add(m)
    seen = watch(net.model.get_submodule(net.blocks[3].path))
    net.model(IMAGES)
    (x, *_), out = seen[0]
    name = {"q": "query", "k": "key", "v": "value"}[letter]
    linear: Any = other.model.get_submodule(f"{other.blocks[3].path}.attention.attention.projection_{name}")
    linear.weight += m.weight
    linear.bias += m.bias
    torch.testing.assert_close(out, plain_block(other, 3, x, same, [same, same]), rtol=0, atol=1e-10)


def test_the_handles_cover_every_stage() -> None:
    net = random_cvt()
    assert [block.grid for block in net.blocks] == [(16, 16), (8, 8), (8, 8), (4, 4), (4, 4), (4, 4)]
    assert [block.prefix for block in net.blocks] == [0, 0, 0, 1, 1, 1]
    assert [block.heads for block in net.blocks] == [1, 2, 2, 2, 2, 2]
    assert net.shape.dims == (8, 12, 12, 16, 16, 16) and net.shape.stages == (8, 12, 16)
    assert [s.label.split(".embedding.")[1] for s in net.stem] == [
        "convolution_embeddings.projection",
        "convolution_embeddings.normalization",
    ]
    assert [(conv.d_in, conv.d_out, norm.d_out) for conv, norm in net.merging] == [(8, 12, 12), (12, 16, 16)]
    for conv, _ in (net.stem, *net.merging):
        seen = watch(conv.module)
        net.model(IMAGES)
        assert seen[0][1].shape[conv.channel] == conv.d_out
    assert net.final is not None and net.final.path == "layernorm"
    for block in net.blocks:
        assert set(block.linear) == {"q", "k", "v", "proj", "fc1", "fc2"} and block.attn.first is None
        assert {slot.d_in for slot in block.linear.values()} == {block.dim, 4 * block.dim}
    labels = [
        s.label for b in net.blocks for s in (*b.linear.values(), *b.norm.values(), b.attn.exit, b.mlp.exit, b.out)
    ]
    assert len(set(labels)) == len(labels)


def test_what_a_cvt_has_not_is_refused() -> None:
    with pytest.raises((UsageError, Incompatible), match="'qkv'"):
        LoRA(targets=("qkv",)).attach(random_cvt())
    net = random_cvt()
    with pytest.raises(Incompatible, match="takes no further bias"):
        net.add_to_attention(net.blocks[0], nn.Identity())
    for method in (VPTShallow(), VPTDeep()):
        with pytest.raises(Incompatible, match=r"is not defined for Cvt \(cvt\), only for: vit, swin"):
            attach(method, random_cvt())
    with pytest.raises(Incompatible, match="No prompts are defined for Cvt"):
        random_cvt().add_prompts({})


# ---------------------------------------------------------------------------------------------------------- conformance

# The query convolution of the last layer touches the patches alone. Where a class token is all that the head sees,
# nobody reads their queries: that convolution gets no gradient, and a method that trains it keeps a promise less.
TOKEN = ("linear_probe", "lora", "adapters")  # these are checked with a class token too
# for a network of width 8
SMALLER: dict[str, dict[str, Any]] = {
    "karst": {"kernels": 3},
    "spt": {"budget": 0.05},
    "spt_adapter": {"budget": 0.05},
}


@pytest.mark.parametrize(
    ("name", "class_token"), [(name, False) for name in registry.entries()] + [(name, True) for name in TOKEN]
)
def test_methods_keep_their_promises_on_a_cvt_or_refuse_it(
    name: str, class_token: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def create(_: str, *, classes: int, weights: str, device: str = "cpu") -> nn.Module:
        config = tiny_config(embed_dim=[8, 16], depth=[1, 2], cls_token=[False, class_token])
        return cvt.from_config(config, classes=classes, size=SIZE).to(device).eval()

    monkeypatch.setattr(backbones, "create", create)
    found = dict(conformance.run(build(registry.load(name), SMALLER.get(name, {}), name), "tiny_cvt"))
    if "cvt" in registry.entries()[name].supports:
        assert len(found) == len(conformance.CHECKS)
        assert {promise: fault for promise, fault in found.items() if fault} == {}
    else:
        assert list(found) == ["refuses"]


def test_only_the_last_query_convolution_of_a_cvt_with_a_class_token_gets_no_gradient() -> None:
    net = random_cvt()
    Full().attach(net)
    net.model(IMAGES).square().sum().backward()
    last = f"{net.blocks[-1].path}.attention.attention.convolution_projection_query.convolution_projection"
    dead = {name for name, p in net.trainable_parameters().items() if p.grad is None or not p.grad.any()}
    assert dead == {f"{last}.{part}" for part in ("convolution.weight", "normalization.weight", "normalization.bias")}
