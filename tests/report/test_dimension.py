"""The intrinsic dimension of toy problems whose dimension is known, and intervals against SciPy's."""

from __future__ import annotations

import dataclasses
import math
from functools import cache

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
from helpers.records import make
from torch import nn

from bench.core.recipes import Recipe, Row
from bench.report import dimension
from bench.report.frame import frame
from methods.intrinsic import Fastfood

KEYS = ("digits",)
DIMS = (3, 5, 6, 8, 11, 12, 24)
ADAPTED = {"attention": ("q", "v"), "mlp": ("fc1", "fc2")}


@cache
def score_of_toy(constraints: int, d: int, seed: int) -> float:
    """1 - |rest|^2 / |target|^2 of the best weights in a random subspace of d dimensions (0: of the frozen ones).

    Li et al., section 2: `constraints` weighted sums of the weights are given, each of weights of its own, so that the
    intrinsic dimension is their number. The best weights are a least-squares solution, not a training's.
    """
    if d == 0:
        return 0.0
    width = 16
    x = torch.rand(1, width, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) + 0.5
    target = torch.ones(constraints, 1, dtype=torch.float64)
    module = Fastfood(nn.Parameter(torch.zeros(d, dtype=torch.float64)), constraints, width, seed).double()
    basis = torch.autograd.functional.jacobian(
        lambda z: torch.func.functional_call(module, {"z": z}, (x,))[0], torch.zeros(d, dtype=torch.float64)
    )
    rest = basis @ torch.linalg.lstsq(basis, target).solution - target
    return float(1 - rest.square().sum() / target.square().sum())


def part(row: Row, scores: dict[int, float], dataset: str = "digits") -> tuple[Row, pd.DataFrame]:
    return row, frame([make(row.method, dataset, seed, score) for seed, score in scores.items()])


def toy(constraints: dict[str, int], head: float = 0.0) -> list[tuple[Row, pd.DataFrame]]:
    seeds = range(10)
    parts = [
        part(Row("Full", "full"), dict.fromkeys(seeds, 1.0)),
        part(Row("Head", "linear_probe", x=0.0), dict.fromkeys(seeds, head)),
    ]
    for name, number in constraints.items():
        for d in DIMS:
            row = Row(f"{name} {d}", "intrinsic", series=name, x=float(d))
            parts.append(part(row, {seed: max(head, score_of_toy(number, d, seed)) for seed in seeds}))
    return parts


def test_the_dimension_of_a_toy_problem_is_the_number_of_its_constraints() -> None:
    table = dimension.shares(toy({"attention": 6, "mlp": 12}), KEYS)
    attention, mlp = dimension.dimensions(table, 0.99)
    assert (attention.smallest, attention.largest_below) == (6, 5)
    assert (mlp.smallest, mlp.largest_below) == (12, 11)
    assert (attention.low, attention.high, mlp.high) == (6, 6, 12)
    best = dimension.chosen([mlp, attention])
    assert best is attention and dimension.told_apart(best, [mlp, attention])
    told = dimension.lines([attention, mlp], 0.99, ADAPTED)
    assert told[0].startswith("attention: above 5, at most 6")
    assert told[-1] == "KAdaptation goes to the attention: --method kadaptation --set targets=q,v."


def test_a_dimension_beyond_what_was_tried_is_not_claimed() -> None:
    (one,) = dimension.dimensions(dimension.shares(toy({"mlp": 30}), KEYS), 0.9)
    assert (one.smallest, one.largest_below, one.high) == (None, 24, None)
    assert dimension.chosen([one]) is None
    assert "none up to 24 does" in dimension.lines([one], 0.9, ADAPTED)[0]


def test_where_the_head_alone_suffices_every_dimension_is_zero_and_nothing_is_chosen() -> None:
    found = dimension.dimensions(dimension.shares(toy({"attention": 6, "mlp": 12}, head=0.95), KEYS), 0.9)
    assert [one.smallest for one in found] == [0, 0]
    assert dimension.chosen(found) is None
    assert "none is chosen" in dimension.lines(found, 0.9, ADAPTED)[-1]


SCORES = {"digits": (0.40, 0.46, 0.44), "textures": (0.30, 0.36, 0.38)}
FULL = {"digits": (0.50, 0.52, 0.50), "textures": (0.40, 0.41, 0.45)}


