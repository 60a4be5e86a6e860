"""What tuned backbones forget, against features that are the same, features that are noise, and another's probe."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.images import paint

import bench
from bench.cli.main import main
from bench.core import configs
from bench.core.errors import UsageError
from bench.core.spec import Protocol
from bench.data.readers import folder
from bench.data.root import default_data_root
from bench.execution import kept
from bench.models import backbones
from bench.models.families import build_view
from bench.models.view import ModelView
from bench.tools import forgetting, probe

ROOT = Path(__file__).parents[2]
BACKBONE = "pocket_vit_patch8"
SMALL = {"backbones": BACKBONE, "epochs": 1, "seeds": [0], "keep_delta": True}


def view(weights: str = "pretrained") -> ModelView:
    torch.manual_seed(0)
    return build_view(backbones.create(BACKBONE, classes=2, weights=weights))


def protocol() -> Protocol:
    return configs.protocol("pocket@v2")


@pytest.fixture(scope="module")
def digits() -> forgetting.ProbeScore:
    return forgetting.score(view(), configs.dataset("pocket2/digits"), protocol(), default_data_root())


def test_the_probe_of_the_untouched_backbone_is_that_of_the_model_card(digits: forgetting.ProbeScore) -> None:
    """Which benchmarks/pocket.py made of features that it computed without the harness."""
    with (ROOT / "results" / "pocket-features.csv").open(newline="") as file:
        (row,) = [r for r in csv.DictReader(file) if (r["backbone"], r["dataset"]) == (BACKBONE, "pocket2/digits")]
    assert 100 * digits.test == pytest.approx(float(row["accuracy"]), abs=0.2)
    assert digits.penalty == float(row["C"]) and digits.metric == "top1"


def test_a_backbone_whose_weights_are_destroyed_forgets(digits: forgetting.ProbeScore) -> None:
    destroyed = view()
    with torch.no_grad():
        for block in destroyed.blocks:
            for slot in block.linear.values():
                slot.module.get_parameter("weight").normal_(std=3.0)
    left = forgetting.score(destroyed, configs.dataset("pocket2/digits"), protocol(), default_data_root())
    assert left.test < digits.test - 0.2


def test_neither_shots_nor_augmentation_of_the_protocol_touch_the_probe(tmp_path: Path) -> None:
    images = folder.divide(paint(tmp_path / "pets", {"cat": 15, "dog": 15}))
    other = dataclasses.replace(protocol(), shots=1, augment="mimi", train_on="train+val")
    scores = [forgetting.score(view(), folder.card(images), p, tmp_path, images) for p in (protocol(), other)]
    assert scores[0] == scores[1]


def test_a_linear_probe_forgets_nothing_and_full_tuning_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained_on, other = (paint(tmp_path / name, {"cat": 15, "dog": 15, "cow": 15}) for name in ("pets", "beasts"))
    out = tmp_path / "out"
    records = list(bench.run(["linear_probe", "full"], data=trained_on, out=out, **SMALL).records())
    runs = {record.spec.method: record.spec.digest for record in records}
    found = {each.method: each for each in bench.forgetting("all", out, data=other, data_root=tmp_path)}
    assert set(found) == set(runs)
    probe_run, full = found["linear_probe"], found["full"]
    assert probe_run.forgotten == 0 and probe_run.tuned == probe_run.untouched == full.untouched
    assert full.forgotten == full.untouched.test - full.tuned.test
    assert (full.run, full.trained_on, full.seed) == (runs["full"], records[0].spec.dataset, 0)
    assert full.dtype == "float32" and full.device

    args = ["--data", str(other), "--out", str(out), "--data-root", str(tmp_path), "--device", "cpu"]
    capsys.readouterr()
    assert main(["forgetting", runs["full"][:8], *args, "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)["runs"]
    assert told["forgotten"] == full.forgotten and told["tuned"]["test"] == full.tuned.test
    assert main(["forgetting", "all", *args]) == 0
    text = capsys.readouterr().out
    assert f"{runs['linear_probe'][:8]}  linear_probe" in text and "0.00" in text and "float32" in text


def test_what_cannot_be_measured_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    bench.run(
        "linear_probe", data=paint(tmp_path / "pets", {"cat": 15, "dog": 15}), out=out, **{**SMALL, "keep_delta": False}
    )
    capsys.readouterr()
    assert main(["forgetting", "all", "--dataset", "pocket2/digits", "--out", str(out)]) == 2
    assert "has kept what it trained" in capsys.readouterr().err
    with pytest.raises(UsageError, match="one of the two"):
        kept.other_dataset("pocket2/digits", tmp_path, tmp_path)
    voc = next(d for name in configs.suite_names() for d in configs.suite(name).datasets if d.metric == "map11")
    with pytest.raises(UsageError, match="several classes to an image"):
        forgetting.score(view(), voc, protocol(), tmp_path)


def test_a_class_without_training_images_has_the_least_score() -> None:
    x, y = np.random.default_rng(0).normal(size=(30, 4)), np.arange(30) % 2 * 2  # classes 0 and 2 of 3
    scores = probe.fit((x[:20], y[:20]), (x[20:], y[20:])).scores(x, 3)
    assert scores.shape == (30, 3) and np.isneginf(scores[:, 1]).all()
    assert np.exp(scores).sum(1) == pytest.approx(1)
