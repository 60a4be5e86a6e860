"""What every method owes. Names no method: it runs over whatever the registry finds."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import pytest

from bench.models import registry
from bench.models.method import build
from bench.tools import conformance

METHODS = sorted(registry.entries())


FAMILIES = {"pocket_vit": "vit", "pocket_swin": "swin"}


@lru_cache(maxsize=2)
def case(name: str, backbone: str) -> conformance.Case:
    """One for all promises of a method on a backbone, which are tested in a row: it trains once."""
    return conformance.Case(build(registry.load(name), {}, name), backbone)


@pytest.mark.parametrize("promise", conformance.CHECKS, ids=lambda promise: promise.__name__)
@pytest.mark.parametrize("name", METHODS)
def test_method_keeps_its_promise(name: str, promise: Callable[[conformance.Case], None], backbone: str) -> None:
    supports = registry.entries()[name].supports
    if FAMILIES[backbone] not in supports:
        pytest.skip("not on this family: the refusal has a test of its own")
    if promise is conformance.compiles and backbone == "pocket_swin" and "vit" in supports:
        pytest.skip("captured on the ViT; `bench check` does both")
    promise(case(name, backbone))


@pytest.mark.parametrize("name", METHODS)
def test_method_takes_the_families_it_names_and_refuses_the_others(name: str, backbone: str) -> None:
    refusal = conformance.refused(case(name, backbone))
    assert (refusal is None) == (FAMILIES[backbone] in registry.entries()[name].supports)


@pytest.mark.parametrize("name", METHODS)
def test_source_tells_family_and_title_without_import(name: str) -> None:
    entry = registry.entries()[name]
    assert ": " in entry.title and entry.title.endswith(".")
    assert entry.family in registry.ORDER and entry.family != "other"
    assert registry.load(name).family == entry.family
