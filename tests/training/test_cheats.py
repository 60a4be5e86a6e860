"""What a method might do to score more or to count less than it should, by mistake or not: each is a failed run."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
import torch
from helpers.arrays import DATA
from helpers.images import paint
from helpers.jobs import job

from bench.core.errors import Incompatible, SealedTest, UsageError
from bench.data.readers import folder
from bench.data.splits import ArraySplit, Sealed, TrainingOutcome, _pieces
from bench.models.method import Batches, Method
from bench.models.view import ModelView
from bench.training.execute import execute


@pytest.fixture
def source(tmp_path: Path) -> folder.ImageFolder:
    return folder.divide(paint(tmp_path / "pets", {"cat": 20, "dog": 20}))


class Forged(TrainingOutcome):
    pass


def reachable() -> Iterator[Any]:
    """Every local variable of every frame below this one, what those hold, and every object that Python keeps."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        for value in frame.f_locals.values():
            yield value
            yield from getattr(value, "__dict__", {}).values()
        frame = frame.f_back
    yield from gc.get_objects()


@dataclass(frozen=True)
class Thief(Method):
    """Looks for test images wherever Python lets it, with every key it can make."""

    def attach(self, net: ModelView) -> None:
        FOUND.clear()

    def calibrate(self, net: ModelView, batches: Batches) -> None:
        outcomes = [thing for thing in reachable() if issubclass(type(thing), TrainingOutcome)]
        for thing in list(reachable()):
            if type(thing) is ArraySplit:
                FOUND.extend(Path(getattr(array, "filename", "-")).name for array, _ in _pieces(thing))
            if type(thing) is Sealed:
                FOUND.append("seal")
                for key in (None, Forged(), *outcomes):
                    with contextlib.suppress(SealedTest):
                        FOUND.append(thing.open(key).labels)
                with contextlib.suppress(SealedTest):
                    FOUND.append(thing._read().labels)  # past the lock


FOUND: list[Any] = []


def test_a_method_that_searches_all_frames_and_objects_finds_no_test_split(source: folder.ImageFolder) -> None:
    gc.collect()
    record = execute(job(source, "thief", method=Thief()))
    assert record.status == "done", record.reason
    assert {"seal", "train.images.npy"} <= {thing for thing in FOUND if isinstance(thing, str)}  # it looked well
    assert "test.images.npy" not in [thing for thing in FOUND if isinstance(thing, str)]
    assert not [thing for thing in FOUND if isinstance(thing, np.ndarray)]


def test_the_key_is_the_very_outcome_that_the_loop_issued() -> None:
    with pytest.raises(SealedTest, match="before training had ended"):
        Sealed(lambda: DATA).open(Forged())


@dataclass(frozen=True)
class Cheat(Method):
    where: str = "calibrate"

    def attach(self, net: ModelView) -> None:
        if self.where == "attach":
            self._tune(net)

    def calibrate(self, net: ModelView, batches: Batches) -> None:
        if self.where == "calibrate":
            self._tune(net)
        if self.where == "buffer":
            next(iter(net.model.buffers())).zero_()
        if self.where == "Incompatible":
            raise Incompatible("an empty side channel")
        if self.where == "UsageError":
            raise UsageError("the question is wrong")
        if self.where == "SystemExit":
            sys.exit(0)

    @staticmethod
    @torch.no_grad()
    def _tune(net: ModelView) -> None:
        net.unfreeze(lambda name: name.endswith("fc1.weight"))
        for name, parameter in net.backbone_parameters():
            if name.endswith("fc1.weight"):
                parameter.add_(0.01)
                parameter.requires_grad_(False)


@pytest.mark.parametrize(
    ("where", "changed"),
    [("attach", "attach"), ("calibrate", "calibrate or training"), ("buffer", "calibrate or training")],
)
def test_a_backbone_tuned_in_secret_is_a_failed_run(where: str, changed: str, source: folder.ImageFolder) -> None:
    record = execute(job(source, "cheat", method=Cheat(where)))
    assert (record.status, record.failure) == ("failed", "error")
    assert f"were changed by {changed} although they are not among the trainable parameters" in str(record.reason)


@pytest.mark.parametrize("error", ["Incompatible", "UsageError", "SystemExit"])
def test_only_attach_refuses_later_it_is_a_failure(error: str, source: folder.ImageFolder) -> None:
    record = execute(job(source, "cheat", method=Cheat(error)))
    assert (record.status, record.failure) == ("failed", "error")
    assert record.reason
