"""Workers that are killed: `python tests/execution/chaos.py kills|rush DIR ...`, run by test_chaos.py in a process of its own.

All that a worker needs is imported once, before it is forked, so that it costs nothing but its work.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import torch

from bench.core.store import Store
from bench.execution import plan as planning
from bench.execution.attempt import perform, read_starts
from bench.execution.plan import Plan
from bench.execution.worker import run_bundle

DEADLINE = 900.0


def fork(task: Callable[[], object]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        task()
        code = 0
    finally:
        os._exit(code)


def records(root: Path) -> dict[str, tuple[int, str]]:
    """Of every record file, the inode and a digest of its content: a run that is repeated changes them."""
    return {
        path.name: (path.stat().st_ino, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in (root / "runs").rglob("*.json")
    }


def kills(root: Path, plan: Plan, count: int, workers: int, seed: int) -> dict[str, object]:
    """Kills a random worker `count` times, each followed by a new one that begins the same bundle anew."""
    chance, seen, changed, killed = random.Random(seed), {}, [], 0
    begun = time.monotonic()
    waiting = list(range(len(plan.bundles)))
    alive: dict[int, int] = {}

    def start(number: int) -> None:
        bundle = plan.bundles[number]
        alive[fork(lambda: run_bundle(root, plan, bundle.runs, lambda _: None))] = number

    while waiting or alive:
        assert time.monotonic() - begun < DEADLINE
        while waiting and len(alive) < workers:
            start(waiting.pop(0))
        time.sleep(chance.random() * 0.25)
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            number = alive.pop(ended[0])
            assert os.waitstatus_to_exitcode(ended[1]) == 0, f"bundle {number} failed"
            if not alive and not waiting:
                break
        if alive and killed < count:
            victim = chance.choice(sorted(alive))
            if killed % 2:  # every other one in the midst of a run
                victim = at_work(root, alive, victim)
            os.kill(victim, signal.SIGKILL)
            os.waitpid(victim, 0)
            waiting.insert(0, alive.pop(victim))
            killed += 1
        if not waiting and not alive and killed < count:
            break  # all is done before all kills were spent
        now = records(root)
        changed += [name for name, state in seen.items() if now.get(name) != state]
        seen = now
    return {"killed": killed, "records": len(seen), "changed": changed, "seconds": time.monotonic() - begun}


def at_work(root: Path, alive: dict[int, int], other: int) -> int:
    """A worker that has begun a run, as soon as there is one; another where none begins within ten seconds."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        for path in (root / "state").glob("*/starts.json"):
            starts = read_starts(path.parent)
            if starts and starts[-1].ended is None and starts[-1].pid in alive:
                return starts[-1].pid
        time.sleep(0.005)
    return other


def rush(root: Path, plan: Plan, count: int) -> dict[str, object]:
    """Starts `count` processes on one run at the same moment; what each of them got."""
    told = root / "told"
    told.mkdir(parents=True)
    at = time.time() + 1.0 + count / 50

    def one() -> None:
        job = planning.job_builder(plan)(0)
        time.sleep(max(0.0, at - time.time()))
        epochs = []
        record = perform(job, Store(root), plan.settings, lambda progress: epochs.append(progress.epoch))
        text = json.dumps({"status": record.status if record else None, "trained": bool(epochs)})
        (told / str(os.getpid())).write_text(text)

    pids = [fork(one) for _ in range(count)]
    assert all(os.waitpid(pid, 0)[1] == 0 for pid in pids)
    answers = [json.loads(path.read_text()) for path in told.iterdir()]
    return {"answers": answers, "records": len(records(root))}


if __name__ == "__main__":
    torch.set_num_threads(1)
    (file,) = planning.every(Path(sys.argv[2]))
    asked = planning.read(file)
    planning.job_builder(asked)(0)  # imports what is imported when it is needed
    what, folder, *numbers = sys.argv[1:]
    here = Path(folder)
    outcome = {"kills": kills, "rush": rush}[what](here, asked, *map(int, numbers))  # type: ignore[operator]
    print(json.dumps(outcome))
