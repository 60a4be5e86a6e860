"""Results of several clusters in one folder."""

from __future__ import annotations

import dataclasses
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from helpers.specs import SPEC
from helpers.stored import DONE, FAILED, PROVENANCE

from bench.cli.main import main
from bench.core import predictions
from bench.core.errors import UsageError
from bench.core.join import join, numbers
from bench.core.record import Epoch, Record, Scores
from bench.core.spec import RunSpec
from bench.core.store import Store


def of(record: Record, seed: int = 0, **change: object) -> Record:
    return dataclasses.replace(record, spec=dataclasses.replace(SPEC, seed=seed), **change)  # type: ignore[arg-type]


def scored(test: float, seed: int = 0) -> Record:
    return of(DONE, seed, scores=Scores("top1", "last", test, 100))


def store(root: Path, *records: Record) -> Store:
    made = Store(root)
    (root / "runs").mkdir(parents=True, exist_ok=True)
    for record in records:
        made.write(record)
    return made


def test_what_is_missing_is_taken_over_with_what_lies_beside_it(tmp_path: Path) -> None:
    theirs = store(tmp_path / "a", of(DONE, 1), of(FAILED, 2, log=f"seed2-{spec(2).digest}.log"))
    ours = store(tmp_path / "out", of(DONE, 0))
    np.savez_compressed(theirs.path(spec(1)).with_suffix(".npz"), labels=np.arange(100))
    theirs.path(spec(2)).with_suffix(".log").write_text("the traceback")
    result = join([theirs.root], ours.root, pytest.fail)
    assert (result.taken, result.same, result.replaced, result.conflicts) == (2, 0, 0, [])
    assert {r.spec.seed: r for r in ours.records()} == {0: of(DONE, 0), **{r.spec.seed: r for r in theirs.records()}}
    for seed, suffix in ((1, ".npz"), (2, ".log")):
        beside = ours.path(spec(seed)).with_suffix(suffix)
        assert beside.read_bytes() == theirs.path(spec(seed)).with_suffix(suffix).read_bytes()
    again = join([theirs.root], ours.root, pytest.fail)
    assert (again.taken, again.same) == (0, 2)
    assert len(list(theirs.records())) == 2  # a source is only read


def spec(seed: int) -> RunSpec:
    return dataclasses.replace(SPEC, seed=seed)


def test_a_finished_record_takes_the_place_of_a_failed_one_and_never_the_other_way(tmp_path: Path) -> None:
    theirs = store(tmp_path / "a", of(DONE, 0), of(FAILED, 1), of(FAILED, 2))
    ours = store(tmp_path / "out", of(FAILED, 0), of(DONE, 1), of(FAILED, 2, reason="another"))
    ours.path(spec(0)).with_suffix(".log").write_text("of the failed one")
    result = join([theirs.root], ours.root, pytest.fail)
    assert (result.taken, result.same, result.replaced, result.conflicts) == (0, 2, 1, [])
    assert [r.status for r in ours.records()] == ["done", "done", "failed"]
    assert ours.find(spec(2)) == of(FAILED, 2, reason="another")
    assert not ours.path(spec(0)).with_suffix(".log").exists()  # it would tell of a failure that is no more


def test_two_results_of_one_run_are_told_and_the_one_that_is_here_stays(tmp_path: Path) -> None:
    theirs, ours = store(tmp_path / "a", scored(0.5)), store(tmp_path / "out", scored(0.25))
    result = join([theirs.root], ours.root, pytest.fail)
    assert (result.taken, result.same, result.replaced) == (0, 0, 0)
    assert result.conflicts == [
        f"conflict: {theirs.path(SPEC)} scores 0.5000, {ours.path(SPEC)} scores 0.2500, which stays."
    ]
    assert ours.find(SPEC) == scored(0.25)


def test_of_several_folders_the_first_that_has_a_run_is_taken(tmp_path: Path) -> None:
    first, second = store(tmp_path / "a", scored(0.5)), store(tmp_path / "b", scored(0.75), of(DONE, 1))
    result = join([first.root, second.root], tmp_path / "out", pytest.fail)
    assert (result.taken, len(result.conflicts)) == (2, 1)
    assert Store(tmp_path / "out").find(SPEC) == scored(0.5)


