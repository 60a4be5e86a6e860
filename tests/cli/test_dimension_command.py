"""bench dimension: planned without data, and read from the records of a results folder."""

from __future__ import annotations

import csv
import dataclasses
import io
from pathlib import Path

import pytest
from helpers.records import make

from bench.cli.main import main
from bench.core import configs
from bench.core.store import Store
from bench.execution import dimension
from bench.execution.recipes import wanted
from bench.models import registry
from bench.models.method import build, params

ASK = ["dimension", "--dataset", "pocket2/digits", "--dims", "5,20", "--layers", "1,3"]
SCORES = {  # at d = 5 and 20, over layers 1 and 3
    "attention": {5: (0.80, 0.90), 20: (0.94, 0.96)},
    "mlp": {5: (0.40, 0.50), 20: (0.60, 0.70)},
}


def test_every_run_is_planned_once_without_any_data(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    where = ["--out", str(tmp_path / "r"), "--data-root", str(tmp_path)]
    assert main([*ASK, "--seeds", "0,1", "--dry-run", *where]) == 0
    assert "20 runs, 20 to do" in capsys.readouterr().out  # (full, head, 2 submodules x 2 d x 2 layers) x 2 seeds
    assert not (tmp_path / "r" / "plans").exists()


def test_the_dimension_is_read_from_the_records_of_ordinary_runs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    recipe = dimension.recipe(["pocket2/digits"], "", None, (5, 20), layers=(1, 3))
    store, protocol = Store(tmp_path), configs.protocol("pocket@v2")
    for each in wanted(recipe):
        row, method = each.row, build(registry.load(each.row.method), each.row.settings, each.row.method)
        score = {"full": 1.0, "linear_probe": 0.3}.get(row.method)
        if score is None:
            score = SCORES[row.series][int(row.x or 0)][(1, 3).index(int(str(row.settings["layer"])))]
        for seed in (0, 1):
            record = make(
                row.method, "digits", seed, score, suite="pocket2", backbone=recipe.backbone, protocol=protocol
            )
            spec = dataclasses.replace(record.spec, params=params(method), method_version=method.version)
            store.write(dataclasses.replace(record, spec=spec))
    assert main([*ASK, "--table", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "attention: above 5, at most 20; by the 95 % interval 20 to 20." in out
    assert "mlp: no d reaches 90% of the full score, none up to 20 does." in out
    assert "--method kadaptation --set targets=q,v" in out
    stem = tmp_path / "tables" / "dimension-pocket2-pocket_vit_patch8"
    assert all(stem.with_name(stem.name + ending).exists() for ending in (".csv", ".md", ".png", ".svg"))
    assert main([*ASK, "--table", "--csv", "--out", str(tmp_path)]) == 0
    rows = {(row["submodule"], row["d"]): row for row in csv.DictReader(io.StringIO(capsys.readouterr().out))}
    assert float(rows["attention", "20"]["share"]) == pytest.approx(95)
    assert float(rows["head alone", "0"]["share"]) == pytest.approx(30)
    assert main([*ASK, "--dims", "5,20,40", "--table", "--out", str(tmp_path)]) == 1  # d = 40 was not run
    assert "runs are missing of d = 40" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("question", "fault"),
    [
        (["dimension"], "Name the data"),
        (["dimension", "--suite", "pocket2", "--dataset", "pocket2/digits"], "Name the data"),
        ([*ASK, "--dims", "0,5"], "at least 1"),
        ([*ASK, "--submodules", "atention"], "no target is called 'atention'"),
        (["dimension", "--dataset", "pocket/digits,pocket2/digits"], "one suite"),
        ([*ASK, "--share", "1.5"], "between 0 and 1"),
    ],
)
def test_a_wrong_question_is_one_line_and_exit_code_2(
    question: list[str], fault: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main([*question, "--dry-run", "--out", str(tmp_path)]) == 2
    assert fault in capsys.readouterr().err
