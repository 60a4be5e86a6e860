"""As SLURM job arrays, through submitit. Submission is detached: nothing has to stay alive.

    DIR/plans/<id>/arrays.json      the job arrays that were submitted, and the bundle of each task
    DIR/plans/<id>/slurm/           what the tasks print

A task that is cut and queued again begins its bundle anew, leaves out what has its record and goes on with what has a
checkpoint.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from bench.core.errors import UsageError
from bench.core.schema import Damaged, plain, read_json
from bench.core.store import write_json
from bench.execution import plan as planning
from bench.execution.attempt import Preempted, preemptible
from bench.execution.events import Report, RunEvent
from bench.execution.executors import Submission
from bench.execution.executors.local import local_device
from bench.execution.plan import Plan
from bench.execution.resources import Resources, check_least, make_options
from bench.execution.worker import run_bundle

ARRAYS = "arrays.json"
LARGEST_ARRAY = 1001  # Slurm's own default of MaxArraySize, where it does not tell


@dataclass(frozen=True)
class Options:
    """How job arrays are asked for. No field has a site's name as its default."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    gpus: int | None = None
    cpus: int | None = None
    memory: float | None = None  # GB
    timeout: int = 60  # minutes of one task; a longer bundle goes on in the next one
    array_parallelism: int = 256  # tasks of an array at a time
    signal_delay: int = 90  # seconds before the time limit at which a task lets go
    setup: tuple[str, ...] = ()  # shell lines before a task, "module load ..."
    sbatch: Mapping[str, str] = field(default_factory=dict)  # any other option of sbatch

    def __post_init__(self) -> None:
        check_least(self, gpus=0, cpus=1, timeout=1, array_parallelism=1, signal_delay=0)
        if self.memory is not None and self.memory <= 0:
            raise ValueError("memory must be more than 0")


@dataclass(frozen=True)
class Array:
    """A submitted job array; task k works on the plan's bundle `bundles[k]`."""

    job: str
    bundles: tuple[int, ...]


@dataclass(frozen=True)
class Executor:
    options: Options
    detached: ClassVar[bool] = True

    @staticmethod
    def of(options: Mapping[str, object]) -> Executor:
        return Executor(make_options(Options, options, "--slurm"))

    def device(self, asked: str) -> str:
        """It is the nodes' device that counts: a login node need have no GPU."""
        if asked == "auto" and self.options.gpus is not None:
            return "cuda" if self.options.gpus else "cpu"
        return local_device("auto") if asked == "auto" else asked

    def threads(self, asked: int | None) -> int | None:
        return asked

    def workers(self, bundles: int) -> int:
        return min(bundles, self.options.array_parallelism)

    def defaults(self, cuda: bool) -> Resources:
        gpus = self.options.gpus if self.options.gpus is not None else int(cuda)
        return Resources(gpus, self.options.cpus or (4 if gpus else 1), self.options.memory, self.options.timeout)

    def bundle_seconds(self, total: float, minutes: int) -> float:
        """Half the time limit of a task, at most half an hour."""
        return 60.0 * min(30, minutes / 2)

    def submit(self, root: Path, plan: Plan, report: Report) -> Submission:
        """All bundles or none: where Slurm refuses an array, those before it are cancelled."""
        submitit = _submitit(root)
        home, largest = planning.folder(root).resolve() / plan.id, _largest_array()
        before, arrays = read_arrays(home), list[Array]()
        for resources in dict.fromkeys(bundle.resources for bundle in plan.bundles):
            numbers = [n for n, bundle in enumerate(plan.bundles) if bundle.resources == resources]
            for start in range(0, len(numbers), largest):
                part = numbers[start : start + largest]
                executor = submitit.AutoExecutor(home / "slurm", cluster="slurm", slurm_max_num_timeout=10_000)
                executor.update_parameters(**_parameters(plan, self.options, resources))
                try:
                    with executor.batch():
                        jobs = [executor.submit(Task(), str(root.resolve()), plan.id, number) for number in part]
                except (submitit.core.utils.FailedJobError, OSError, subprocess.SubprocessError) as error:
                    withdrawn = _withdraw([array.job for array in arrays])
                    told = " ".join(str(error).split())
                    raise UsageError(
                        f"Slurm refused the jobs, and nothing stays submitted{withdrawn}: {told}"
                    ) from error
                arrays.append(Array(str(jobs[0].job_id).partition("_")[0], tuple(part)))
                write_json(home / ARRAYS, plain([*before, *arrays]))
        return Submission(waited=False, jobs=tuple(array.job for array in arrays))

    def state(self, homes: Sequence[Path]) -> Mapping[Path, Mapping[int, str]] | None:
        arrays = {home: read_arrays(home) for home in homes}
        if not any(arrays.values()):
            return {}
        tasks = queue()
        return None if tasks is None else {home: _bundles(own, tasks) for home, own in arrays.items()}

    def cancel(self, home: Path) -> list[str]:
        ids = [array.job for array in read_arrays(home)]
        if not ids:
            return []
        tasks = queue()
        if tasks is None:
            return [f"{home.name}: Slurm does not answer here (squeue); nothing of its {', '.join(ids)} was cancelled"]
        live = {name.partition("_")[0] for name in tasks}
        if running := [job for job in ids if job in live]:
            subprocess.run(["scancel", *running], check=True)
            return [f"{home.name}: cancelled Slurm's {', '.join(running)}"]
        return []

    def logs(self, home: Path, bundle: int) -> list[Path]:
        return [
            path
            for array in read_arrays(home)
            if bundle in array.bundles
            for path in sorted((home / "slurm").glob(f"{array.job}_{array.bundles.index(bundle)}_*_log.out"))
        ]


