"""Grid -> jobs -> what is missing -> bundles of similar cost; and a plan on disk, from which any process builds them.

    DIR/plans/<id>/plan.json      what was asked: every run with its spec, cards, where data are, how it is bundled

A plan holds plain data only. A worker builds its jobs anew and refuses one whose spec is no longer the one that was
planned: the method's file, the data or the weights have changed since.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import hashlib
import heapq
import json
import math
import shutil
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.core.configs import Dataset
from bench.core.errors import BadData, UsageError
from bench.core.record import Record
from bench.core.schema import parse, plain
from bench.core.spec import RunSpec
from bench.core.store import Store, write_atomically
from bench.execution.worker import Settings

if TYPE_CHECKING:
    from bench.training.job import Job


@dataclass(frozen=True)
class ExecutionContext:
    """Where jobs find what their specs do not say."""

    device: str
    weights: str = "pretrained"  # "pretrained", "random" or a file
    data_root: str | None = None
    folder: str | None = None  # of images, with --data
    limit: int | None = None
    plugins: tuple[str, ...] = ()


@dataclass(frozen=True)
class Resources:
    """What one worker needs. Memory in GB; minutes that it may take before it has to let go."""

    gpus: int = 0
    cpus: int = 1
    memory: float | None = None
    minutes: int = 60


@dataclass(frozen=True)
class Slurm:
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
    sbatch: Mapping[str, str] = dataclasses.field(default_factory=dict)  # any other option of sbatch

    def __post_init__(self) -> None:
        _check_least(self, gpus=0, cpus=1, timeout=1, array_parallelism=1, signal_delay=0)

    def defaults(self, cuda: bool) -> Resources:
        gpus = self.gpus if self.gpus is not None else int(cuda)
        return Resources(gpus, self.cpus or (4 if gpus else 1), self.memory, self.timeout)


@dataclass(frozen=True)
class Bundle:
    """Runs that one worker makes, one after another."""

    runs: tuple[int, ...]  # places in the plan's list of runs
    seconds: float  # estimated
    resources: Resources


@dataclass(frozen=True)
class PlannedRun:
    spec: RunSpec
    seconds: float  # estimated


@dataclass(frozen=True)
class Plan:
    place: ExecutionContext
    settings: Settings
    cards: Mapping[str, Dataset]  # of every dataset of its runs, by name
    runs: tuple[PlannedRun, ...]
    bundles: tuple[Bundle, ...]
    threads: int | None = None  # of a worker; None: as many as torch takes
    jobs: int = 1  # processes on this machine
    slurm: Slurm | None = None  # instead of which it is submitted
    schema: int = 1

    @property
    def id(self) -> str:
        return hashlib.sha256(json.dumps(plain(self), sort_keys=True).encode()).hexdigest()[:8]

    def without(self, keep: Sequence[int], bundles: Sequence[Bundle]) -> Plan:
        """The plan of some of its runs; `bundles` name them by their places in `keep`."""
        runs = tuple(self.runs[index] for index in keep)
        names = {planned.spec.dataset for planned in runs}
        cards = {name: card for name, card in self.cards.items() if name in names}
        return dataclasses.replace(self, cards=cards, runs=runs, bundles=tuple(bundles))


def _check_least(asked: Slurm | ResourceOverride, **least: int) -> None:
    """Raises ValueError that lists every number which is too small."""
    faults = [f"{k} must be at least {v}" for k, v in least.items() if (n := getattr(asked, k)) is not None and n < v]
    if asked.memory is not None and asked.memory <= 0:
        faults.append("memory must be more than 0")
    if faults:
        raise ValueError("; ".join(faults))


# the plan on disk ----------------------------------------------------------------------------------------------------


def folder(root: Path) -> Path:
    return root / "plans"


def write(plan: Plan, root: Path) -> Path:
    path = folder(root) / plan.id / "plan.json"
    write_atomically(path, lambda file: file.write_text(json.dumps(plain(plan)) + "\n"))
    return path


def read(path: Path) -> Plan:
    try:
        return parse(Plan, json.loads(path.read_text()), str(path))
    except FileNotFoundError:
        raise UsageError(f"There is no plan at {path}.") from None
    except ValueError as error:
        raise UsageError(f"{path} is not a plan: {error}.") from error


def every(root: Path) -> dict[Path, Plan]:
    """All plans of a results folder, by their files."""
    return {path: read(path) for path in sorted(folder(root).glob("*/plan.json"))}


def remove(home: Path) -> None:
    shutil.rmtree(home, ignore_errors=True)


def job_of(plan: Plan, index: int) -> Job:
    """The job of a planned run, built anew. Raises UsageError where it would be another run by now."""
    from bench.data import sources
    from bench.data.readers import folder as image_folder
    from bench.data.root import default_data_root
    from bench.models import registry
    from bench.models.method import build
    from bench.training.job import make_job

    place, spec = plan.place, plan.runs[index].spec
    root = Path(place.data_root) if place.data_root else default_data_root()
    card = plan.cards[spec.dataset]
    plugins = [Path(plugin) for plugin in place.plugins]
    method = build(registry.load(spec.method, plugins), dict(spec.params), spec.method)
    source: Any = None
    if place.folder:
        source = image_folder.divide(Path(place.folder), limit=place.limit, data_root=root)
        if source.fingerprint != spec.fingerprint:
            raise BadData(f"The images in {place.folder} have changed since this was planned: run 'bench run' again.")
    elif sources.is_local(card):
        source = sources.find(dataclasses.replace(card, name=sources.whole_name(card.name)), root)
    job = make_job(
        *(spec.method, method, spec.backbone, card, spec.protocol, spec.seed),
        weights=place.weights,
        data_root=root,
        source=source,
        device=place.device,
    )
    if job.spec.digest != spec.digest:
        raise UsageError(
            f"{spec.method} on {spec.dataset}, seed {spec.seed}, has changed since it was planned (its file, the data "
            "or the weights): run 'bench run' again."
        )
    return job


# cost ----------------------------------------------------------------------------------------------------------------


class History:
    """Seconds that finished runs took, for an estimate of those to come: the median of the most similar ones."""

    def __init__(self, done: Iterable[tuple[str, str, str, str, float]]) -> None:
        """Method, backbone, dataset, protocol and seconds of finished runs."""
        self.seen: dict[tuple[str, ...], list[float]] = {}
        for method, backbone, dataset, protocol, seconds in done:
            for key in _likeness(method, backbone, dataset, protocol):
                self.seen.setdefault(key, []).append(seconds)

    def seconds(self, spec: RunSpec) -> float | None:
        """None where nothing like it has been run."""
        keys = _likeness(spec.method, spec.backbone, spec.dataset, spec.protocol.name)
        return next((statistics.median(self.seen[key]) for key in keys if key in self.seen), None)


def history(root: Path, warn: Callable[[str], object]) -> History:
    """Of the records of a results folder."""
    from bench.report import index

    frame = index.load(root, warn)
    done = frame[frame["status"] == "done"]
    columns = [done[name] for name in ("method", "backbone", "dataset", "protocol", "seconds")]
    return History(zip(*columns, strict=True))


def _likeness(method: str, backbone: str, dataset: str, protocol: str) -> list[tuple[str, ...]]:
    """What two runs may have in common, the most telling first."""
    suite = dataset.partition("/")[0]
    return [
        (method, backbone, dataset, protocol),
        (method, backbone, suite, protocol),
        ("", backbone, dataset, protocol),
        ("", backbone, suite, protocol),
        ("", backbone, "", protocol),
    ]


def bundled(costs: Sequence[tuple[float, Resources]], seconds: float) -> list[Bundle]:
    """Bundles of about `seconds` each, of runs with the same needs, the costliest first; for 0 s every run alone.

    Every run goes, the costliest first, to the bundle that has least so far: so they end at about the same time.
    """
    bundles: list[Bundle] = []
    for resources in dict.fromkeys(need for _, need in costs):
        own = [index for index, (_, need) in enumerate(costs) if need == resources]
        total = sum(costs[index][0] for index in own)
        count = max(1, min(len(own), math.ceil(total / seconds))) if seconds > 0 else len(own)
        heap = [(0.0, number) for number in range(count)]  # the load of each bundle, the least first
        members = [list[int]() for _ in range(count)]
        for index in sorted(own, key=lambda i: -costs[i][0]):
            load, number = heap[0]
            heapq.heapreplace(heap, (load + costs[index][0], number))
            members[number].append(index)
        bundles += [Bundle(tuple(sorted(members[number])), load, resources) for load, number in sorted(heap)]
    return sorted(bundles, key=lambda bundle: -bundle.seconds)


@dataclass(frozen=True)
class ResourceOverride:
    """A line of a configuration's [[resources]]: needs of the runs whose names match its patterns."""

    method: str = "*"
    suite: str = "*"
    dataset: str = "*"
    backbone: str = "*"
    gpus: int | None = None
    cpus: int | None = None
    memory: float | None = None
    minutes: int | None = None

    def __post_init__(self) -> None:
        _check_least(self, gpus=0, cpus=1, minutes=1)

    def fits(self, spec: RunSpec) -> bool:
        names = {
            "method": spec.method,
            "suite": spec.dataset.partition("/")[0],
            "dataset": spec.dataset,
            "backbone": spec.backbone,
        }
        return all(fnmatch.fnmatchcase(name, getattr(self, key)) for key, name in names.items())


def resources_for(spec: RunSpec, usual: Resources, rules: Sequence[ResourceOverride]) -> Resources:
    """The resources of one run: the usual ones, changed by every rule that fits, the last one last."""
    for rule in rules:
        if rule.fits(spec):
            asked = {name: getattr(rule, name) for name in ("gpus", "cpus", "memory", "minutes")}
            usual = dataclasses.replace(usual, **{name: v for name, v in asked.items() if v is not None})
    return usual


# what is left --------------------------------------------------------------------------------------------------------


def finished(store: Store, specs: Iterable[RunSpec]) -> dict[str, Record]:
    """The records of the specs that have one, by digest."""
    found = {spec.digest: store.find(spec) for spec in specs}
    return {digest: record for digest, record in found.items() if record is not None}