def test_a_share_is_paired_by_seed_and_has_students_interval() -> None:
    full = part(Row("Full", "full"), dict(enumerate(FULL["digits"])))
    own = part(Row("a", "intrinsic", series="attention", x=10.0), dict(enumerate(SCORES["digits"])))
    line = dimension.shares([full, own], KEYS).iloc[1]
    ratios = 100 * np.divide(SCORES["digits"], FULL["digits"])
    low, high = scipy.stats.t.interval(0.95, 2, ratios.mean(), scipy.stats.sem(ratios))
    assert [line["share"], line["low"], line["high"]] == pytest.approx([ratios.mean(), low, high])
    assert line["measured"] == pytest.approx(100 * np.mean(SCORES["digits"]))


def test_layers_are_averaged_before_and_datasets_after_the_ratio() -> None:
    both = ("digits", "textures")
    full = (Row("Full", "full"), frame([make("full", key, s, v) for key in both for s, v in enumerate(FULL[key])]))
    layers = [
        (
            Row(f"layer {layer}", "intrinsic", series="mlp", x=10.0),
            frame([make("intrinsic", key, s, v + shift) for key in both for s, v in enumerate(SCORES[key])]),
        )
        for layer, shift in ((1, -0.1), (6, 0.1))
    ]
    line = dimension.shares([full, *layers], both).iloc[1]
    expected = np.mean([np.mean(np.divide(SCORES[key], FULL[key])) for key in both])
    assert line["share"] == pytest.approx(100 * expected)


def test_a_layer_or_a_dataset_without_a_run_leaves_its_d_unmeasured() -> None:
    parts = toy({"mlp": 6})
    gone = [(row, runs.iloc[:0] if row.x == 5 else runs) for row, runs in parts]
    table = dimension.shares([*gone, part(Row("layer 6", "intrinsic", series="mlp", x=8.0), {})], KEYS)
    assert list(table.loc[table["share"].isna(), "d"]) == [5, 8]
    (one,) = dimension.dimensions(table, 0.99)
    assert (one.smallest, one.largest_below, one.unmeasured) == (6, 3, (5, 8))
    first, last = dimension.lines([one], 0.99, ADAPTED)
    assert "runs are missing of d = 5, 8" in first and "no submodule is chosen yet" in last


def test_overlapping_intervals_are_said() -> None:
    noisy = {0: 0.91, 1: 0.95, 2: 0.89}
    parts = [
        part(Row("Full", "full"), dict.fromkeys(range(3), 1.0)),
        part(Row("a", "intrinsic", series="attention", x=10.0), noisy),
        part(Row("m", "intrinsic", series="mlp", x=10.0), {seed: score - 0.03 for seed, score in noisy.items()}),
        part(Row("m", "intrinsic", series="mlp", x=20.0), dict.fromkeys(range(3), 0.99)),
    ]
    found = dimension.dimensions(dimension.shares(parts, KEYS), 0.9)
    assert [one.smallest for one in found] == [10, 20]
    assert (found[0].low, found[0].high) == (10, None)
    best = dimension.chosen(found)
    assert best is found[0] and not dimension.told_apart(best, found)
    assert "do not tell it apart" in dimension.lines(found, 0.9, ADAPTED)[-1]


def test_the_figure_has_the_shares_of_the_table() -> None:
    recipe = Recipe("T", "I", "dimension", "pocket", "pocket_vit", "pocket@v1", (Row("Full", "full"),), share=0.99)
    table = dimension.shares(toy({"attention": 6, "mlp": 12}), KEYS)
    figure = dimension.figure_of(recipe, table)
    assert figure is not None
    curves = [container.lines[0] for container in figure.axes[0].containers]
    for name, curve in zip(("attention", "mlp"), curves, strict=True):
        own = table[table["submodule"] == name]
        assert list(curve.get_xdata()) == [0, *DIMS]
        assert np.allclose(np.asarray(curve.get_ydata()[1:], float), own["share"])  # objects in the lowest matplotlib
    upright = [line.get_xdata()[0] for line in figure.axes[0].get_lines() if line.get_linestyle() == ":"]
    assert upright == [6, 12]
    assert dimension.figure_of(recipe, table.assign(share=math.nan)) is None


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        ((Row("a", "intrinsic", series="mlp", x=3.0),), "is the full score"),
        ((Row("Full", "full"), Row("a", "intrinsic", x=3.0)), "a subspace has series"),
        ((Row("Full", "full"), Row("a", "intrinsic", series="mlp", x=0.0)), "a subspace has series"),
    ],
)
def test_a_recipe_of_dimensions_has_one_full_score_and_points_with_series(rows: tuple[Row, ...], fault: str) -> None:
    right = Recipe("T", "I", "dimension", "pocket", "pocket_vit", "pocket@v1", (Row("Full", "full"),))
    with pytest.raises(ValueError, match=fault):
        dataclasses.replace(right, rows=rows)