class Task:
    """What an array task calls. Submitit asks `checkpoint` at the time limit, and queues what it returns."""

    def __call__(self, root: str, name: str, number: int) -> None:
        plan = planning.read(planning.folder(Path(root)) / name / "plan.json")

        def report(event: RunEvent) -> None:
            if event.outcome is not None:
                spec = event.spec
                title = f"{spec.method} · {spec.dataset} · {spec.backbone} · seed {spec.seed}"
                print(f"{title}  {event.outcome}  {event.text}  {event.seconds:.1f} s", flush=True)

        try:
            with preemptible():
                run_bundle(Path(root), plan, plan.bundles[number].runs, report)
        except Preempted as signal:
            raise SystemExit(f"Ended by {signal}; what is finished is kept.") from None

    def checkpoint(self, root: str, name: str, number: int) -> Any:
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, root, name, number)


def _submitit(root: Path) -> Any:
    """Raises UsageError where jobs cannot be submitted from here."""
    import submitit

    if shutil.which("sbatch") is None:
        raise UsageError("--slurm: there is no sbatch here. Submit from a login node; --jobs N runs on this machine.")
    if "%" in str(root.resolve()):
        raise UsageError(f"--slurm: Slurm expands the % in {root.resolve()}. Choose an --out without one.")
    return submitit


def _parameters(plan: Plan, options: Options, resources: Resources) -> dict[str, Any]:
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


def _withdraw(ids: Sequence[str]) -> str:
    """Cancels arrays of a submission that is refused half-way; where that fails too, says which are left."""
    if not ids:
        return ""
    try:
        subprocess.run(["scancel", *ids], check=True, capture_output=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return f", but for {', '.join(ids)}, which could not be cancelled"
    return ""


def _largest_array() -> int:
    """Tasks that one array may have at this site (MaxArraySize), and jobs that the site takes at all (MaxJobCount)."""
    try:
        command = ["scontrol", "show", "config"]
        out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        return LARGEST_ARRAY
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", out, re.MULTILINE)
    return max(1, int(found[1])) if found else LARGEST_ARRAY


def read_arrays(home: Path) -> list[Array]:
    """The arrays that were submitted for the plan of this folder. Raises UsageError where their file is damaged: what
    Slurm has of them is then not known."""
    path = home / ARRAYS
    try:
        arrays = read_json(path, tuple[Array, ...])
    except FileNotFoundError:
        return []
    if isinstance(arrays, Damaged):
        raise UsageError(f"This is not a list of job arrays: {arrays}")
    if wrong := [array.job for array in arrays if not re.fullmatch(r"\d+", array.job)]:
        raise UsageError(f"{path} is damaged: {wrong[0]!r} is not the id of a Slurm job.")
    return list(arrays)


def queue() -> dict[str, str] | None:
    """State of every task of this user's that Slurm has not ended, by its id, 7_3; None where Slurm cannot be asked."""
    command = ["squeue", "--noheader", "--array", "--me", "--format=%F|%K|%T"]
    try:
        out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    rows = [line.split("|") for line in out.split()]
    return {(row[0] if row[1] == "N/A" else f"{row[0]}_{row[1]}"): row[2] for row in rows if len(row) == 3}


def _bundles(arrays: Sequence[Array], tasks: Mapping[str, str]) -> dict[int, str]:
    """What Slurm says of the bundles of a plan, by number: PENDING, RUNNING, ...; without those that it has ended."""
    found: dict[int, str] = {}
    for array in arrays:
        for position, number in enumerate(array.bundles):
            for name in (f"{array.job}_{position}", *([array.job] if len(array.bundles) == 1 else [])):
                if name in tasks:
                    found[number] = tasks[name]
    return found
