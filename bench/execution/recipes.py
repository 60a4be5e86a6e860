"""A recipe as requests, and what its rows are called in the results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bench.core import configs
from bench.core.recipes import Recipe, Row, printed_cells
from bench.core.spec import changed
from bench.execution.request import MethodChoice, RunRequest, make_request

if TYPE_CHECKING:
    import pandas as pd

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


def at_pocket(recipe: Recipe) -> Recipe:
    """The same rows for a laptop: on the pocket suite, or one task of each of its groups where the paper has at most
    three datasets, with its backbones, its protocol, and settings that suit them, which each label then tells.

    What this scale is too small for is left out, and a row that only its backbone sets apart in print: where one stands
    for both, the same runs would stand there twice. Nothing of it is compared with print.
    """
    card, rows, seen = configs.suite(POCKET).card, list[Row](), set[tuple[object, ...]]()
    gone: dict[str, list[str]] = {}  # why, and what
    for row in recipe.rows:
        backbone = POCKET_SWIN if recipe.backbone_of(row).startswith("swin") else card.backbone
        own = _row_at_pocket(row, backbone)
        settings = str(sorted(own.settings.items()))
        what = (own.method, settings, backbone, own.milestone, own.store, own.series, own.x)
        if row.paper_only:
            gone.setdefault("this scale is too small", []).append(row.label)
        elif what in seen:
            gone.setdefault("one backbone stands for it and for another row", []).append(row.label)
        else:
            seen.add(what)
            rows.append(own)
    backbones = " and ".join(sorted({row.backbone for row in rows}))
    few = len(recipe.keys) <= len(POCKET_FEW)
    ours = f"these rows ran on {POCKET} and {backbones}, each with the epochs of {card.protocol}"
    return replace(
        recipe,
        title=f"{recipe.title}; at pocket scale",
        suite=POCKET,
        datasets=POCKET_FEW if few else (),
        backbone=card.backbone,
        protocol=card.protocol,
        rows=tuple(rows),
        printed_in=(),
        differences=(f"{ours}. Nothing here compares with what the paper prints.",),
        missing="; ".join(f"{'; '.join(labels)} ({why})" for why, labels in gone.items()),
        name=f"{recipe.name}-pocket",
    )


def _row_at_pocket(row: Row, backbone: str) -> Row:
    settings = row.settings if row.pocket is None else row.pocket
    told = [f"{key}={str(value).lower()}" for key, value in settings.items()] if row.pocket is not None else []
    told += [backbone] if row.backbone else []
    old, new = row.settings.get("sigma"), settings.get("sigma")
    shrink = new / old if isinstance(old, int | float) and isinstance(new, int | float) else 1.0  # of the size in print
    return replace(
        row,
        label=f"{row.label} [{' '.join(told)}]" if told else row.label,
        settings=settings,
        pocket=None,
        backbone=backbone,
        protocol="",
        printed="",
        budget=1,
        x=None if row.x is None else row.x * shrink,
    )


def requests(recipe: Recipe, **common: object) -> tuple[RunRequest, ...]:
    """The runs of a recipe: one request for each backbone, protocol and number of epochs.

    `common` are fields of all of them. Raises UsageError where a row's hyper-parameters are none of its method's.
    """
    grouped: dict[tuple[str, str, int | None], list[MethodChoice]] = {}
    for row in recipe.rows:
        key = (recipe.backbone_of(row), recipe.protocol_of(row), _epochs(recipe, row))
        choice = MethodChoice(row.method, row.settings)
        if choice not in (choices := grouped.setdefault(key, [])):
            choices.append(choice)
    whole = len(recipe.keys) == len(configs.suite(recipe.suite).datasets)
    return tuple(
        make_request(
            methods=tuple(choices),
            suite=recipe.suite if whole else None,
            datasets=() if whole else tuple(f"{recipe.suite}/{key}" for key in recipe.keys),
            backbones=(backbone,),
            protocol=protocol,
            epochs=epochs,
            **common,
        )
        for (backbone, protocol, epochs), choices in grouped.items()
    )


def wanted(recipe: Recipe) -> tuple[Wanted, ...]:
    """Every row with the names of its runs. Raises UsageError where a method or a hyper-parameter is unknown."""
    from bench.models import registry
    from bench.models.method import build, params
    from bench.report.frame import settings_text

    found = []
    for row in recipe.rows:
        method = build(registry.load(row.method), row.settings, row.method)
        found.append(
            Wanted(
                row=row,
                method=row.method,
                settings=settings_text(method.version, params(method)),
                backbone=recipe.backbone_of(row),
                protocol=changed(configs.protocol(recipe.protocol_of(row)), {"epochs": _epochs(recipe, row)}).name,
            )
        )
    return tuple(found)


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


def _epochs(recipe: Recipe, row: Row) -> int | None:
    return None if row.budget == 1 else row.budget * configs.protocol(recipe.protocol_of(row)).epochs


def table(recipe: Recipe, runs: pd.DataFrame) -> pd.DataFrame:
    """The recipe's table, a line a cell (bench.report.papers.COLUMNS), from the frame of a results folder.

    Raises UsageError where a row would average what does not compare.
    """
    from bench.report import papers

    found = parts(recipe, runs)
    return papers.compare(recipe, found, [printed_cells(recipe, row) for row, _ in found])


def parts(recipe: Recipe, runs: pd.DataFrame) -> list[tuple[Row, pd.DataFrame]]:
    """Every row with its runs among those of a results folder. Raises UsageError where they do not compare."""
    from bench.report import papers

    return [
        (each.row, papers.own_runs(runs, each.method, each.settings, each.backbone, each.protocol, recipe.suite))
        for each in wanted(recipe)
    ]
