"""What a protocol may ask of a run: shots, a validation share, a search, augmentation, epochs of each phase."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.images import paint

from bench.core import configs
from bench.core.errors import UsageError
from bench.data.augment import mimi
from bench.data.readers import folder
from bench.data.root import default_data_root
from bench.data.splits import ArraySplit, Sealed, Splits
from bench.models.method import build
from bench.models.registry import load
from bench.training import loop
from bench.training.execute import execute
from bench.training.inference import Pixels
from bench.training.job import make_job
from bench.training.setup import apply_split_rules, phases_of, prepare_model, transform

POCKET = replace(configs.protocol("pocket@v1"), epochs=2)
LABELS = np.repeat(np.arange(3), 10)


def splits(val: int = 0) -> Splits:
    images = np.arange(30, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    whole = ArraySplit(images, LABELS)
    return Splits(whole, ArraySplit(images[:val], LABELS[:val]), Sealed(lambda: whole), 3, "x")


def shown(arrays: ArraySplit) -> list[int]:
    return [int(i) for i in arrays.images[:][:, 0, 0, 0]]


def test_shots_are_drawn_by_the_seed_and_all_of_them_train() -> None:
    first, again, other = (apply_split_rules(splits(val=4), replace(POCKET, shots=5), seed) for seed in (0, 0, 1))
    assert np.bincount(first.train.labels).tolist() == [5, 5, 5] and len(first.val) == 0
    assert shown(first.train) == shown(again.train) != shown(other.train)


def test_a_fifth_of_each_class_validates_where_the_card_has_no_validation_split() -> None:
    held = replace(POCKET, train_on="train")
    parts = apply_split_rules(splits(), held, 0)
    assert np.bincount(parts.val.labels).tolist() == [2, 2, 2] and len(parts.train) == 24
    assert not set(shown(parts.val)) & set(shown(parts.train))
    assert shown(apply_split_rules(splits(val=4), held, 0).val) == [0, 1, 2, 3]  # the card's own stands
    few = apply_split_rules(splits(val=4), replace(held, shots=5), 0)
    assert np.bincount(few.val.labels).tolist() == [1, 1, 1] and len(few.train) == 12


def test_epochs_of_a_phase_are_those_of_every_cycle() -> None:
    method = build(load("mimi"), {"cycles": 3}, "mimi")
    assert [p.epochs for p in phases_of(method, replace(POCKET, epochs=8))] == [2, 2, 2, 2]
    assert [p.epochs for p in phases_of(method, replace(POCKET, epochs=8, epochs_of="phase"))] == [8] * 4


@pytest.fixture
def source(tmp_path: Path) -> folder.ImageFolder:
    return folder.divide(paint(tmp_path / "pets", {"cat": 20, "dog": 20}))


def test_a_search_trains_without_the_test_split_and_records_every_trial(
    source: folder.ImageFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three rates, one of which diverges: the best one in validation, of equals the smallest, is trained on all."""
    seen = []
    fit = loop.fit

    def spy(net, phases, protocol, data, val, **rest):  # type: ignore[no-untyped-def]
        seen.append((protocol.lr, protocol.train_on, len(data), None if val is None else len(val)))
        return fit(net, phases, protocol, data, val, **rest)

    monkeypatch.setattr(loop, "fit", spy)
    protocol = replace(POCKET, name="t", epochs=6, search_lr=(1e30, 1e-9, 5e-3), search_epochs=6, batch_size=8)
    method = build(load("linear_probe"), {}, "linear_probe")
    job = make_job(
        "linear_probe",
        method,
        "pocket_swin",
        folder.card(source),
        protocol,
        0,
        data_root=default_data_root(),
        source=source,
    )
    record = execute(job)
    assert record.status == "done", record.reason
    sizes = {part: len(items) for part, items in source.parts.items()}
    trial = ("train", sizes["train"], sizes["val"])
    assert seen[:3] == [(lr, *trial) for lr in (1e-9, 5e-3, 1e30)]
    best = max((t for t in record.trials if t.val is not None), key=lambda t: t.val or 0.0)
    assert seen[3:] == [(best.lr, "train+val", sizes["train"] + sizes["val"], None)]
    assert [t.lr for t in record.trials] == [1e-9, 5e-3, 1e30] and record.trials[-1].val is None
    assert record.spec.protocol == protocol


def test_augmentation_is_decided_by_its_seed_alone_and_disturbs_no_other_chance() -> None:
    images = torch.randint(0, 256, (3, 3, 37, 37), dtype=torch.uint8)
    mean, std = torch.tensor([0.5, 0.4, 0.3])[:, None, None], torch.full((3, 1, 1), 0.2)
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    first = mimi(images, 32, mean, std, 5)
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(8)
    assert torch.equal(first, mimi(images, 32, mean, std, 5))
    assert not torch.equal(first, mimi(images, 32, mean, std, 6))
    assert first.shape == (3, 3, 32, 32) and first.dtype == torch.float32


def test_a_run_with_augmentation_sees_the_centre_of_larger_images_in_the_test(source: folder.ImageFolder) -> None:
    protocol = replace(POCKET, name="t", epochs=1, augment="mimi", batch_size=8)
    method = build(load("bitfit"), {}, "bitfit")
    job = make_job(
        "bitfit", method, "pocket_swin", folder.card(source), protocol, 0, data_root=default_data_root(), source=source
    )
    record = execute(job)
    assert record.status == "done", record.reason
    assert transform(protocol, 32).size == 37
    net = prepare_model(job)
    images = np.random.default_rng(0).integers(0, 256, (2, 37, 37, 3), dtype=np.uint8)
    large, centre = (ArraySplit(each, np.zeros(2, np.int64)) for each in (images, images[:, 2:34, 2:34]))
    assert torch.equal(Pixels(net, large)(torch.arange(2)), Pixels(net, centre)(torch.arange(2)))


def test_a_backbone_that_cannot_see_the_protocols_size_is_refused(source: folder.ImageFolder) -> None:
    method = build(load("bitfit"), {}, "bitfit")
    protocol = replace(POCKET, name="t", image_size=64)
    job = make_job(
        "bitfit", method, "pocket_vit", folder.card(source), protocol, 0, data_root=default_data_root(), source=source
    )
    with pytest.raises(UsageError, match="pocket_vit sees images of 32 pixels, the protocol asks for 64"):
        execute(job)
