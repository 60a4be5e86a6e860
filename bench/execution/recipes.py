"""A recipe as requests, and what its rows are called in the results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from bench.core import configs
from bench.core.recipes import Recipe, Row, printed_cells
from bench.core.spec import Value, changed
from bench.execution.request import MethodChoice, RunRequest, make_request

if TYPE_CHECKING:
    import pandas as pd

Scale = Literal["paper", "pocket"]
POCKET, POCKET_SWIN = "pocket2", "pocket_swin_patch4"  # the suite of the scale that a laptop can run; a Swin for it
POCKET_FEW = ("digits", "shapes_paint", "tilt")  # one of each group, for what the paper has on three datasets or fewer
FLOPS_A_SECOND = 30e12  # of an accelerator at work: what `hours` assumes, under half of what an H100 has in fp32
PASSES = 3  # forward and backward, in forward passes


@dataclass(frozen=True)
class Wanted:
    """A row, and how the frame of records names its runs."""

    row: Row
    method: str
    settings: str  # version and every hyper-parameter
    backbone: str
    protocol: str


def requests(recipe: Recipe, scale: Scale, **common: object) -> tuple[RunRequest, ...]:
    """The runs of a recipe: one request for each backbone, protocol and number of epochs.

    `common` are fields of all of them. Raises UsageError where a row's hyper-parameters are none of its method's.
    """
    grouped: dict[tuple[str, str | None, int | None], list[MethodChoice]] = {}
    for row in rows_at(recipe, scale):
        protocol = None if scale == "pocket" else recipe.protocol_of(row)
        choices = grouped.setdefault((_backbone(recipe, row, scale), protocol, _epochs(recipe, row, scale)), [])
        choice = MethodChoice(row.method, settings_of(row, scale))
        if choice not in choices:
            choices.append(choice)
    suite, keys = suite_of(recipe, scale), keys_of(recipe, scale)
    whole = len(keys) == len(configs.suite(suite).datasets)
    return tuple(
        make_request(
            methods=tuple(choices),
            suite=suite if whole else None,
            datasets=() if whole else tuple(f"{suite}/{key}" for key in keys),
            backbones=(backbone,),
            protocol=protocol,
            epochs=epochs,
            **common,
        )
        for (backbone, protocol, epochs), choices in grouped.items()
    )


def wanted(recipe: Recipe, scale: Scale) -> tuple[Wanted, ...]:
    """Every row with the names of its runs. Raises UsageError where a method or a hyper-parameter is unknown."""
    from bench.models import registry
    from bench.models.method import build, params
    from bench.report.frame import settings_text

    found = []
    for row in rows_at(recipe, scale):
        method = build(registry.load(row.method), settings_of(row, scale), row.method)
        found.append(
            Wanted(
                row=row,
                method=row.method,
                settings=settings_text(method.version, params(method)),
                backbone=_backbone(recipe, row, scale),
                protocol=_protocol(recipe, row, scale),
            )
        )
    return tuple(found)


def rows_at(recipe: Recipe, scale: Scale) -> tuple[Row, ...]:
    """At pocket scale without what that is too small for, and without a row that only its backbone sets apart in print:
    where the two are one backbone, the same runs would stand there twice."""
    if scale == "paper":
        return recipe.rows
    first: dict[tuple[object, ...], Row] = {}
    for row in recipe.rows:
        if not row.paper_only:
            settings = tuple(sorted(settings_of(row, scale).items()))
            what = (row.method, settings, _backbone(recipe, row, scale), row.milestone, row.store, row.series, row.x)
            first.setdefault(what, row)
    return tuple(first.values())


def settings_of(row: Row, scale: Scale) -> Mapping[str, Value]:
    return row.pocket if scale == "pocket" and row.pocket is not None else row.settings


def suite_of(recipe: Recipe, scale: Scale) -> str:
    return POCKET if scale == "pocket" else recipe.suite


def runs(recipe: Recipe) -> int:
    """Runs at the paper's scale; a row that is a milestone has none of its own."""
    seeds = [len(configs.protocol(recipe.protocol_of(row)).seeds) for row in _own_runs(recipe)]
    return sum(seeds) * len(recipe.keys)


