"""The floors below a board: closed forms on the shipped cards."""

from __future__ import annotations

import pytest

from bench.core import configs
from bench.report import floors


def test_chance_is_one_in_as_many_as_there_are_classes_and_means_are_those_of_boards() -> None:
    found = floors.of("pocket2")
    card = configs.suite("pocket2").card
    for floor in found.values():
        keys = [key for keys in card.groups.values() for key in keys]
        assert list(floor)[:8] == keys
        assert floor["mean (datasets)"] == pytest.approx(sum(floor[key] for key in keys) / 8)
        groups = [sum(floor[key] for key in keys) / len(keys) for keys in card.groups.values()]
        assert floor["mean (groups)"] == pytest.approx(sum(groups) / 3)
    assert found["chance"]["digits"] == 10 and found["chance"]["orientation"] == 6.25
    assert found[floors.PIXELS]["digits"] == configs.dataset("pocket2/digits").pixels_floor


@pytest.mark.parametrize("suite", ["pocket", "vtab", "folder/pets"])
def test_a_suite_without_floors_has_none_below_its_board(suite: str) -> None:
    assert floors.of(suite) == {} and floors.markdown(suite) == "" and floors.terminal(suite) == ""


def test_the_table_says_where_the_numbers_are_from() -> None:
    page = floors.markdown("pocket2")
    assert page.splitlines()[3].startswith("| method") and "scikit-learn" in page.splitlines()[-1]
    assert "10.0" in floors.terminal("pocket2")
