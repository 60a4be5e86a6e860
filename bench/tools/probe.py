"""A linear probe of features: logistic regression by scikit-learn, whose penalty the validation split chooses.

It is convex, and nothing of it is drawn: features that are the same to the bit give the same scores to the bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Part = tuple[NDArray[Any], NDArray[Any]]
"""Features (N, D), and the class of each image (N,)."""

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
"""C, the inverse of the penalty on the weights, of which one is chosen."""


@dataclass(frozen=True)
class Probe:
    """Features are brought to the mean 0 and the standard deviation 1 of the training features."""

    model: Any  # of scikit-learn
    penalty: float  # C

    def scores(self, features: NDArray[Any], classes: int) -> NDArray[np.float64]:
        """Log-probabilities (N, classes); a class that no training image has gets the least that there is."""
        found = np.full((len(features), classes), -np.inf)
        found[:, self.model.classes_] = self.model.predict_log_proba(features)
        return found


def fit(train: Part, val: Part) -> Probe:
    """Chooses C by the accuracy on `val`, of equals the smaller one, and then fits `train` and `val` together."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def model(c: float, x: NDArray[Any], y: NDArray[Any]) -> Any:
        return make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=3000)).fit(x, y)

    best = max(PENALTIES, key=lambda c: float(model(c, *train).score(*val)))
    both = [np.concatenate(pair) for pair in zip(train, val, strict=True)]
    return Probe(model(best, *both), best)
