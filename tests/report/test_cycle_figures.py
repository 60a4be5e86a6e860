"""Figures of cycles and of PE show the numbers of their records."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from helpers.records import cycle, make

from bench.core.recipes import Printed, Recipe, Row
from bench.core.record import Epoch
from bench.report import cycle_figures, paper_figure, papers
from bench.report.frame import frame

ROWS = (Row("Local", "mimi", milestone="cycle 1"), Row("Global", "mimi", milestone="cycle 2"))
RECIPE = Recipe(
    "T", "I", "figure", "pocket", "pocket_vit", "pocket@v1", ROWS, datasets=("digits", "textures"), shows="neurons"
)
LEFT = {0: (800, 960), 1: (400, 480), 2: (80, 160)}  # of cycle: of seeds 0 and 1


def runs(key: str = "digits"):  # type: ignore[no-untyped-def]
    return frame(
        [
            make("mimi", key, seed, 0.5, milestones=tuple(cycle(k, 0.5, LEFT[k][seed]) for k in range(3)))
            for seed in (0, 1)
        ]
    )


def heights(figure, panel: int) -> list[list[float]]:  # type: ignore[no-untyped-def]
    return [[bar.get_height() for bar in bars] for bars in figure.axes[panel].containers]


def expected(number: int) -> list[float]:
    """helpers.records.cycle: of `left` neurons block b has left // (8 (b + 1)) in each of its two adapters."""
    sizes = [[left // (8 * (block + 1)) for left in LEFT[number]] for block in range(4) for _ in range(2)]
    return [float(np.mean(size)) for size in sizes]


def test_bars_are_the_neurons_at_each_rows_milestone_side_by_side() -> None:
    figure = cycle_figures.neurons(RECIPE, [(row, runs()) for row in ROWS], share=False)
    assert figure is not None and [axes.get_title() for axes in figure.axes] == ["digits"]  # the other was not run
    assert heights(figure, 0) == [expected(1), expected(2)]
    left, right = (bars[0].get_x() for bars in figure.axes[0].containers)
    assert left + figure.axes[0].containers[0][0].get_width() == pytest.approx(right)
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()][:2] == ["0 a", "0 m"]


def test_shares_are_of_what_an_adapter_has_at_first() -> None:
    figure = cycle_figures.neurons(RECIPE, [(ROWS[0], runs())], share=True)
    assert figure is not None
    first = [100 * (LEFT[1][seed] // 8) / (LEFT[0][seed] // 8) for seed in (0, 1)]
    assert heights(figure, 0)[0][0] == pytest.approx(np.mean(first))


def test_nothing_is_drawn_where_nothing_was_run_or_no_cycle_is_of_that_name() -> None:
    gone = dataclasses.replace(ROWS[0], milestone="cycle 9")
    assert cycle_figures.neurons(RECIPE, [(gone, runs())], share=False) is None
    assert cycle_figures.neurons(RECIPE, [(ROWS[0], runs().iloc[:0])], share=False) is None
    assert cycle_figures.losses(RECIPE, [(ROWS[0], runs())], {}) is None


def test_the_loss_is_a_mean_over_seeds_with_a_line_where_a_cycle_ends() -> None:
    own = runs("textures")
    curves = {0: (4.0, 2.0, 3.0), 1: (2.0, 1.0, 1.0)}
    epochs = {
        digest: [Epoch(int(number == 2), loss, 1e-3, 1.0) for number, loss in enumerate(curves[seed])]
        for digest, seed in zip(own["digest"], own["seed"], strict=True)
    }
    figure = cycle_figures.losses(RECIPE, [(ROWS[0], own)], epochs)
    assert figure is not None and [axes.get_title() for axes in figure.axes] == ["textures"]
    curve, end = figure.axes[0].get_lines()
    assert list(curve.get_xdata()) == [1, 2, 3] and list(curve.get_ydata()) == [3.0, 1.5, 2.0]
    assert list(end.get_xdata()) == [2.5, 2.5]


def test_points_of_pe_are_what_is_measured_and_what_is_printed() -> None:
    rows = (Row("LoRA", "lora"), Row("Full", "full"))
    recipe = Recipe(
        "T", "I", "figure", "pocket", "pocket_vit", "pocket@v1", rows, datasets=("digits",), shows="pe",
        measures=("accuracy", "params", "pe"),
    )  # fmt: skip
    printed = {
        ("accuracy", "mean"): Printed("pevit", "t", "b", "lora", "", "mean", "accuracy", 61.0, "%", ""),
        ("params", "mean"): Printed("pevit", "t", "b", "lora", "", "mean", "params", 0.18, "M", ""),
        ("pe", "mean"): Printed("pevit", "t", "b", "lora", "", "mean", "pe", 0.61, "", ""),
    }
    parts = [(row, frame([make(row.method, "digits", s, 0.6, trained=n) for s in (0, 1)])) for row, n in zip(rows, (10**6, 10**8), strict=True)]  # fmt: skip
    table = papers.compare(recipe, parts, [printed, {}])
    figure = paper_figure.efficiency(recipe, table)
    assert figure is not None
    measured, shown = figure.axes[0].collections
    assert np.allclose(measured.get_offsets(), [[1.0002, 60.0], [100.0002, 60.0]])
    assert np.allclose(measured.get_array(), [0.6 * math.exp(-math.log10(p / 100 + 1)) for p in (1.0002, 100.0002)])
    assert np.allclose(shown.get_offsets(), [[0.18, 61.0]]) and np.allclose(shown.get_array(), [0.61])
    assert paper_figure.efficiency(recipe, table.assign(measured=math.nan, printed=math.nan)) is None


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"rows": (Row("a", "mimi"),)}, "at a milestone"),
        ({"shows": "pe"}, "needs measures"),
        ({"shows": "accuracy"}, "needs series"),
    ],
)
def test_a_recipe_of_a_figure_says_what_it_shows(change: dict[str, object], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        dataclasses.replace(RECIPE, **change)  # type: ignore[arg-type]
