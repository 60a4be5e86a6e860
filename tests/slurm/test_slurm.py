"""Job arrays on a real Slurm: killed, requeued and failing tasks. `tests/slurm/start DIR` sets one up."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.core.join import numbers
from bench.core.store import Store
from bench.execution.attempt import Attempt, read_starts

pytestmark = [
    pytest.mark.skipif(
        "SLURM_CONF" not in os.environ or shutil.which("sbatch") is None,
        reason="no Slurm: tests/slurm/start sets one up",
    ),
    pytest.mark.timeout(1500),
]

README = (Path(__file__).parents[2] / "README.md").read_text()
# the README's method; of all its runs the first to take the flag breaks
FRAGILE = (
    README.split("```python\n")[1]
    .split("```")[0]
    .replace("        for block in net.blocks:\n", "        break_once()\n        for block in net.blocks:\n")
    .replace(
        "@dataclass(frozen=True)\n",
        """def break_once() -> None:
    if torch.empty(0).device.type != "meta":
        try:
            Path(FLAG).unlink()
        except FileNotFoundError:
            return
        raise RuntimeError("broken on purpose")


@dataclass(frozen=True)
""",
    )
    .replace("import torch\n", "from pathlib import Path\n\nimport torch\n")
)


def bench(*args: object) -> str:
    command = [sys.executable, "-m", "bench", *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def wait(what: str, true: Callable[[], Any], seconds: float = 300.0) -> Any:
    until = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < until, f"{what}: not in {seconds:.0f} s"
        time.sleep(0.1)
    return found


def status(out: Path) -> dict[str, Any]:
    return json.loads(bench("status", "--json", "--out", out))  # type: ignore[no-any-return]


def at_work(out: Path, but: tuple[str, ...] = ()) -> tuple[str, Attempt] | None:
    """A run that has a checkpoint, whose process is at it: its digest and that process."""
    for path in sorted((out / "state").glob("*/last.safetensors")):
        digest = path.parent.name
        starts = read_starts(path.parent)
        if starts and starts[-1].ended is None and str(starts[-1].job) not in but:
            return digest, starts[-1]
    return None


def queued(out: Path) -> list[str]:
    """The tasks of this results folder's plans that Slurm has not ended."""
    names = ",".join(f"bench-{path.name}" for path in (out / "plans").iterdir())
    command = ["squeue", "--noheader", "--array", "--me", f"--name={names}", "--format=%F_%K %T"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def test_an_array_with_a_killed_a_requeued_and_a_failing_task_ends_whole(tmp_path: Path) -> None:
    out, plugin, flag = tmp_path / "out", tmp_path / "fragile.py", tmp_path / "flag"
    plugin.write_text(FRAGILE.replace("FLAG", repr(str(flag))))
    flag.touch()
    grid = ("--method", "lora,fragile", "--suite", "pocket", "--backbone", "pocket_swin", "--seeds", "0,1")
    submitted = json.loads(
        bench(
            *("run", *grid, "--plugin", plugin, "--out", out, "--threads", 1, "--checkpoint-seconds", 0),
            *("--slurm", "partition=debug,timeout=30", "--bundle-minutes", 0, "--json"),
        )
    )
    assert submitted["runs"] == 32

    digest, victim = wait("a run at work", lambda: at_work(out))
    os.kill(victim.pid, signal.SIGKILL)
    killed = str(victim.job)
    second, start = wait("another run at work", lambda: at_work(out, but=(killed,)))
    requeued = str(start.job)
    assert subprocess.run(["scontrol", "requeue", requeued]).returncode == 0
    wait("the requeued task is pending", lambda: f"{requeued} PENDING" in queued(out))
    subprocess.run(["scontrol", "update", f"jobid={requeued}", "starttime=now"], check=True)
    wait("the queue is empty", lambda: not queued(out), 900.0)

    seen = status(out)
    assert seen["failed"] == 1 and seen["planned"] >= 1 and seen["running"] == seen["queued"] == 0
    records = {record.spec.digest: record for record in Store(out).records()}
    assert len(records) == 32 - seen["planned"]
    (failed,) = (record for record in records.values() if record.status == "failed")
    assert failed.reason == "RuntimeError: broken on purpose" and failed.failure == "error"
    assert failed.provenance.job and str(submitted["arrays"][0]) in failed.provenance.job
    assert "broken on purpose" in bench("logs", failed.spec.digest[:10], "--out", out)
    assert digest not in records  # its process was killed; nothing else is missing but what came behind it
    assert records[second].status == "done" and records[second].attempts == 2
    before = {path: path.read_bytes() for path in (out / "runs").rglob("*.json") if '"done"' in path.read_text()}

    bench("resume", "--out", out)
    wait("the queue is empty", lambda: not queued(out), 600.0)
    seen = status(out)
    assert (seen["done"], seen["failed"], seen["planned"]) == (32, 0, 0)
    assert {path: path.read_bytes() for path in before} == before  # what was finished was not run again
    assert len(list(Store(out).records())) == 32
    local = tmp_path / "local"
    once = Store(out)
    for name in (digest, second):
        spec = next(record.spec for record in once.records() if record.spec.digest == name)
        args = ("--dataset", spec.dataset, "--backbone", "pocket_swin", "--seeds", spec.seed, "--threads", 1)
        bench("run", "--method", spec.method, *args, "--plugin", plugin, "--out", local, "--json")
        alone, here = Store(local).find(spec), once.find(spec)
        assert alone is not None and here is not None and numbers(alone) == numbers(here)


def test_a_time_limit_is_no_end(tmp_path: Path) -> None:
    """At the limit submitit lets the task go and queues it again; the run goes on where its checkpoint is."""
    out, plugin = tmp_path / "out", tmp_path / "slow.py"
    text = README.split("```python\n")[1].split("```")[0]
    plugin.write_text(
        text.replace(
            "        return self.s * y", "        time.sleep(0.02 * self.training)\n        return self.s * y"
        ).replace("import torch\n", "import time\n\nimport torch\n")
    )
    bench(
        *("run", "--method", "slow", "--dataset", "pocket/count", "--backbone", "pocket_swin", "--seeds", 0),
        *("--plugin", plugin, "--out", out, "--threads", 1, "--checkpoint-seconds", 0, "--epochs", 40),
        *("--slurm", "partition=debug,timeout=3,signal-delay=30"),  # an epoch must fit in
    )
    digest, first = wait("the run is at work", lambda: at_work(out))
    subprocess.run(["scancel", "--signal=USR2", str(first.job)], check=True)
    state = out / "state" / digest
    wait("it is let go", lambda: read_starts(state)[0].ended is not None)
    job = str(first.job)
    wait("it is queued again", lambda: any(line.startswith(job) and "PENDING" in line for line in queued(out)), 120.0)
    subprocess.run(["scontrol", "update", f"jobid={job}", "starttime=now"], check=True)
    wait("it is begun again", lambda: len(read_starts(state)) == 2)
    bench("cancel", "--out", out)
    wait("the queue is empty", lambda: not queued(out))
    assert status(out)["planned"] == 1
