"""The random subspace against an explicit matrix from SciPy's Hadamard, and a toy problem of known dimension."""

from __future__ import annotations

import pytest
import scipy.linalg
import torch
from helpers.views import random_view
from torch import nn

from bench.core.errors import Incompatible, UsageError
from bench.models import registry
from bench.models.method import attach, build, params
from methods.intrinsic import Fastfood, hadamard


@pytest.mark.parametrize("size", [1, 2, 8, 64, 128, 4096])
def test_the_transform_is_that_of_the_hadamard_matrix(size: int) -> None:
    x = torch.randn(size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = torch.from_numpy(scipy.linalg.hadamard(size).astype(float)) @ x
    assert torch.allclose(hadamard(x), expected, atol=1e-12)


@pytest.mark.parametrize(("d", "d_out", "d_in"), [(5, 3, 7), (40, 4, 8), (1, 2, 2)])
def test_fastfood_is_the_product_of_its_five_matrices(d: int, d_out: int, d_in: int) -> None:
    z = nn.Parameter(torch.randn(d, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))
    module = Fastfood(z, d_out, d_in, seed=3).double()
    size = len(module.signs)
    assert size >= max(d, d_out * d_in) > size // 2
    H = torch.from_numpy(scipy.linalg.hadamard(size).astype(float))
    permute = torch.eye(size, dtype=torch.float64)[module.order]
    M = H @ torch.diag(module.gauss) @ permute @ H @ torch.diag(module.signs.double())
    assert torch.allclose(M.norm(dim=0), torch.ones(size, dtype=torch.float64), atol=1e-6)
    expected = (M[:, :d] @ z)[: d_out * d_in].view(d_out, d_in)
    assert torch.allclose(module.delta(), expected, atol=1e-12)
    x = torch.randn(4, d_in, dtype=torch.float64)
    assert torch.allclose(module(x), x @ expected.T, atol=1e-12)


def test_all_weights_share_the_d_numbers_and_nothing_else_is_stored(backbone: str) -> None:
    net = random_view(backbone)
    method = build(registry.load("intrinsic"), {"dim": 37, "targets": ("q", "fc1")}, "intrinsic")
    attach(method, net)
    trained = {name: p for name, p in net.trainable_parameters().items() if name.startswith("pet.")}
    assert [p.shape for p in trained.values()] == [(37,)] and method.count(net.shape) == 37
    assert net.saved_buffers() == {}
    assert len(net.pet) == 2 * len(net.blocks)
    signs = [module.signs for module in net.pet.values()]
    assert not torch.equal(signs[0], signs[2])  # a subspace of its own for each weight


def test_a_layer_alone_is_measured_and_old_specs_stand() -> None:
    net = random_view("pocket_vit")
    attach(build(registry.load("intrinsic"), {"dim": 3, "targets": ("q", "fc1"), "layer": 2}, "intrinsic"), net)
    assert len(net.pet) == 2
    assert sorted(added.slot.label for added in net.added_modules.values()) == ["blocks.1.attn.q", "blocks.1.mlp.fc1"]
    assert "layer" not in params(build(registry.load("intrinsic"), {}, "intrinsic"))
    with pytest.raises(Incompatible, match="9 of a backbone of 6 blocks"):
        attach(build(registry.load("intrinsic"), {"layer": 9}, "intrinsic"), random_view("pocket_vit"))


def test_a_seed_gives_the_same_subspace_and_another_another() -> None:
    def delta(seed: int) -> torch.Tensor:
        return Fastfood(nn.Parameter(torch.ones(6)), 4, 4, seed).delta().detach()

    assert torch.equal(delta(1), delta(1)) and not torch.equal(delta(1), delta(2))


@pytest.mark.parametrize(("d", "solved"), [(6, False), (12, True), (24, True)])
def test_a_problem_of_twelve_constraints_needs_twelve_dimensions(d: int, solved: bool) -> None:
    """Li et al., section 2: weights of which twelve weighted sums are given have an intrinsic dimension of twelve."""
    groups, width = 12, 16
    x = torch.rand(1, width, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) + 0.5
    target = torch.arange(1.0, groups + 1, dtype=torch.float64)
    module = Fastfood(nn.Parameter(torch.zeros(d, dtype=torch.float64)), groups, width, seed=0).double()
    basis = torch.autograd.functional.jacobian(
        lambda z: torch.func.functional_call(module, {"z": z}, (x,))[0],
        torch.zeros(d, dtype=torch.float64),
    )
    z = torch.linalg.lstsq(basis, target[:, None]).solution
    left = (basis @ z - target[:, None]).norm()
    assert (left < 1e-8) == solved


@pytest.mark.parametrize(
    "settings", [{"dim": 0}, {"targets": ()}, {"targets": ("q", "q")}, {"targets": ("w",)}, {"layer": 0}]
)
def test_wrong_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        attach(build(registry.load("intrinsic"), settings, "intrinsic"), random_view("pocket_vit"))
