"""Forgetting: what the features of a tuned backbone are worth on another dataset, against the untouched one's.

    forgotten = accuracy of a linear probe on the untouched features - the same on the tuned ones

Both probes are fresh (`bench.tools.probe`), and read what a head reads of the images of the other dataset. A method
that stands behind the features (a side network, a probe) leaves them as they were, and forgets nothing; less than
nothing is forgotten where the tuned features are the better ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bench.core.configs import Dataset
from bench.core.errors import UsageError
from bench.core.spec import Protocol
from bench.data import ready
from bench.data.sources import Source
from bench.data.splits import ArraySplit, TrainingOutcome, issue
from bench.models import backbones
from bench.models.view import ModelView
from bench.tools import probe
from bench.training import inference, metrics, setup


@dataclass(frozen=True)
class ProbeScore:
    """Of one probe, between 0 and 1."""

    test: float
    metric: str
    test_images: int
    penalty: float  # C, chosen on the validation split


@dataclass(frozen=True)
class ForgettingScores:
    """Of one run: what its backbone still knows of another dataset."""

    run: str  # its digest
    method: str
    variant: str
    backbone: str
    trained_on: str
    seed: int
    dataset: str  # the other one
    untouched: ProbeScore
    tuned: ProbeScore
    device: str  # by its name
    dtype: str  # in which features were computed

    @property
    def forgotten(self) -> float:
        """Share of the test images, less than zero where the tuned features are the better ones."""
        return self.untouched.test - self.tuned.test


@dataclass(frozen=True, eq=False)
class _Fitted(TrainingOutcome):
    """What opens the test split: a probe that has been fitted."""

    probe: probe.Probe


def score(view: ModelView, card: Dataset, protocol: Protocol, data_root: Path, source: Source = None) -> ProbeScore:
    """Of a fresh probe on the features that the backbone gives of the images of `card`, all of its training images,
    prepared as `protocol` has it. Where there is no validation split, a fifth of each class is held out for it.

    Raises UsageError where images have several classes, or the data are not here.
    """
    if card.metric == "map11":
        raise UsageError(f"{card.name} has several classes to an image: a probe of one class each cannot be fitted.")
    size = backbones.input_size(view.model)
    still = replace(protocol, augment="none", shots=None, val_share=None, train_on="train")
    whole = ready.load(card, setup.transform(still, size), data_root, source)
    splits = setup.apply_split_rules(whole, still, seed=0)

    def see(split: ArraySplit) -> probe.Part:
        return inference.features(view, split, protocol.precision).cpu().double().numpy(), np.asarray(split.labels)

    fitted = issue(_Fitted(probe.fit(see(splits.train), see(splits.val))))
    test = whole.test.open(fitted)
    scores = fitted.probe.scores(see(test)[0], card.classes)
    return ProbeScore(metrics.score(card.metric, scores, test.labels), card.metric, len(test), fitted.probe.penalty)
