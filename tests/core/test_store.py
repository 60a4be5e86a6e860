from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from helpers.specs import SPEC
from helpers.stored import DONE, FAILED

from bench.core.errors import Conflict, CorruptRecord, ForeignRecord
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
