"""benchmarks/pocket.py: each step in a small form, and its choices on records with numbers chosen by hand."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest
from helpers import records, scripts
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from bench.core import configs
from bench.core.record import Record
from bench.core.schema import parse
from bench.core.store import Store
from bench.data.readers import pocket as drawn

ROOT = Path(__file__).parents[2]


script = scripts.load("pocket")


def trial(method: str, key: str, lr: float, val: float | None) -> Record:
    protocol = dataclasses.replace(configs.protocol("pocket@v2-trial"), name=f"pocket@v2-trial+lr={lr:g}", lr=lr)
    made = records.make(method, key, 0, None if val is None else 0.99, suite="pocket2", protocol=protocol)
    return made if val is None else dataclasses.replace(made, scores=dataclasses.replace(made.scores, val=val))  # type: ignore[type-var]


def test_the_floor_of_the_card_is_that_of_scikit_learn() -> None:
    """Written here from its description, on a task whose images and labels are read directly."""
    splits = drawn.make("digits")
    x = {
        part: np.stack(
            [
                [image[r : r + 4, c : c + 4].mean((0, 1)) for r in range(0, 32, 4) for c in range(0, 32, 4)]
                for image in images
            ]
        ).reshape(len(images), -1)
        for part, (images, _) in splits.items()
    }
    y = {part: labels for part, (_, labels) in splits.items()}

    def accuracy(c: float, train: list[str], test: str) -> float:
        inputs, labels = np.concatenate([x[p] for p in train]), np.concatenate([y[p] for p in train])
        scaler = StandardScaler().fit(inputs)
        model = LogisticRegression(C=c, max_iter=5000).fit(scaler.transform(inputs), labels)
        return float((model.predict(scaler.transform(x[test])) == y[test]).mean())

    best = max((0.001, 0.01, 0.1, 1.0, 10.0, 100.0), key=lambda c: accuracy(c, ["train"], "val"))
    floor = configs.dataset("pocket2/digits").pixels_floor
    assert floor == pytest.approx(100 * accuracy(best, ["train", "val"], "test"), abs=0.2)


def test_floors_are_written_into_the_card_and_nothing_else_changes(tmp_path: Path) -> None:
    card = tmp_path / "card.toml"
    text = (configs.folder() / "pocket2.toml").read_text()
    assert "pixels_floor = 80.9" in text
    card.write_text(text.replace("pixels_floor = 80.9\n", "").replace("pixels_floor = 30.7", "pixels_floor = 1.0"))
    assert script.main(["floors", "--out", str(card), "--dataset", "pocket2/digits,pocket2/count"]) == 0
    written = card.read_text()
    floors = {d.name: d.pixels_floor for d in configs.read_suite(card).datasets}
    assert floors["pocket2/digits"] == pytest.approx(80.9, abs=0.2)
    assert floors["pocket2/count"] == pytest.approx(30.7, abs=0.2)
    assert [line for line in written.splitlines() if "floor" not in line] == [
        line for line in text.splitlines() if "floor" not in line
    ]


def test_the_rate_is_that_of_the_best_mean_validation_score() -> None:
    scores = {  # lr -> val on digits and count
        5e-4: (0.9, 0.1),
        2e-3: (0.6, 0.6),
        8e-3: (0.5, 0.7),  # the same mean: the smaller rate is taken
        3.2e-2: (0.99, None),  # a failed run: the rate is out
    }
    made = [
        trial("lora", key, lr, v)
        for lr, vals in scores.items()
        for key, v in zip(("digits", "count"), vals, strict=True)
    ]
    made += [trial("lora", "zoom", 5e-4, 1.0)]  # a task that is not asked for
    made += [trial("mimi", "digits", 2e-3, 1.0)]  # a method without a whole rate
    assert script.choose(made, ("pocket2/digits", "pocket2/count")) == {"pocket_vit": {"lora": 2e-3}}


def test_the_card_of_rates_keeps_those_of_others_and_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "rates.toml"
    script.write_rates(path, {"a_b": {"lora": 2e-3, "full": 5e-4}}, {"a_b": {"lora": 8e-3}, "c": {"mimi": 3.2e-2}})
    found = parse(configs._Rates, {"rates": configs.read_toml(path)}, "rates.toml").rates
    assert found == {"pocket@v2": {"a_b": {"full": 5e-4, "lora": 8e-3}, "c": {"mimi": 3.2e-2}}}


def test_tune_converge_and_grid_in_a_small_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = ["--method", "linear_probe", "--dataset", "pocket2/digits", "--backbone", "pocket_vit"]
    monkeypatch.setattr(script, "RATES", (5e-4, 2e-3))
    assert script.main(["tune", *small, "--epochs", "1", "--out", str(tmp_path / "rates")]) == 0
    chosen = configs.read_toml(tmp_path / "rates" / "rates.toml")
    assert chosen["pocket@v2"]["pocket_vit"] == {"linear_probe": 2e-3}  # one epoch is better spent at more
    monkeypatch.setattr(configs, "rates", lambda: chosen)
    assert script.main(["converge", *small, "--epochs", "1", "--seeds", "0", "--out", str(tmp_path / "twice")]) == 0
    with (tmp_path / "twice" / "convergence.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["pairs"] == "1"
    assert float(row["difference"]) == pytest.approx(float(row["epochs_2"]) - float(row["epochs_1"]), abs=0.011)
    assert script.main(["grid", *small, "--epochs", "1", "--seeds", "0", "--out", str(tmp_path / "grid")]) == 0
    before = {path: path.read_bytes() for path in (tmp_path / "grid" / "runs").rglob("*.json")}
    assert script.main(["grid", *small, "--epochs", "1", "--seeds", "0", "--out", str(tmp_path / "grid")]) == 0
    assert len(before) == 1 and all(path.read_bytes() == old for path, old in before.items())  # found, not run again
    board = next((tmp_path / "grid" / "leaderboards").glob("*.md")).read_text()
    assert "| logistic regression on 8x8 pixels |" in board.replace("  ", " ")


@pytest.mark.parametrize("step", ["tune", "converge", "grid"])
def test_a_wrong_name_is_one_line_and_exit_code_2(
    step: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script.main([step, "--method", "lroa", "--out", str(tmp_path)]) == 2
    assert "lora" in capsys.readouterr().err


def test_a_method_without_a_rate_is_told_and_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """DTL refuses a Swin, so that no trial of it has a score there: the others' grid is made all the same."""
    monkeypatch.setattr(configs, "rates", lambda: {"pocket@v2": {"pocket_swin": {"linear_probe": 2e-3}}})
    small = ["--dataset", "pocket2/digits", "--backbone", "pocket_swin", "--epochs", "1", "--seeds", "0"]
    assert script.main(["grid", "--method", "dtl,linear_probe", *small, "--out", str(tmp_path)]) == 0
    assert "pocket_swin: no rate was chosen for dtl; left out." in capsys.readouterr().out
    assert len(list((tmp_path / "runs").rglob("*.json"))) == 1


def test_the_rates_are_those_that_the_committed_trials_choose() -> None:
    trials = list(Store(ROOT / "results" / "pocket-rates").records())
    assert script.choose(trials, script.TUNED_ON) == configs.rates()["pocket@v2"]


def test_the_committed_convergence_is_that_of_the_records() -> None:
    folder = ROOT / "results" / "pocket-convergence"
    with (folder / "convergence.csv").open(encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    found = list(Store(folder).records())
    backbones = sorted({record.spec.backbone for record in found})
    assert header[3:5] == ["epochs_12", "epochs_24"]
    assert rows == script.differences(found, backbones, script.SIX, script.TASKS, 12)
    assert len({record.provenance.harness_sha256 for record in found}) == 1
