from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from helpers.views import random_view
from torch import Tensor, nn
from torch.nn import functional as F

from bench.core.errors import UsageError
from bench.models import cost, registry, static_cost
from bench.models.method import Method, build
from bench.models.view import ModelView
from methods._bottleneck import Bottleneck
from methods.sparse_adapter import layers

IMAGES = torch.randn(5, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
LABELS = torch.tensor([0, 1, 2, 3, 4])


def batches(_: int) -> Iterator[tuple[Tensor, Tensor]]:
    yield IMAGES[:3], LABELS[:3]
    yield IMAGES[3:], LABELS[3:]


def make(**settings: object) -> Method:
    return build(registry.load("sparse_adapter"), settings, "sparse_adapter")


def pruned(backbone: str, **settings: object) -> ModelView:
    net = random_view(backbone)
    make(**settings).attach(net)
    torch.manual_seed(11)
    make(**settings).calibrate(net, batches)
    return net


def dense(layer: nn.Module) -> Tensor:
    """W . m of a pruned matrix, put together one value at a time."""
    mask, values = layer.mask, layer.values.detach().flatten().tolist()
    weight = torch.zeros(mask.shape, dtype=torch.float64)
    for place, value in zip(mask.nonzero().tolist(), values, strict=True):
        weight[tuple(place)] = value
    return weight


@pytest.mark.parametrize("sparsity", [0.0, 0.4, 0.8])
@pytest.mark.parametrize("scope", ["global", "local"])
def test_the_survivors_are_counted_and_nothing_else(scope: str, sparsity: float, backbone: str) -> None:
    net = random_view(backbone)
    method = make(scope=scope, sparsity=sparsity)
    method.attach(net)
    expected = sum(4 * round(dim * (dim // 8) * (1 - sparsity)) for dim in net.shape.dims)
    assert cost.method_params(net) == expected  # also where no data are at hand, as for `bench count`
    method.calibrate(net, batches)
    assert cost.method_params(net) == method.count(net.shape) == expected
    assert sum(int(layer.mask.sum()) for layer in layers(net).values()) == expected
    assert sum(int((dense(layer) != 0).sum()) for layer in layers(net).values()) == expected


def test_counts_on_vit_b() -> None:
    """12 blocks, two adapters of two matrices 768 x 96, of each of which 60 % survive: 44,237."""
    counted = static_cost.count_params(make(), "vit_base_patch16_224", 100)
    assert counted.method == 48 * 44_237


@pytest.mark.parametrize("scope", ["global", "local"])
def test_the_weights_that_survive_are_the_most_sensitive_of_the_dense_adapter(scope: str) -> None:
    net, oracle = pruned("pocket_vit", scope=scope, sparsity=0.7), random_view("pocket_vit")
    for block in oracle.blocks:
        for branch in (block.attn, block.mlp):
            branch.then(Bottleneck(128, 16))
    weights = [linear.weight for m in oracle.pet.values() for linear in (m.down, m.up)]
    torch.manual_seed(11)
    with torch.no_grad():
        for weight in weights:
            weight.copy_(nn.init.trunc_normal_(torch.empty(weight.shape), std=0.02))
    F.cross_entropy(oracle.model(IMAGES), LABELS).backward()
    scores = [(w * w.grad).abs().detach() for w in weights if w.grad is not None]
    every = torch.cat([own.flatten() for own in scores]).sort(descending=True).values
    for own, weight, layer in zip(scores, weights, layers(net).values(), strict=True):
        left = round(0.3 * 2048)
        bar = every[24 * left - 1] if scope == "global" else own.flatten().sort(descending=True).values[left - 1]
        assert torch.equal(layer.mask, own >= bar)
        assert torch.equal(dense(layer), torch.where(layer.mask, weight, 0.0))


def test_it_computes_the_bottleneck_of_the_masked_matrices(backbone: str) -> None:
    net = pruned(backbone)
    adapter = next(iter(net.pet.values()))
    x = torch.randn(2, 7, net.blocks[0].dim, dtype=torch.float64)
    down, up = dense(adapter.down), dense(adapter.up)
    torch.testing.assert_close(adapter(x), x + F.gelu(x @ down.T) @ up.T, rtol=0, atol=1e-12)


def test_every_matrix_keeps_a_weight_when_all_are_ranked_together(backbone: str) -> None:
    net = pruned(backbone, scope="global", sparsity=0.99)
    kept = [int(layer.mask.sum()) for layer in layers(net).values()]
    assert min(kept) >= 1 and len(set(kept)) > 1


def test_survivors_are_decayed_as_matrices_and_masks_are_stored(backbone: str) -> None:
    net = pruned(backbone)
    assert {p.ndim for p in net.pet.parameters()} == {2}
    stored = cost.delta(net)
    assert sum(t.numel() for name, t in stored.items() if name.endswith(".mask")) == sum(
        layer.mask.numel() for layer in layers(net).values()
    )
    assert all(p.grad is None for p in net.model.parameters())


def test_a_delta_of_other_survivors_is_restored(backbone: str) -> None:
    stored, other = pruned(backbone, scope="global", sparsity=0.9), random_view(backbone)
    make(sparsity=0.9).attach(other)
    make(sparsity=0.9).reshape(other, cost.delta(stored))
    cost.restore(other, cost.delta(stored))
    assert torch.equal(other.model(IMAGES), stored.model(IMAGES))


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(UsageError, match=r"sparsity = 1.0.*sparsity lie in \[0, 1\)"):
        make(sparsity=1.0)
