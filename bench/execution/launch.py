"""Runs a plan: here, in several processes, or as SLURM job arrays. The bundles and what is done with them are the same.

    DIR/plans/<id>/arrays.json      the job arrays that were submitted, and the bundle of each task
    DIR/plans/<id>/front.json       the process that runs the plan on this machine
    DIR/plans/<id>/logs/            what the workers print

Submission is detached: nothing has to stay alive. A task that is cut and queued again begins its bundle anew, leaves
out what has its record and goes on with what has a checkpoint.
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.core import lease
from bench.core.errors import BenchError, UsageError
from bench.core.record import Record
from bench.core.schema import parse, plain
from bench.core.spec import RunSpec
from bench.core.store import Store, write_json
from bench.execution import plan as planning
from bench.execution.plan import Bundle, Plan, Resources, Slurm
from bench.execution.worker import Preempted, perform, preemptible

Say = Callable[[str], object]


# a worker ------------------------------------------------------------------------------------------------------------


def work(root: Path, plan: Plan, bundle: Bundle, say: Say) -> int:
    """Makes the runs of a bundle, and says a line of each. The number of runs that failed or could not be asked.

    A run that another process is at is left to it; it is looked for once more at the end.
    """
    import torch

    if plan.threads:
        torch.set_num_threads(plan.threads)
    store, troubles = Store(root), 0
    busy: list[int] = []
    for index in bundle.runs:
        outcome = _make(store, plan, index, say)
        troubles += outcome in ("failed", "refused")
        busy += [index] if outcome == "busy" else []
    for index in busy:
        troubles += _make(store, plan, index, say) in ("failed", "refused")
    return troubles


def _make(store: Store, plan: Plan, index: int, say: Say) -> str:
    spec, start = plan.runs[index].spec, time.perf_counter()
    found, state = store.find(spec), store.state(spec)
    done = found is not None and found.status == "done"
    if done and not state.exists() and not lease.beside(state, ".lock").exists():
        return "done"
    try:  # one that is done, but whose process was killed before it had tidied up, is tidied by it
        record = perform(planning.job_of(plan, index), store, plan.settings)
        if done:
            return "done"
    except BenchError as error:
        say(f"{title(spec)}  refused: {error}")
        return "refused"
    if record is None:
        say(f"{title(spec)}  is left to the process that is at it")
        return "busy"
    say(f"{title(spec)}  {outcome(record)}  {time.perf_counter() - start:.1f} s")
    return record.status


def title(spec: RunSpec) -> str:
    return f"{spec.method} · {spec.dataset} · {spec.backbone} · seed {spec.seed}"


def outcome(record: Record) -> str:
    return f"{record.scores.test:7.2%}" if record.scores else f"{record.status}: {record.reason}"


def main(arguments: Sequence[str]) -> int:
    """`python -m bench.execution.launch DIR PLAN BUNDLE`: one worker of several on this machine."""
    root, name, number = Path(arguments[0]), arguments[1], int(arguments[2])
    plan = planning.read(planning.folder(root) / name / "plan.json")
    try:
        with preemptible():
            return 1 if work(root, plan, plan.bundles[number], lambda line: print(line, flush=True)) else 0
    except (Preempted, KeyboardInterrupt):
        return 130


# several processes ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def present(home: Path) -> Iterator[None]:
    """While this process is at the plan of this folder, front.json says so: `status` counts on it, `cancel` ends it."""
    write_json(home / "front.json", {"process": lease.token()})
    try:
        yield
    finally:
        (home / "front.json").unlink(missing_ok=True)


def front(home: Path) -> str | None:
    """The token of the process that is at a plan, as in a lock; None where it has ended."""
    try:
        token = json.loads((home / "front.json").read_text())["process"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return token if isinstance(token, str) and lease.alive(token) is not False else None


def processes(root: Path, plan: Plan, say: Say) -> int:
    """Runs the bundles in as many processes at a time as the plan says; the number of them in which something failed.

    A worker that dies takes nothing with it: its bundle is begun anew, and goes on behind what is finished.
    """
    home = planning.folder(root) / plan.id
    waiting, one_at_a_time, troubles = list(range(len(plan.bundles))), threading.Lock(), [0]
    workers: set[subprocess.Popen[str]] = set()
    ended, served = threading.Event(), [0]

    def serve() -> None:
        try:
            serve_on()
        finally:
            with one_at_a_time:
                served[0] += 1

    def serve_on() -> None:
        while not ended.is_set():
            with one_at_a_time:
                if not waiting:
                    return
                number = waiting.pop(0)
            for _ in range(1 + len(plan.bundles[number].runs) * (1 + plan.settings.retries)):
                code = one(number)
                if code in (0, 1, 2, 130) or ended.is_set():
                    break
                say(f"A worker was ended by signal {-code}; its bundle is begun anew.")
            troubles[0] += code != 0

    def one(number: int) -> int:
        command = [sys.executable, "-m", "bench.execution.launch", str(root), plan.id, str(number)]
        log = home / "logs" / f"{number}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with (
            open(log, "a") as errors,
            subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=errors, text=True, env=_environment(plan)
            ) as worker,
        ):
            workers.add(worker)
            assert worker.stdout is not None
            for line in worker.stdout:
                say(line.rstrip())
        workers.discard(worker)
        return worker.returncode

    threads = [threading.Thread(target=serve, daemon=True) for _ in range(min(plan.jobs, len(plan.bundles)))]
    try:
        with present(home), preemptible():
            for thread in threads:
                thread.start()
            while served[0] < len(threads):
                time.sleep(0.1)  # not in join: one that a signal interrupts takes the thread for ended (Python 3.11)
    finally:
        ended.set()
        for worker in list(workers):
            worker.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join()
    return troubles[0]


def _environment(plan: Plan) -> dict[str, str]:
    """Threads are set before torch starts, where its libraries look for them."""
    return os.environ | ({"OMP_NUM_THREADS": str(plan.threads)} if plan.threads else {})


# SLURM ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Array:
    """A submitted job array; task k works on the plan's bundle `bundles[k]`."""

    job: str
    bundles: tuple[int, ...]


