"""The runs that measure a local intrinsic dimension, as a recipe: the head, the whole model, and every subspace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.core import configs
from bench.core.errors import UsageError
from bench.core.recipes import Recipe, Row
from bench.core.spec import Value

SUBMODULES: Mapping[str, tuple[str, ...]] = {"attention": ("q", "k", "v", "proj"), "mlp": ("fc1", "fc2")}
ADAPTED: Mapping[str, tuple[str, ...]] = {"attention": ("q", "v")}  # of those, what KAdaptation adapts; else all


def recipe(
    datasets: Sequence[str],
    backbone: str,
    protocol: str | None,
    dims: Sequence[int],
    submodules: Sequence[str] = tuple(SUBMODULES),
    layers: Sequence[int] = (),
    share: float = 0.9,
    full: str = "full",
) -> Recipe:
    """A recipe of kind "dimension" on datasets "suite/key" of one suite.

    A submodule is a name of SUBMODULES, or targets of `intrinsic` like "q+k". Without `layers` all blocks share the d
    numbers; with some, each is measured alone. `full` names the method whose score is the full one. Raises UsageError.
    """
    suites = {name.partition("/")[0] for name in datasets}
    if len(suites) != 1:
        raise UsageError(f"A dimension is measured on datasets of one suite, not of {', '.join(sorted(suites))}.")
    (suite,) = suites
    card = configs.suite(suite).card
    if 0 in dims or not dims:
        raise UsageError("dims are whole numbers of at least 1: the head alone (d = 0) is always measured.")
    if not 0 < share <= 1:
        raise UsageError(f"share = {share:g} must lie between 0 and 1: it is of the full score.")
    rows = [Row("Full", full), Row("Head alone", "linear_probe", x=0.0)]
    for name in submodules:
        targets = list(SUBMODULES.get(name, tuple(name.split("+"))))
        for d in sorted(dims):
            for layer in layers or (None,):
                where: dict[str, Value] = {} if layer is None else {"layer": layer}
                label = f"{name}, d = {d}" + ("" if layer is None else f", layer {layer}")
                settings: dict[str, Value] = {"dim": d, "targets": tuple(targets), **where}
                rows.append(Row(label, "intrinsic", settings, series=name, x=float(d)))
    try:
        return Recipe(
            title=f"{', '.join(submodules)} of {backbone or card.backbone}",
            item="Local intrinsic dimension",
            kind="dimension",
            suite=suite,
            backbone=backbone or card.backbone,
            protocol=protocol or card.protocol,
            rows=tuple(rows),
            datasets=tuple(name.partition("/")[2] for name in datasets),
            share=share,
            name=f"dimension-{suite}-{(backbone or card.backbone).replace('/', '-')}",
        )
    except ValueError as error:
        raise UsageError(f"{error}.") from None


def adapted(recipe: Recipe) -> dict[str, tuple[str, ...]]:
    """Where KAdaptation adapts, by submodule of a recipe: query and value of attention, all targets of another."""
    found = {}
    for row in recipe.rows:
        if row.series:
            targets = row.settings["targets"]
            found[row.series] = ADAPTED.get(row.series, tuple(targets) if isinstance(targets, tuple | list) else ())
    return found
