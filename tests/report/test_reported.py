"""bench.report.reported: what others print is validated, kept apart from records, and ranked among itself alone."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from helpers.records import GROUPS, KEYS, make

from bench import report
from bench.cli.main import main
from bench.core import configs
from bench.core.errors import UsageError
from bench.core.store import Store
from bench.report import reported, statistics

PUBLISHED = Path(__file__).parents[2] / "results" / "published"
HEADER = "source,method,variant,backbone,dataset,accuracy\n"


def file(folder: Path, lines: str, header: str = HEADER) -> Path:
    path = folder / "theirs.csv"
    path.write_text(header + lines)
    return path


def test_a_colleagues_numbers_are_rows_beside_the_records_and_change_none_of_their_means(tmp_path: Path) -> None:
    for key in KEYS:
        for seed in (0, 1):
            Store(tmp_path).write(make("lora", key, seed, 0.5))
    before = [path.read_text() for path in report.load(tmp_path).write_tables(tmp_path)]
    lines = "".join(f"Ann,lora,,pocket_vit,pocket/{key},{60 + place}\n" for place, key in enumerate(KEYS))
    reported.join(tmp_path, reported.read(file(tmp_path, lines)))
    found = report.load(tmp_path)
    paths = found.write_tables(tmp_path)
    assert [path.name for path in paths] == ["pocket.csv", "pocket.md", "pocket-reported.csv", "pocket-reported.md"]
    assert [path.read_text() for path in paths[:2]] == before
    row = pd.read_csv(paths[2]).iloc[0]
    groups = np.mean([np.mean([60 + KEYS.index(key) for key in keys]) for keys in GROUPS.values()])
    assert (row["source"], row["mean_groups"], row["measured"]) == ("Ann", pytest.approx(groups, abs=1e-4), 50)
    assert row["gap"] == pytest.approx(50 - groups, abs=1e-4)
    assert "## Ann" in paths[3].read_text() and "None was measured here." in paths[3].read_text()


def test_the_osu_numbers_are_ranked_over_datasets(tmp_path: Path) -> None:
    asked = ["--suite", "vtab", "--backbone", "vit_base_patch16_224.orig_in21k", "--citation", "OSU"]
    path = str(PUBLISHED / "osu_vtab1k.csv")
    assert main(["join", "--reported", path, *asked, "--out", str(tmp_path)]) == 0
    card = configs.suite("vtab").card
    table = reported.table(reported.load(tmp_path), card.groups, card.headline)
    assert len(table) == 16 and (table["coverage"] == 1).all()
    raw = pd.read_csv(path).pivot(index="method", columns="dataset", values="accuracy_last_epoch")
    means = raw.mean(axis=1)
    own = table.set_index("method")["mean_datasets"]
    assert own.to_dict() == pytest.approx(means.to_dict())
    assert (table["rank_best"] <= table.index + 1).all() and (table.index + 1 <= table["rank_worst"]).all()
    flat = reported.table(reported.load(tmp_path), card.groups, "mean_datasets")
    rows = raw.loc[flat["method"]]
    p = np.asarray(
        [scipy.stats.ttest_rel(rows.iloc[i], rows.iloc[j]).pvalue for i, j in itertools.combinations(range(16), 2)]
    )
    told_apart = int((statistics.holm(p) < 0.05).sum())
    above = flat["rank_best"].sum() - 16
    assert above == told_apart == 240 - (flat["rank_worst"].sum() - 16)


def test_published_tables_are_read_by_their_setting() -> None:
    rows = reported.read(PUBLISHED / "mimi.csv", {"suite": "multitask"}, {"backbone": "vit-b/16", "table": "table3"})
    assert set(rows["source"]) == {"mimi, table3"} and set(rows["backbone"]) == {"vit-b/16"}
    assert "multitask/mean" not in set(rows["dataset"])
    assert rows["accuracy"].between(50, 100).all()


def test_joining_twice_changes_nothing_and_another_number_is_refused(tmp_path: Path) -> None:
    first = reported.read(file(tmp_path, "Ann,lora,,pocket_vit,pocket/digits,61\n"))
    assert reported.join(tmp_path, first) == (1, 0)
    text = (tmp_path / "reported.csv").read_text()
    assert reported.join(tmp_path, first) == (0, 1)
    assert (tmp_path / "reported.csv").read_text() == text
    with pytest.raises(UsageError, match=r"lora on pocket/digits of Ann stands in .* with 61, not 62"):
        reported.join(tmp_path, first.assign(accuracy=62.0))
    assert (tmp_path / "reported.csv").read_text() == text


def test_every_fault_of_a_file_is_named_with_its_line(tmp_path: Path) -> None:
    lines = (
        "Ann,lora,,pocket_vit,pocket/digits,161\n,lora,,pocket_vit,pocket/count,50\nAnn,lora,,pocket_vit,pocket/cats,50\n"
        "Ann,lora,,pocket_vit,digits,nan\nAnn,mimi,,pocket_vit,pocket/count,50\nAnn,mimi,,pocket_vit,pocket/count,51\n"
    )
    with pytest.raises(UsageError) as caught:
        reported.read(file(tmp_path, lines))
    for words in (
        "line 2: accuracy = '161' is not a number between 0 and 100",
        "line 3: source is empty",
        "line 4: the suite pocket has no dataset 'cats'",
        "line 5: accuracy = 'nan'",
        "line 5: dataset = 'digits' is not SUITE/KEY",
        "line 7: its source, method, backbone and dataset stand in an earlier line",
    ):
        assert words in str(caught.value)


@pytest.mark.parametrize(
    ("header", "words"),
    [("method,dataset,accuracy\n", "lacks the columns source, backbone"), ("", "cannot|can be read|lacks")],
)
def test_what_is_no_such_file_is_said(tmp_path: Path, header: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        reported.read(file(tmp_path, "", header))


def test_a_damaged_file_of_a_results_folder_is_a_warning(tmp_path: Path) -> None:
    Store(tmp_path).write(make("lora", "digits", 0, 0.5))
    (tmp_path / "reported.csv").write_text("nonsense\n")
    warnings: list[str] = []
    found = report.load(tmp_path, warnings.append)
    assert found.reported is None and len(found.parts) == 1 and "lacks the columns" in warnings[0]


def test_a_missing_dataset_leaves_a_bound(tmp_path: Path) -> None:
    lines = "".join(f"Ann,lora,,pocket_vit,pocket/{key},50\n" for key in KEYS[:-1])
    table = reported.table(reported.read(file(tmp_path, lines)), GROUPS, "mean_datasets")
    row = table.iloc[0]
    assert np.isnan(row["mean_datasets"])
    assert (row["bound_low"], row["bound_high"]) == (7 * 50 / 8, (7 * 50 + 100) / 8)
