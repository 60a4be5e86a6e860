"""A Slurm that does not answer, suspends, drains its node and takes small arrays: nothing twice, nothing lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.images import paint
from test_slurm import README, at_work, bench, pytestmark, queued, status, wait

from bench.core.store import Store

__all__ = ["pytestmark"]  # of the other tests on a real Slurm

SLURM = ("--slurm", "partition=debug,timeout=30", "--bundle-minutes", 0)


@pytest.fixture
def grid(tmp_path: Path) -> tuple[object, ...]:
    """The options of runs of one epoch on few images."""
    pets = paint(tmp_path / "pets", {"cat": 15, "dog": 15})
    return (
        *("--data", pets, "--backbone", "pocket_swin", "--epochs", 1, "--threads", 1, "--method", "linear_probe"),
        *("--out", tmp_path / "out"),
    )


@pytest.fixture
def slow(tmp_path: Path) -> tuple[object, ...]:
    """The options of two runs that last for about a minute, so that something may happen to them."""
    text = README.split("```python\n")[1].split("```")[0]
    text = text.replace(
        "        return self.s * y", "        time.sleep(0.01 * self.training)\n        return self.s * y"
    )
    (tmp_path / "slow.py").write_text(text.replace("import torch\n", "import time\n\nimport torch\n"))
    return (
        *("--method", "slow", "--plugin", tmp_path / "slow.py", "--dataset", "pocket/count"),
        *("--backbone", "pocket_swin", "--threads", 1, "--checkpoint-seconds", 0, "--epochs", 10),
        *("--out", tmp_path / "out"),
    )


def records(out: Path) -> dict[str, tuple[str, int, bytes]]:
    """Of every run its status and attempts, and the file as it is."""
    store = Store(out)
    return {r.spec.digest: (r.status, r.attempts, store.path(r.spec).read_bytes()) for r in store.records(pytest.fail)}


def arrays(out: Path) -> list[dict[str, object]]:
    return [array for path in (out / "plans").glob("*/arrays.json") for array in json.loads(path.read_text())]


def fails(code: int, *args: object, **environment: str) -> str:
    """What a command says that ends with this exit code."""
    command = [sys.executable, "-m", "bench", *map(str, args)]
    env = {**os.environ, **environment}
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, env=env)
    assert done.returncode == code and "Traceback" not in done.stderr, done.stderr + done.stdout
    return done.stderr + done.stdout


def test_without_an_answer_nothing_is_submitted_again(grid: tuple[object, ...], tmp_path: Path) -> None:
    out = tmp_path / "out"
    subprocess.run(["scontrol", "update", "partition=debug", "state=down"], check=True)  # nothing starts meanwhile
    try:
        bench("run", *grid, "--seeds", "0,1", *SLURM)
        before = arrays(out)
        (tmp_path / "bin").mkdir()
        squeue = tmp_path / "bin/squeue"
        squeue.write_text("#!/bin/sh\necho 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1\n")
        squeue.chmod(0o755)
        deaf = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
        told = fails(2, "run", *grid, "--seeds", "0,1,2", *SLURM, PATH=deaf)
        assert "does not answer" in told and "twice" in told
        assert "does not answer" in fails(2, "resume", "--out", out, PATH=deaf)
        assert arrays(out) == before and len(queued(out)) == 2
        bench("run", *grid, "--seeds", "0,1,2", *SLURM)  # it answers again: one run more
        assert sorted(len(array["bundles"]) for array in arrays(out)) == [1, 2]  # type: ignore[arg-type]
    finally:
        subprocess.run(["scontrol", "update", "partition=debug", "state=up"], check=True)
    wait("the queue is empty", lambda: not queued(out), 600.0)
    assert [(state, attempts) for state, attempts, _ in records(out).values()] == [("done", 1)] * 3


def test_a_suspended_task_is_left_alone_and_goes_on(slow: tuple[object, ...], tmp_path: Path) -> None:
    out = tmp_path / "out"
    bench("run", *slow, "--seeds", 0, *SLURM)
    digest, start = wait("the run is at work", lambda: at_work(out))
    subprocess.run(["scontrol", "suspend", str(start.job)], check=True)
    wait("it is stopped", lambda: Path(f"/proc/{start.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")
    assert "SUSPENDED" in queued(out)[0]
    assert "1 run: 1 queued or running as job arrays" in fails(1, "run", *slow, "--seeds", 0, *SLURM)  # no result yet
    assert len(arrays(out)) == 1
    subprocess.run(["scontrol", "resume", str(start.job)], check=True)
    wait("the queue is empty", lambda: not queued(out), 600.0)
    assert {name: found[:2] for name, found in records(out).items()} == {digest: ("done", 1)}


def test_on_a_drained_node_what_runs_ends_and_what_waits_is_made_later(
    slow: tuple[object, ...], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    cores = os.cpu_count() or 1
    seeds = ",".join(map(str, range(cores + 2)))  # more than can run at once
    bench("run", *slow, "--seeds", seeds, *SLURM)
    wait("a run is at work", lambda: at_work(out))
    node = subprocess.run(["hostname", "-s"], capture_output=True, text=True, check=True).stdout.strip()
    subprocess.run(["scontrol", "update", f"nodename={node}", "state=drain", "reason=test"], check=True)
    try:
        wait("what runs has ended", lambda: not any("RUNNING" in line for line in queued(out)), 600.0)
        waiting = len(queued(out))
        before = records(out)
        assert waiting >= 1 and len(before) == cores + 2 - waiting
        seen = status(out)
        assert (seen["queued"], seen["done"], seen["failed"]) == (waiting, len(before), 0)
        assert f"{waiting} queued or running as job arrays" in fails(1, "run", *slow, "--seeds", seeds, *SLURM)
        assert len(arrays(out)) == 1 and len(queued(out)) == waiting
    finally:
        subprocess.run(["scontrol", "update", f"nodename={node}", "state=resume"], check=True)
    wait("the queue is empty", lambda: not queued(out), 900.0)
    after = records(out)
    assert len(after) == cores + 2 and {found[:2] for found in after.values()} == {("done", 1)}
    assert {name: after[name] for name in before} == before


@pytest.fixture
def small_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Slurm of its own that takes arrays of three tasks at most."""
    here = Path(__file__).parent
    monkeypatch.setenv("MAX_ARRAY_SIZE", "3")
    done = subprocess.run(
        [here / "start", tmp_path / "slurm"], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "slurm/slurm.conf"))
    yield
    subprocess.run([here / "stop", tmp_path / "slurm"], check=True, timeout=300)


@pytest.mark.usefixtures("small_arrays")
def test_more_tasks_than_an_array_may_have_become_several_arrays(grid: tuple[object, ...], tmp_path: Path) -> None:
    out = tmp_path / "out"
    bench("run", *grid, "--seeds", "0,1,2,3,4,5,6", *SLURM)
    assert [len(array["bundles"]) for array in arrays(out)] == [3, 3, 1]  # type: ignore[arg-type]
    wait("the queue is empty", lambda: not queued(out), 900.0)
    assert [found[:2] for found in records(out).values()] == [("done", 1)] * 7
