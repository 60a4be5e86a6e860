"""Scores of a test split: top-1, mean per class, 11-point mAP, ROC-AUC; each from class scores (N, C) and targets.

All are shares between 0 and 1. Names and definitions as in ELEVATER (Li et al. 2022, vision-evaluation 0.2.9).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bench.core.configs import Metric
from bench.core.errors import UsageError


def score(metric: Metric, scores: np.ndarray, targets: np.ndarray) -> float:
    """`scores` (N, C), larger is likelier; `targets` int (N,), or uint8 (N, C) for map11.

    Raises UsageError where the metric does not fit the targets.
    """
    if (targets.ndim == 2) != (metric == "map11"):
        raise UsageError(f"The metric {metric!r} does not fit targets of shape {targets.shape}.")
    return float(_METRICS[metric](scores, targets))


def top1(scores: np.ndarray, targets: np.ndarray) -> float:
    """The share of images whose class has the largest score."""
    return float((scores.argmax(1) == targets).mean())


def mean_per_class(scores: np.ndarray, targets: np.ndarray) -> float:
    """The mean, over the classes that occur, of the share of their images that are recognised (balanced accuracy)."""
    right = scores.argmax(1) == targets
    images = np.bincount(targets)
    return float((np.bincount(targets, weights=right)[images > 0] / images[images > 0]).mean())


def auc(scores: np.ndarray, targets: np.ndarray) -> float:
    """Area under the ROC curve: how often an image of class 1 is scored above one of class 0."""
    from sklearn.metrics import roc_auc_score

    if scores.shape[1] != 2 or len(np.unique(targets)) != 2:
        raise UsageError(f"ROC-AUC needs two classes, both in the test split; there are {np.unique(targets).tolist()}.")
    return float(roc_auc_score(targets, scores[:, 1] - scores[:, 0]))


def map11(scores: np.ndarray, targets: np.ndarray) -> float:
    """Mean over the classes that occur of the 11-point interpolated average precision (PASCAL VOC 2007).

    AP = 1/11 sum over r in 0, 0.1, ..., 1 of the largest precision at a recall of at least r.
    """
    from sklearn.metrics import precision_recall_curve

    found = []
    for column in np.flatnonzero(targets.any(0)):
        precision, recall, _ = precision_recall_curve(targets[:, column], scores[:, column])
        points = [precision[recall >= r - 1e-12].max() for r in np.arange(11) / 10]
        found.append(float(np.mean(points)))
    return float(np.mean(found))


_METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "top1": top1,
    "mean_per_class": mean_per_class,
    "map11": map11,
    "auc": auc,
}
