"""What stands below every board of a suite that has them: the accuracy of chance and of eight by eight pixels.

They are no runs: chance is one in as many as there are classes, the other number is the card's (`pixels_floor`),
computed by benchmarks/pocket.py with scikit-learn. A method below them has learned nothing worth its parameters.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping

from bench.core import configs
from bench.report.cells import aligned, one, pipe

PIXELS = "logistic regression on 8x8 pixels"
SOURCE = (
    "Floors, not runs: one in as many as there are classes; scikit-learn's logistic regression on each image averaged "
    "to 8x8 pixels, its C chosen on val, then fitted to train and val (`python benchmarks/pocket.py floors`)."
)


def of(suite: str) -> dict[str, dict[str, float]]:
    """The accuracy in % of each floor by dataset, in the suite's order, and both means; empty without floors."""
    if suite not in configs.suite_names():
        return {}
    whole = configs.suite(suite)
    cards = {card.key: card for card in whole.datasets}
    pixels = {key: card.pixels_floor for key, card in cards.items() if card.pixels_floor is not None}
    if pixels.keys() != cards.keys():
        return {}
    found = {"chance": {key: 100 / card.classes for key, card in cards.items()}, PIXELS: pixels}
    return {name: {**floor, **_means(floor, whole.card.groups)} for name, floor in found.items()}


def _means(floor: Mapping[str, float], groups: Mapping[str, tuple[str, ...]]) -> dict[str, float]:
    means = [statistics.mean(floor[key] for key in keys) for keys in groups.values()]
    return {"mean (datasets)": statistics.mean(floor.values()), "mean (groups)": statistics.mean(means)}


def markdown(suite: str) -> str:
    """The floors as the last section of a page, a table and its source; empty without floors."""
    floors = of(suite)
    return f"\n## Floors\n\n{pipe(_columns(floors))}\n\n{SOURCE}\n" if floors else ""


def terminal(suite: str) -> str:
    """The same for the terminal."""
    floors = of(suite)
    return aligned(_columns(floors)) if floors else ""


def _columns(floors: Mapping[str, Mapping[str, float]]) -> dict[str, list[str]]:
    columns = {"method": list(floors)}
    return columns | {key: [one(floor[key]) for floor in floors.values()] for key in next(iter(floors.values()))}
