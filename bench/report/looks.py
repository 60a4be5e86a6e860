"""How a method looks on every figure: the colour of its family, and a marker that is its own within the family."""

from __future__ import annotations

from collections.abc import Mapping
from zlib import crc32

# each at least 4.5 to 1 on white, and apart for readers who do not tell red from green; the page has the same
COLOURS = {
    "baseline": "#3d3d3d",
    "adapters": "#1b5e9b",
    "low-rank": "#b3400b",
    "prompts": "#7a3a8c",
    "scale and shift": "#1d6b3a",
    "selection": "#006b6b",
    "side network": "#8a1c4a",
    "other": "#8a5a00",
}
PALETTE = (
    COLOURS["low-rank"],
    COLOURS["adapters"],
    COLOURS["prompts"],
    COLOURS["scale and shift"],
)  # of lines that are no methods
MARKERS = "os^DvPX<>phd8H*"
Families = Mapping[str, str]  # of every known method


def family(method: str, families: Families) -> str:
    """`other` where the family is not known, or has no colour."""
    name = families.get(method, "other")
    return name if name in COLOURS else "other"


def look(method: str, families: Families) -> tuple[str, str]:
    """Colour and marker; they depend on the known methods alone, not on which of them a figure shows."""
    own = family(method, families)
    if method not in families:
        return COLOURS[own], MARKERS[crc32(method.encode()) % len(MARKERS)]
    place = sorted(name for name in families if family(name, families) == own).index(method)
    return COLOURS[own], MARKERS[place % len(MARKERS)]
