"""Each metric against scikit-learn, or against a case worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score

from bench.core.errors import UsageError
from bench.training import metrics

RNG = np.random.default_rng(0)


def test_top1_and_mean_per_class_are_those_of_scikit_learn() -> None:
    scores, targets = RNG.normal(size=(300, 5)), RNG.integers(0, 4, 300)  # class 4 never occurs, but may be predicted
    assert metrics.score("top1", scores, targets) == accuracy_score(targets, scores.argmax(1))
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
        expected = balanced_accuracy_score(targets, scores.argmax(1))
    assert metrics.score("mean_per_class", scores, targets) == pytest.approx(expected, abs=1e-12)


def test_auc_ranks_by_the_difference_of_the_two_scores() -> None:
    logits, targets = RNG.normal(size=(200, 2)), RNG.integers(0, 2, 200)
    softmax = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert metrics.score("auc", logits, targets) == pytest.approx(roc_auc_score(targets, softmax[:, 1]), abs=1e-12)


def test_map11_of_a_case_worked_by_hand() -> None:
    """Ranking + - + - of one class: precision 1 up to recall 1/2, then 2/3: (6 x 1 + 5 x 2/3) / 11."""
    scores = np.array([[4.0, 0.0], [3.0, 0.0], [2.0, 0.0], [1.0, 0.0]])
    targets = np.array([[1, 0], [0, 0], [1, 0], [0, 0]], dtype=np.uint8)
    assert metrics.score("map11", scores, targets) == pytest.approx((6 + 5 * 2 / 3) / 11, abs=1e-12)


def test_a_metric_that_does_not_fit_is_refused() -> None:
    with pytest.raises(UsageError, match="does not fit targets of shape"):
        metrics.score("map11", np.zeros((4, 2)), np.zeros(4, dtype=np.int64))
    with pytest.raises(UsageError, match="needs two classes"):
        metrics.score("auc", np.zeros((4, 3)), np.array([0, 1, 0, 1]))
