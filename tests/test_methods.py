"""What every method owes. Names no method: it runs over whatever the registry finds."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bench import check, registry
from bench.method import build

METHODS = sorted(registry.entries())


@pytest.mark.parametrize("promise", check.CHECKS, ids=lambda promise: promise.__name__)
@pytest.mark.parametrize("name", METHODS)
def test_method_keeps_its_promise(name: str, promise: Callable[[check.Case], None], backbone: str) -> None:
    promise(check.Case(build(registry.load(name), {}, name), backbone))


@pytest.mark.parametrize("name", METHODS)
def test_source_tells_family_and_title_without_import(name: str) -> None:
    entry = registry.entries()[name]
    assert ": " in entry.title and entry.title.endswith(".")
    assert entry.family in registry.ORDER and entry.family != "other"
    assert registry.load(name).family == entry.family