def test_speed_and_machine_make_no_conflict_and_numbers_do() -> None:
    elsewhere = dataclasses.replace(PROVENANCE, host="there", seconds=9.0)
    cost = dataclasses.replace(DONE.cost, train_seconds=9.0)  # type: ignore[type-var]
    epoch = Epoch(0, 0.5, 1e-3, 2.0)
    assert numbers(of(DONE, provenance=elsewhere, cost=cost, attempts=3)) == numbers(DONE)
    assert numbers(of(DONE, epochs=(epoch,))) == numbers(of(DONE, epochs=(dataclasses.replace(epoch, seconds=3.0),)))
    assert numbers(of(DONE, epochs=(epoch,))) != numbers(of(DONE, epochs=(dataclasses.replace(epoch, loss=0.6),)))
    assert numbers(scored(0.5)) != numbers(scored(0.25))


def test_files_that_are_no_records_are_named_and_left(tmp_path: Path) -> None:
    theirs = store(tmp_path / "a", of(DONE, 0), of(DONE, 1), of(DONE, 2), of(DONE, 3))
    torn, newer, binary = (theirs.path(spec(seed)) for seed in (1, 2, 3))
    torn.write_text(torn.read_text()[:-50])
    newer.write_text(newer.read_text().replace('"schema": 1', '"schema": 99'))
    binary.write_bytes(b"\xff\xfe\x00")
    told: list[str] = []
    assert join([theirs.root], tmp_path / "out", told.append).taken == 1
    assert len(told) == 3 and all(torn.is_file() for torn in (torn, newer, binary))
    for path in (torn, newer, binary):
        assert sum(str(path) in line for line in told) == 1
    assert [path.name for path in (tmp_path / "out").rglob("*.*")] == [theirs.path(spec(0)).name]


def test_a_record_here_that_cannot_be_read_is_not_replaced(tmp_path: Path) -> None:
    theirs, ours = store(tmp_path / "a", DONE), store(tmp_path / "out", DONE)
    path = ours.path(SPEC)
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 99'))
    before, told = path.read_text(), list[str]()
    assert join([theirs.root], ours.root, told.append).taken == 0
    assert path.read_text() == before and str(path) in told[0]


def test_what_is_no_results_folder_is_refused_before_anything_is_taken(tmp_path: Path) -> None:
    theirs = store(tmp_path / "a", DONE)
    with pytest.raises(UsageError, match="b is no results folder: it has no runs/"):
        join([theirs.root, tmp_path / "b"], tmp_path / "out", pytest.fail)
    assert not (tmp_path / "out").exists()
    with pytest.raises(UsageError, match="is the folder to join into"):
        join([tmp_path / "a" / ".." / "a"], tmp_path / "a", pytest.fail)


def test_the_command_sums_up_and_its_exit_code_tells_of_conflicts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs, ours = store(tmp_path / "a", scored(0.5), of(DONE, 1)), store(tmp_path / "out", scored(0.25))
    assert main(["join", str(theirs.root), "--out", str(ours.root)]) == 1
    told = capsys.readouterr()
    assert "1 record taken over" in told.out and "1 conflict" in told.out and "which stays" in told.err
    assert main(["join", str(tmp_path / "nowhere"), "--out", str(ours.root)]) == 2
    assert main(["join", str(ours.root), "--out", str(tmp_path / "new")]) == 0
    assert "2 records taken over" in capsys.readouterr().out


def refused(source: Store, out: Path, *expected: str) -> list[str]:
    """What is said when all of the source is left; nothing of it, and nothing else, has got out."""
    told: list[str] = []
    result = join([source.root], out / "results", told.append)
    assert (result.taken, result.replaced, result.left) == (0, 0, len(told))
    assert [path for path in out.rglob("*") if path.is_file()] == []
    for text in expected:
        assert any(text in line for line in told), told
    return told


def planted(root: Path, where: str, **spec_change: object) -> Store:
    """A source with one record whose spec names something else than a place in a results folder."""
    record = dataclasses.replace(DONE, spec=dataclasses.replace(SPEC, **spec_change))  # type: ignore[arg-type]
    path = root / "runs" / where / f"seed0-{record.spec.digest}.json"
    path.parent.mkdir(parents=True)
    path.write_text(record.to_json())
    path.with_suffix(".log").write_text("mine now")
    return Store(root)


