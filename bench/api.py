"""The benchmark from Python: the same requests, plans, executors, records and tables as on the command line.

results = bench.run("lora", suite="pocket2", seeds=3, rank=4)
results.leaderboard()                            # a pandas DataFrame
bench.load("results").compare("lora", "mimi", suite="pocket2")
net = bench.attach(timm_model, "lora", rank=8)   # a model to train in a loop of your own
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.core.errors import UsageError
from bench.execution.request import Launch, MethodChoice, RunRequest, make_request

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from bench.core.record import Record
    from bench.execution.accounting import Account
    from bench.execution.events import Report as OnEvent
    from bench.execution.planner import Asked
    from bench.models.tuned_model import TunedModel
    from bench.report import Report
    from bench.report.compare import Comparison
    from bench.tools.forgetting import ForgettingScores

Methods = str | MethodChoice | Sequence[str | MethodChoice]
Warn = Callable[[str], object]
Finding = tuple[str, str | None]
PathLike = str | Path


@dataclass(frozen=True)
class Results:
    """The records of a results folder, or those of one request, as tables, figures and comparisons.

    `account` says where each run of a request stands; it is None for a folder that was loaded.
    """

    root: Path
    digests: frozenset[str] | None = None  # of the runs that are meant; None: all of the folder
    account: Account | None = None
    warn: Warn | None = None

    @cached_property
    def report(self) -> Report:
        """What tables and figures are made of (bench.report)."""
        from bench import report
        from bench.models import registry

        whole = report.load(self.root, self.warn or _warn, registry.families(), registry.versions())
        return whole if self.digests is None else whole.only(self.digests)

    def leaderboard(self, suite: str = "", backbone: str = "") -> pd.DataFrame:
        """The leaderboard as a DataFrame: one row a method, accuracies in %, costs, intervals, ties; the best first.

        `suite` and `backbone` choose where there are several leaderboards. Raises UsageError where there is none, or
        where runs do not compare.
        """
        parts = [part for part in self.report.parts if part.name.startswith(suite)]
        tables = [(part, part.table) for part in parts]
        if backbone:
            tables = [(part, table[table["backbone"] == backbone].reset_index(drop=True)) for part, table in tables]
        tables = [(part, table) for part, table in tables if len(table)]
        if len(tables) == 1:
            return tables[0][1]
        names = ", ".join(part.name for part, _ in tables)
        if tables:
            raise UsageError(f"There are several leaderboards, {names}: choose one with suite=.")
        raise UsageError(f"There is no such leaderboard in {self.root}. Known: {', '.join(self.names) or 'none'}.")

    @property
    def names(self) -> list[str]:
        """The names of the leaderboards."""
        return [part.name for part in self.report.parts]

    def to_frame(self) -> pd.DataFrame:
        """One row a run: what was asked, its score, its costs, where it was made (columns of bench.report.frame)."""
        return self.report.runs.copy()

    def records(self) -> Iterator[Record]:
        """Every record whole, with its losses, milestones and provenance."""
        from bench.core.store import Store

        for record in Store(self.root).records(self.warn or _warn):
            if self.digests is None or record.spec.digest in self.digests:
                yield record

    def compare(self, first: str, second: str, suite: str = "", backbone: str = "") -> list[Comparison]:
        """Two methods seed by seed and dataset by dataset: paired difference with interval, wins and losses, costs.

        One comparison for each leaderboard and backbone that has both. Raises UsageError where none has.
        """
        return self.report.compare(first, second, suite, backbone)

    def write(self) -> list[Path]:
        """Writes leaderboards and figures of the whole folder below it; their paths."""
        return dataclasses.replace(self, digests=None).report.write(self.root, self.warn or _warn)

    def plot(self) -> list[Path]:
        """Draws the figures of the folder below it; their paths."""
        return self.report.write_plots(self.root)

    def page(self, path: PathLike | None = None) -> Path:
        """One HTML file to explore the results in, which needs nothing but itself; its path."""
        import csv

        from bench.core.recipes import published_folder
        from bench.report import page

        with open(published_folder() / "counts.csv", newline="", encoding="utf-8") as file:
            counts = list(csv.DictReader(file))
        return page.write(Path(path) if path else self.root / "board.html", self.report, self.records(), counts)

    def __len__(self) -> int:
        return len(self.report.runs)


def run(
    methods: Methods | RunRequest,
    *,
    launch: Launch | None = None,
    on_event: OnEvent | None = None,
    warn: Warn | None = None,
    **request: Any,
) -> Results:
    """Trains and scores what is asked for and not finished yet, and returns the results of all of it.

    `methods` is a name, several, `MethodChoice`s with hyper-parameters of their own, or a whole `RunRequest`; keywords
    are the fields of `RunRequest`, and hyper-parameters of the methods: `bench.run("lora", suite="pocket2", seeds=3,
    rank=4)`. `seeds` may be a number: 3 means 0, 1, 2. `data` may be one folder. With none of `suite`, `datasets` and
    `data` the suite is `pocket2`. `launch` says on what and in how many processes; `on_event` is called with every
    `RunEvent`.

    Raises UsageError where the question is wrong. A run that fails is a record; `results.account` says where each run
    stands, and `results.account.complete` whether all of them have a result.
    """
    from bench.execution.run import execute

    asked_for = _request(methods, request)
    asked = _work_out(asked_for, launch or Launch(), warn or _warn, prepare=True)
    done = execute(asked, Path(asked_for.out), on_event or (lambda _: None), warn or _warn)
    return Results(Path(asked_for.out), frozenset(spec.digest for spec in asked.specs), done.account, warn)


def plan(
    methods: Methods | RunRequest, *, launch: Launch | None = None, warn: Warn | None = None, **request: Any
) -> Asked:
    """What `run` would do with the same arguments, with estimates of its time; nothing is prepared, run or written."""
    return _work_out(_request(methods, request), launch or Launch(), warn or _warn, prepare=False)


def load(path: PathLike = "results", *, warn: Warn | None = None) -> Results:
    """The results folder at `path`. Raises UsageError where there is no such folder."""
    if not Path(path).is_dir():
        raise UsageError(f"There is no results folder at {path}.")
    return Results(Path(path), warn=warn)


def attach(model: nn.Module, method: str, *, plugins: Sequence[PathLike] = (), **settings: Any) -> TunedModel:
    """Puts a method on a timm model: its backbone is frozen, its classifier and the method's parameters train.

    `settings` are hyper-parameters of the method. The model itself is changed; train
    `net.trainable_parameters().values()` in a loop of your own. Raises UsageError for unknown names,
    UnsupportedBackbone and Incompatible where method and model do not fit.
    """
    from bench.models import registry
    from bench.models.method import build
    from bench.models.tuned_model import TunedModel

    files = [Path(path) for path in plugins]
    return TunedModel.attach(model, build(registry.load(method, files), settings, method))


def load_tuned(run: str, path: PathLike = "results", *, weights: str | None = None) -> TunedModel:
    """The tuned model of a finished run that was made with `keep_delta`, in eval mode.

    `run` is the beginning of its digest, as `bench status --runs` shows it, `path` the results folder. `weights` is the
    file of the backbone's weights where the run was made with one. Raises UsageError where there is no such run, or
    where it has kept nothing.
    """
    from bench.execution import kept

    return kept.tuned(kept.find(Path(path), run, _warn), weights)


def forgetting(
    runs: str | Sequence[str],
    path: PathLike = "results",
    *,
    dataset: str | None = None,
    data: PathLike | None = None,
    weights: str | None = None,
    data_root: PathLike | None = None,
    device: str = "cpu",
) -> list[ForgettingScores]:
    """How much runs that were made with `keep_delta` have forgotten of another dataset, in their order.

    For each the accuracy of a fresh linear probe (scikit-learn's logistic regression) on what its tuned backbone gives
    of the other images, against that on the untouched backbone's. `runs` are beginnings of digests, or "all" of the
    folder; the other dataset is SUITE/NAME, or a folder of own images. Raises UsageError where a run has kept nothing,
    or where the other data are not here.
    """
    from bench.data.root import default_data_root
    from bench.execution import kept

    root = Path(data_root) if data_root else default_data_root()
    if runs == "all":
        found = list(kept.every(Path(path), _warn))
    else:
        found = [kept.find(Path(path), run, _warn) for run in ([runs] if isinstance(runs, str) else runs)]
    if not found:
        raise UsageError(f"No run under {path} has kept what it trained: run with keep_delta (--keep-delta).")
    card, source = kept.other_dataset(dataset, Path(data) if data else None, root)
    return list(kept.measure(found, card, source, root, device, weights))


def check(
    methods: str | Sequence[str],
    *,
    backbones: Sequence[str] = ("pocket_vit_patch8", "pocket_swin_patch4"),
    plugins: Sequence[PathLike] = (),
    **settings: Any,
) -> dict[tuple[str, str], list[Finding]]:
    """The conformance checks of methods on backbones, by method and backbone: of each check its name, and what is
    wrong or None. "all" names every method. Raises UsageError for unknown names and hyper-parameters.
    """
    names = [methods] if isinstance(methods, str) else methods
    return {(name, backbone): found for name, backbone, found in checks(names, backbones, plugins, settings)}


def checks(
    methods: Sequence[str], backbones: Sequence[str], plugins: Sequence[PathLike], settings: Mapping[str, Any]
) -> Iterator[tuple[str, str, list[Finding]]]:
    """The same one after another, as soon as each has been checked."""
    from bench.execution.grid import method_choices
    from bench.models import registry
    from bench.models.method import build
    from bench.tools import conformance

    files = tuple(Path(path) for path in plugins)
    names = [choice.name for choice in method_choices(methods, {}, files)]
    for name in names:
        build(registry.load(name, files), settings, name)  # a wrong hyper-parameter is refused before the first check
    cases = [(name, backbone) for name in names for backbone in backbones]
    for (name, backbone), found in zip(cases, conformance.run_all(cases, settings, files), strict=True):
        yield name, backbone, found


def _work_out(request: RunRequest, launch: Launch, warn: Warn, *, prepare: bool) -> Asked:
    from bench.data.progress import silent
    from bench.execution.planner import work_out

    return work_out(request, launch, warn, lambda _: silent, prepare=prepare)


def _request(methods: Methods | RunRequest, given: Mapping[str, Any]) -> RunRequest:
    """A request from what a caller wrote; what is no field of it is a hyper-parameter of the methods."""
    if isinstance(methods, RunRequest):
        if given:
            raise UsageError(f"A RunRequest is whole: {', '.join(given)} cannot be given beside it.")
        return methods
    fields = {f.name for f in dataclasses.fields(RunRequest)} - {"methods"}
    values = {name: value for name, value in given.items() if name in fields}
    settings = {name: value for name, value in given.items() if name not in fields}
    for name in ("datasets", "data", "backbones", "plugins"):
        if name in values:
            values[name] = _texts(values[name])
    for name in ("out", "data_root", "weights", "suite", "protocol"):
        if isinstance(values.get(name), Path):
            values[name] = str(values[name])
    if isinstance(values.get("seeds"), int):
        values["seeds"] = tuple(range(values["seeds"]))
    elif values.get("seeds") is not None:
        values["seeds"] = tuple(values["seeds"])
    if not any(values.get(name) for name in ("suite", "datasets", "data")):
        values["suite"] = "pocket2"
    return make_request(methods=_choices(methods, settings, values.get("plugins", ())), **values)


def _choices(methods: Methods, settings: Mapping[str, Any], plugins: Sequence[str]) -> tuple[MethodChoice, ...]:
    from bench.execution.grid import method_choices

    several = [methods] if isinstance(methods, str | MethodChoice) else list(methods)
    files = [Path(path) for path in plugins]
    found: list[MethodChoice] = []
    for each in several:
        if isinstance(each, MethodChoice):
            found.append(MethodChoice(each.name, {**settings, **each.settings}))
        else:
            found += method_choices([each], dict(settings), files)
    return tuple(found)


def _texts(value: PathLike | Collection[PathLike]) -> tuple[str, ...]:
    return (str(value),) if isinstance(value, str | Path) else tuple(map(str, value))


def _warn(text: str) -> None:
    import warnings

    warnings.warn(text, stacklevel=3)
