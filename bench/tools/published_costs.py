"""MiMi's table 4 against ours, operator by operator: what a printed GFLOP is made of, and what a printed MB counts.

Every printed GFLOP is even in its last digit: twice a number of GMACs with two decimals. It is what ptflops 0.7 calls
MACs: products of linears and convolutions, and one for each element that goes through a layer norm, an activation or
the bias of a convolution; products of queries, keys and values, softmax and sums are not in it. `Operators.as_printed`
is that sum, exactly (tests/tools/test_published_costs.py has ptflops' integers). Leaderboards count by another
convention: all products, attention's too, and no elements (bench.models.cost).
"""

from __future__ import annotations

import dataclasses
import math
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from bench.core import recipes
from bench.core.recipes import Printed, Row
from bench.models import backbones, cost, registry
from bench.models.families import build_view
from bench.models.method import Method, attach, build
from bench.models.view import Block, ModelView
from bench.report.cells import pipe
from bench.report.papers import verdict

CLOSE = 0.005  # of what is printed
CLASSES = 102  # of Flowers-102
OTHER_CLASSES = 345  # of DomainNet, whose head other tables of the paper count
SIZE = 224

aten = torch.ops.aten


@dataclass(frozen=True)
class Operators:
    """Of one image's forward pass: products (MACs), and elements that operators without products touch."""

    linears: int
    convolutions: int
    attention: int  # products of queries, keys and values, of which nothing is printed
    norms: int
    activations: int
    biases: int  # of convolutions at every place; of linears once a call, as ptflops has it

    @property
    def as_printed(self) -> int:
        return self.linears + self.convolutions + self.norms + self.activations + self.biases


@dataclass(frozen=True)
class Compared:
    """One printed cost of a row."""

    row: str
    measure: Literal["gflops", "storage_mb"]
    printed: float  # GFLOPs, or MB of 1e6 bytes
    ours: float
    counted: str  # what is counted of ours
    operators: Operators | None  # of GFLOPs
    note: str  # the reason, where ours is not within CLOSE of what is printed

    @property
    def agrees(self) -> bool:
        return verdict(self.measure, self.printed, self.ours, math.nan, math.nan) == "agrees"


def compare() -> list[Compared]:
    """Every GFLOP and MB of MiMi's table 4, in the order of its rows."""
    recipe = recipes.read("mimi-table4")
    found = []
    for row in recipe.rows:
        printed = {measure: number for (measure, _), number in recipes.printed_cells(recipe, row).items()}
        method = build(registry.load(row.method), row.settings, row.method)
        net = _attached(method, recipe.backbone_of(row))
        if row.milestone:
            ends = {**row.settings, "cycles": int(row.milestone.removeprefix("cycle "))}
            method = build(registry.load(row.method), ends, row.method)
            found.append(_mb_left(row, printed["storage_mb"], method, net))
            found.insert(-1, _gflops_left(row, printed["gflops"], method, net))
        else:
            found += [_gflops(row, printed["gflops"], net), _mb(row, printed["storage_mb"], net)]
    return found


def _attached(method: Method, backbone: str) -> ModelView:
    net: ModelView = pickle.loads(_bare(backbone))
    with torch.device("meta"):
        attach(method, net)
    return net


@cache
def _bare(backbone: str) -> bytes:
    """Pickled: reading one back is faster than building it."""
    with torch.device("meta"):
        return pickle.dumps(build_view(backbones.create(backbone, classes=CLASSES, weights="random", device="meta")))


def _gflops(row: Row, printed: Printed, net: ModelView) -> Compared:
    counted, note = operators(net), ""
    if row.method == "vpt_deep":
        told = 2 * round(counted.as_printed / 1e9, 2)
        note = f"unexplained: the released code has the same products, of which ptflops would make {told:.2f}"
    if row.method == "fact_tk":
        again = 2 * int(str(row.settings["rank"])) * sum(_tokens(block) * block.dim for block in net.blocks)
        there = 2 * (counted.as_printed + again) / 1e9
        note = f"the released code multiplies by U for q, k and v each, here it is done once: {there:.2f} as it does"
    return _compared(row, printed, 2 * counted.as_printed / 1e9, "as ptflops counts", counted, note)


def _gflops_left(row: Row, printed: Printed, method: Method, net: ModelView) -> Compared:
    """MiMi's adapters where they cost least and most: which neurons are left decides."""
    sizes = method.sizes(net)
    for name in list(net.added_modules):
        net.detach(name)
    neurons = sorted(  # of each, its products and its activation
        _tokens(block) * (2 * block.dim + 1)
        for block in net.blocks
        for branch in (block.attn, block.mlp)
        for _ in range(sizes[branch.exit.label])
    )
    left = method.left(len(neurons), method.steps)  # type: ignore[attr-defined]
    bare = operators(net).as_printed
    least, most = (2 * (bare + sum(some)) / 1e9 for some in (neurons[:left], neurons[len(neurons) - left :]))
    way = f"training decides: {least:.2f} to {most:.2f}, as ptflops counts"
    note = f"{left} of {len(neurons)} neurons are left, and wherever they are it is at most {most:.3f}"
    return _compared(row, printed, min(max(printed.value, least), most), way, None, note)


