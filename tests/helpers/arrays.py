"""Random images for tests."""

from __future__ import annotations

import numpy as np

from bench.data.splits import ArraySplit

RNG = np.random.default_rng(0)
DATA = ArraySplit(RNG.integers(0, 256, (24, 32, 32, 3), dtype=np.uint8), np.arange(24) % 5)
