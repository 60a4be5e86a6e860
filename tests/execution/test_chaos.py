"""Killed workers, crowds, full and read-only disks: nothing is lost, torn, or silently done twice."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.images import paint

from bench.cli.main import main
from bench.core.store import Store
from bench.execution import plan as planning
from bench.execution.attempt import Settings
from bench.execution.bundles import bundled
from bench.execution.plan import ExecutionContext, Plan, PlannedRun
from bench.execution.resources import Resources

CHAOS = Path(__file__).parent / "chaos.py"


def planned(root: Path, pets: Path, methods: str, seeds: range, bundles: int) -> Plan:
    """A plan of short runs, written down for the workers."""
    from bench.core import configs
    from bench.data.readers import folder
    from bench.data.root import default_data_root
    from bench.models.method import build
    from bench.models.registry import load
    from bench.training.job import make_job

    source = folder.divide(pets)
    card, protocol = folder.card(source), dataclasses.replace(configs.protocol("pocket@v1"), epochs=2)
    specs = [
        make_job(
            name,
            build(load(name), {}, name),
            "pocket_swin",
            card,
            protocol,
            seed,
            data_root=default_data_root(),
            source=source,
        ).spec
        for seed in seeds
        for name in methods.split(",")
    ]
    settings = Settings(retries=10**6, checkpoint_seconds=0.0)
    packed = bundled([(1.0, Resources())] * len(specs), len(specs) / bundles)
    runs = tuple(PlannedRun(spec, 1.0) for spec in specs)
    plan = Plan(
        ExecutionContext("cpu", folders={card.name: str(pets)}),
        settings,
        {card.name: card},
        runs,
        tuple(packed),
        threads=1,
    )
    planning.write(plan, root)
    return plan


def chaos(*args: object) -> dict[str, object]:
    command = [sys.executable, str(CHAOS), *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1000, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    outcome: dict[str, object] = json.loads(done.stdout)
    return outcome


@pytest.mark.timeout(1000)
@pytest.mark.parametrize("count", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_killed_workers_lose_nothing_and_do_nothing_twice(count: int, tmp_path: Path) -> None:
    root = tmp_path / "out"
    pets = paint(tmp_path / "pets", {"cat": 20, "dog": 20})
    plan = planned(root, pets, "linear_probe,bitfit,lora", range(count // 5), bundles=4)
    outcome = chaos("kills", root, count, 3, 0)
    assert outcome["killed"] == count  # the runs outlast the kills
    assert outcome["changed"] == []
    found = list(Store(root).records())
    assert sorted(record.spec.digest for record in found) == sorted(run.spec.digest for run in plan.runs)
    assert {record.status for record in found} == {"done"}
    assert max(record.attempts for record in found) > 1  # some went on after a kill
    assert list((root / "state").iterdir()) == []
    assert not list((root / "runs").rglob("*.part")) and not list((root / "runs").rglob("*.corrupt"))


@pytest.mark.timeout(1000)
@pytest.mark.parametrize(("count", "seed"), [(14, 1), pytest.param(350, 0, marks=pytest.mark.slow)])
def test_whatever_befalls_workers_every_run_has_one_record_that_none_rewrites(
    count: int, seed: int, tmp_path: Path
) -> None:
    """Kills of workers, front ends and groups, zombies, suspends beyond the lease, deleted leases, damaged bookkeeping."""
    root = tmp_path / "out"
    pets = paint(tmp_path / "pets", {"cat": 20, "dog": 20})
    plan = planned(root, pets, "linear_probe,bitfit,lora", range(max(3, count // 4)), bundles=4)
    outcome = chaos("mayhem", root, count, 2, seed)
    assert outcome["events"] == count  # the runs outlast them
    assert isinstance(outcome["counts"], dict) and len(outcome["counts"]) == 7
    assert outcome["changed"] == []
    found = list(Store(root).records())
    assert sorted(record.spec.digest for record in found) == sorted(run.spec.digest for run in plan.runs)
    assert {record.status for record in found} == {"done"}
    assert list((root / "state").glob("*/*")) == [] and list((root / "state").glob("*.lock")) == []
    assert not list((root / "runs").rglob("*.part")) and not list((root / "runs").rglob("*.corrupt"))


@pytest.mark.timeout(300)
def test_of_a_hundred_processes_on_one_run_one_makes_it(tmp_path: Path) -> None:
    root = tmp_path / "out"
    planned(root, paint(tmp_path / "pets", {"cat": 10, "dog": 10}), "linear_probe", range(1), bundles=1)
    outcome = chaos("rush", root, 100)
    answers = outcome["answers"]
    assert isinstance(answers, list) and len(answers) == 100
    assert sum(answer["trained"] for answer in answers) == 1
    assert {answer["status"] for answer in answers} <= {"done", None}
    assert outcome["records"] == 1


@contextlib.contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Path]:
    """A disk of its own, which only root may have."""
    folder.mkdir()
    options = f"size={kilobytes}k"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no disk can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def run(pets: Path, out: Path, *more: str) -> int:
    args = ["run", "--data", str(pets), "--backbone", "pocket_swin", "--out", str(out), "--epochs", "1", *more]
    return main(args)


def test_a_full_disk_is_told_in_one_line_and_costs_nothing_that_is_finished(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pets = paint(tmp_path / "pets", {"cat": 10, "dog": 10})
    with small_disk(tmp_path / "disk", 600) as disk:
        assert run(pets, disk, "--method", "linear_probe", "--seeds", "0") in (0, 2)  # its plots may find no room
        before = {path: path.read_bytes() for path in (disk / "runs").rglob("*.json")}
        assert len(before) == 1
        with contextlib.suppress(OSError), open(disk / "ballast", "wb", buffering=0) as file:
            while True:
                file.write(b"x" * 1024)
        capsys.readouterr()
        assert run(pets, disk, "--method", "linear_probe,bitfit", "--seeds", "0,1") == 2
        told = capsys.readouterr().err.strip().splitlines()[-1]
        assert told.startswith("bench: ") and "No space left on device" in told
        assert {path: path.read_bytes() for path in before} == before
        assert not list(disk.rglob("*.part"))
        (disk / "ballast").unlink()
        with contextlib.suppress(FileNotFoundError):
            for path in (disk / "plots").iterdir():
                path.unlink()
        run(pets, disk, "--method", "linear_probe,bitfit", "--seeds", "0,1")
        assert [record.status for record in Store(disk).records()] == ["done"] * 4
        assert {path: path.read_bytes() for path in before} == before


def test_a_folder_that_may_only_be_read_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pets = paint(tmp_path / "pets", {"cat": 10, "dog": 10})
    with small_disk(tmp_path / "disk", 4000) as disk:
        assert run(pets, disk, "--method", "linear_probe", "--seeds", "0") == 0
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        capsys.readouterr()
        assert run(pets, disk, "--method", "bitfit", "--seeds", "0") == 2
        told = capsys.readouterr().err.strip().splitlines()[-1]
        assert told.startswith("bench: ") and "Read-only file system" in told
        assert main(["status", "--out", str(disk)]) == 0
        assert "1 done" in capsys.readouterr().out
