"""bench.report.index: the same frame as from the records, whatever happens to the files and to the index."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from helpers.records import cycle, make

from bench import report
from bench.core.errors import CorruptRecord, ForeignRecord
from bench.core.record import Record
from bench.core.store import Store
from bench.report import index
from bench.report.frame import frame, milestones_of

ROOT = Path(__file__).parents[2]

RECORDS = [
    *[make(method, key, seed, 0.5 + seed / 9) for method in ("lora", "full") for key in "ab" for seed in range(3)],
    make("lora", "c", 0, None),
    make("vpt", "c", 0, None, status="skipped", reason="no ‘attention’ \udcff\nhere"),
    make("mimi", "a", 0, 0.25, milestones=(cycle(0, 0.1, 80), cycle(1, 0.2, 40)), backbone="timm/vit.b16"),
    make("mimi", "a", 10**30, 0.25, flops=10**18, merged=0, variant="basis=dim"),
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for record in RECORDS:
        Store(tmp_path).write(record)
    return tmp_path


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the record files that are read, as they are."""
    names: list[str] = []
    whole = index._cells

    def noted(store: Store, name: str, warn: index.Warn | None) -> object:
        names.append(Path(name).name)
        return whole(store, name, warn)

    monkeypatch.setattr(index, "_cells", noted)
    return names


def place(root: Path) -> Path:
    found = index.place(root)
    assert found is not None
    return found


def check(root: Path) -> pd.DataFrame:
    found = index.load(root, lambda _: None)
    pd.testing.assert_frame_equal(found, frame(Store(root).records(lambda _: None)), check_exact=True)
    return found


def rewrite(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))  # a clock may be too coarse to tell the two writings apart


def paths(root: Path) -> list[Path]:
    return sorted((root / "runs").rglob("*.json"))


def test_a_load_is_the_frame_of_the_records_and_the_second_reads_none_of_them(root: Path, read: list[str]) -> None:
    assert len(check(root)) == len(RECORDS)
    assert len(read) == len(RECORDS)
    check(root)
    assert len(read) == len(RECORDS)


def test_the_committed_records_load_the_same_twice(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "results" / "pocket-v1" / "runs", tmp_path / "runs")
    check(tmp_path)
    check(tmp_path)


def test_only_what_is_new_or_changed_is_read_and_what_is_gone_goes(root: Path, read: list[str]) -> None:
    check(root)
    first, second, *_ = paths(root)
    first.unlink()
    rewrite(second, '"test": 0.6', '"test": 0.7')
    added = Store(root).write(make("bitfit", "a", 4, 0.9))
    read.clear()
    assert len(check(root)) == len(RECORDS)
    assert sorted(read) == sorted([second.name, added.name])
    read.clear()
    check(root)
    assert read == []


def test_a_change_that_keeps_the_size_is_seen(root: Path) -> None:
    check(root)
    rewrite(paths(root)[0], '"seconds": 9.0', '"seconds": 8.0')
    assert 8.0 in set(check(root)["seconds"])


def test_an_empty_or_missing_folder_has_no_rows_and_gets_no_index(tmp_path: Path) -> None:
    assert len(check(tmp_path)) == 0
    assert len(check(tmp_path / "missing")) == 0
    assert list(tmp_path.iterdir()) == [] and not place(tmp_path).exists()


def test_a_record_that_lies_elsewhere_is_set_aside_by_name_at_every_load(root: Path) -> None:
    first, *_ = whole = paths(root)
    strays = [first.with_name("seed0-backup.json"), first.parents[1] / "another" / first.name, root / "runs" / "x.json"]
    for stray in strays:
        stray.parent.mkdir(exist_ok=True)
        shutil.copy(first, stray)
    for _ in range(2):
        told: list[str] = []
        assert len(index.load(root, told.append)) == len(whole)
        assert [sum(f"{stray} is set aside" in text for text in told) for stray in strays] == [1, 1, 1]
        assert len(told) == 3 and all(str(first) in text for text in told)
    check(root)


