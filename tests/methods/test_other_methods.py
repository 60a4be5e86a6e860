"""Convpass, SCT and DTL against their papers' equations in plain tensors; every weight random, float64."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import cache

import pytest
import timm
import torch
from helpers.views import random_view
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from bench.core.errors import Incompatible, UsageError
from bench.models import cost, registry
from bench.models.families import build_view
from bench.models.method import Method, attach, build
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


def oblong() -> ModelView:
    """A random ViT with two registers, whose patches are twice as many columns as rows."""
    torch.manual_seed(0)
    model = VisionTransformer(
        img_size=(16, 32), patch_size=4, embed_dim=32, depth=4, num_heads=2, reg_tokens=2, num_classes=5
    ).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return build_view(model.eval())


def bare(backbone: str) -> ModelView:
    return oblong() if backbone == "oblong" else random_view(backbone)


def images(backbone: str) -> Tensor:
    return IMAGES[:, :, :16] if backbone == "oblong" else IMAGES


def attached(name: str, backbone: str, **settings: object) -> ModelView:
    net = bare(backbone)
    make(name, **settings).attach(net)
    with torch.no_grad():
        for parameter in net.pet.parameters():
            parameter.copy_(torch.randn_like(parameter) / parameter.shape[-1] ** 0.5)
    net.model.eval()
    return net


def watch(net: ModelView, path: str, backbone: str) -> tuple[Tensor, Tensor]:
    """What goes into a module of the model, and what comes out."""
    seen: list[tuple[Tensor, Tensor]] = []
    module = net.model.get_submodule(path)
    handle = module.register_forward_hook(lambda _, args, out: seen.append((args[0].detach(), out.detach())))
    net.model(images(backbone))
    handle.remove()
    return seen[0]


def attention(net: ModelView, inner: nn.Module) -> Callable[[Tensor], Tensor]:
    return inner._attn if net.family == "swin" else inner.attn  # type: ignore[return-value]


def convolved(x: Tensor, grid: tuple[int, int], prefix: int, conv: Callable[[Tensor], Tensor]) -> Tensor:
    """A convolution on the map of patches; every token before them goes through it as an image of one pixel."""
    tokens = x.reshape(len(x), -1, x.shape[-1])
    patches = tokens[:, prefix:].reshape(len(x), *grid, -1).permute(0, 3, 1, 2)
    parts = [conv(tokens[:, i, :, None, None]).flatten(2).mT for i in range(prefix)]
    parts.append(conv(patches).permute(0, 2, 3, 1).flatten(1, 2))
    return torch.cat(parts, dim=1).reshape(x.shape)


@pytest.mark.parametrize("backbone", ["pocket_vit", "pocket_swin", "oblong"])
@pytest.mark.parametrize("settings", [{}, {"hidden": 5, "scale": 0.1, "xavier": True}, {"branches": "attn"}])
def test_convpass_is_a_convolutional_bottleneck_beside_each_branch(settings: dict[str, object], backbone: str) -> None:
    net = attached("convpass", backbone, **settings)
    block = net.blocks[1]
    x, out = watch(net, block.path, backbone)

    def bypass(branch: str) -> Callable[[Tensor], Tensor]:
        name = f"{block.path}.{branch}".replace(".", "_")
        if name not in net.pet:
            return lambda n: torch.zeros(())
        p = dict(net.pet[name].named_parameters())

        def phi(t: Tensor) -> Tensor:
            return t / (1 + torch.exp(-1.702 * t))

        def f(n: Tensor) -> Tensor:
            hidden = phi(n @ p["down.weight"].T + p["down.bias"])
            mixed = convolved(
                hidden, block.grid, block.prefix, lambda t: F.conv2d(t, p["conv.weight"], p["conv.bias"], padding=1)
            )
            return settings.get("scale", 1.0) * (phi(mixed) @ p["up.weight"].T + p["up.bias"])

        return f

    plain = bare(backbone)
    inner = plain.model.get_submodule(block.path)
    n1 = inner.norm1(x)  # type: ignore[operator]
    h = x + attention(plain, inner)(n1) + bypass("attn")(n1)
    n2 = inner.norm2(h)  # type: ignore[operator]
    expected = h + inner.mlp(n2) + bypass("mlp")(n2)  # type: ignore[operator]
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-10)
    assert len(net.pet) == len(net.blocks) * (1 if settings.get("branches") == "attn" else 2)


@pytest.mark.parametrize("xavier", [False, True])
def test_convpass_starts_from_a_kernel_that_passes_its_input_on_or_from_xavier(xavier: bool) -> None:
    net = random_view("pocket_vit")
    make("convpass", xavier=xavier).attach(net)
    kernel = net.pet["blocks_0_attn"].conv.weight  # type: ignore[union-attr]
    x = torch.randn(1, 8, 5, 6, dtype=torch.float64)
    assert torch.equal(F.conv2d(x, kernel, padding=1), x) is not xavier  # type: ignore[arg-type]
    assert float(kernel.detach().abs().max()) <= (0.21 if xavier else 1.0)  # type: ignore[union-attr]


def test_convpass_drops_in_training_alone() -> None:
    net = attached("convpass", "pocket_vit", dropout=0.5)
    still = net.model(IMAGES)
    assert torch.equal(net.model(IMAGES), still)
    net.pet.train()
    assert not torch.allclose(net.model(IMAGES), still)


@pytest.mark.parametrize("settings", [{}, {"fraction": 0.5, "scale": 3.0}])
def test_sct_maps_the_salient_channels_of_the_stream_behind_attention(
    settings: dict[str, object], backbone: str
) -> None:
    net = attached("sct", backbone, **settings)
    block = net.blocks[1]
    m = net.pet[block.path.replace(".", "_") + "_attn"]
    count = int(block.dim * settings.get("fraction", 0.125))  # type: ignore[operator]
    chosen = torch.randperm(block.dim)[:count]
    assert m.index.shape == chosen.shape  # type: ignore[union-attr]
    m.index.copy_(chosen)  # type: ignore[union-attr, operator]
    p = dict(m.named_parameters())
    x, out = watch(net, block.path, backbone)
    plain = random_view(backbone)
    inner = plain.model.get_submodule(block.path)
    z = x + attention(plain, inner)(inner.norm1(x))  # type: ignore[operator]
    mapped = z.clone()
    mapped[..., chosen] += settings.get("scale", 1.0) * (z[..., chosen] @ p["map.weight"].T + p["map.bias"])
    expected = mapped + inner.mlp(inner.norm2(mapped))  # type: ignore[operator]
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-10)


def test_sct_chooses_the_channels_of_largest_class_averaged_norm_on_the_frozen_model(backbone: str) -> None:
    net = attached("sct", backbone, batches=3)
    chance = torch.Generator().manual_seed(1)
    data = [(torch.randn(4, 3, 32, 32, generator=chance).double(), y) for y in torch.tensor([[0, 0, 0, 4]] * 3)]
    asked: list[int] = []

    def batches(count: int) -> Iterator[tuple[Tensor, Tensor]]:
        asked.append(count)
        return iter(data[:count])

    make("sct", batches=3).calibrate(net, batches)
    assert asked == [3]
    frozen = random_view(backbone)
    for block in frozen.blocks:
        seen: list[Tensor] = []
        norm2 = frozen.model.get_submodule(f"{block.path}.norm2")
        handle = norm2.register_forward_hook(lambda _, args, y, seen=seen: seen.append(args[0].detach()))
        frozen.model(torch.cat([x for x, _ in data]))
        handle.remove()
        per_image = seen[0].reshape(12, -1, block.dim).square().sum(1).sqrt()
        labels = torch.cat([y for _, y in data])
        importance = torch.stack([per_image[labels == c].mean(0) for c in (0, 4)]).mean(0)
        expected = sorted(importance.argsort(descending=True)[: block.dim // 8].tolist())
        m = net.pet[block.path.replace(".", "_") + "_attn"]
        assert m.index.tolist() == expected  # type: ignore[union-attr, operator]
        assert m.scale == 1.0 and not m._forward_pre_hooks  # as before


def test_the_choice_of_sct_is_stored_with_the_trained_tensors(backbone: str) -> None:
    net = attached("sct", backbone)
    assert len(net.saved_buffers()) == len(net.blocks)
    assert set(net.saved_buffers()) <= set(cost.delta(net))


@pytest.mark.parametrize("backbone", ["pocket_vit", "oblong"])
@pytest.mark.parametrize("settings", [{}, {"rank": 3, "beta": 2.0, "start": 1}, {"plus": True}, {"start": 0}])
def test_dtl_adds_the_side_path_behind_the_later_blocks(settings: dict[str, object], backbone: str) -> None:
    net = attached("dtl", backbone, **settings)
    last = net.blocks[-1].path
    _, out = watch(net, last, backbone)
    plain = bare(backbone)
    x, _ = watch(plain, "blocks.0", backbone)
    h = torch.zeros_like(x)
    start = settings.get("start", len(net.blocks) // 2)
    for index, block in enumerate(plain.blocks):
        p = dict(net.pet[f"blocks_{index}"].named_parameters())
        h = h + x @ p["A"].T @ p["C"].T
        x = plain.model.get_submodule(block.path)(x)
        if index >= start:  # type: ignore[operator]
            theta = h / (1 + torch.exp(-settings.get("beta", 100.0) * h))  # type: ignore[operator]
            if settings.get("plus"):
                kernel = net.pet[f"blocks_{index}"].g.conv.weight  # type: ignore[union-attr]
                picture = theta[:, block.prefix :].mT.unflatten(2, block.grid)
                mixed = F.conv2d(picture, kernel, padding=1, groups=picture.shape[1]).flatten(2).mT
                theta = torch.cat((theta[:, : block.prefix], mixed), dim=1)
            x = x + theta
    torch.testing.assert_close(out, x, rtol=0, atol=1e-10)


def test_no_gradient_passes_through_the_first_half_of_the_blocks_under_dtl() -> None:
    net = attached("dtl", "pocket_vit")
    needs: list[bool] = []
    for block in net.blocks:
        inner = net.model.get_submodule(block.path)
        inner.register_forward_hook(lambda _, args, out: needs.append(out.requires_grad))
    net.model(IMAGES).sum().backward()
    assert needs == [False] * 3 + [True] * 3
    assert all(p.grad is not None and bool(p.grad.any()) for p in net.pet.parameters())


def test_dtl_plus_has_one_convolution_and_starts_as_dtl() -> None:
    net = random_view("pocket_vit")
    make("dtl", plus=True).attach(net)
    h = torch.randn(2, 65, 128, dtype=torch.float64)
    convolutions = {id(m.g) for m in net.pet.values() if m.g is not None}
    assert len(convolutions) == 1
    assert torch.equal(net.pet["blocks_5"].g(h), h)  # type: ignore[operator]


def test_dtl_does_not_mistake_one_pass_for_the_next() -> None:
    net = attached("dtl", "pocket_vit")
    first = net.model(IMAGES)
    net.model(-IMAGES)
    assert torch.equal(net.model(IMAGES), first)


def test_dtl_refuses_backbones_of_several_widths_and_a_start_behind_the_last_block() -> None:
    with pytest.raises(Incompatible, match="DTL is not defined for SwinTransformer"):
        attach(make("dtl"), random_view("pocket_swin"))
    with pytest.raises(Incompatible, match="start = 6, but VisionTransformer has 6 blocks"):
        make("dtl", start=6).attach(random_view("pocket_vit"))


@pytest.mark.parametrize(
    ("name", "settings", "backbone", "expected"),
    [
        ("convpass", {}, VIT, 327_552),
        ("convpass", {"branches": "attn"}, VIT, 163_776),
        ("convpass", {}, SWIN, 437_504),
        ("sct", {}, VIT, 111_744),
        ("dtl", {}, VIT, 36_864),
        ("dtl", {"plus": True}, VIT, 43_776),
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
        ("convpass", {"hidden": 0}, "hidden must be at least 1"),
        ("convpass", {"branches": "mlp"}, "branches"),
        ("sct", {"fraction": 1.5}, "fraction must lie in"),
        ("sct", {"batches": 0}, "batches be at least 1"),
        ("dtl", {"rank": 0}, "rank = 0 must be at least 1"),
        ("dtl", {"start": -1}, "start = -1 not be negative"),
    ],
)
def test_settings_that_make_no_sense_are_refused(name: str, settings: dict[str, object], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        make(name, **settings)
