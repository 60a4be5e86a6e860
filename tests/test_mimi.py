from __future__ import annotations

import pytest
import timm
import torch
from conftest import random_net

from bench import check, registry
from bench.anatomy import Anatomy
from bench.dissect import dissect
from bench.errors import UsageError
from bench.method import Method, build
from methods import mimi

IMAGES = torch.randn(2, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


def make(**settings: object) -> Method:
    return build(registry.load("mimi"), settings, "mimi")


def attached(backbone: str, **settings: object) -> Anatomy:
    net = random_net(backbone)
    torch.manual_seed(3)
    make(**settings).attach(net)
    return net


def test_importance_is_the_mean_absolute_weight_of_a_neuron(backbone: str) -> None:
    net = attached(backbone)
    scores, places = mimi.importance(net)
    for index in (0, len(places) // 2, len(places) - 1):
        name, j = places[index]
        down = net.model.get_parameter(f"pet.{name}.down.weight")[j]
        up = net.model.get_parameter(f"pet.{name}.up.weight")[:, j]
        assert float(scores[index]) == pytest.approx(float(torch.cat((down, up)).detach().abs().mean()))


def test_a_pruned_network_equals_the_large_one_with_the_same_neurons_masked(backbone: str) -> None:
    net = attached(backbone)
    masked = net.snapshot()
    scores, places = mimi.importance(net)
    kept = set(scores.argsort(descending=True)[:20].tolist())
    with torch.no_grad():
        for index, (name, j) in enumerate(places):
            if index not in kept:
                masked.model.get_parameter(f"pet.{name}.down.weight")[j] = 0
    mimi.keep_best(net, 20)
    torch.testing.assert_close(net.model(IMAGES), masked.model(IMAGES), rtol=0, atol=1e-10)
    assert sum(m.hidden for m in mimi.adapters(net).values()) == 20
    assert sum(p.numel() for p in net.pet.parameters()) == sum(
        2 * m.down.in_features * m.hidden for m in mimi.adapters(net).values()
    )


def test_neurons_fall_where_the_score_is_lowest_over_all_adapters(backbone: str) -> None:
    net = attached(backbone)
    names = list(mimi.adapters(net))
    with torch.no_grad():
        for name in names[1:]:
            mimi.adapters(net)[name].down.weight.mul_(1e-3)
            mimi.adapters(net)[name].up.weight.mul_(1e-3)
    first = mimi.adapters(net)[names[0]].hidden
    mimi.keep_best(net, first)
    assert list(mimi.adapters(net)) == [names[0]]  # every other adapter has lost its last neuron and disappeared
    sizes = make().sizes(net)
    assert sorted(sizes.values()) == [0] * (2 * len(net.blocks) - 1) + [first]
    assert mimi.adapters(net)[names[0]].hidden == first


def test_swin_t_keeps_the_numbers_of_neurons_that_the_paper_implies() -> None:
    """Released convention (sigma 32 of the MLP width): 1,104 neurons, of which 552, 276, 138, 69, 34 survive."""
    net = dissect(timm.create_model("swin_tiny_patch4_window7_224", num_classes=2))
    method = make(sigma=32, basis="mlp", cycles=5)
    method.attach(net)
    left = []
    for phase in method.phases(12):
        left.append(sum(method.sizes(net).values()))
        if phase.then:
            phase.then(net, None)
    assert left == [1104, 552, 276, 138, 69, 34]


def test_cycles_only_ever_lose_neurons(backbone: str) -> None:
    method = make(cycles=3)
    case = check.Case(method, backbone)
    net, sizes = case.fresh(), []
    for phase in method.phases(8):
        check.steps(net, case.images())
        sizes.append(method.sizes(net))
        if phase.then:
            phase.then(net, None)
    for earlier, later in zip(sizes, sizes[1:], strict=False):
        assert sum(later.values()) == sum(earlier.values()) // 2
        assert all(later[name] <= earlier[name] for name in earlier)


@pytest.mark.parametrize(("epochs", "cycles", "lengths"), [(8, 3, [2, 2, 2, 2]), (5, 3, [1, 1, 1, 2]), (7, 0, [7])])
def test_the_epochs_of_the_protocol_are_divided_and_none_is_lost(epochs: int, cycles: int, lengths: list[int]) -> None:
    phases = make(cycles=cycles).phases(epochs)
    assert [phase.epochs for phase in phases] == lengths
    assert phases[-1].then is None  # the last stretch is not followed by a removal that nothing would repair


def test_too_few_epochs_are_refused_in_one_sentence() -> None:
    with pytest.raises(UsageError, match="3 epochs cannot be divided among 4 cycles"):
        make(cycles=3).phases(3)
    with pytest.raises(UsageError, match="rho = 1.5.*rho must lie between 0 and 1"):
        make(rho=1.5)
