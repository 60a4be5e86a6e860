"""Leaderboards for papers and machines: LaTeX, Markdown and CSV of the same numbers."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pandas as pd
import pytest
from helpers.records import GROUPS, KEYS, make

from bench import report
from bench.cli.main import main
from bench.report.aggregate import leaderboard
from bench.report.frame import frame
from bench.report.latex import latex
from bench.report.tables import csv

POCKET = Path(__file__).parents[2] / "results" / "pocket-v1"


@pytest.fixture(scope="module")
def pocket() -> report.Report:
    return report.load(POCKET)


def rows_of(text: str) -> list[list[str]]:
    body = text.split(r"\midrule")[1].split(r"\bottomrule")[0]
    return [line.removesuffix(r" \\").split(" & ") for line in body.strip().splitlines()]


def test_bold_and_underline_follow_the_tie_groups(pocket: report.Report) -> None:
    part = pocket.parts[0]
    text = pocket.export("latex", "pocket", "pocket_vit")
    table = part.table[part.table["backbone"] == "pocket_vit"]
    rows = rows_of(text)
    assert len(rows) == len(table) == 34
    for cells, row in zip(rows, table.to_dict("records"), strict=True):
        mean = cells[9]
        assert f"{row['mean_groups']:.1f}" in mean
        assert mean.startswith(r"\textbf{") == (row["tie_group"] == 1)
        assert mean.startswith(r"\underline{") == (row["tie_group"] == 2)
    assert re.search(r"\\textbf\{58\.0\\,\$\\pm\$\\,\d", text)


def test_a_latex_table_has_balanced_braces_and_as_many_cells_as_columns(pocket: report.Report) -> None:
    text = pocket.export("latex")
    assert text.count(r"\begin{tabular}") == text.count(r"\bottomrule") == 2
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
    for block in text.split(r"\begin{tabular}")[1:]:
        columns = len(re.match(r"\{(l r*|lr*)\}", block)[1])  # type: ignore[index]
        assert {len(row) for row in rows_of(block)} == {columns}


def test_names_in_latex_are_text() -> None:
    records = [make("a_b", key, 0, 0.5, variant=r"x=50%&\input{/etc/passwd}") for key in KEYS]
    runs = frame(records)
    text = latex(leaderboard(runs, GROUPS, "mean_datasets"), runs, GROUPS, "mean_datasets", "A & B #1")
    assert r"a\_b (x=50\%\&\textbackslash{}input\{/etc/passwd\})" in text
    assert r"A \& B \#1" in text and r"\input" not in text


def test_the_csv_has_spread_time_memory_and_throughput(pocket: report.Report) -> None:
    read = pd.read_csv(io.StringIO(pocket.export("csv", "pocket", "pocket_vit")))
    runs = pocket.runs[(pocket.runs["backbone"] == "pocket_vit") & (pocket.runs["method"] == "lora")]
    row = read.set_index("method").loc["lora"]
    digits = runs[runs["dataset"] == "pocket/digits"]
    assert row["std_digits"] == pytest.approx(100 * digits["score"].std(), abs=1e-4)
    assert row["train_seconds"] == pytest.approx(runs.groupby("dataset")["train_seconds"].mean().mean())
    assert row["inference_images_per_second"] == pytest.approx(
        runs.groupby("dataset")["inference_images_per_second"].mean().mean()
    )
    assert {"peak_mb", "train_images_per_second", "ci95_low", "tie_group"} <= set(read.columns)


def test_the_command_prints_what_the_files_hold(capsys: pytest.CaptureFixture[str]) -> None:
    for kind, ending in (("csv", "csv"), ("markdown", "md")):
        assert main(["table", "--format", kind, "--out", str(POCKET)]) == 0
        assert capsys.readouterr().out == (POCKET / "leaderboards" / f"pocket.{ending}").read_text()


def test_no_cell_of_a_csv_is_a_formula() -> None:
    records = [make("lora", key, 0, 0.5, variant="=1+1") for key in KEYS]
    assert "\nlora,'=1+1,pocket_vit," in csv(leaderboard(frame(records), GROUPS, "mean_datasets"))
