"""Several workers on one machine, and the front end that is told to stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from helpers.images import paint

from bench.core.store import Store
from bench.execution import plan as planning
from bench.execution.attempt import read_starts

BENCH = (sys.executable, "-m", "bench")


def begun(
    tmp_path: Path, out: Path, methods: str, epochs: int, at_work: int
) -> tuple[subprocess.Popen[str], list[int]]:
    """A front end with two workers, as soon as so many runs have a checkpoint; and the processes that are at them."""
    pets = paint(tmp_path / "pets", {"cat": 15, "dog": 15})
    command = [*BENCH, "run", "--data", str(pets), "--backbone", "pocket_swin", "--out", str(out)]
    command += ["--method", methods, "--seeds", "0", "--epochs", str(epochs)]
    command += ["--jobs", "2", "--checkpoint-seconds", "0", "--bundle-minutes", "0"]
    front = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 120
    while len(states := list((out / "state").glob("*/last.safetensors"))) < at_work:
        assert time.monotonic() < until and front.poll() is None
        time.sleep(0.02)
    return front, [read_starts(path.parent)[-1].pid for path in states]


def test_a_front_end_that_is_told_to_stop_takes_its_workers_along(tmp_path: Path) -> None:
    out = tmp_path / "out"
    front, workers = begun(tmp_path, out, "lora,bitfit,full", epochs=400, at_work=2)
    subprocess.run([*BENCH, "cancel", "--out", str(out)], check=True, timeout=120)
    _, told = front.communicate(timeout=120)
    assert front.returncode == 130 and "SIGTERM" in told and "Traceback" not in told
    assert not any(os.path.exists(f"/proc/{worker}") for worker in workers)
    assert list(Store(out).records()) == [] and not list((out / "state").glob("*.lock"))
    (plan,) = planning.every(out).values()
    assert len(plan.runs) == 3


def test_a_worker_that_is_killed_is_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    front, workers = begun(tmp_path, out, "lora,linear_probe", epochs=60, at_work=1)
    os.kill(workers[0], signal.SIGKILL)
    told, _ = front.communicate(timeout=200)
    assert front.returncode == 0 and "was ended by signal 9" in told
    records = list(Store(out).records())
    assert [record.status for record in records] == ["done", "done"]
    assert sorted(record.attempts for record in records) == [1, 2]