def hours(recipe: Recipe, gflops: Mapping[str, float]) -> float:
    """Of one accelerator at FLOPS_A_SECOND for every run of a recipe: arithmetic, nothing measured.

    `gflops` are those of one forward pass of each backbone. A frozen backbone saves less than it seems to: gradients
    pass through it.
    """
    cards = [card for card in configs.suite(recipe.suite).datasets if card.key in recipe.keys]
    total = 0.0
    for row in _own_runs(recipe):
        protocol = configs.protocol(recipe.protocol_of(row))
        trials = max(1, len(protocol.search_lr)) * max(1, len(protocol.search_weight_decay))
        searched = (protocol.search_epochs or protocol.epochs) * trials if trials > 1 else 0
        cycles = _cycles(row) if protocol.epochs_of == "phase" else 1
        epochs = protocol.epochs * max(row.budget, cycles) + searched
        for card in cards:
            train = card.sizes.train + card.sizes.val if protocol.shots is None else protocol.shots * card.classes
            images = PASSES * epochs * train + card.sizes.test
            total += images * len(protocol.seeds) * gflops[recipe.backbone_of(row)] * 1e9
    return total / FLOPS_A_SECOND / 3600


def _own_runs(recipe: Recipe) -> tuple[Row, ...]:
    """One row for each run at the paper's scale: milestones of one run are several rows."""
    own = {
        (row.method, str(row.settings), recipe.backbone_of(row), recipe.protocol_of(row), row.budget): row
        for row in recipe.rows
    }
    return tuple(own.values())


def _cycles(row: Row) -> int:
    from bench.models import registry
    from bench.models.method import build

    return len(build(registry.load(row.method), row.settings, row.method).phases(10_000))


def _backbone(recipe: Recipe, row: Row, scale: Scale) -> str:
    own = recipe.backbone_of(row)
    if scale == "paper":
        return own
    return POCKET_SWIN if own.startswith("swin") else configs.suite(POCKET).card.backbone


def _epochs(recipe: Recipe, row: Row, scale: Scale) -> int | None:
    if scale == "pocket" or row.budget == 1:
        return None
    return row.budget * configs.protocol(recipe.protocol_of(row)).epochs


def _protocol(recipe: Recipe, row: Row, scale: Scale) -> str:
    """The name of the protocol that a row's records have."""
    name = configs.suite(POCKET).card.protocol if scale == "pocket" else recipe.protocol_of(row)
    return changed(configs.protocol(name), {"epochs": _epochs(recipe, row, scale)}).name


def table(recipe: Recipe, scale: Scale, runs: pd.DataFrame) -> pd.DataFrame:
    """The recipe's table, a line a cell (bench.report.papers.COLUMNS), from the frame of a results folder.

    Raises UsageError where a row would average what does not compare.
    """
    from bench.report import papers

    found = parts(recipe, scale, runs)
    printed = [printed_cells(recipe, row) if scale == "paper" else {} for row, _ in found]
    return papers.compare(recipe, found, printed, keys_of(recipe, scale))


def parts(recipe: Recipe, scale: Scale, runs: pd.DataFrame) -> list[tuple[Row, pd.DataFrame]]:
    """Every row with its runs among those of a results folder. Raises UsageError where they do not compare."""
    from bench.report import papers

    suite = suite_of(recipe, scale)
    return [
        (each.row, papers.own_runs(runs, each.method, each.settings, each.backbone, each.protocol, suite))
        for each in wanted(recipe, scale)
    ]


def keys_of(recipe: Recipe, scale: Scale) -> tuple[str, ...]:
    """The recipe's datasets, "cifar10". At pocket scale the whole suite, or of few datasets one task of each group."""
    if scale == "paper":
        return recipe.keys
    every = tuple(card.key for card in configs.suite(POCKET).datasets)
    return POCKET_FEW if len(recipe.keys) <= len(POCKET_FEW) else every
