"""Where every method starts: the distribution of each of its tensors, and what that does to the first features.

The distributions are those of the papers, written out in numbers for pocket_vit (width 128, MLP 512, patches of 4 x 4
pixels of 3 colours, 6 blocks). Whoever adds a method adds its row.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from bench.models import backbones, registry
from bench.models.families import build_view
from bench.models.method import attach, build
from bench.models.view import ModelView

IMAGES = torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(3))


@dataclass(frozen=True)
class Normal:
    std: float
    mean: float = 0.0
    cut: float = math.inf  # in std, on both sides

    def check(self, x: Tensor) -> None:
        z = (x - self.mean) / self.std
        assert float(z.abs().max()) <= self.cut * (1 + 1e-6)
        left = torch.distributions.Normal(0.0, 1.0)
        c = torch.tensor(min(self.cut, 30.0))
        variance = float(1 - 2 * c * left.log_prob(c).exp() / (2 * left.cdf(c) - 1))  # of the cut distribution
        assert abs(float(z.mean())) < 5 / len(z) ** 0.5
        assert float(z.std()) == pytest.approx(variance**0.5, rel=5 / (2 * len(z)) ** 0.5)
        if len(z) > 1000 and self.cut > 2:
            assert float(z.abs().max()) > 2.5  # a uniform one of this std ends at sqrt 3


@dataclass(frozen=True)
class Uniform:
    bound: float

    def check(self, x: Tensor) -> None:
        assert float(x.abs().max()) <= self.bound * (1 + 1e-6)
        assert float(x.std()) == pytest.approx(self.bound / 3**0.5, rel=5 / (2 * len(x)) ** 0.5)
        assert abs(float(x.mean())) < 5 * self.bound / (3 * len(x)) ** 0.5


@dataclass(frozen=True)
class Constant:
    value: float

    def check(self, x: Tensor) -> None:
        assert torch.equal(x, torch.full_like(x, self.value))


def xavier(inputs: int, outputs: int) -> Uniform:
    """Glorot and Bengio 2010, eq. 16."""
    return Uniform(math.sqrt(6 / (inputs + outputs)))


def default(inputs: int) -> Uniform:
    """torch's own of a linear, Kaiming-uniform with a = sqrt 5."""
    return Uniform(inputs**-0.5)


Start = Normal | Uniform | Constant
ZERO, ONE, BERT = Constant(0.0), Constant(1.0), Normal(0.02)
BOTTLENECK: dict[str, Start] = {"down.weight": BERT, "up.weight": BERT}
PARALLEL: dict[str, Start] = {"down.weight": default(128), "down.bias": ZERO, "up.weight": ZERO, "up.bias": ZERO}
PAIR: dict[str, Start] = {"gamma": Normal(0.02, 1.0), "beta": BERT}
LINEAR: dict[str, Start] = {"weight": BERT, "bias": ZERO}
TOKENS: dict[str, Start] = {"tokens": Uniform(math.sqrt(6 / (3 * 4 * 4 + 128)))}


def glorot2(inputs: int, outputs: int) -> Uniform:
    """With the gain sqrt 2 of Compacter."""
    return Uniform(2**0.5 * xavier(inputs, outputs).bound)


