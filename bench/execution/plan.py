"""A plan on disk, from which any process on any machine builds the jobs of its runs.

    DIR/plans/<id>/plan.json      what was asked: every run with its spec, cards, where data are, how it is bundled

A plan holds plain data only. A worker builds its jobs anew and refuses one whose spec is no longer the one that was
planned: the method's file, the data or the weights have changed since.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.core.configs import Dataset
from bench.core.errors import BadData, UsageError
from bench.core.record import Record
from bench.core.schema import Damaged, plain, read_json
from bench.core.spec import RunSpec
from bench.core.store import Store, write_json
from bench.execution.attempt import Settings
from bench.execution.resources import Resources

LARGEST = 256 * 1024 * 1024  # bytes of a plan: 100,000 runs have fewer

if TYPE_CHECKING:
    from bench.training.job import Job


@dataclass(frozen=True)
class ExecutionContext:
    """Where jobs find what their specs do not say."""

    device: str
    weights: str = "pretrained"  # "pretrained", "random" or a file
    data_root: str | None = None
    folders: Mapping[str, str] = field(default_factory=dict)  # of own images, by the name of their dataset
    limit: int | None = None
    plugins: tuple[str, ...] = ()
    keep_delta: bool = False  # what was trained stays beside the record


@dataclass(frozen=True)
class Bundle:
    """Runs that one worker makes, one after another."""

    runs: tuple[int, ...]  # positions in the plan's list of runs
    seconds: float  # estimated
    resources: Resources


@dataclass(frozen=True)
class PlannedRun:
    spec: RunSpec
    seconds: float  # estimated


@dataclass(frozen=True)
class Plan:
    context: ExecutionContext
    settings: Settings
    cards: Mapping[str, Dataset]  # of every dataset of its runs, by name
    runs: tuple[PlannedRun, ...]
    bundles: tuple[Bundle, ...]
    threads: int | None = None  # of a worker; None: as many as torch takes
    executor: str = "local"
    options: Mapping[str, Any] = field(default_factory=dict)  # of the executor
    schema: int = 2

    def __post_init__(self) -> None:
        if any(not 0 <= index < len(self.runs) for bundle in self.bundles for index in bundle.runs):
            raise ValueError("a bundle names a run that the plan does not have")
        if missing := sorted({run.spec.dataset for run in self.runs} - set(self.cards)):
            raise ValueError(f"there is no card of {missing[0]!r}")

    @property
    def id(self) -> str:
        return hashlib.sha256(json.dumps(plain(self), sort_keys=True).encode()).hexdigest()[:8]

    def of_runs(self, keep: Sequence[int], bundles: Sequence[Bundle]) -> Plan:
        """The plan of some of its runs; `bundles` name them by their positions in `keep`."""
        runs = tuple(self.runs[index] for index in keep)
        names = {planned.spec.dataset for planned in runs}
        cards = {name: card for name, card in self.cards.items() if name in names}
        return dataclasses.replace(self, cards=cards, runs=runs, bundles=tuple(bundles))


# on disk -------------------------------------------------------------------------------------------------------------


def folder(root: Path) -> Path:
    return root / "plans"


def write(plan: Plan, root: Path) -> Path:
    path = folder(root) / plan.id / "plan.json"
    write_json(path, plain(plan))
    return path


def read(path: Path) -> Plan:
    """Raises UsageError, naming the file, where it is no plan."""
    try:
        found = read_json(path, Plan, LARGEST)
    except FileNotFoundError:
        raise UsageError(f"There is no plan at {path}.") from None
    if isinstance(found, Damaged):
        raise UsageError(f"This is not a plan: {found}")
    return found


def every(root: Path, warn: Callable[[str], object] | None = None) -> dict[Path, Plan]:
    """All plans of a results folder, by their files. One that cannot be read is named to `warn` and left out; it
    raises UsageError where there is none to warn."""
    found: dict[Path, Plan] = {}
    for path in sorted(folder(root).glob("*/plan.json")):
        try:
            found[path] = read(path)
        except UsageError as error:
            if warn is None:
                raise
            warn(str(error))
    return found


def remove(home: Path) -> None:
    shutil.rmtree(home, ignore_errors=True)


# jobs ----------------------------------------------------------------------------------------------------------------


def job_builder(plan: Plan) -> Callable[[int], Job]:
    """Builds the jobs of a plan by their positions; what several of them need is read once.

    The builder raises UsageError where a run would be another one by now, BadData where its images have changed.
    """
    from bench.data import sources
    from bench.data.readers import folder as image_folder
    from bench.data.root import default_data_root
    from bench.models import registry
    from bench.models.method import build
    from bench.training.job import make_job

    context = plan.context
    plugins = [Path(plugin) for plugin in context.plugins]
    root = Path(context.data_root) if context.data_root else default_data_root()
    image_folders: dict[str, image_folder.ImageFolder] = {}

    def own_images(dataset: str) -> image_folder.ImageFolder:
        if dataset not in image_folders:
            image_folders[dataset] = image_folder.divide(
                Path(context.folders[dataset]), limit=context.limit, data_root=root
            )
        return image_folders[dataset]

    def job(index: int) -> Job:
        spec = plan.runs[index].spec
        card = plan.cards[spec.dataset]
        method = build(registry.load(spec.method, plugins), dict(spec.params), spec.method)
        source: Any = None
        if spec.dataset in context.folders:
            source = own_images(spec.dataset)
            if source.fingerprint != spec.fingerprint:
                raise BadData(
                    f"The images in {context.folders[spec.dataset]} have changed since this was planned: run "
                    "'bench run' again."
                )
        elif sources.is_local(card):
            source = sources.find(dataclasses.replace(card, name=sources.whole_name(card.name)), root)
        made = make_job(
            *(spec.method, method, spec.backbone, card, spec.protocol, spec.seed),
            weights=context.weights,
            data_root=root,
            source=source,
            device=context.device,
        )
        if made.spec.digest != spec.digest:
            raise UsageError(
                f"{spec.method} on {spec.dataset}, seed {spec.seed}, has changed since it was planned (its file, the "
                "data or the weights): run 'bench run' again."
            )
        return dataclasses.replace(made, keep_delta=context.keep_delta)

    return job


# what is left --------------------------------------------------------------------------------------------------------


def finished(store: Store, specs: Iterable[RunSpec]) -> dict[str, Record]:
    """The records of the specs that have one, by digest."""
    found = {spec.digest: store.find(spec) for spec in specs}
    return {digest: record for digest, record in found.items() if record is not None}
