"""What MiMi's table 4 counts, against ptflops' own integers; PEViT's closed forms against real models."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.core import recipes
from bench.models import registry
from bench.models.method import build
from bench.tools import published_costs, published_formulas
from bench.tools.published_costs import Compared

SWIN = "swin_tiny_patch4_window7_224"
DOCS = Path(__file__).parents[2] / "docs" / "papers.md"

# get_model_complexity_info of ptflops 0.7 on the same models: timm's Swin-T of 102 classes, attention unfused. It sees
# no activation that is not a module: of an adapter, that many elements are added here.
PTFLOPS = [
    ("linear_probe", {}, 4_359_521_958, 0),
    ("ssf", {}, 4_359_521_958, 0),
    ("adapters", {"hidden": 1}, 4_365_242_022, 1),
    ("adapters", {"hidden": 47}, 4_628_364_966, 47),
]
TOKENS = 2 * (2 * 56**2 + 2 * 28**2 + 6 * 14**2 + 2 * 7**2)  # that go through the adapters of all blocks


@pytest.fixture(scope="module")
def compared() -> list[Compared]:
    return published_costs.compare()


@pytest.mark.parametrize(("name", "settings", "counted", "neurons"), PTFLOPS)
def test_what_is_counted_as_printed_is_what_ptflops_counts(
    name: str, settings: dict[str, int], counted: int, neurons: int
) -> None:
    net = published_costs._attached(build(registry.load(name), settings, name), SWIN)
    assert published_costs.operators(net).as_printed == counted + TOKENS * neurons


def test_every_printed_cost_is_met_or_its_reason_is_said(compared: list[Compared]) -> None:
    recipe = recipes.read("mimi-table4")
    assert [(each.row, each.measure) for each in compared] == [
        (row.label, measure) for row in recipe.rows for measure in ("gflops", "storage_mb")
    ]
    assert all(each.agrees or each.note for each in compared)
    off = [each.row for each in compared if each.measure == "gflops" and not each.agrees]
    assert off == ["VPT-deep (prompts=100)", "FacT-TK (rank=32)", "MiMi, 3 cycles"]
    assert sum(each.agrees for each in compared if each.measure == "storage_mb") == 8


def test_eleven_gflops_are_twice_the_rounded_gmacs(compared: list[Compared]) -> None:
    counts = [(each.printed, each.operators) for each in compared if each.operators]
    met = [printed for printed, own in counts if own and round(2 * round(own.as_printed / 1e9, 2), 2) == printed]
    assert len(met) == 11


def test_the_released_codes_order_of_products_explains_fact(compared: list[Compared]) -> None:
    """Its products, a token: q, k, v, proj C r + r r + r C; fc1 C r + 4 r r + 4 C r; fc2 the same turned round."""
    (fact,) = [each for each in compared if each.row.startswith("FacT") and each.measure == "gflops"]
    (probe,) = [each for each in compared if each.row == "Linear probing" and each.measure == "gflops"]
    r, stages = 32, ((2, 56, 96), (2, 28, 192), (6, 14, 384), (2, 7, 768))
    there = sum(n * side**2 * (4 * (2 * C * r + r * r) + 2 * (5 * C * r + 4 * r * r)) for n, side, C in stages)
    assert probe.operators
    released = 2 * (probe.operators.as_printed + there) / 1e9
    assert f"{released:.2f} as it does" in fact.note
    assert released == pytest.approx(10.6, rel=0.005)


def test_mimi_after_three_cycles_cannot_have_what_is_printed(compared: list[Compared]) -> None:
    """Of 1104 neurons 138 are left; the most where the 48 of the first stage and 90 of the second stay."""
    (mimi,) = [each for each in compared if each.row == "MiMi, 3 cycles" and each.measure == "gflops"]
    neurons = 48 * 56**2 * (2 * 96 + 1) + 90 * 28**2 * (2 * 192 + 1)
    assert mimi.ours == pytest.approx(2 * (4_359_521_958 + neurons) / 1e9, abs=1e-9)
    assert mimi.ours < mimi.printed and "138 of 1104" in mimi.note


def test_the_page_shows_what_the_command_prints(compared: list[Compared]) -> None:
    page = DOCS.read_text(encoding="utf-8")
    shown = page.partition("<!-- bench paper costs -->\n")[2].partition("\n<!-- end -->")[0]
    assert shown == "\n".join([*published_costs.lines(compared), "", *published_formulas.lines()])


@pytest.mark.parametrize("one", published_formulas.table(), ids=lambda one: f"{one.method} {one.settings}")
def test_the_exact_form_is_what_the_model_has_and_a_form_that_differs_says_why(
    one: published_formulas.Formula,
) -> None:
    assert one.ours() == one.corrected_value
    assert bool(one.why) == (one.printed_value != one.corrected_value)
