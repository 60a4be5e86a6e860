"""A head that starts from texts: the model before training is the zero-shot classifier, and a row of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import tiny_clip
from helpers.jobs import PROTOCOL, job
from PIL import Image

from bench.core.errors import UsageError
from bench.core.record import Record
from bench.core.spec import RunSpec
from bench.core.store import Store
from bench.data.readers import elevater, folder
from bench.data.sources import DatasetLocation
from bench.models import backbones, texts
from bench.training.execute import execute
from bench.training.job import Job
from bench.training.setup import prepare_model, text_features

WEIGHT = torch.nn.functional.normalize(
    torch.randn(2, tiny_clip.SHARED, generator=torch.Generator().manual_seed(4)), dim=1
)
SAID = texts.Texts(("cat", "dog"), ("a {}",))


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """Linear probing of a random tiny CLIP whose head starts from texts that are at hand."""
    monkeypatch.setitem(backbones.POCKET, "tiny_clip", backbones.Pocket(tiny_clip.as_pocket, "a tiny CLIP"))
    for name, channel in (("cat", 0), ("dog", 2)):  # red and blue: a linear probe tells them apart
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(20):
            pixels = np.zeros((20, 23, 3), np.uint8)
            pixels[..., channel] = 150 + 5 * number
            Image.fromarray(pixels).save(tmp_path / "pets" / name / f"{number:02}.png")
    source = folder.divide(tmp_path / "pets")
    made = job(source, "linear_probe", backbone="tiny_clip")
    spec = replace(made.spec, weights="random", protocol=replace(PROTOCOL, head="texts"))
    texts.write(texts.place(tmp_path / "root", made.card.name, "tiny_clip"), WEIGHT, SAID, "a test")
    return replace(made, spec=spec, data_root=tmp_path / "root")


def with_rate(asked: Job, lr: float, epochs: int) -> Job:
    return replace(asked, spec=replace(asked.spec, protocol=replace(asked.spec.protocol, lr=lr, epochs=epochs)))


def done(asked: Job, store: Store | None = None) -> Record:
    record = execute(asked, store)
    assert record.status == "done", record.reason
    return record


def test_the_head_starts_as_the_texts_say_it_and_only_where_the_protocol_does(asked: Job) -> None:
    head = prepare_model(asked).head
    assert torch.equal(head.weight, WEIGHT) and not head.bias.any()
    drawn = replace(asked, spec=replace(asked.spec, protocol=replace(asked.spec.protocol, head="drawn")))
    assert not torch.equal(prepare_model(drawn).head.weight, WEIGHT)


def test_the_first_milestone_is_the_model_before_training(asked: Job) -> None:
    still, trained = done(with_rate(asked, 1e-12, 1)), done(with_rate(asked, 0.1, 60))
    assert still.scores and trained.scores
    for record in (still, trained):
        first, last = record.milestones
        assert (first.name, first.epoch, first.score) == ("zero-shot", 0, still.scores.test)
        assert (last.epoch, last.score) == (len(record.epochs), record.scores and record.scores.test)
        assert record.provenance.texts_sha256 == texts.digest(WEIGHT)
    assert trained.scores.test == 1.0 > still.scores.test


def test_with_a_drawn_head_nothing_is_added_to_a_record(asked: Job) -> None:
    protocol = replace(asked.spec.protocol, head="drawn")
    record = done(replace(asked, spec=replace(asked.spec, protocol=protocol)))
    assert record.milestones == () and record.provenance.texts_sha256 is None
    assert '"head"' not in record.spec.canonical() and '"head":"texts"' in asked.spec.canonical()


def test_texts_made_for_labels_of_another_layout_are_refused_and_a_sample_takes_those_of_the_whole(asked: Job) -> None:
    (layout,), folder_here = elevater.LAYOUTS, asked.data_root
    there = DatasetLocation(folder_here, layout, "cifar10", sample=True)
    job = replace(asked, source=there, card=replace(asked.card, name="elevater-sample/cifar10"))
    path = texts.place(asked.data_root, "elevater/cifar10", "tiny_clip")
    texts.write(path, WEIGHT, SAID, "a test", "elevater")
    assert torch.equal(text_features(job).weight, WEIGHT)
    texts.write(path, WEIGHT, SAID, "a test", "elevater-originals")
    with pytest.raises(UsageError, match="made for data in the layout elevater-originals, not elevater"):
        text_features(job)
    texts.write(path, WEIGHT, SAID, "a test")  # of names whose order a person answers for
    assert torch.equal(text_features(job).weight, WEIGHT)


def test_without_the_file_or_with_other_features_the_question_is_refused(asked: Job, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="bench data texts"):
        execute(replace(asked, data_root=tmp_path / "elsewhere"))
    spec: RunSpec = replace(asked.spec, backbone="pocket_vit")
    texts.write(texts.place(tmp_path / "root", asked.card.name, "pocket_vit"), WEIGHT, SAID, "a test")
    with pytest.raises(UsageError, match=r"\+projection"):
        execute(replace(asked, spec=spec))