# by the name of a tensor, or by its name and shape where that decides; empty: tensors of the backbone alone
STARTS: dict[str, dict[str, Start]] = {
    **{name: {} for name in ("att_blocks", "bitfit", "full", "linear_probe", "ln_tuning", "mlp_blocks")},
    "lepe": {"conv.weight": ZERO, "conv.bias": ZERO},
    "rpb": {"table": ZERO},
    "transformer_probe": {f"norm{i}.weight": ONE for i in (1, 2)}
    | {f"norm{i}.bias": ZERO for i in (1, 2)}
    | {f"{name}.{part}": start for name in ("qkv", "fc1") for part, start in LINEAR.items()}
    | {f"{name}.{part}": ZERO for name in ("proj", "fc2") for part in LINEAR},
    **{name: BOTTLENECK for name in ("adapters", "adapters_on_attention", "adapter_drop", "mimi")},
    "adapter_plus": {
        "gamma": ONE,
        **{f"{side}.weight": Normal(0.01, cut=2) for side in ("down", "up")},
        **{f"{side}.bias": ZERO for side in ("down", "up")},
    },
    **{name: PARALLEL for name in ("adaptformer", "parallel_adapters")},
    "compacter": {"down.A": Normal(1e-4), "down.b": ZERO, "up.b": ZERO}  # the rule of up is that of down
    | {"down.s": glorot2(1, 1), "down.t": glorot2(32, 1), "up.s": glorot2(1, 32), "up.t": glorot2(1, 1)},
    "phm_adapter": {"down.A": Normal(0.01), "up.A": Normal(0.01), "down.b": ZERO, "up.b": ZERO}
    | {"down.B": glorot2(32, 1), "up.B": glorot2(1, 32)},
    "convpass": PARALLEL | {"down.weight": xavier(128, 8), "conv.bias": ZERO},  # the kernel has a test of its own
    "sparse_adapter": {"down.values": BERT, "up.values": BERT},
    "arc": {"U": xavier(128, 50), "c": ZERO, "b": ZERO},
    "dtl": {"A": default(128), "C": ZERO},
    "fact_tt": {"U": default(128), "V": ZERO, "sigma": default(16)},
    "fact_tk": {"U": default(128), "V": ZERO, "C": xavier(32 * 32, 32 * 32), "P": xavier(72, 32)},
    "hydra": {
        "A.weight (2, 128)": xavier(128, 2),
        "A.weight (2, 512)": xavier(512, 2),
        **dict.fromkeys(("A.bias", "B.weight", "B.bias"), ZERO),
    },
    "kadaptation": {"u": ZERO, "v": default(4), "bias": ZERO, "slow.0": default(1), "slow.1": default(32)},
    "lora": {"A": default(128), "B": ZERO},
    "intrinsic": {"z": ZERO},
    "lora_fix": {"A": default(128), "B": ZERO},
    "repadapter": {"A.weight": xavier(128, 8), "A.bias": ZERO, "B": ZERO, "b": ZERO},
    "sct": {"map.weight": Normal(0.02, cut=2), "map.bias": ZERO},
    "vpt_deep": TOKENS,
    "vpt_shallow": TOKENS,
    "cvpt": {f"P.{name}": start for name, start in TOKENS.items()},
    "vqt": {"W.weight": ZERO} | {f"Q.{i}.{name}": start for i in range(6) for name, start in TOKENS.items()},
    # He et al. 2015, eq. 14: Kaiming-uniform of gain sqrt 2, c as 1 x d_in and l as d_out x 1
    "rlrr": PAIR
    | {"c (1, 128)": Uniform(math.sqrt(6 / 128)), "c (1, 512)": Uniform(math.sqrt(6 / 512))}
    | {"l": Uniform(math.sqrt(6)), "t": ZERO},
    "ssf": PAIR,
    "lora_plus": {"A": default(128), "B": ZERO},
    "gps": {"values": ZERO},
    "mona": {
        **{"norm.weight": ONE, "norm.bias": ZERO, "s1": Constant(1e-6), "s2": ONE},
        **{f"D.{part}": default(128) for part in LINEAR},
        **{f"U.{part}": default(64) for part in LINEAR},
        **{f"c.w.{i}.{part}": default(k * k) for i, k in enumerate((3, 5, 7)) for part in LINEAR},
        **{f"c.P.{part}": default(64) for part in LINEAR},
    },
    "bi_adaptformer": {"down.W": default(128), "up.W": Normal(0.001)},
    "karst": {
        **{f"{i}.C": Normal(2 ** -((i + 1) / 2)) for i in range(4)},
        **{f"{i}.A": Normal(2**-0.5) for i in range(4)},
        **{f"{i}.B": ZERO for i in range(4)},
        **{"s1": ZERO, "s2": ZERO},
    },
    "spt": {"values": ZERO},
    "spt_adapter": {"values": ZERO},
    "da_vpt": TOKENS,
    "lst": {
        **{f"down.{i}.{part}": default(128) for i in range(7) for part in LINEAR},
        **{f"up.{part}": default(16) for part in LINEAR},
        **{"a": ZERO, "norm.weight": ONE, "norm.bias": ZERO},
        **{f"blocks.{i}.norm{j}.weight": ONE for i in range(6) for j in (1, 2)},
        **{f"blocks.{i}.norm{j}.bias": ZERO for i in range(6) for j in (1, 2)},
        **{
            f"blocks.{i}.{name}.{part}": start
            for i in range(6)
            for name in ("qkv", "fc1")
            for part, start in LINEAR.items()
        },
        **{f"blocks.{i}.{name}.{part}": ZERO for i in range(6) for name in ("proj", "fc2") for part in LINEAR},
    },
    "cara": {
        **{"u": default(128), "h": Uniform(1), "e": ZERO, "p": Uniform(1)},
        **{"U": default(128), "V": ZERO},
    },
}