def _mb(row: Row, printed: Printed, net: ModelView) -> Compared:
    """In the first of four conventions that gives what is printed; else with the head, as leaderboards have it."""
    own, head, width = cost.method_params(net), cost.head_params(net), net.head.in_features + 1
    frozen = cost.total_params(net) - own - head if row.store == "model" else 0
    ways = {
        f"the head of {CLASSES} classes included": frozen + own + head,
        "no head": frozen + own,
        f"a head of {OTHER_CLASSES} classes included, DomainNet's": frozen + own + width * OTHER_CLASSES,
    }
    made = [_compared(row, printed, 4 * count / 1e6, way, None, printed.erratum) for way, count in ways.items()]
    if row.settings.get("hidden") == 1:
        made[0] = dataclasses.replace(made[0], note="the same as the row of MiMi after 4 cycles, with another network")
    return next((each for each in made if each.agrees), made[0])


def _mb_left(row: Row, printed: Printed, method: Method, net: ModelView) -> Compared:
    """Of a range that training decides, the end that lies nearer to what is printed, or that itself."""
    least, most = (4 * (cost.head_params(net) + end) / 1e6 for end in method.count_deployed(net.shape) or (0, 0))
    nearest = min(max(printed.value, least), most)
    way = f"training decides: {least:.2f} to {most:.2f}, the head of {CLASSES} classes included"
    return _compared(row, printed, nearest, way, None, printed.erratum)


def _compared(
    row: Row, printed: Printed, ours: float, counted: str, operators: Operators | None, note: str
) -> Compared:
    measure: Literal["gflops", "storage_mb"] = "gflops" if printed.metric == "gflops" else "storage_mb"
    made = Compared(row.label, measure, printed.value, ours, counted, operators, note)
    return dataclasses.replace(made, note="") if made.agrees else made


class _Elements(TorchDispatchMode):
    """Counts the elements that ptflops counts, below the level of modules: functional calls are seen too."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.norms = self.activations = self.biases = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func is aten.native_layer_norm.default:
            self.norms += out[0].numel()
        elif func in (aten.gelu.default, aten.relu.default):
            self.activations += out.numel()
        elif func is aten.convolution.default and args[2] is not None:
            self.biases += out.numel()
        elif func is aten.addmm.default:
            self.biases += out.shape[-1]
        return out


@torch.no_grad()
def operators(net: ModelView, size: int = SIZE) -> Operators:
    """Of one image of `size` pixels; attention is computed unfused while counting."""
    by_operator = cost.by_operator(net, size)
    with _Elements() as elements:
        net.model(torch.zeros(1, 3, size, size, device=next(net.model.parameters()).device))
    attention = sum(by_operator.get(name, 0) for name in (aten.bmm, aten.baddbmm))
    convolutions = by_operator.get(aten.convolution, 0)
    return Operators(
        linears=(sum(by_operator.values()) - attention - convolutions) // 2,
        convolutions=convolutions // 2,
        attention=attention // 2,
        norms=elements.norms,
        activations=elements.activations,
        biases=elements.biases,
    )


def _tokens(block: Block) -> int:
    """That a block's linears see, prompts not counted."""
    rows, columns = block.grid
    return block.prefix + rows * columns


def lines(compared: Sequence[Compared]) -> list[str]:
    """Two tables in Markdown: GFLOPs with their operators, 2 a product or an element; MB, four bytes a number."""
    return [
        "MiMi, table 4, GFLOPs; every product and every element is 2 FLOPs, as in print:",
        "",
        pipe(_gflops_columns([one for one in compared if one.measure == "gflops"])),
        "",
        "MiMi, table 4, MB; four bytes a number:",
        "",
        pipe(_storage_columns([one for one in compared if one.measure == "storage_mb"])),
        "",
        "`*`: more than half a percent and more than the last digit off print.",
    ]


def _gflops_columns(compared: Sequence[Compared]) -> dict[str, list[str]]:
    names = ("linears", "convolutions", "norms", "activations, biases", "left out of print: attention")
    rows = [_parts(one.operators) if one.operators else ("",) * len(names) for one in compared]
    return {
        **_numbers(compared, 3),
        **{name: [row[index] for row in rows] for index, name in enumerate(names)},
        "what": [one.note or one.counted for one in compared],
    }


def _parts(own: Operators) -> tuple[str, ...]:
    counts = (own.linears, own.convolutions, own.norms, own.activations + own.biases, own.attention)
    return tuple(f"{2 * count / 1e9:.3f}" for count in counts)


def _storage_columns(compared: Sequence[Compared]) -> dict[str, list[str]]:
    return {
        **_numbers(compared, 2),
        "counted": [one.counted for one in compared],
        "why": [one.note for one in compared],
    }


def _numbers(compared: Sequence[Compared], digits: int) -> dict[str, list[str]]:
    return {
        "method": [one.row for one in compared],
        "printed": [f"{one.printed:g}" for one in compared],
        "ours": [f"{one.ours:.{digits}f}" for one in compared],
        "off by, %": [f"{100 * (one.ours / one.printed - 1):+.1f}" + "*" * (not one.agrees) for one in compared],
    }
