"""Each method against its paper's equation, rewritten in plain tensors; every weight random, float64."""

from __future__ import annotations

import pytest
import torch
from helpers.views import random_view
from torch import Tensor, nn
from torch.nn import functional as F

from bench.models import registry
from bench.models.method import build
from bench.models.view import ModelView

IMAGES = torch.randn(2, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


def attached(name: str, backbone: str, **settings: object) -> ModelView:
    net = random_view(backbone)
    build(registry.load(name), settings, name).attach(net)
    with torch.no_grad():
        for parameter in net.pet.parameters():
            parameter.copy_(torch.randn_like(parameter) / parameter.shape[-1] ** 0.5)
    return net


def block_io(net: ModelView, index: int) -> tuple[nn.Module, Tensor, Tensor]:
    """A block with what went in and what came out."""
    inner = net.model.get_submodule(net.blocks[index].path)
    seen: list[tuple[Tensor, Tensor]] = []
    handle = inner.register_forward_hook(lambda _, args, out: seen.append((args[0].detach(), out.detach())))
    net.model(IMAGES)
    handle.remove()
    return inner, *seen[0]


def plain_block(net: ModelView, index: int, tensors: dict[str, Tensor], after_attn, after_mlp, x: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
    """A pre-norm block on a bare backbone with some of its tensors replaced, and functions on the branch outputs."""
    block = net.blocks[index]
    inner = net.model.get_submodule(block.path)
    with torch.no_grad():
        for name, value in tensors.items():
            inner.get_parameter(name).copy_(value)
    attend = inner._attn if net.family == "swin" else inner.attn  # type: ignore[union-attr]
    h = x + after_attn(attend(inner.norm1(x)))  # type: ignore[operator]
    return h + after_mlp(inner.mlp(inner.norm2(h)))  # type: ignore[operator, no-any-return]


@pytest.mark.parametrize("name", ["adapters", "mimi"])
def test_adapters_are_bottlenecks_in_series_after_attention_and_mlp(name: str, backbone: str) -> None:
    net = attached(name, backbone)
    _, x, out = block_io(net, 1)
    path = net.blocks[1].path.replace(".", "_")

    def adapter(branch: str):  # type: ignore[no-untyped-def]
        down = net.model.get_parameter(f"pet.{path}_{branch}.down.weight")
        up = net.model.get_parameter(f"pet.{path}_{branch}.up.weight")
        return lambda y: y + F.gelu(y @ down.T) @ up.T

    expected = plain_block(random_view(backbone), 1, {}, adapter("attn"), adapter("mlp"), x)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-10)


def test_adapter_biases_take_part(backbone: str) -> None:
    net = attached("adapters", backbone, bias=True)
    _, x, out = block_io(net, 0)
    path = net.blocks[0].path.replace(".", "_")

    def adapter(branch: str):  # type: ignore[no-untyped-def]
        get = {
            k: net.model.get_parameter(f"pet.{path}_{branch}.{k}")
            for k in ("down.weight", "down.bias", "up.weight", "up.bias")
        }
        return lambda y: y + F.gelu(y @ get["down.weight"].T + get["down.bias"]) @ get["up.weight"].T + get["up.bias"]

    expected = plain_block(random_view(backbone), 0, {}, adapter("attn"), adapter("mlp"), x)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("targets", [("q", "v"), ("k",), ("q", "k", "v", "proj", "fc1", "fc2")])
def test_lora_is_a_low_rank_change_of_the_weights(targets: tuple[str, ...], backbone: str) -> None:
    rank, alpha = 3, 5.0
    net = attached("lora", backbone, rank=rank, alpha=alpha, targets=targets)
    _, x, out = block_io(net, 1)
    path = net.blocks[1].path
    bare = random_view(backbone)
    inner, dim = bare.model.get_submodule(path), bare.blocks[1].dim
    names = {"q": "attn.qkv", "k": "attn.qkv", "v": "attn.qkv", "proj": "attn.proj", "fc1": "mlp.fc1", "fc2": "mlp.fc2"}
    changed: dict[str, Tensor] = {}
    for target in targets:
        key = f"{names[target]}.weight"
        label = f"attn.{target}" if target in "qkv" else names[target]
        prefix = f"pet.{path}.{label}".replace(".", "_").replace("pet_", "pet.", 1)
        delta = alpha / rank * net.model.get_parameter(f"{prefix}.B") @ net.model.get_parameter(f"{prefix}.A")
        weight = changed.get(key, inner.get_parameter(key).detach().clone())
        start = "qkv".index(target) * dim if target in "qkv" else 0
        weight[start : start + len(delta)] += delta.detach()
        changed[key] = weight
    expected = plain_block(bare, 1, changed, lambda y: y, lambda y: y, x)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-10)


def test_lora_equals_hugging_face_peft_in_outputs_and_gradients() -> None:
    """On a fused qkv both have one A and one B a layer; weights are copied from theirs to ours."""
    peft = pytest.importorskip("peft")
    ours = random_view("pocket_vit")
    build(registry.load("lora"), {"rank": 4, "alpha": 6.0, "targets": ("qkv", "fc1")}, "lora").attach(ours)
    theirs = peft.get_peft_model(
        random_view("pocket_vit").model,
        peft.LoraConfig(r=4, lora_alpha=6, target_modules=["qkv", "fc1"], lora_dropout=0.0, use_rslora=False),
    ).double()
    pairs = []
    for block in ours.blocks:
        for key, part in (("qkv", "attn.qkv"), ("fc1", "mlp.fc1")):
            layer = theirs.base_model.model.get_submodule(f"{block.path}.{part}")
            mine = ours.pet[block.linear[key].label.replace(".", "_")]
            for letter, wrapped in (("A", layer.lora_A["default"].weight), ("B", layer.lora_B["default"].weight)):
                with torch.no_grad():
                    wrapped.copy_(torch.randn_like(wrapped) / 4)
                    getattr(mine, letter).copy_(wrapped)
                pairs.append((getattr(mine, letter), wrapped))
    outputs = [model(IMAGES) for model in (ours.model, theirs)]
    torch.testing.assert_close(*outputs, rtol=0, atol=1e-10)
    for out in outputs:
        out.square().sum().backward()
    for own, other in pairs:
        torch.testing.assert_close(own.grad, other.grad, rtol=1e-9, atol=1e-12)


def test_bitfit_trains_every_bias_and_nothing_else(backbone: str) -> None:
    net = attached("bitfit", backbone)
    trained = {
        name
        for name in net.trainable_parameters()
        if name not in {f"head.{p}" for p in ("weight", "bias", "fc.weight", "fc.bias")}
    }
    biases = {
        f"{path}.bias"
        for path, m in net.model.named_modules()
        if getattr(m, "bias", None) is not None and m is not net.head
    }
    assert trained == biases
    tables = {name for name in attached("bitfit", backbone, tables=True).trainable_parameters() if "table" in name}
    assert len(tables) == (len(net.blocks) if backbone == "pocket_swin" else 0)
