"""The papers' counts against ours: every published number of trained parameters, and what the method has here.

`results/published/counts.csv` holds one row per number in print: where it stands, our method with the settings that
build the same network, the parameters trained beside it (the head, of as many classes as the paper counted), and
`count`, what the backbone's shape gives by arithmetic. A row is a match where ours, rounded or cut to the digits that
are printed, is the published number; an erratum where it is not and the reason is known. Anything else is unexplained.
"""

from __future__ import annotations

import csv
import pickle
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bench.core.recipes import published_folder
from bench.core.schema import parse

if TYPE_CHECKING:
    from bench.models.method import Method
    from bench.models.view import ModelView


@dataclass(frozen=True)
class Row:
    """A published number of trained parameters; every field as counts.csv writes it."""

    paper: str
    table: str
    row: str  # the method's slug and what the table says of it
    backbone: str
    method: str
    settings: str  # "rank=8 targets=q+k"; a mean over several networks as "6x rank=16 | 13x rank=32"
    head: str  # parameters trained beside the method; a mean where the paper's is one over datasets
    published: str  # as printed
    unit: Literal["M", "count"]
    count: str  # head included
    verdict: Literal["match", "erratum"]
    note: str  # the reason of an erratum; what was counted where that is not plain


@dataclass(frozen=True)
class Compared:
    row: Row
    ours: Decimal
    agreement: Literal["exact", "rounded", "truncated", ""]

    @property
    def verdict(self) -> Literal["match", "erratum", "unexplained"]:
        """What the row declares, if that is so and ours is the number that arithmetic gives."""
        found: Literal["match", "erratum"] = "match" if self.agreement else "erratum"
        declared = self.row.verdict == found and (found == "match" or bool(self.row.note))
        return found if declared and round(self.ours, 2) == round(Decimal(self.row.count), 2) else "unexplained"


def read(path: Path | None = None) -> list[Row]:
    path = path or published_folder() / "counts.csv"
    with path.open(newline="", encoding="utf-8") as file:
        return [parse(Row, row, f"{path.name}, row {number}") for number, row in enumerate(csv.DictReader(file), 2)]


def buildable(row: Row) -> bool:
    """False for a CvT where transformers, which it needs, is not installed."""
    from bench.models import cvt

    return row.backbone not in cvt.HUB or find_spec("transformers") is not None


def compare(rows: Iterable[Row]) -> list[Compared]:
    compared = []
    for row in rows:
        ours = mean_count(row.method, row.settings, row.backbone) + Decimal(row.head)
        compared.append(Compared(row, ours, agreement(row.published, row.unit, ours)))
    return compared


def agreement(published: str, unit: str, ours: Decimal) -> Literal["exact", "rounded", "truncated", ""]:
    """How ours becomes the published number at the digits that are printed; empty where it does not."""
    printed, value = Decimal(published), ours / (10**6 if unit == "M" else 1)
    if value == printed:
        return "exact"
    if value.quantize(printed, ROUND_HALF_UP) == printed:
        return "rounded"
    return "truncated" if value.quantize(printed, ROUND_DOWN) == printed else ""


def mean_count(method: str, settings: str, backbone: str) -> Decimal:
    """Trained parameters without head, mean over the networks that `settings` names."""
    total = number = 0
    for part in settings.split("|"):
        times, x, pairs = part.strip().partition("x ")
        weight, pairs = (int(times), pairs) if x and times.isdecimal() else (1, part)
        total += weight * count(method, tuple(pairs.split()), backbone)
        number += weight
    return Decimal(total) / number


@cache
def count(method: str, settings: tuple[str, ...], backbone: str) -> int:
    """Trained parameters without head, of the model as it is built; no weights are made."""
    import torch

    from bench.models import cost
    from bench.models.method import build

    values = dict(pair.split("=", 1) for pair in settings)
    net: ModelView = pickle.loads(_bare(backbone))
    with torch.device("meta"):
        build(_load(method), values, method).attach(net)
    return cost.method_params(net)


@cache
def _load(method: str) -> type[Method]:
    """Once: loading reads the source of every method."""
    from bench.models import registry

    return registry.load(method)


@cache
def _bare(backbone: str) -> bytes:
    """Pickled: every method gets its own, and reading one back is far faster than building it."""
    import torch

    from bench.models import backbones
    from bench.models.families import build_view

    with torch.device("meta"):
        return pickle.dumps(build_view(backbones.create(backbone, classes=1, weights="random", device="meta")))


def summary(compared: Iterable[Compared]) -> str:
    n = Counter(c.verdict for c in compared)
    return f"{n.total()} rows: {n['match']} match, {n['erratum']} errata, {n['unexplained']} unexplained"
