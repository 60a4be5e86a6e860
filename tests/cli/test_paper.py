"""bench paper: lists, plans without data, a recipe of one's own run and shown."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from bench.cli.main import main
from bench.core import recipes

OWN = """
title = "Two rows"
item = "Ours"
kind = "table"
suite = "pocket"
backbone = "pocket_vit"
protocol = "pocket@v1"
datasets = ["digits"]
measures = ["accuracy", "params"]

[[rows]]
label = "Linear probing"
method = "linear_probe"

[[rows]]
label = "Once more"
method = "linear_probe"
"""


def test_the_list_has_every_recipe_with_its_runs_and_hours(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["paper", "list"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in recipes.names())
    assert "216" in out and "arithmetic, not measured" in out
    assert "6 datasets of domainnet, swin_tiny_patch4_window7_224" in out and "4 backbones" in out


def test_a_recipe_is_planned_without_any_data(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["paper", "mimi-table2", "--dry-run", "--out", str(tmp_path / "r"), "--data-root", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "MiMi, table 2: 159 runs, 159 to do" in out
    assert not (tmp_path / "r" / "plans").exists()


def test_a_recipe_of_ones_own_is_run_and_shown(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(OWN)
    question = ["paper", str(tmp_path / "own.toml"), "--out", str(tmp_path / "r"), "--seeds", "0"]
    assert main([*question, "--table"]) == 1  # nothing is there
    capsys.readouterr()
    assert main([*question, "--threads", "1"]) == 0
    assert "1 run: 1 done" in capsys.readouterr().out  # two rows, one run
    assert main([*question, "--table", "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["row"] for row in rows if row["measure"] == "params"] == ["Linear probing", "Once more"]
    assert {row["verdict"] for row in rows} == {"not printed"}
    assert {float(row["measured"]) for row in rows if row["measure"] == "params"} == {(128 * 10 + 10) / 1e6}


def test_a_wrong_name_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["paper", "mimi-tabel1"]) == 2
    assert "mimi-table1" in capsys.readouterr().err
