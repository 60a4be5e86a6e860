"""A training that was cut and goes on ends with the same bits as one that was not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.arrays import DATA
from helpers.jobs import job
from helpers.specs import PROTOCOL
from helpers.views import as_tuned, random_view

from bench.data.readers import folder
from bench.data.splits import ArraySplit
from bench.execution.attempt import Preempted, Settings, perform
from bench.models.method import Batches, Method, Phase, build
from bench.models.registry import load
from bench.models.view import ModelView
from bench.training import inference, loop, setup
from bench.training.checkpoint import Checkpoints
from bench.training.search import search

SHORT = replace(PROTOCOL, epochs=6, batch_size=8)
HELD = replace(SHORT, train_on="train", choose="validation")
METHODS: dict[str, dict[str, Any]] = {
    "linear_probe": {},
    "lora": {"dropout": 0.3},  # draws from the global stream of chance at every step
    "vpt_deep": {"prompts": 2},
    "mimi": {},
    "sct": {},  # chooses channels by what it sees of the data
    "sparse_adapter": {},
    "full": {},
}


def train(
    name: str,
    settings: dict[str, Any],
    checkpoints: Checkpoints | None,
    protocol: Any = SHORT,
    on_progress: Callable[[loop.Progress], None] = lambda _: None,
) -> loop.Trained:
    net, method = random_view("pocket_swin", torch.float32), build(load(name), settings, name)
    torch.manual_seed(5)
    method.attach(net)
    val = DATA if protocol.train_on == "train" else None
    return loop.fit(
        as_tuned(net, method),
        method.phases(6),
        protocol,
        DATA,
        val,
        seed=3,
        on_progress=on_progress,
        checkpoints=checkpoints,
    )


def same(first: loop.Trained, second: loop.Trained) -> None:
    assert [(e.phase, e.loss, e.lr, e.val) for e in first.epochs] == [
        (e.phase, e.loss, e.lr, e.val) for e in second.epochs
    ]
    assert (first.val, first.max_trainable_params) == (second.val, second.max_trainable_params)
    assert first.params_with_grad == second.params_with_grad
    assert [(s.name, s.epoch) for s in first.snapshots] == [(s.name, s.epoch) for s in second.snapshots]
    pairs = [(a.model, b.model) for a, b in zip(first.snapshots, second.snapshots, strict=True)]
    for ours, theirs in [*pairs, (first.reported, second.reported)]:
        assert (set(ours.tensors), ours.trained) == (set(theirs.tensors), theirs.trained)
        assert all(torch.equal(ours.tensors[key], theirs.tensors[key]) for key in ours.tensors)
        first.tuned.restore(ours)
        second.tuned.restore(theirs)
        assert np.array_equal(predicted(first), predicted(second))


def predicted(trained: loop.Trained) -> np.ndarray:
    return inference.predict(trained.tuned.view, DATA)


CASES = [(name, SHORT) for name in METHODS] + [
    (name, protocol) for name in ("lora", "mimi") for protocol in (HELD, replace(SHORT, optimizer="sgd"))
]


@pytest.mark.parametrize(("name", "protocol"), CASES, ids=lambda value: value if isinstance(value, str) else "")
def test_cut_after_any_epoch_it_ends_with_the_same_bits(name: str, protocol: Any, tmp_path: Path) -> None:
    """MiMi's six epochs are three cycles of two: cut within each, between them, and after the last."""
    whole = train(name, METHODS[name], None, protocol)
    checkpoints, cuts = Checkpoints(tmp_path, "us", every=0.0), 0
    for _ in range(8):
        begun: list[int] = []

        def stop(progress: loop.Progress, begun: list[int] = begun) -> None:
            begun.append(progress.epoch)
            if len(begun) == 2:  # the checkpoint of the epoch before is there, that of this one is not
                raise Preempted

        try:
            cut = train(name, METHODS[name], checkpoints, protocol, stop)
            break
        except Preempted:
            cuts += 1
    assert cuts == 5
    same(whole, cut)
    same(whole, train(name, METHODS[name], checkpoints, protocol, stop))  # all training done, cut in evaluation


def test_a_checkpoint_of_other_code_or_a_damaged_one_is_not_gone_on_from(tmp_path: Path) -> None:
    seen: list[int] = []

    def watch(progress: loop.Progress) -> None:
        seen.append(progress.epoch)

    train("lora", {}, Checkpoints(tmp_path, "us", every=0.0), SHORT, watch)
    train("lora", {}, Checkpoints(tmp_path, "us", every=0.0), SHORT, watch)
    assert seen == [1, 2, 3, 4, 5, 6]
    train("lora", {}, Checkpoints(tmp_path, "others", every=1e9), SHORT, watch)
    assert seen[6:] == [1, 2, 3, 4, 5, 6]
    last = tmp_path / "last.safetensors"
    last.write_bytes(last.read_bytes()[:-10])
    train("lora", {}, Checkpoints(tmp_path, "us", every=1e9), SHORT, watch)
    assert seen[12:] == [1, 2, 3, 4, 5, 6]