class Task:
    """What an array task calls. Submitit asks `checkpoint` at the time limit, and queues what it returns."""

    def __call__(self, root: str, name: str, number: int) -> None:
        plan = planning.read(planning.folder(Path(root)) / name / "plan.json")
        try:
            with preemptible():
                work(Path(root), plan, plan.bundles[number], lambda line: print(line, flush=True))
        except Preempted as signal:
            raise SystemExit(f"TrainingOutcome by {signal}; what is finished is kept.") from None

    def checkpoint(self, root: str, name: str, number: int) -> Any:
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, root, name, number)


def submit(root: Path, plan: Plan) -> list[Array]:
    """Submits every bundle, one array for each kind of resources; nothing is waited for."""
    submitit, options = _submitit(), plan.slurm or Slurm()
    home, arrays = planning.folder(root).resolve() / plan.id, list[Array]()
    for resources in dict.fromkeys(bundle.resources for bundle in plan.bundles):
        numbers = [n for n, bundle in enumerate(plan.bundles) if bundle.resources == resources]
        executor = submitit.AutoExecutor(home / "slurm", cluster="slurm", slurm_max_num_timeout=10_000)
        executor.update_parameters(**_parameters(plan, options, resources))
        try:
            with executor.batch():
                jobs = [executor.submit(Task(), str(root.resolve()), plan.id, number) for number in numbers]
        except submitit.core.utils.FailedJobError as error:
            raise UsageError(f"Slurm refused the jobs: {' '.join(str(error).split())}") from error
        arrays.append(Array(str(jobs[0].job_id).partition("_")[0], tuple(numbers)))
        write_json(home / "arrays.json", plain(arrays))
    return arrays


def _submitit() -> Any:
    try:
        import submitit
    except ImportError:
        raise UsageError("--slurm needs submitit: pip install 'petbench[slurm]'.") from None
    import shutil

    if shutil.which("sbatch") is None:
        raise UsageError("--slurm: there is no sbatch here. Submit from a login node; --jobs N runs on this machine.")
    return submitit


def _parameters(plan: Plan, options: Slurm, resources: Resources) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": f"bench-{plan.id}",
        "timeout_min": resources.minutes,
        "cpus_per_task": resources.cpus,
        "slurm_array_parallelism": options.array_parallelism,
        "slurm_signal_delay_s": min(options.signal_delay, resources.minutes * 60 // 2),
        "slurm_setup": list(options.setup) + ([f"export OMP_NUM_THREADS={plan.threads}"] if plan.threads else []),
        "slurm_additional_parameters": {"requeue": True, **options.sbatch},
        "stderr_to_stdout": True,
    }
    if resources.gpus:
        found["slurm_gpus_per_node"] = resources.gpus
    if resources.memory:
        found["mem_gb"] = resources.memory
    for name in ("partition", "account", "qos", "constraint"):
        if getattr(options, name) is not None:
            found[f"slurm_{name}"] = getattr(options, name)
    return found


def arrays(home: Path) -> list[Array]:
    """The arrays that were submitted for the plan of this folder."""
    try:
        data = json.loads((home / "arrays.json").read_text())
    except FileNotFoundError:
        return []
    return [parse(Array, array, str(home / "arrays.json")) for array in data]


def queue() -> dict[str, str] | None:
    """State of every task of this user's that Slurm has not ended, by its id, 7_3; None where Slurm cannot be asked."""
    command = ["squeue", "--noheader", "--array", "--me", "--format=%F|%K|%T"]
    try:
        out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    rows = (line.split("|") for line in out.split())
    return {(job if task == "N/A" else f"{job}_{task}"): state for job, task, state in rows}


def bundle_states(home: Path, tasks: Mapping[str, str]) -> dict[int, str]:
    """What Slurm says of the bundles of a plan, by number: PENDING, RUNNING, ...; without those that it has ended."""
    found: dict[int, str] = {}
    for array in arrays(home):
        for place, number in enumerate(array.bundles):
            for name in (f"{array.job}_{place}", *([array.job] if len(array.bundles) == 1 else [])):
                if name in tasks:
                    found[number] = tasks[name]
    return found


def cancel(home: Path) -> list[str]:
    """Ends the jobs and the process of a plan; what it has finished stays. A line for each thing that was ended."""
    told = []
    if ids := [array.job for array in arrays(home)]:
        tasks = queue()
        live = {name.partition("_")[0] for name in tasks or {}}
        if tasks is None:
            told.append(
                f"{home.name}: Slurm does not answer here (squeue); nothing of its {', '.join(ids)} was cancelled"
            )
        elif running := [job for job in ids if job in live]:
            subprocess.run(["scancel", *running], check=True)
            told.append(f"{home.name}: cancelled Slurm's {', '.join(running)}")
    token = front(home)
    if token is None:
        return told
    pid = int(token.partition(".")[0])
    if lease.alive(token) is None:
        return [*told, f"{home.name}: process {pid} runs on {lease.host(token)}, if it still does: cancel it there"]
    with contextlib.suppress(ProcessLookupError):  # it has just ended
        os.kill(pid, signal.SIGTERM)
    return [*told, f"{home.name}: ended process {pid}"]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
