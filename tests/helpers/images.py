"""Folders of images for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def paint(root: Path, layout: dict[str, int], size: int = 20) -> Path:
    """A folder of random images, `layout` gives how many at which path."""
    rng = np.random.default_rng(len(layout))
    for place, count in layout.items():
        (root / place).mkdir(parents=True)
        for index in range(count):
            Image.fromarray(rng.integers(0, 256, (size, size + 3, 3), dtype=np.uint8)).save(
                root / place / f"{index:03}.png"
            )
    return root