# how far the features move before any training, in their own length, on the trained pocket_vit
EFFECTS: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("adapters", "mimi", "adapter_drop", "adapters_on_attention", "sparse_adapter"), (0.005, 0.05)),
    "adapter_plus": (0.001, 0.01),
    "phm_adapter": (3e-4, 5e-3),
    "compacter": (1e-8, 1e-5),
    "sct": (0.02, 0.2),
    "ssf": (0.05, 0.5),
    "rlrr": (0.1, 1.0),
    "mona": (0.05, 1.0),
    "bi_adaptformer": (1e-5, 1e-2),
    "vpt_deep": (0.05, 1.0),
    "cvpt": (0.05, 2.0),
    "da_vpt": (0.05, 1.0),
    "lst": (0.5, 3.0),  # the backbone's features are replaced
    "vpt_shallow": (0.1, 3.0),  # tokens that no block has seen before pass through all of them
}


def attached(name: str) -> ModelView:
    net = build_view(backbones.create("pocket_vit", classes=5, weights="pretrained"))
    torch.manual_seed(0)
    attach(build(registry.load(name), {}, name), net)
    return net


def pooled(net: ModelView, wanted: Callable[[str], bool]) -> dict[str, Tensor]:
    """All numbers of the tensors of one name and shape."""
    found: dict[str, list[Tensor]] = {}
    kept = net.pet.state_dict()
    for name, tensor in [*net.pet.named_parameters(), *((n, b) for n, b in net.pet.named_buffers() if n in kept)]:
        own = f"{name.partition('.')[2]} {tuple(tensor.shape)}"
        if tensor.is_floating_point() and wanted(own):
            found.setdefault(own, []).append(tensor.detach().flatten())
    return {own: torch.cat(parts) for own, parts in found.items()}


def test_every_method_has_its_row() -> None:
    assert set(STARTS) == set(registry.entries())
    assert set(EFFECTS) == {name for name in STARTS if not registry.load(name).identity_at_start}


@pytest.mark.parametrize("name", STARTS)
def test_tensors_start_from_the_papers_distributions(name: str) -> None:
    tensors = pooled(attached(name), lambda own: not (name == "convpass" and own.startswith("conv.weight")))
    checked = set()
    for own, x in tensors.items():
        key = own if own in STARTS[name] else own.partition(" ")[0]
        STARTS[name][key].check(x)
        checked.add(key)
    assert checked == set(STARTS[name])


def test_the_kernel_of_convpass_passes_its_input_on() -> None:
    for kernel in (m.conv.weight for m in attached("convpass").pet.values()):  # type: ignore[union-attr]
        x = torch.randn(1, 8, 5, 5)
        torch.testing.assert_close(torch.conv2d(x, kernel, padding=1), x)  # type: ignore[arg-type]


@torch.no_grad()
def features(model: torch.nn.Module) -> Tensor:
    """What the head reads, behind all that a method puts in front of it."""
    seen: list[Tensor] = []
    handle = model.get_classifier().register_forward_pre_hook(lambda _, args: seen.append(args[0]))  # type: ignore[operator]
    model.eval()(IMAGES)
    handle.remove()
    return seen[0]


@pytest.mark.parametrize("name", STARTS)
def test_the_first_features_are_the_backbones_or_as_near_as_is_said(name: str) -> None:
    before = features(backbones.create("pocket_vit", classes=5, weights="pretrained"))
    change = float((features(attached(name).model) - before).norm() / before.norm())
    low, high = EFFECTS.get(name, (0.0, 0.0))
    assert low <= change <= high
