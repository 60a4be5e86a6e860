"""Several workers on one machine, and the front end that is told to stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from test_folder import paint

from bench import plan as planning
from bench.store import Store
from bench.work import read_starts


def test_a_front_end_that_is_told_to_stop_takes_its_workers_along(tmp_path: Path) -> None:
    """SIGTERM, as a batch system or `bench cancel` sends it: exit code 130, workers gone, `resume` makes the rest."""
    out, pets = tmp_path / "out", paint(tmp_path / "pets", {"cat": 15, "dog": 15})
    command = [
        sys.executable,
        "-m",
        "bench.cli",
        "run",
        "--data",
        str(pets),
        "--backbone",
        "pocket_swin",
        "--jobs",
        "2",
    ]
    command += ["--method", "lora,bitfit", "--seeds", "0,1", "--epochs", "400", "--out", str(out)]
    command += ["--checkpoint-seconds", "0", "--bundle-minutes", "0"]
    front = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    until = time.monotonic() + 120
    while len(list((out / "state").glob("*/last.safetensors"))) < 2:
        assert time.monotonic() < until and front.poll() is None
        time.sleep(0.05)
    workers = [start.pid for path in (out / "state").iterdir() if path.is_dir() for start in read_starts(path)]
    assert len(workers) == 2
    subprocess.run([sys.executable, "-m", "bench.cli", "cancel", "--out", str(out)], check=True, timeout=120)
    _, told = front.communicate(timeout=120)
    assert front.returncode == 130 and "SIGTERM" in told and "Traceback" not in told
    for worker in workers:
        assert not os.path.exists(f"/proc/{worker}")
    assert list(Store(out).records()) == [] and not list((out / "state").glob("*.lock"))
    (plan,) = planning.every(out).values()
    assert len(plan.runs) == 4


def test_a_worker_that_is_killed_is_replaced(tmp_path: Path) -> None:
    out, pets = tmp_path / "out", paint(tmp_path / "pets", {"cat": 15, "dog": 15})
    command = [
        sys.executable,
        "-m",
        "bench.cli",
        "run",
        "--data",
        str(pets),
        "--backbone",
        "pocket_swin",
        "--jobs",
        "2",
    ]
    command += ["--method", "lora,linear_probe", "--seeds", "0", "--epochs", "60", "--out", str(out)]
    command += ["--checkpoint-seconds", "0", "--bundle-minutes", "0"]
    front = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    until = time.monotonic() + 120
    while not (states := list((out / "state").glob("*/last.safetensors"))):
        assert time.monotonic() < until and front.poll() is None
        time.sleep(0.02)
    os.kill(read_starts(states[0].parent)[-1].pid, signal.SIGKILL)
    told, _ = front.communicate(timeout=200)
    assert front.returncode == 0 and "ended by signal 9" in told
    records = list(Store(out).records())
    assert [record.status for record in records] == ["done", "done"]
    assert sorted(record.attempts for record in records) == [1, 2]
