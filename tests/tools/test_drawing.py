"""The picture of a method shows every hook that it has, where it is, and nothing else."""

from __future__ import annotations

import pytest
import torch
from helpers.views import random_view
from torch import nn

from bench.models import registry
from bench.models.method import attach, build
from bench.models.view import ModelView
from bench.tools.drawing import draw, marks

EVERY = list(range(6))


def net_with(name: str, **settings: object) -> ModelView:
    net = random_view("pocket_vit", torch.float32)
    attach(build(registry.load(name), settings, name), net)
    return net


def beside(name: str, **settings: object) -> dict[str, list[str]]:
    """What stands beside the parts of the second block."""
    return marks(net_with(name, **settings))[0][1]


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("linear_probe", {}, {}),
        ("lora", {"targets": ("k", "fc2")}, {"q k v": ["k: LowRank: y + m(x)"], "fc2": ["LowRank: y + m(x)"]}),
        ("lora", {"targets": ("qkv",)}, {"q k v": ["LowRank: y + m(x)"]}),
        ("adapters", {}, {"out of attention": ["Bottleneck: m(y)"], "out of MLP": ["Bottleneck: m(y)"]}),
        ("adaptformer", {}, {"norm2": ["Parallel: reads x"], "out of MLP": ["Parallel: is added"]}),
        ("parallel_adapters", {}, {"norm2": ["Parallel: reads y"], "out of MLP": ["Parallel: is added"]}),
        ("cvpt", {}, {"sum 1": ["Cross: z + m(z)"]}),
        ("lepe", {}, {"q k v": ["v: ValueConvolution: reads y"], "proj": ["ValueConvolution: is added to x"]}),
        ("rpb", {}, {"attention": ["RelativeBias: is added to the logits"]}),
        ("vpt_deep", {}, {"in": ["Prompts: tokens enter, in place of the last block's"]}),
        ("ln_tuning", {}, {f"norm{i}": ["trained in place: weight, bias"] for i in (1, 2)}),
        ("hydra", {}, {p: ["Sequential: y + m(y)", "LowRank: y + m(x)"] for p in ("proj", "fc2")}),
        ("repadapter", {}, {p: ["GroupedBottleneck: m(x) in place of x"] for p in ("q k v", "fc1")}),
        ("dtl", {}, {"out": ["Side: y + m(x)"]}),
    ],
)
def test_each_part_has_beside_it_what_the_method_does_there(
    name: str, settings: dict[str, object], expected: dict[str, list[str]]
) -> None:
    assert beside(name, **settings) == expected


def test_what_is_outside_of_blocks_has_a_line() -> None:
    assert marks(net_with("vqt"))[1] == ["head: Summaries: y + m(x, ...)"]
    assert marks(net_with("full"))[1][0] == "tokens: trained in place: cls_token, pos_embed"


def test_blocks_of_a_kind_share_a_picture() -> None:
    text = draw(net_with("vpt_shallow"))
    assert text.count("norm1") == 1 and "block 1 of 6:\n" in text and "blocks 2 to 6 of 6: nothing\n" in text
    assert draw(net_with("linear_probe")) == "blocks 1 to 6 of 6: nothing\n"


def test_a_line_stands_beside_its_part() -> None:
    lines = draw(net_with("lora", targets=("v", "proj"))).splitlines()
    assert [line.split(None, 1)[1] for line in lines if "LowRank" in line] == [
        "q k v     v: LowRank: y + m(x)",
        "proj     LowRank: y + m(x)",
    ]


def test_every_module_that_a_method_adds_is_drawn() -> None:
    """A hook that is put somewhere by hand is found where it is."""
    net = random_view("pocket_vit", torch.float32)
    net.blocks[3].norm["norm2"].before(nn.Identity())
    inside, outside = marks(net)
    assert [index for index in EVERY if inside[index]] == [3] and not outside
    assert inside[3] == {"norm2": ["Identity: m(x) in place of x"]}
    net.detach(next(iter(net.pet)))
    assert not marks(net)[0][3]