@pytest.mark.parametrize("change", [{"dataset": "{}/stolen"}, {"method": "../../../../../stolen"}, {"backbone": ".."}])
def test_no_record_is_written_outside_the_results_folder(change: dict[str, str], tmp_path: Path) -> None:
    change = {key: value.format(tmp_path / "away") for key, value in change.items()}
    try:
        source = planted(tmp_path / "lent", "a/b/c/d", **change)
    except ValueError:
        pytest.skip("no spec has such a name")
    (tmp_path / "away").mkdir()
    refused(source, tmp_path / "away")


@pytest.mark.parametrize("suffix", [".log", ".npz", ".json"])
def test_links_beside_a_record_are_not_followed(suffix: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text(DONE.to_json() if suffix == ".json" else "my key")
    source = store(tmp_path / "lent", DONE)
    path = source.path(SPEC).with_suffix(suffix)
    path.unlink(missing_ok=True)
    path.symlink_to(secret)
    refused(source, tmp_path / "away", f"{path} is a link, not a plain file")


def test_pipes_folders_giants_and_odd_names_are_left_and_all_else_is_taken(tmp_path: Path) -> None:
    source = store(tmp_path / "lent", *(of(DONE, seed) for seed in range(6)))
    pipe, folder, huge, broken, aside, whole = (source.path(spec(seed)) for seed in range(6))
    for path in (pipe, folder, huge, broken, aside):
        path.unlink()
    os.mkfifo(pipe)
    folder.mkdir()
    with open(huge, "wb") as file:
        file.truncate(2**40)
    broken.symlink_to("nowhere")
    aside.with_name("seed4-backup.json").write_text(of(DONE, 4).to_json())
    os.close(os.open(os.fsencode(whole.parent) + b"/caf\xe9\x1b[2J.json", os.O_CREAT))
    (whole.parent / ("x" * 250 + ".json")).write_text("{}")
    whole.with_name("up").symlink_to(source.root)
    told: list[str] = []
    result = join([source.root], tmp_path / "out", told.append)
    assert (result.taken, result.left, len(told)) == (1, 7, 7)
    assert Store(tmp_path / "out").find(spec(5)) == of(DONE, 5)


def test_a_linked_suite_of_a_source_is_named_and_left(tmp_path: Path) -> None:
    source = store(tmp_path / "lent", DONE)
    suite = source.root / "runs" / SPEC.dataset.partition("/")[0]
    suite.rename(tmp_path / "elsewhere")
    suite.symlink_to(tmp_path / "elsewhere")
    refused(source, tmp_path / "away", f"{suite} is left out: it is a link to a folder")


@pytest.mark.parametrize("damage", ["text", "object", "bomb", "fewer", "lie", "torn"])
def test_predictions_that_are_not_plain_arrays_of_the_record_s_images_are_refused(damage: str, tmp_path: Path) -> None:
    source = store(tmp_path / "lent", DONE)
    path = source.path(SPEC).with_suffix(".npz")
    np.savez_compressed(path, labels=np.arange(99 if damage == "fewer" else 100))
    if damage == "text":
        path.write_text("no archive")
    elif damage == "object":
        np.savez(path, labels=np.array([Path("x")] * 100, dtype=object))
    elif damage == "torn":
        path.write_bytes(path.read_bytes()[:-60])
    elif damage == "bomb":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("labels.npy", "w") as file:
            for _ in range(predictions.LARGEST // 2**20 + 1):
                file.write(bytes(2**20))
    elif damage == "lie":
        with zipfile.ZipFile(path, "w") as archive, archive.open("labels.npy", "w") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "<i8", "fortran_order": False, "shape": (100,)})
    refused(source, tmp_path / "away", "predictions")


def test_good_predictions_read_as_they_were_written(tmp_path: Path) -> None:
    arrays = {"labels": np.arange(5, dtype=np.uint8), "scores": np.ones((5, 3), np.float32)}
    np.savez_compressed(tmp_path / "a.npz", **arrays)
    found = predictions.read(tmp_path / "a.npz")
    assert list(found) == list(arrays) and all((found[name] == arrays[name]).all() for name in arrays)


def test_the_command_tells_what_it_left_by_its_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = store(tmp_path / "a", DONE, of(DONE, 1))
    source.path(spec(1)).write_text("{")
    assert main(["join", str(source.root), "--out", str(tmp_path / "out")]) == 1
    told = capsys.readouterr()
    assert "1 record taken over" in told.out and "1 left" in told.out and str(source.path(spec(1))) in told.err
