"""What a person is told whose data are missing: how to get them, and where they were looked for."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from bench.core.configs import Dataset
from bench.core.errors import UsageError
from bench.data import sources
from bench.data.download import catalog


def fetch_hint(card: Dataset, root: Path) -> str:
    """How to get the data of a card, in one line."""
    suite = card.name.partition("/")[0]
    plan = catalog.plan(card)
    if plan is None:
        return f"by hand: docs/data.md tells where from; then 'bench data add {suite} PATH'"
    if plan.manual and not plan.can_run(root):
        brought = " and ".join(f"raw/{file.path}" for file in plan.files)
        told = f"by hand: {plan.manual.rstrip('.')}"
        if brought:
            return f"{told}; in the data root these are {brought}; then 'bench data fetch {card.name}'"
        return f"{told}; then 'bench data add {suite} PATH'"
    size = f" ({plan.bytes / 1e9:.1f} GB)" if plan.bytes else ""
    return f"'bench data fetch {card.name}'{size}"


def missing_line(card: Dataset, root: Path) -> str:
    """Of a dataset that is not here, its name and how to get it."""
    return f"{card.name}  missing: {fetch_hint(card, root)}"


def missing_screen(missing: Collection[Dataset], total: int, root: Path) -> str:
    """What `bench run` says where data is missing."""
    width = max(len(card.name) for card in missing)
    lines = [f"{len(missing)} of {total} datasets are not on this machine:"]
    lines += [f"  {card.name.ljust(width)}  {fetch_hint(card, root)}" for card in missing]
    for suite, kind in {card.name.partition("/")[0]: card.source.partition(":")[0] for card in missing}.items():
        lines += [f"Have them already? 'bench data add {suite} PATH' takes:"]
        lines += [f"  {layout.title}" for layout in sources.layouts(kind)]
        lines += [f"Looked in: {', '.join(str(place.path) for place in sources.search_paths(suite, root))}."]
    if len(missing) < total:
        lines += ["--skip-missing runs what is here; the table then shows the coverage."]
    return "\n".join(lines)


def with_name(card: Dataset, error: UsageError) -> str:
    """An error with the name of its dataset in front."""
    text = str(error)
    return text if text.startswith(card.name) else f"{card.name}: {text}"
