"""What the page shows, as plain JSON: boards of backbones of rows of runs. The page does all arithmetic itself.

boards      one a leaderboard (suite, protocol, weights): title, groups, headline, protocol, note, floors, backbones
floors      what a suite's card says of chance and of raw pixels: name, accuracy in % by dataset
backbones   name, weights, datasets seen in pretraining, rows
rows        method, variant, family, hyper-parameters, whether it merges, runs
runs        lists in the order of RUN; curves are lists of numbers, one an epoch
provenance  where runs were made, each once; runs name their place in it
reported    numbers that others print, by suite
counts      printed numbers of trained parameters against ours
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from bench.core import configs
from bench.core.record import Provenance, Record
from bench.core.schema import plain
from bench.core.spec import changes_of
from bench.report import Report, floors
from bench.report.aggregate import NAMES
from bench.report.columns import COLUMNS, MEASURES, measures_of_run
from bench.report.frame import key_of, seen_in_pretraining
from bench.report.parts import Part, ReportedPart
from bench.report.standings import datasets

RUN = (
    *("dataset", "seed", "digest", "status", "score", "val", "failure", "reason", "attempts", "started", "seconds"),
    *MEASURES,
    *("provenance", "loss", "val_curve", "lr", "trials", "milestones"),
)
LONGEST = 120  # points of a curve
DIGITS = 4  # of a point of a curve


class Places:
    """Values, each held once, and their places."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._places: dict[str, int] = {}

    def add(self, value: Any) -> int:
        key = repr(value)
        if key not in self._places:
            self._places[key] = len(self.values)
            self.values.append(value)
        return self._places[key]


