from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest
from helpers.specs import SPEC
from helpers.stored import DONE, FAILED

from bench.core.errors import Conflict, CorruptRecord, ForeignRecord
from bench.core.files import SMALL
from bench.core.record import from_json
from bench.core.store import Store


def test_a_record_survives_its_file(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(DONE)
    assert store.find(SPEC) == DONE
    assert list(store.records()) == [DONE]


def test_a_finished_record_is_final_and_a_failed_one_is_replaced(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(FAILED)
    store.write(DONE)
    with pytest.raises(Conflict, match="finished and final"):
        store.write(FAILED)
    assert store.find(SPEC) == DONE


def test_nothing_is_left_aside_when_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("os.link", full)
    with pytest.raises(OSError, match="No space"):
        Store(tmp_path).write(DONE)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("damage", ["", "{", "[]", "null", '{"schema": 1}', DONE.to_json()[:-40]])
def test_a_torn_file_is_set_aside_and_the_run_is_open_again(damage: str, tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.write(DONE)
    path.write_text(damage)
    with pytest.raises(CorruptRecord, match=path.name):
        list(store.records())
    assert store.find(SPEC) is None
    assert path.with_suffix(".corrupt").read_text() == damage


def test_a_record_whose_spec_was_edited_is_refused() -> None:
    data = json.loads(DONE.to_json())
    data["spec"]["seed"] = 5
    with pytest.raises(CorruptRecord, match="is not that of its spec"):
        from_json(json.dumps(data), "file")


def test_a_newer_schema_is_named() -> None:
    with pytest.raises(ForeignRecord, match="schema 99"):
        from_json(DONE.to_json().replace('"schema": 1', '"schema": 99'), "file")


def test_a_record_of_a_newer_version_is_never_moved(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.write(DONE)
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 99'))
    with pytest.raises(ForeignRecord):
        store.find(SPEC)
    assert path.is_file()
    told: list[str] = []
    assert list(store.records(told.append)) == []
    assert "schema 99" in told[0]


@pytest.mark.parametrize("change", [{"scores": None}, {"reason": "why"}, {"status": "failed"}])
def test_a_record_holds_scores_if_done_and_a_reason_if_not(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="exactly if"):
        dataclasses.replace(DONE, **change)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "names",
    [
        *(
            {"dataset": name}
            for name in ("/etc/x", "a/../../b", "a//b", "..", "", "a/", "a\0b", "a\\b", "x" * 300, "\ud800")
        ),
        *({"method": name} for name in ("../lora", "a/b", "", ".", "é" * 200)),
        *({"backbone": name} for name in ("..", ".", "", "a\0")),
    ],
)
def test_no_name_leads_out_of_the_results_folder(names: dict[str, str], tmp_path: Path) -> None:
    try:
        spec = dataclasses.replace(SPEC, **names)  # type: ignore[arg-type]
    except ValueError:
        return  # refused even before
    store = Store(tmp_path / "out")
    with pytest.raises(CorruptRecord, match="cannot be the name of a file or folder"):
        store.path(spec)
    assert not store.root.exists()


def test_the_record_of_another_run_does_not_count_for_this_one(tmp_path: Path) -> None:
    store, other = Store(tmp_path), dataclasses.replace(SPEC, seed=7)
    copy = store.path(other)
    copy.parent.mkdir(parents=True)
    copy.write_text(DONE.to_json())
    with pytest.raises(CorruptRecord, match="is set aside: it is a record of lora on"):
        list(store.records())
    assert store.find(other) is None and copy.with_suffix(".corrupt").is_file()
    assert store.write(dataclasses.replace(DONE, spec=other)) == copy


def test_what_stands_in_a_record_s_place_is_moved_and_the_run_is_open(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.path(SPEC)
    path.mkdir(parents=True)
    assert store.find(SPEC) is None and path.with_suffix(".corrupt").is_dir()
    path.with_suffix(".corrupt").rmdir()
    os.mkfifo(path)
    assert store.find(SPEC) is None
    path.symlink_to(path.name)  # a circle
    assert store.find(SPEC) is None
    path.write_bytes(b" " * (SMALL + 1))
    assert store.find(SPEC) is None
    assert store.write(DONE) == path and store.find(SPEC) == DONE


def test_records_that_are_wanted_by_their_path(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(DONE)
    assert list(store.records(wanted=lambda name: SPEC.digest in name)) == [DONE]
    assert list(store.records(wanted=lambda name: "another" in name)) == []
