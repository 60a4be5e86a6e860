"""Recipes: the tables and figures of papers as data, bench/recipes/*.toml -> Recipe; and the numbers that are printed.

A recipe says which runs a table or figure is made of, in the paper's settings, and which printed number each of its
cells is compared with. A file of one's own has the same form.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from bench.core import configs
from bench.core.errors import UsageError, unknown
from bench.core.schema import Range, parse
from bench.core.spec import Value

Measure = Literal["accuracy", "params", "gflops", "storage_mb", "pe"]
UNITS: Mapping[Measure, str] = {"accuracy": "%", "params": "M", "gflops": "GFLOPs", "storage_mb": "MB", "pe": ""}


@dataclass(frozen=True)
class Row:
    """One row: a method in the paper's settings, and what its line in print is called in results/published."""

    label: str
    method: str
    settings: Mapping[str, Value] = field(default_factory=dict)
    printed: str = ""  # "method variant" of the published file; empty: the paper has no such row
    backbone: str = ""  # instead of the recipe's
    protocol: str = ""  # instead of the recipe's; at pocket scale it is the suite's
    milestone: str = ""  # the model at the end of this phase of the run: "cycle 2"
    budget: Annotated[int, Range(1)] = 1  # trains this many times the protocol's epochs
    store: Literal["delta", "model"] = "delta"  # what is kept of each task, of which storage is counted
    pocket: Mapping[str, Value] | None = None  # settings at pocket scale, where the paper's make no sense there
    series: str = ""  # of a figure: the line that the row is a point of; of dimensions: the submodule,
    x: float | None = None  # and where it stands across; of dimensions d, 0 for the head alone, none for the full score
    paper_only: bool = False  # left out at pocket scale, which is too small for it


@dataclass(frozen=True)
class Recipe:
    title: str
    item: str  # "MiMi, table 1"
    kind: Literal["table", "figure", "dimension"]  # bench.report has papers, paper_figure and dimension
    suite: str
    backbone: str
    protocol: str
    rows: tuple[Row, ...]
    printed_in: tuple[str, ...] = ()  # "mimi table1": file and table of results/published; the first that has a row
    datasets: tuple[str, ...] = ()  # of the suite; empty: all
    measures: tuple[Measure, ...] = ("accuracy",)
    differences: tuple[str, ...] = ()  # between the paper's protocol and ours, that explain what differs
    missing: str = ""  # what of the item is not made
    across: str = ""  # of a figure: what x is
    shows: Literal["accuracy", "neurons", "left", "loss", "pe"] = "accuracy"  # of a figure: left is neurons in %
    share: Annotated[float, Range(0, 1)] = 0.9  # of dimensions: of the full score, what the smallest d has to reach
    name: str = ""  # of its file

    def __post_init__(self) -> None:
        for row in self.rows:
            if row.milestone and row.budget > 1:
                raise ValueError(
                    f"{row.label}: a milestone is of a run whose epochs the method divides; leave out budget"
                )
            if self.kind == "figure" and self.shows == "accuracy" and not (row.series and row.x and row.x > 0):
                raise ValueError(f"{row.label}: a point of a figure needs series, and x above 0")
            if self.kind == "figure" and self.shows in ("neurons", "left") and not row.milestone:
                raise ValueError(f"{row.label}: neurons are shown at a milestone")
            if self.kind == "dimension" and bool(row.series) != bool(row.x):
                raise ValueError(
                    f"{row.label}: a subspace has series and x above 0, the head alone x = 0, full neither"
                )
        if self.kind == "figure" and self.shows == "pe" and not {"accuracy", "params", "pe"} <= set(self.measures):
            raise ValueError('a figure of PE needs measures = ["accuracy", "params", "pe"]')
        if self.kind == "dimension" and sum(row.x is None for row in self.rows) != 1:
            raise ValueError("of dimensions one row, without series and x, is the full score")
        known = {card.key for card in configs.suite(self.suite).datasets}
        for key in self.datasets:
            if key not in known:
                raise ValueError(f"suite {self.suite} has no dataset {key!r}, but {', '.join(sorted(known))}")
        for name in (self.protocol, *map(self.protocol_of, self.rows)):
            configs.protocol(name)

    @property
    def keys(self) -> tuple[str, ...]:
        """Its datasets, "cifar10"."""
        every = tuple(card.key for card in configs.suite(self.suite).datasets)
        return tuple(key for key in every if key in self.datasets) if self.datasets else every

    def backbone_of(self, row: Row) -> str:
        return row.backbone or self.backbone

    def protocol_of(self, row: Row) -> str:
        return row.protocol or self.protocol


def folder() -> Path:
    return Path(__file__).parents[1] / "recipes"


def names() -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in folder().glob("*.toml")))


def read(name: str) -> Recipe:
    """A recipe by its name, or in a TOML file of one's own. Raises UsageError where there is none, or it is wrong."""
    if name.endswith(".toml"):
        path = Path(name)
    elif name in names():
        path = folder() / f"{name}.toml"
    else:
        raise unknown("recipe", name, names())
    return parse(Recipe, {**configs.read_toml(path), "name": path.stem}, path.name)


@dataclass(frozen=True)
class Printed:
    """A number in print, as results/published has it."""

    paper: str
    table: str
    backbone: str
    method: str
    variant: str
    dataset: str  # or "mean"
    metric: str
    value: float
    unit: str
    erratum: str

    @property
    def row(self) -> str:
        """What a recipe's row calls it."""
        return f"{self.method} {self.variant}".strip()


BACKBONES = {  # as the published files call them, by the first part of a tag
    "swin_tiny_patch4_window7_224": "swin-t",
    "swin_small_patch4_window7_224": "swin-s",
    "swin_large_patch4_window7_224": "swin-l",
    "vit_base_patch16_224": "vit-b/16",
    "vit_base_patch32_clip_quickgelu_224": "vit-b/32",
    "cvt_13": "cvt",
}


def published_folder() -> Path:
    """`bench/published` in an installed wheel, `results/published` beside the package in a checkout."""
    packaged = Path(__file__).parents[1] / "published"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "results" / "published"


@cache
def printed(paper: str) -> tuple[Printed, ...]:
    """Every number of a paper's tables. Raises UsageError where no file is of this paper, or a number is none."""
    path = published_folder() / f"{paper}.csv"
    if paper not in ("mimi", "tina", "pevit"):
        raise unknown("paper", paper, ("mimi", "tina", "pevit"))
    found = []
    with path.open(newline="", encoding="utf-8") as file:
        for number, row in enumerate(csv.DictReader(file), 2):
            value = float(row["value"])
            if not math.isfinite(value):
                raise UsageError(f"{path.name}, row {number}: {row['value']!r} is no number.")
            found.append(
                Printed(
                    **{key: row[key] for key in ("paper", "table", "backbone", "method", "variant", "dataset")},
                    **{key: row[key] for key in ("metric", "unit", "erratum")},
                    value=value / 1e6 if row["unit"] == "count" else value,
                )
            )
    return tuple(found)


def printed_cells(recipe: Recipe, row: Row) -> dict[tuple[str, str], Printed]:
    """The printed numbers of a row, by measure and dataset ("mean" for what belongs to the row)."""
    found: dict[tuple[str, str], Printed] = {}
    backbone = BACKBONES.get(recipe.backbone_of(row).partition(".")[0], "")
    for place in recipe.printed_in:
        paper, _, table = place.partition(" ")
        for number in printed(paper):
            if (number.table, number.backbone, number.row) == (table, backbone, row.printed) and row.printed:
                found.setdefault((number.metric, number.dataset), number)
    return found
