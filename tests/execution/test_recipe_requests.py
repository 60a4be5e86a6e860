"""A recipe as requests: the paper's settings, its budget of epochs, and the same rows on the pocket suite."""

from __future__ import annotations

import dataclasses

import pytest

from bench.cli import paper
from bench.core import configs, recipes
from bench.core.errors import UsageError
from bench.core.recipes import Recipe, Row
from bench.execution.recipes import FLOPS_A_SECOND, at_pocket, hours, requests, runs, wanted
from bench.execution.request import MethodChoice
from bench.models import registry, static_cost
from bench.models.method import build

ALL = [recipes.read(name) for name in recipes.names()]
ROWS = (
    Row("Full", "full", budget=5),
    Row("Adapters", "adapters", {"sigma": 32}, budget=5),
    Row("MiMi 1", "mimi", {"cycles": 2}, milestone="cycle 1"),
    Row("MiMi 2", "mimi", {"cycles": 2}, milestone="cycle 2"),
)
SMALL = Recipe("t", "i", "table", "multitask", "swin_tiny_patch4_window7_224", "mimi@v1", ROWS, datasets=("svhn",))


def test_rows_of_one_budget_are_one_request_and_milestones_are_one_run() -> None:
    long, mimi = requests(SMALL, out="x")
    assert (long.epochs, mimi.epochs) == (500, None)
    assert [choice.name for choice in long.methods] == ["full", "adapters"]
    assert mimi.methods == (MethodChoice("mimi", {"cycles": 2}),)
    assert long.datasets == ("multitask/svhn",) and long.protocol == "mimi@v1"
    assert runs(SMALL) == 3 * 3


def test_at_pocket_scale_every_row_has_the_protocols_epochs() -> None:
    (one,) = requests(at_pocket(dataclasses.replace(SMALL, datasets=())), out="x")
    assert (one.suite, one.backbones, one.epochs, one.protocol) == (
        "pocket2",
        ("pocket_swin_patch4",),
        None,
        "pocket@v2",
    )
    assert [choice.name for choice in one.methods] == ["full", "adapters", "mimi"]


def test_a_row_that_only_the_papers_backbone_sets_apart_stands_once_at_pocket_scale() -> None:
    of_large = Row("Full, Swin-L", "full", backbone="swin_large_patch4_window7_224.ms_in22k")
    of_vit = Row("Full, ViT", "full", backbone="vit_base_patch16_224.augreg_in21k")
    whole = Row("Full, one model a task", "full", store="model")
    recipe = dataclasses.replace(SMALL, rows=(Row("Full", "full"), of_large, of_vit, whole))
    pocket = at_pocket(recipe)
    assert [row.label for row in pocket.rows] == ["Full", "Full, ViT [pocket_vit_patch8]", "Full, one model a task"]
    assert pocket.missing == "Full, Swin-L (one backbone stands for it and for another row)"


def test_at_pocket_scale_a_label_and_a_point_tell_what_was_run() -> None:
    rows = (
        Row("Adapters, sigma = 32", "adapters", {"sigma": 32}, series="Adapters", x=32, pocket={"sigma": 4}),
        Row("Full", "full", series="Full", x=1),
        Row("Large", "adapters", {"sigma": 1}, series="Adapters", x=1, paper_only=True),
    )
    recipe = dataclasses.replace(SMALL, rows=rows, kind="figure", printed_in=("mimi table1",))
    pocket = at_pocket(recipe)
    assert [(row.label, row.x) for row in pocket.rows] == [("Adapters, sigma = 32 [sigma=4]", 4), ("Full", 1)]
    assert pocket.missing == "Large (this scale is too small)" and not pocket.printed_in
    (told,) = pocket.differences
    assert told.startswith("these rows ran on pocket2 and pocket_swin_patch4, each with the epochs of pocket@v2.")
    for recipe in (recipe for recipe in ALL if recipe.across.endswith("sigma")):
        for row, own in zip([row for row in recipe.rows if not row.paper_only], at_pocket(recipe).rows, strict=True):
            if row.x in row.settings.values():  # sigma, or the sigma that MiMi ends at
                assert own.x in own.settings.values() and own.x != row.x, own.label


