"""On this machine: in this process, or in several at a time.

    DIR/plans/<id>/coordinator.json   the process that runs the plan
    DIR/plans/<id>/logs/<N>.log       what the worker of bundle N has printed

A worker process reports its runs on a pipe of its own, one line of JSON each; what a method prints goes to the log.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from bench.core import lease
from bench.core.errors import UsageError
from bench.core.schema import Damaged, read_json
from bench.core.store import Store, write_json
from bench.execution import plan as planning
from bench.execution.attempt import preemptible
from bench.execution.events import Report, RunEvent
from bench.execution.executors import Submission
from bench.execution.plan import Plan
from bench.execution.resources import Resources, make_options
from bench.execution.worker import run_bundle

COORDINATOR = "coordinator.json"


@dataclass(frozen=True)
class Options:
    jobs: int = 1  # processes at a time; 1: this one

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise ValueError("jobs must be at least 1")


@dataclass(frozen=True)
class Executor:
    options: Options
    detached: ClassVar[bool] = False

    @staticmethod
    def of(options: Mapping[str, object]) -> Executor:
        return Executor(make_options(Options, options, "--jobs"))

    def device(self, asked: str) -> str:
        return local_device(asked)

    def threads(self, asked: int | None) -> int | None:
        """Processes side by side share the cores."""
        if asked or self.options.jobs == 1:
            return asked
        return max(1, (os.cpu_count() or 1) // self.options.jobs)

    def workers(self, bundles: int) -> int:
        return min(bundles, self.options.jobs)

    def defaults(self, cuda: bool) -> Resources:
        return Resources(gpus=int(cuda), cpus=max(1, (os.cpu_count() or 1) // self.options.jobs))

    def bundle_seconds(self, total: float, minutes: int) -> float:
        """A small share of the whole, so that all processes end together."""
        return max(60.0, total / (4 * self.options.jobs))

    def submit(self, root: Path, plan: Plan, report: Report) -> Submission:
        home = planning.folder(root) / plan.id
        with coordinating(home), preemptible():
            if self.options.jobs == 1:
                run_bundle(
                    root, plan, range(len(plan.runs)), report
                )  # seed by seed: what is cut is a whole smaller one
                return Submission(waited=True)
            return Submission(waited=True, messages=_Processes(root, plan, report, self.options.jobs).run())

    def state(self, homes: Sequence[Path]) -> Mapping[Path, Mapping[int, str]]:
        """Every bundle of a plan counts as running while its coordinator lives."""
        found: dict[Path, Mapping[int, str]] = {}
        for home in homes:
            if coordinator(home):
                found[home] = {n: "RUNNING" for n in range(len(planning.read(home / "plan.json").bundles))}
        return found

    def cancel(self, home: Path) -> list[str]:
        token = coordinator(home)
        if token is None:
            return []
        pid = int(token.partition(".")[0])
        if lease.alive(token) is None:
            return [f"{home.name}: process {pid} runs on {lease.host(token)}, if it still does: cancel it there"]
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.kill(pid, signal.SIGTERM)
        return [f"{home.name}: ended process {pid}"]

    def logs(self, home: Path, bundle: int) -> list[Path]:
        return [path for path in [home / "logs" / f"{bundle}.log"] if path.is_file()]


def local_device(asked: str) -> str:
    """Raises UsageError where CUDA is asked for and there is none."""
    import torch

    if asked == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch sees no CUDA device here. 'bench doctor' says more; --device cpu works.")
    return ("cuda" if torch.cuda.is_available() else "cpu") if asked == "auto" else asked


@contextlib.contextmanager
def coordinating(home: Path) -> Iterator[None]:
    """While this process runs the plan of this folder, a file says so: `status` counts on it, `cancel` ends it."""
    write_json(home / COORDINATOR, {"process": lease.token()})
    try:
        yield
    finally:
        (home / COORDINATOR).unlink(missing_ok=True)


def coordinator(home: Path) -> str | None:
    """The token of the process that runs a plan, as in a lease; None where it has ended."""
    try:
        found = read_json(home / COORDINATOR, dict[str, str])
    except FileNotFoundError:
        return None
    token = None if isinstance(found, Damaged) else found.get("process")
    return token if token is not None and lease.alive(token) is not False else None


# several processes ---------------------------------------------------------------------------------------------------


@dataclass
class _Processes:
    """Bundles in as many processes at a time as are asked for.

    A worker that dies takes nothing with it: its bundle is begun anew, and goes on behind what is finished.
    """

    root: Path
    plan: Plan
    report: Report
    jobs: int
    ended: threading.Event = field(default_factory=threading.Event)
    one_at_a_time: threading.Lock = field(default_factory=threading.Lock)
    workers: set[subprocess.Popen[bytes]] = field(default_factory=set)
    messages: list[str] = field(default_factory=list)
    served: int = 0

    def run(self) -> tuple[str, ...]:
        waiting = list(range(len(self.plan.bundles)))
        threads = [threading.Thread(target=self._serve, args=(waiting,), daemon=True) for _ in range(self.jobs)]
        try:
            for thread in threads:
                thread.start()
            while self.served < len(threads):
                time.sleep(0.1)  # not in join: one that a signal interrupts takes the thread for ended (Python 3.11)
        finally:
            self.ended.set()
            for worker in list(self.workers):
                worker.send_signal(signal.SIGTERM)
            for thread in threads:
                thread.join()
        return tuple(self.messages)

    def _serve(self, waiting: list[int]) -> None:
        try:
            while not self.ended.is_set():
                with self.one_at_a_time:
                    if not waiting:
                        return
                    number = waiting.pop(0)
                self._bundle(number)
        finally:
            with self.one_at_a_time:
                self.served += 1

    def _bundle(self, number: int) -> None:
        """The worker of a bundle, again as long as one dies before it has dealt with every run."""
        runs = self.plan.bundles[number].runs
        for _ in range(1 + len(runs) * (1 + self.plan.settings.retries)):
            dealt_with, code = self._worker(number)
            if self.ended.is_set() or code == 130 or dealt_with >= {self.plan.runs[i].spec.digest for i in runs}:
                return
            how = f"was ended by signal {-code}" if code < 0 else f"ended with exit status {code} before its last run"
            self.messages.append(f"A worker {how}; its bundle is begun anew.")
            self.report(RunEvent(self.plan.runs[runs[0]].spec, None, self.messages[-1]))

    def _worker(self, number: int) -> tuple[set[str], int]:
        """Digests of the runs that a worker has dealt with, and its exit status."""
        log = planning.folder(self.root) / self.plan.id / "logs" / f"{number}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        reading, writing = os.pipe()
        command = [sys.executable, "-m", "bench.execution.executors.local"]
        command += [str(self.root), self.plan.id, str(number), str(writing)]
        with open(log, "ab") as output:
            worker = subprocess.Popen(
                command, stdout=output, stderr=output, pass_fds=[writing], env=_environment(self.plan)
            )
        os.close(writing)
        self.workers.add(worker)
        known = {
            self.plan.runs[index].spec.digest: self.plan.runs[index].spec for index in self.plan.bundles[number].runs
        }
        dealt_with: set[str] = set()
        with open(reading, encoding="utf-8") as lines:
            for line in lines:
                try:
                    event = json.loads(line)
                    spec = known[event["digest"]]
                except (ValueError, KeyError, TypeError):  # half a line of a worker that was killed
                    continue
                dealt_with.add(spec.digest)
                with self.one_at_a_time:
                    self.report(RunEvent(spec, event["outcome"], event["text"], event["seconds"]))
        code = worker.wait()
        self.workers.discard(worker)
        return dealt_with | self._recorded(known), code

    def _recorded(self, known: Mapping[str, object]) -> set[str]:
        """Of these runs those that have their record though their worker died before it could say so."""
        store = Store(self.root)
        specs = [planned.spec for planned in self.plan.runs if planned.spec.digest in known]
        return {d for d, record in planning.finished(store, specs).items() if record.status == "done"}


def _environment(plan: Plan) -> dict[str, str]:
    """Threads are set before torch starts, where its libraries look for them."""
    return os.environ | ({"OMP_NUM_THREADS": str(plan.threads)} if plan.threads else {})


def main(arguments: Sequence[str]) -> int:
    """`python -m bench.execution.executors.local DIR PLAN BUNDLE FD`: one worker of several on this machine."""
    from bench.execution.attempt import Preempted

    root, name, number = Path(arguments[0]), arguments[1], int(arguments[2])
    plan = planning.read(planning.folder(root) / name / "plan.json")
    with open(int(arguments[3]), "w", encoding="utf-8") as pipe:

        def report(event: RunEvent) -> None:
            if event.outcome is not None:
                line = {"digest": event.spec.digest, "outcome": event.outcome, "text": event.text}
                print(json.dumps(line | {"seconds": event.seconds}), file=pipe, flush=True)

        try:
            with preemptible():
                run_bundle(root, plan, plan.bundles[number].runs, report)
        except (Preempted, KeyboardInterrupt):
            return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
