"""The numbers behind a table: an interval for a mean, the price of parameters, the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np


def bootstrap_interval(
    scores: Mapping[str, Sequence[float]],
    draws: int = 10_000,
    seed: int = 0,
    weights: Mapping[str, float] | None = None,  # of each dataset in the mean; None: all the same
) -> tuple[float, float] | None:
    """The 95 % percentile interval of the mean over datasets of the mean over seeds; None where a dataset has one.

    Seeds are drawn anew within each dataset, the datasets stay (stratified bootstrap: Agarwal et al., "Deep
    Reinforcement Learning at the Edge of the Statistical Precipice", NeurIPS 2021, arXiv 2108.13264): the interval
    speaks of chance in training, not of other datasets. With few seeds it is too narrow, as every bootstrap is.
    """
    if not scores or any(len(values) < 2 for values in scores.values()):
        return None
    rng = np.random.default_rng(seed)
    means = np.zeros(draws)
    for name, values in scores.items():
        sample = np.asarray(values, dtype=float)
        drawn = sample[rng.integers(len(sample), size=(draws, len(sample)))].mean(axis=1)
        means += drawn * (1 / len(scores) if weights is None else weights[name])
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def pe(score: float, trained: float, scale: float = 1e8) -> float:
    """Performance efficiency, score * exp(-log10(P / 1e8 + 1)); P: trained parameters, head included.

    Li et al., "ELEVATER", NeurIPS 2022 Datasets and Benchmarks, arXiv 2204.08790. The score lies in [0, 1]. NaN of a
    record made by hand whose P is negative.
    """
    if trained < 0:
        return math.nan
    return score * math.exp(-math.log10(trained / scale + 1))


def pareto(cost: Sequence[float], score: Sequence[float]) -> list[int]:
    """Indices, least cost first, of the points that none beats: by costing no more and scoring no less."""
    finite = [i for i in range(len(cost)) if math.isfinite(cost[i]) and math.isfinite(score[i])]
    front: list[int] = []
    for i in sorted(finite, key=lambda i: (cost[i], -score[i])):
        if not front or score[i] > score[front[-1]] or (cost[i], score[i]) == (cost[front[-1]], score[front[-1]]):
            front.append(i)
    return front
