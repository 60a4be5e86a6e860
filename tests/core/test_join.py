"""Results of several clusters in one folder."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from helpers.specs import SPEC
from helpers.stored import DONE, FAILED, PROVENANCE

from bench.cli.main import main
from bench.core.errors import UsageError
from bench.core.join import merge, numbers
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
    np.savez_compressed(theirs.path(spec(1)).with_suffix(".npz"), labels=np.arange(3))
    theirs.path(spec(2)).with_suffix(".log").write_text("the traceback")
    result = merge([theirs.root], ours.root, pytest.fail)
    assert (result.taken, result.same, result.replaced, result.conflicts) == (2, 0, 0, [])
    assert {r.spec.seed: r for r in ours.records()} == {0: of(DONE, 0), **{r.spec.seed: r for r in theirs.records()}}
    for seed, suffix in ((1, ".npz"), (2, ".log")):
        beside = ours.path(spec(seed)).with_suffix(suffix)
        assert beside.read_bytes() == theirs.path(spec(seed)).with_suffix(suffix).read_bytes()
    again = merge([theirs.root], ours.root, pytest.fail)
    assert (again.taken, again.same) == (0, 2)
    assert len(list(theirs.records())) == 2  # a source is only read


def spec(seed: int) -> RunSpec:
    return dataclasses.replace(SPEC, seed=seed)


def test_a_finished_record_takes_the_place_of_a_failed_one_and_never_the_other_way(tmp_path: Path) -> None:
    theirs = store(tmp_path / "a", of(DONE, 0), of(FAILED, 1), of(FAILED, 2))
    ours = store(tmp_path / "out", of(FAILED, 0), of(DONE, 1), of(FAILED, 2, reason="another"))
    ours.path(spec(0)).with_suffix(".log").write_text("of the failed one")
    result = merge([theirs.root], ours.root, pytest.fail)
    assert (result.taken, result.same, result.replaced, result.conflicts) == (0, 2, 1, [])
    assert [r.status for r in ours.records()] == ["done", "done", "failed"]
    assert ours.find(spec(2)) == of(FAILED, 2, reason="another")
    assert not ours.path(spec(0)).with_suffix(".log").exists()  # it would tell of a failure that is no more


def test_two_results_of_one_run_are_told_and_the_one_that_is_here_stays(tmp_path: Path) -> None:
    theirs, ours = store(tmp_path / "a", scored(0.5)), store(tmp_path / "out", scored(0.25))
    result = merge([theirs.root], ours.root, pytest.fail)
    assert (result.taken, result.same, result.replaced) == (0, 0, 0)
    assert result.conflicts == [
        f"conflict: {theirs.path(SPEC)} scores 0.5000, {ours.path(SPEC)} scores 0.2500, which stays."
    ]
    assert ours.find(SPEC) == scored(0.25)


def test_of_several_folders_the_first_that_has_a_run_is_taken(tmp_path: Path) -> None:
    first, second = store(tmp_path / "a", scored(0.5)), store(tmp_path / "b", scored(0.75), of(DONE, 1))
    result = merge([first.root, second.root], tmp_path / "out", pytest.fail)
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
    assert merge([theirs.root], tmp_path / "out", told.append).taken == 1
    assert len(told) == 3 and all(torn.is_file() for torn in (torn, newer, binary))
    for path in (torn, newer, binary):
        assert sum(str(path) in line for line in told) == 1
    assert [path.name for path in (tmp_path / "out").rglob("*.*")] == [theirs.path(spec(0)).name]


def test_a_record_here_that_cannot_be_read_is_not_replaced(tmp_path: Path) -> None:
    theirs, ours = store(tmp_path / "a", DONE), store(tmp_path / "out", DONE)
    path = ours.path(SPEC)
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 99'))
    before, told = path.read_text(), list[str]()
    assert merge([theirs.root], ours.root, told.append).taken == 0
    assert path.read_text() == before and str(path) in told[0]


def test_what_is_no_results_folder_is_refused_before_anything_is_taken(tmp_path: Path) -> None:
    theirs = store(tmp_path / "a", DONE)
    with pytest.raises(UsageError, match="b is no results folder: it has no runs/"):
        merge([theirs.root, tmp_path / "b"], tmp_path / "out", pytest.fail)
    assert not (tmp_path / "out").exists()
    with pytest.raises(UsageError, match="is the folder to merge into"):
        merge([tmp_path / "a" / ".." / "a"], tmp_path / "a", pytest.fail)


def test_the_command_sums_up_and_its_exit_code_tells_of_conflicts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs, ours = store(tmp_path / "a", scored(0.5), of(DONE, 1)), store(tmp_path / "out", scored(0.25))
    assert main(["merge", str(theirs.root), "--out", str(ours.root)]) == 1
    told = capsys.readouterr()
    assert "1 record taken over" in told.out and "1 conflict" in told.out and "which stays" in told.err
    assert main(["merge", str(tmp_path / "nowhere"), "--out", str(ours.root)]) == 2
    assert main(["merge", str(ours.root), "--out", str(tmp_path / "new")]) == 0
    assert "2 records taken over" in capsys.readouterr().out