def collect(report: Report, records: Iterable[Record], counts: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """All that the page embeds; arguments as in bench.report.page.write."""
    by_digest = {record.spec.digest: record for record in records}
    provenance = Places()
    boards = [_board(part, by_digest, report.families, provenance) for part in report.parts]
    methods = {row["method"] for board in boards for backbone in board["backbones"] for row in backbone["rows"]}
    return {
        "run": RUN,
        "measures": MEASURES,
        "meanings": {column.name: column.meaning for column in COLUMNS},
        "boards": boards,
        "reported": [_reported(part) for part in report.reported_parts],
        "counts": [dict(row) for row in counts if row["method"] in methods],
        "provenance": provenance.values,
    }


def _board(
    part: Part, records: Mapping[str, Record], families: Mapping[str, str], provenance: Places
) -> dict[str, Any]:
    some = records[part.runs["digest"].iloc[0]]
    return {
        "name": part.name,
        "suite": part.suite,
        "data": _data(part.suite, some.spec.dataset),
        "title": part.title,
        "headline": part.headline,
        "groups": {name: list(keys) for name, keys in part.groups.items() if keys},
        "protocol": {**plain(some.spec.protocol), "seeds": None},
        "tuned": bool(some.spec.protocol.search_lr),
        "note": part.note,
        "floors": [
            {"name": name, "values": [floor[key] for key in datasets(part.groups)]}
            for name, floor in floors.of(part.suite).items()
        ],
        "backbones": [
            _backbone(str(name), part, runs, records, families, provenance)
            for name, runs in part.runs.groupby("backbone", sort=True)
        ],
    }


def _backbone(
    name: str,
    part: Part,
    runs: pd.DataFrame,
    records: Mapping[str, Record],
    families: Mapping[str, str],
    provenance: Places,
) -> dict[str, Any]:
    keys = {key: place for place, key in enumerate(datasets(part.groups))}
    rows = []
    for names, members in runs.groupby(list(NAMES), sort=True):
        own = [records[digest] for digest in members["digest"]]
        first = own[0]
        rows.append(
            {
                "method": str(names[0]),
                "variant": str(names[1]),
                "family": families.get(str(names[0]), "other"),
                "version": first.spec.method_version,
                "params": plain(first.spec.params),
                "merges": any(record.cost is not None and record.cost.merged is not None for record in own),
                "command": _command(first),
                "runs": [_run(record, keys, provenance) for record in own],
            }
        )
    seen = [
        keys[key_of(record.spec.dataset)]
        for record in (records[digest] for digest in runs.drop_duplicates("dataset")["digest"])
        if record.provenance.pretrained_on and seen_in_pretraining(record.spec.dataset, record.provenance.pretrained_on)
    ]
    return {"name": name, "weights": str(runs["weights"].iloc[0]), "seen": sorted(seen), "rows": rows}


def _run(record: Record, keys: Mapping[str, int], provenance: Places) -> list[Any]:
    scores, cost, epochs = record.scores, record.cost, record.epochs
    where = provenance.add(_provenance(record.provenance))
    head = [
        keys[key_of(record.spec.dataset)],
        record.spec.seed,
        record.spec.digest,
        record.status,
        None if scores is None else _number(scores.test, 8),
        None if scores is None or scores.val is None else _number(scores.val, 8),
        record.failure,
        record.reason,
        record.attempts,
        record.provenance.started,
        _number(record.provenance.seconds, DIGITS),
    ]
    measured = dict.fromkeys(MEASURES) if cost is None else measures_of_run(cost)
    costs = [_number(measured[name], 12) for name in MEASURES]
    curves = [
        _curve([epoch.loss for epoch in epochs]),
        _curve([epoch.val for epoch in epochs]),
        _curve([epoch.lr for epoch in epochs]),
    ]
    trials = [[trial.lr, trial.weight_decay, trial.val] for trial in record.trials]
    milestones = [
        [end.name, end.epoch, _number(end.score, 6), end.params.deployed + end.params.head] for end in record.milestones
    ]
    return [*head, *costs, where, *curves, trials, milestones]


def _provenance(found: Provenance) -> dict[str, Any]:
    """Of a run what many runs share; the rest stands with the run."""
    names = ("code", "method_sha256", "weights_sha256", "transform", "pretrained_on", "device", "device_name", "dtype")
    return {**{name: getattr(found, name) for name in (*names, "threads")}, "versions": dict(found.versions)}


def _curve(values: Sequence[float | None]) -> list[float | None]:
    """At most LONGEST points of a curve, the last among them; none where nothing was measured."""
    if all(value is None for value in values):
        return []
    step = max(1, math.ceil(len(values) / LONGEST))
    return [_number(value, DIGITS) for value in list(values)[::-1][::step][::-1]]


def _number(value: float | None, digits: int) -> float | None:
    """To so many significant digits, a whole number as one; None for what is no finite number."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value if isinstance(value, int) else float(f"{value:.{digits}g}")


def _command(record: Record) -> str:
    """The command that asks for a row's runs; the page adds the dataset and the seeds."""
    spec = record.spec
    words = ["bench", "run", "--method", spec.method]
    for setting in record.variant.split(",") if record.variant else ():
        words += ["--set", setting]
    name, changes = changes_of(spec.protocol.name)
    words += ["--backbone", spec.backbone, "--protocol", name if name in configs.protocols() else "FILE.toml"]
    for key, value in changes.items():
        words += [f"--{key}", value]
    if spec.weights != "pretrained":
        words += ["--weights", spec.weights if spec.weights == "random" else "FILE"]
    return shlex.join(words)


def _data(suite: str, dataset: str) -> str:
    """The option that asks for a board's datasets; of a shipped suite the page knows how to name one of them."""
    if suite in configs.suite_names():
        return ""
    return "--data FOLDER" if dataset.startswith("folder/") else "--suite FILE.toml"


def _reported(part: ReportedPart) -> dict[str, Any]:
    keys = datasets(part.groups)
    rows = [
        {
            **{name: str(row[name]) for name in ("source", "method", "variant", "backbone", "protocol")},
            "values": [None if math.isnan(row[key]) else row[key] for key in keys],
        }
        for row in part.table.to_dict("records")
    ]
    return {
        "suite": part.suite,
        "title": part.title,
        "headline": part.headline,
        "groups": {name: list(keys) for name, keys in part.groups.items() if keys},
        "rows": rows,
    }
