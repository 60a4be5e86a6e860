"""The figure of accuracy against a size shows the numbers of its table, measured and printed."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from helpers.records import make

from bench.core.recipes import Printed, Recipe, Row
from bench.report import paper_figure, papers, plots
from bench.report.frame import frame

ROWS = tuple(Row(f"{s}, {x}", s.lower(), series=s, x=x) for s in ("Adapters", "MiMi") for x in (32.0, 64.0))
RECIPE = Recipe(
    "T", "I", "figure", "pocket", "pocket_vit", "pocket@v1", ROWS, datasets=("digits",), measures=("accuracy", "params"),
    across="sigma", printed_in=("mimi table1",),
)  # fmt: skip


def table(*, measured: bool):  # type: ignore[no-untyped-def]
    parts, printed = [], []
    for number, row in enumerate(ROWS):
        runs = [
            make(row.method, "digits", seed, 0.5 + 0.1 * number + 0.01 * seed) for seed in range(3 if measured else 0)
        ]
        parts.append((row, frame(runs)))
        cell = Printed("mimi", "t", "b", row.method, "", "digits", "accuracy", 60.0 + number, "%", "")
        printed.append({("accuracy", "digits"): cell})
    return papers.compare(RECIPE, parts, printed)


def lines(figure, style: str) -> list[list[float]]:  # type: ignore[no-untyped-def]
    drawn = [
        line for line in figure.axes[0].get_lines() if line.get_linestyle() == style and len(line.get_xdata()) == 2
    ]
    return sorted(list(map(float, line.get_ydata())) for line in drawn)


def test_lines_are_the_measured_means_and_dashes_what_is_printed() -> None:
    figure = paper_figure.figure_of(RECIPE, table(measured=True))
    assert figure is not None
    expected = [[51.0, 61.0], [71.0, 81.0]]
    assert np.allclose(lines(figure, "-"), expected)
    assert lines(figure, "--") == [[60.0, 61.0], [62.0, 63.0]]


def test_without_a_run_only_what_is_printed_is_drawn() -> None:
    figure = paper_figure.figure_of(RECIPE, table(measured=False))
    assert figure is not None
    assert lines(figure, "-") == [] and len(lines(figure, "--")) == 2
    empty = table(measured=False).assign(printed=math.nan)
    assert paper_figure.figure_of(RECIPE, empty) is None


def test_the_files_are_a_table_and_two_pictures(tmp_path: Path) -> None:
    paths = papers.write(RECIPE, table(measured=True), tmp_path)
    figure = paper_figure.figure_of(RECIPE, table(measured=True))
    assert figure is not None
    paths += plots.save(figure, papers.stem_of(RECIPE, tmp_path))
    assert [path.suffix for path in paths] == [".csv", ".md", ".png", ".svg"]
    assert "60 / 51.0 / -9.0\\*" in paths[1].read_text() or "60 / 51.0 / -9.0*" in paths[1].read_text()
    with pytest.raises(ValueError, match="needs series"):
        Recipe("T", "I", "figure", "pocket", "pocket_vit", "pocket@v1", (Row("a", "lora"),))