def test_of_few_datasets_the_pocket_scale_has_one_task_of_each_group() -> None:
    pocket = at_pocket(SMALL)
    (one,) = requests(pocket, out="x")
    assert one.suite is None and one.datasets == tuple(f"pocket2/{key}" for key in pocket.keys)
    groups = configs.suite("pocket2").card.groups.values()
    assert [len(set(group) & set(pocket.keys)) for group in groups] == [1, 1, 1]


def test_the_names_of_a_rows_runs_are_those_of_the_specs_that_it_asks_for() -> None:
    long = wanted(SMALL)[1]
    assert long.protocol == "mimi@v1+epochs=500"
    assert '"sigma": 32' in long.settings and long.settings.startswith("version 1 ")


def test_a_row_may_have_a_protocol_of_its_own() -> None:
    other = configs.protocol("elevater-full@v1")
    rows = (ROWS[0], dataclasses.replace(ROWS[0], protocol=other.name))
    two = dataclasses.replace(SMALL, rows=rows)
    assert [request.protocol for request in requests(two, out="x")] == ["mimi@v1", "elevater-full@v1"]
    assert [request.epochs for request in requests(two, out="x")] == [500, 5 * other.epochs]
    assert [each.protocol for each in wanted(two)][1] == f"elevater-full@v1+epochs={5 * other.epochs}"
    assert runs(two) == 3 + len(other.seeds)
    one, each = (dataclasses.replace(two, rows=part) for part in (rows[:1], rows[1:]))
    gflops = {SMALL.backbone: 2.0}
    assert hours(two, gflops) == pytest.approx(hours(one, gflops) + hours(each, gflops))
    assert hours(each, gflops) != pytest.approx(hours(one, gflops))
    (pocket,) = requests(at_pocket(two), out="x")
    assert pocket.protocol == "pocket@v2"
    with pytest.raises(UsageError, match="no such"):
        dataclasses.replace(two, rows=(dataclasses.replace(ROWS[0], protocol="no such"),))


def test_clip_starts_from_texts_in_pevits_tables_and_a_supervised_vit_does_not() -> None:
    for name in ("pevit-table2", "pevit-table3", "pevit-table4", "pevit-figure1"):
        recipe = recipes.read(name)
        for row in recipe.rows:
            clip = recipe.backbone_of(row).endswith("+projection")
            assert configs.protocol(recipe.protocol_of(row)).head == ("texts" if clip else "drawn"), row.label


def test_hours_are_passes_by_images_by_flops() -> None:
    card = configs.dataset("multitask/svhn").sizes
    one = dataclasses.replace(SMALL, rows=ROWS[:1])
    images = 3 * 500 * (card.train + card.val) + card.test
    assert hours(one, {SMALL.backbone: 2.0}) == pytest.approx(3 * images * 2e9 / FLOPS_A_SECOND / 3600)
    cycles = dataclasses.replace(SMALL, rows=ROWS[2:])  # two rows, one run of three phases with 100 epochs each
    images = 3 * 300 * (card.train + card.val) + card.test
    assert hours(cycles, {SMALL.backbone: 2.0}) == pytest.approx(3 * images * 2e9 / FLOPS_A_SECOND / 3600)


@pytest.mark.parametrize("recipe", ALL, ids=[recipe.name for recipe in ALL])
def test_every_row_is_of_a_method_that_has_its_settings_and_fits_the_pocket_backbones(recipe: Recipe) -> None:
    seen = set()
    for row in recipe.rows:
        build(registry.load(row.method), row.settings, row.method)
    for each in wanted(at_pocket(recipe)):
        if (each.method, each.settings, each.backbone) in seen:
            continue
        seen.add((each.method, each.settings, each.backbone))
        method = build(registry.load(each.method), each.row.settings, each.method)
        assert static_cost.check_fit(method, each.backbone) is None, each.row.label


@pytest.mark.parametrize("backbone", [name for name in paper.GFLOPS if name != "cvt_13"])
def test_the_flops_that_times_rest_on_are_those_of_the_backbone(backbone: str) -> None:
    probe = build(registry.load("linear_probe"), {}, "linear_probe")
    flops = static_cost.count(probe, backbone, 2).flops.unmerged
    assert paper.GFLOPS[backbone] == pytest.approx(flops / 1e9, rel=0.01)
