"""One declaration a column of cost: tables, legends and measures all come from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

from helpers.records import GROUPS, KEYS, make

from bench.core import record
from bench.report.aggregate import leaderboard
from bench.report.columns import COLUMNS, MEASURES, NAMED, measures_of_run
from bench.report.frame import frame
from bench.report.tables import csv, markdown

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def leaves(cls: Any) -> Iterator[str]:
    """The numbers of a dataclass of the record, those of its parts too."""
    hints = get_type_hints(cls)
    for field in fields(cls):
        types = [kind for kind in (hints[field.name], *get_args(hints[field.name])) if is_dataclass(kind)]
        yield from (f"{field.name}.{leaf}" for leaf in leaves(types[0])) if types else (field.name,)


def test_every_number_of_a_cost_is_a_measure() -> None:
    told = {name for name in leaves(record.Cost) if name not in ("flops_counter", "merged.flops_linear_conv")}
    assert len(told) == len(MEASURES), "a field of Cost that bench/report/columns.py does not read"
    cost = make("lora", KEYS[0], 0, 0.5).cost
    assert cost is not None
    assert set(measures_of_run(cost)) == set(MEASURES)


def test_every_column_stands_in_the_table_the_csv_and_the_readme_and_is_explained_where_readers_see_it() -> None:
    runs = frame([make("lora", key, seed, 0.5 + seed / 10) for key in KEYS for seed in range(2)])
    table = leaderboard(runs, GROUPS, "mean_datasets")
    head, first = csv(table).splitlines()[:2]
    page = markdown(table, runs, GROUPS, "mean_datasets", "Title")
    assert len(NAMED) == len(COLUMNS)
    for column in COLUMNS:
        assert column.name in head.split(",")
        assert f"| `{column.name}` | {column.meaning} |\n" in README
        if column.heading:
            assert f" {column.heading} |" in page
            assert f"\n- {column.heading}: {column.meaning}." in page
    assert f"{table['pe'].iloc[0]:.6f}" in first.split(",")
