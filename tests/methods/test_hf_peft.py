"""The plugin of Hugging Face PEFT owes what every method owes, and trains as many parameters as its equations have."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.models import registry, static_cost
from bench.models.method import Method, build
from bench.tools import conformance

pytest.importorskip("peft")
PLUGIN = Path(__file__).parents[2] / "plugins" / "hf_peft.py"
IN, OUT = 3 * 128 + 512, 5 * 128 + 512  # sides of qkv, proj, fc1 and fc2 of one of pocket_vit's six blocks
KINDS = {
    "ia3": 6 * (OUT - 128 + 512),  # fc2's stands on its input
    "oft": 6 * IN // 8 * (8 * 7 // 2),
    "vera": 6 * (OUT + 4 * 8),
    "dora": 6 * ((IN + OUT) * 8 + OUT),
}


def method(kind: str) -> Method:
    return build(registry.load("hf_peft", [PLUGIN]), {"kind": kind}, "hf_peft")


@pytest.mark.parametrize(("kind", "expected"), KINDS.items())
def test_trained_parameters_are_those_of_the_equations(kind: str, expected: int) -> None:
    assert static_cost.count_params(method(kind), "pocket_vit", 10).method == expected


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch.compile's own, over DoRA's norm
@pytest.mark.parametrize("kind", KINDS)
def test_it_keeps_every_promise(kind: str) -> None:
    assert {name: fault for name, fault in conformance.run(method(kind), "pocket_vit") if fault} == {}