def test_a_suite_on_another_disk_is_found_by_all_or_by_none(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("scratch") / "suite"
    suite = root / "runs" / "pocket"
    shutil.move(suite, elsewhere)
    suite.symlink_to(elsewhere)
    (elsewhere / "circle").symlink_to(root)
    told: list[str] = []
    assert len(index.load(root, told.append)) == len(RECORDS) and len(told) == 1 and "circle" in told[0]
    assert len(check(root)) == len(RECORDS)
    assert all(Store(root).find(record.spec) == record for record in RECORDS)


def test_an_index_that_came_with_the_folder_is_not_believed(root: Path) -> None:
    check(root)
    forged = place(root).read_bytes().replace(b"lora", b"best")
    for name in ("index.json", place(root).name):
        (root / name).write_bytes(forged)
    place(root).unlink()
    assert "best" not in set(check(root)["method"])


def test_a_folder_that_is_no_plain_folder_of_records_is_read_all_the_same(root: Path) -> None:
    first, second, third, *_ = paths(root)
    for path in (first, second, third):
        path.unlink()
    os.mkfifo(first)
    second.mkdir()
    third.symlink_to("nowhere")
    (root / "runs" / "pocket" / "loop.json").symlink_to("loop.json")
    told: list[str] = []
    assert len(index.load(root, told.append)) == len(RECORDS) - 3
    assert [sum(str(path) in text for text in told) for path in (first, third)] == [1, 1]
    assert len(told) == 3  # the empty folder is a folder like others
    check(root)


def test_what_is_no_record_is_named_at_every_load_and_stays(root: Path) -> None:
    torn, foreign, binary, deep, *_ = paths(root)
    torn.write_text("{")
    rewrite(foreign, '"schema": 1', '"schema": 99')
    binary.write_bytes(b"\xff\xfe{}")
    deep.write_text("[" * 100_000)
    before = [path.read_bytes() for path in paths(root)]
    for _ in range(2):
        told: list[str] = []
        assert len(index.load(root, told.append)) == len(RECORDS) - 4
        assert [path for path in (torn, foreign, binary, deep) if not any(str(path) in text for text in told)] == []
        assert len(told) == 4
    assert [path.read_bytes() for path in paths(root)] == before
    with pytest.raises((CorruptRecord, ForeignRecord)):
        index.load(root)


def other_code(data: bytes) -> bytes:
    changed = json.loads(data)
    return json.dumps({**changed, "made_by": "0" * 16}, separators=(",", ":")).encode() + b"\n"


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: b"{}",
        lambda data: data[: len(data) // 2],
        lambda data: data[:-2],
        lambda data: data + b" ",
        lambda data: data.replace(b"lora", b"bora", 1),
        lambda data: data[::-1],
        other_code,
    ],
)
def test_a_damaged_or_foreign_index_is_made_anew(damage, root: Path, read: list[str]) -> None:  # type: ignore[no-untyped-def]
    check(root)
    file = place(root)
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    read.clear()
    check(root)
    assert len(read) == len(RECORDS)
    assert file.read_bytes() == whole


def test_the_index_is_json(root: Path) -> None:
    index.load(root, print)
    data = json.loads(place(root).read_text())
    assert set(data["columns"]) == set(index.NAMES)


def test_without_a_place_for_the_index_all_is_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place(root).mkdir(parents=True)  # which no file can replace, whoever asks
    assert len(check(root)) == len(RECORDS)
    assert sorted(path.name for path in root.iterdir()) == ["runs"]
    monkeypatch.setattr(index, "cache_folder", lambda: None)
    assert len(check(root)) == len(RECORDS)


def test_many_writers_leave_a_whole_index(root: Path, read: list[str]) -> None:
    code = f"""
import sys
from pathlib import Path
from bench.report import index
root = Path({str(root)!r})
for _ in range(30):
    assert len(index.load(root, print)) == {len(RECORDS)}
    index.place(root).unlink(missing_ok=True)
index.load(root, print)
"""
    started = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [process.wait(100) for process in started] == [0, 0, 0]
    assert not list(place(root).parent.glob("*.part"))
    assert json.loads(place(root).read_bytes())["made_by"] == index._maker()


def test_the_report_of_a_folder_is_that_of_its_records(tmp_path: Path) -> None:
    records: list[Record] = [*Store(ROOT / "results" / "pocket-v1").records()]
    shutil.copytree(ROOT / "results" / "pocket-v1" / "runs", tmp_path / "runs")
    loaded = report.load(tmp_path)
    assert loaded.terminal() == report.terminal_tables(records)
    names = [path.name for path in loaded.write_tables(tmp_path)]
    for name in names:
        committed = ROOT / "results" / "pocket-v1" / "leaderboards" / name
        assert (tmp_path / "leaderboards" / name).read_bytes() == committed.read_bytes()


def test_a_report_of_some_runs_shows_those_and_of_all_is_itself() -> None:
    whole = report.of(RECORDS[:12])
    assert whole.only(set(whole.runs["digest"])) is whole
    some = whole.only({record.spec.digest for record in RECORDS if record.spec.method == "lora"})
    assert set(some.runs["method"]) == {"lora"}
    assert some.terminal() == report.terminal_tables([r for r in RECORDS[:12] if r.spec.method == "lora"])


def test_milestones_survive_the_frame() -> None:
    rows = frame(RECORDS)
    found = {digest: milestones_of(text) for digest, text in zip(rows["digest"], rows["milestones"], strict=True)}
    assert found == {record.spec.digest: record.milestones for record in RECORDS}
