"""Workers that come to harm: `python tests/execution/chaos.py kills|rush|mayhem DIR NUMBER...`, run by test_chaos.py in a
process of its own. `mayhem DIR EVENTS WORKERS SEED` does to a plan all that a cluster may do to it.

All that a worker needs is imported once, before it is forked, so that it costs nothing but its work.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import torch

from bench.core import lease
from bench.core.store import Store
from bench.execution import attempt
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


class Mayhem:
    """Front ends with workers below them, on machines that are made up, and what happens to them.

    A worker says that it runs on the machine "near", where this process could see it die, or on one of three far ones,
    of which the lease alone tells. A lease is stale after one second here.
    """

    def __init__(self, root: Path, plan: Plan, workers: int, seed: int) -> None:
        self.root, self.plan, self.workers, self.chance = root, plan, workers, random.Random(seed)
        self.fronts: set[int] = set()
        self.stopped: dict[int, float] = {}  # suspended processes, and when they go on
        self.unreaped: dict[int, float] = {}  # killed ones, and until when they stay zombies
        self.counts: dict[str, int] = {}
        self.serial = 0

    def run(self, count: int) -> dict[str, object]:
        libc = ctypes.CDLL(None, use_errno=True)
        assert (
            libc.prctl(36, 1, 0, 0, 0) == 0
        )  # PR_SET_CHILD_SUBREAPER: orphans of killed front ends come to this process
        seen, changed, begun, events = dict[str, tuple[int, str]](), list[str](), time.monotonic(), 0
        kinds = [
            self.kill,
            self.kill_front,
            self.kill_group,
            self.leave_zombie,
            self.suspend,
            self.delete_lease,
            self.damage,
        ]
        while len(seen) < len(self.plan.runs):
            assert time.monotonic() - begun < DEADLINE
            self.tend()
            while len(self.fronts) < self.workers:
                self.start(self.plan.bundles[self.chance.randrange(len(self.plan.bundles))].runs)
            time.sleep(self.chance.random() * 0.3)
            if events < count:
                kind = kinds[events % len(kinds)]
                if kind():
                    self.counts[kind.__name__] = self.counts.get(kind.__name__, 0) + 1
                    events += 1
            now = records(self.root)
            changed += [name for name, state in seen.items() if now.get(name) != state]
            seen = now
        for pid in self.stopped:
            os.kill(pid, signal.SIGCONT)
        with contextlib.suppress(ChildProcessError):
            while True:  # those that sleep find their runs done
                os.waitpid(-1, 0)
        self.clear()
        now = records(self.root)
        changed += [name for name, state in seen.items() if now.get(name) != state]
        return {
            "events": events,
            "counts": self.counts,
            "records": len(now),
            "changed": changed,
            "seconds": time.monotonic() - begun,
        }

    def start(self, runs: Sequence[int]) -> None:
        """A front end, in a process group of its own, with two workers that take the runs from both ends."""
        self.serial += 1
        machines = [self.chance.choice(("near", f"far{self.chance.randrange(3)}")) for _ in range(2)]

        def work(machine: str, order: Sequence[int]) -> None:
            if machine != "near":
                lease._here = lambda: f"{machine} made-up"  # nobody else can ask its kernel
            run_bundle(self.root, self.plan, order, lambda _: None)

        def front() -> None:
            os.setsid()
            left = [fork(lambda m=m, o=o: work(m, o)) for m, o in zip(machines, (runs, runs[::-1]), strict=True)]  # type: ignore[misc]
            for pid in left:
                os.waitpid(pid, 0)

        self.fronts.add(fork(front))

    def tend(self) -> None:
        """Suspended processes whose time has come go on; the dead are buried, but for those that are to stay zombies."""
        now = time.monotonic()
        for pid in [pid for pid, until in self.stopped.items() if until < now]:
            del self.stopped[pid]
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self.unreaped = {pid: until for pid, until in self.unreaped.items() if until > now}
        for pid in self.children():
            if pid not in self.unreaped and os.waitpid(pid, os.WNOHANG)[0]:
                self.fronts.discard(pid)
                self.stopped.pop(pid, None)

    def children(self) -> list[int]:
        return [
            int(pid) for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()
        ]

    def worker(self) -> int | None:
        """A process below a front end, or an orphan of one, that is not suspended."""
        orphans = [pid for pid in self.children() if pid not in self.fronts]
        below = [
            int(pid)
            for front in self.fronts
            if (path := Path(f"/proc/{front}/task/{front}/children")).exists()
            for pid in path.read_text().split()
        ]
        running = [pid for pid in sorted(orphans + below) if pid not in self.stopped and pid not in self.unreaped]
        return self.chance.choice(running) if running else None

    def kill(self) -> bool:
        victim = self.worker()
        return victim is not None and self._kill(victim)

    def kill_front(self) -> bool:
        """Its workers go on without it."""
        return bool(self.fronts) and self._kill(self.chance.choice(sorted(self.fronts)))

    def kill_group(self) -> bool:
        if not self.fronts:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.chance.choice(sorted(self.fronts)), signal.SIGKILL)
        return True

    def leave_zombie(self) -> bool:
        """A worker whose front end is gone is killed, and this process does not ask for its exit status for a while."""
        orphans = [pid for pid in self.children() if pid not in self.fronts and pid not in self.unreaped]
        if not orphans:
            return self.kill_front()
        victim = self.chance.choice(sorted(orphans))
        self.unreaped[victim] = time.monotonic() + 3.0
        return self._kill(victim)

    def suspend(self) -> bool:
        victim = self.worker()
        if victim is None:
            return False
        os.kill(victim, signal.SIGSTOP)
        self.stopped[victim] = time.monotonic() + self.chance.choice((0.3, 2.5 * lease.STALE))
        return True

    def delete_lease(self) -> bool:
        return self._spoil(sorted((self.root / "state").glob("*.lock")), [lambda path: path.unlink(missing_ok=True)])

    def damage(self) -> bool:
        ways: list[Callable[[Path], object]] = [
            lambda path: path.write_bytes(path.read_bytes()[: self.chance.randrange(20)]),
            lambda path: path.write_bytes(self.chance.randbytes(200)),
            lambda path: path.write_text("[" * 5000),
            lambda path: path.unlink(missing_ok=True),
        ]
        found = [
            path for path in sorted((self.root / "state").rglob("*")) if path.is_file() and ".clock-" not in path.name
        ]
        return self._spoil(found, ways)

    def _spoil(self, files: Sequence[Path], ways: Sequence[Callable[[Path], object]]) -> bool:
        if not files:
            return False
        try:
            self.chance.choice(ways)(self.chance.choice(files))
        except FileNotFoundError:
            return False  # it has just gone
        return True

    def _kill(self, pid: int) -> bool:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True

    def clear(self) -> None:
        """What the killed have left, the next call of the tool would tidy: a worker for every run, alone."""
        run_bundle(self.root, self.plan, range(len(self.plan.runs)), lambda _: None)


def mayhem(root: Path, plan: Plan, count: int, workers: int, seed: int) -> dict[str, object]:
    lease.STALE, lease.BEAT, attempt.STALE = 1.0, 0.1, 1.0
    return Mayhem(root, plan, workers, seed).run(count)


if __name__ == "__main__":
    torch.set_num_threads(1)
    (file,) = planning.every(Path(sys.argv[2]))
    asked = planning.read(file)
    planning.job_builder(asked)(0)  # imports what is imported when it is needed
    what, folder, *numbers = sys.argv[1:]
    here = Path(folder)
    outcome = {"kills": kills, "rush": rush, "mayhem": mayhem}[what](here, asked, *map(int, numbers))  # type: ignore[operator]
    print(json.dumps(outcome))
