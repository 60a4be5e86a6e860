"""Recipes say what the papers say: every printed number is read by one, and every row names a method that there is."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from bench.core import recipes
from bench.core.errors import UsageError

ACCURACIES, GFLOPS, STORAGE, PE = 1054, 15, 15, 6  # that are printed in the tables of the three papers

OWN = """
title = "Two rows"
item = "ours"
kind = "table"
suite = "pocket"
backbone = "pocket_vit"
protocol = "pocket@v1"

[[rows]]
label = "Linear probing"
method = "linear_probe"
"""


def test_every_number_in_print_is_read_by_a_recipe() -> None:
    read = {
        (cell.paper, cell.table, cell.backbone, cell.row, cell.dataset, cell.metric)
        for recipe in map(recipes.read, recipes.names())
        for row in recipe.rows
        for cell in recipes.printed_cells(recipe, row).values()
    }
    every = [cell for paper in ("mimi", "tina", "pevit") for cell in recipes.printed(paper)]
    numbers = {
        metric: sum(cell.metric == metric for cell in every) for metric in ("accuracy", "gflops", "storage_mb", "pe")
    }
    assert numbers == {"accuracy": ACCURACIES, "gflops": GFLOPS, "storage_mb": STORAGE, "pe": PE}
    unread = [c for c in every if (c.paper, c.table, c.backbone, c.row, c.dataset, c.metric) not in read]
    assert unread == []


def test_every_row_that_names_a_printed_one_finds_it() -> None:
    for recipe in map(recipes.read, recipes.names()):
        for row in recipe.rows:
            assert bool(row.printed) == bool(recipes.printed_cells(recipe, row)), (recipe.name, row.label)


def test_the_settings_of_a_row_are_those_that_its_printed_count_was_explained_by() -> None:
    """counts.csv counts MiMi as even adapters; every other row is built there as it is run here."""
    with (recipes.published_folder() / "counts.csv").open(newline="") as file:
        counts = {(row["paper"], row["table"], row["row"].split(" ", 1)[-1] if "/" in row["row"].split(" ")[0] or row["row"].startswith(("swin", "cvt")) else row["row"]): row for row in csv.DictReader(file)}  # fmt: skip
    compared = 0
    for recipe in map(recipes.read, recipes.names()):
        paper, table = (recipe.printed_in or ("ours -",))[0].split(" ")
        for row in recipe.rows:
            counted = counts.get((paper, table, row.printed))
            if counted is None or row.method == "mimi":
                continue
            own = " ".join(
                f"{key}={str(value).lower() if isinstance(value, bool) else '+'.join(value) if isinstance(value, tuple | list) else value}"
                for key, value in row.settings.items()
            )
            if len({recipe.backbone_of(each) for each in recipe.rows}) == 1:
                assert (row.method, set(own.split())) == (counted["method"], set(counted["settings"].split())), (
                    row.label
                )
                compared += 1
    assert compared >= 80


def test_a_file_of_ones_own_is_a_recipe(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(OWN)
    recipe = recipes.read(str(tmp_path / "own.toml"))
    assert (recipe.name, len(recipe.keys), recipe.rows[0].budget) == ("own", 8, 1)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('protocol = "pocket@v1"', 'protocol = "pocket@v0"', "pocket@v"),
        ('suite = "pocket"', 'suite = "pockets"', "pocket"),
        ('kind = "table"', 'kind = "table"\ndatasets = ["digit"]', "no dataset 'digit'"),
        ('label = "Linear probing"', 'label = "x"\nbudget = 0', "budget"),
        ('label = "Linear probing"', 'label = "x"\nmilestone = "cycle 1"\nbudget = 5', "leave out budget"),
        ('label = "Linear probing"', 'labels = "x"', "label"),
    ],
)
def test_a_wrong_file_is_refused_with_what_is_wrong(tmp_path: Path, old: str, new: str, fault: str) -> None:
    (tmp_path / "own.toml").write_text(OWN.replace(old, new))
    with pytest.raises(UsageError, match=fault):
        recipes.read(str(tmp_path / "own.toml"))


def test_an_unknown_recipe_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UsageError, match="mimi-table1"):
        recipes.read("mimi-tabel1")