class Unfreezing(Method):
    """Linear probing first, everything then: an earlier snapshot does not hold what trains only from then on."""

    def attach(self, net: ModelView) -> None:
        pass

    def phases(self, epochs: int) -> tuple[Phase, ...]:
        return (Phase(2, "probe", then=lambda net, _: net.unfreeze(lambda name: True)), Phase(2))


def unfreezing(
    checkpoints: Checkpoints | None, on_progress: Callable[[loop.Progress], None] = lambda _: None
) -> loop.Trained:
    net, method = random_view("pocket_swin", torch.float32), Unfreezing()
    return loop.fit(
        as_tuned(net, method),
        method.phases(4),
        SHORT,
        DATA,
        None,
        seed=3,
        on_progress=on_progress,
        checkpoints=checkpoints,
    )


def test_a_snapshot_stays_as_it_was_when_more_is_trained_after_it(tmp_path: Path) -> None:
    seen: list[np.ndarray] = []

    class Looking(Unfreezing):
        def phases(self, epochs: int) -> tuple[Phase, ...]:
            def then(net: ModelView, batches: Batches) -> None:
                seen.append(inference.predict(net, DATA))
                net.unfreeze(lambda name: True)

            return (Phase(2, "probe", then=then), Phase(2))

    net = random_view("pocket_swin", torch.float32)
    trained = loop.fit(as_tuned(net, Looking()), Looking().phases(4), SHORT, DATA, None, seed=3)
    end = predicted(trained)
    trained.tuned.restore(trained.snapshots[0].model)
    assert np.array_equal(predicted(trained), seen[0]) and not np.array_equal(end, seen[0])
    trained.tuned.restore(trained.reported)
    assert np.array_equal(predicted(trained), end)

    whole = unfreezing(None)

    def stop(progress: loop.Progress) -> None:
        if progress.epoch == 4:
            raise Preempted

    checkpoints = Checkpoints(tmp_path, "us", every=0.0)
    with pytest.raises(Preempted):
        unfreezing(checkpoints, stop)
    same(whole, unfreezing(checkpoints))


@pytest.fixture
def source(tmp_path: Path) -> folder.ImageFolder:
    from helpers.images import paint

    return folder.divide(paint(tmp_path / "pets", {"cat": 20, "dog": 20}))


@pytest.mark.parametrize("name", ["linear_probe", "lora", "vpt_deep", "mimi"])
def test_a_run_cut_in_its_evaluation_leaves_the_record_of_one_that_was_not(
    name: str, source: folder.ImageFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench.core.join import numbers
    from bench.core.store import Store

    settings = Settings(checkpoint_seconds=0.0)
    whole = perform(job(source, name), Store(tmp_path / "whole"), settings)
    store, asked, predict = Store(tmp_path / "cut"), job(source, name), inference.predict

    def stop(net: ModelView, data: ArraySplit, precision: str) -> np.ndarray:
        raise Preempted

    monkeypatch.setattr(inference, "predict", stop)
    with pytest.raises(Preempted):
        perform(asked, store, settings)
    assert store.find(asked.spec) is None and (store.state(asked.spec) / "last.safetensors").is_file()
    monkeypatch.setattr(inference, "predict", predict)
    epochs: list[int] = []
    record = perform(asked, store, settings, lambda progress: epochs.append(progress.epoch))
    assert whole is not None and record is not None
    assert epochs == [] and record.attempts == 2
    assert numbers(record) == numbers(whole)
    assert list((tmp_path / "cut" / "state").iterdir()) == []


def test_a_search_goes_on_behind_the_trials_it_has(source: folder.ImageFolder, tmp_path: Path) -> None:
    asked = job(source, "lora")
    protocol = replace(asked.spec.protocol, search_lr=(1e-3, 1e-2), search_weight_decay=(0.0, 1e-4), search_epochs=1)
    splits = setup.load_training(asked, protocol, 32)
    chosen, trials = search(asked, splits, protocol)
    epochs: list[int] = []

    def stop(progress: loop.Progress) -> None:
        epochs.append(progress.epoch)
        if len(epochs) == 3:
            raise Preempted

    checkpoints = Checkpoints(tmp_path / "state", "us", every=0.0)
    with pytest.raises(Preempted):
        search(asked, splits, protocol, stop, checkpoints)
    again = search(asked, splits, protocol, stop, checkpoints)
    assert len(epochs) == 3 + 2  # two trials are known, the third is trained anew, then the fourth
    assert again[0] == chosen
    assert [(t.lr, t.weight_decay, t.val) for t in again[1]] == [(t.lr, t.weight_decay, t.val) for t in trials]
