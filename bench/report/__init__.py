"""Records -> pandas -> leaderboards and figures. Needs no torch; pandas and matplotlib load when something is written.

    DIR/leaderboards/<suite>.csv, .md                                      all backbones of a suite
    DIR/plots/<suite>-<backbone>-{params,gflops,heatmap,neurons}.png, .svg

A suite is the part of a dataset's name before "/", with the groups and headline of its card. A dataset without such a
card is a suite of its own, with one group, `all`, and of an image folder whose contents have changed only the newest
contents are shown. One file holds one protocol and one set of weights a backbone:

    <suite>                        the card's protocol (without one among the records: the first by name), the
                                   pretrained weights of each backbone (without: the first by name, `random` last)
    <suite>@<protocol>             another protocol
    <suite>@[<protocol>@]<weights> other weights of a backbone

Of a method that was run in several versions, only the newest stands in the tables, and the page says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from bench import cards
from bench.errors import UsageError
from bench.record import Record

if TYPE_CHECKING:
    from bench.report.aggregate import Groups, Headline

T = TypeVar("T")


@dataclass(frozen=True)
class Part:
    """What one leaderboard shows."""

    name: str  # of its files
    title: str
    groups: Groups
    headline: Headline
    records: tuple[Record, ...]
    note: str = ""


Warn = Callable[[str], object]


def write_all(root: Path, records: Sequence[Record], warn: Warn | None = None) -> list[Path]:
    """Writes the leaderboards and figures of the records under `root`, each whole, and returns their paths.

    A part whose records do not compare is named to `warn` and left out; without `warn` it raises UsageError.
    """
    return write_tables(root, records, warn) + write_plots(root, records)


def write_tables(root: Path, records: Sequence[Record], warn: Warn | None = None) -> list[Path]:
    return _each(records, lambda part: _tables(root, part), warn)


def write_plots(root: Path, records: Sequence[Record]) -> list[Path]:
    return _each(records, lambda part: _plots(root, part), lambda _: None)


def terminal_tables(records: Sequence[Record]) -> list[str]:
    """The leaderboards as text for a terminal, one for each part."""

    def text(part: Part) -> list[str]:
        from bench.report.aggregate import leaderboard
        from bench.report.frame import frame
        from bench.report.tables import terminal

        return [terminal(leaderboard(frame(part.records), part.groups, part.headline))]

    return _each(records, text, lambda _: None)


def _each(records: Iterable[Record], make: Callable[[Part], list[T]], warn: Warn | None) -> list[T]:
    made: list[T] = []
    for part in parts(records):
        try:
            made += make(part)
        except UsageError as error:
            if warn is None:
                raise
            warn(f"No leaderboard of {part.name}: {error}")
    return made


def parts(records: Iterable[Record]) -> list[Part]:
    """The records by suite, protocol and weights, with the names of their files."""
    suites: dict[str, list[Record]] = {}
    for record in _newest_data(records):
        suites.setdefault(_suite_of(record.spec.dataset), []).append(record)
    return [part for suite, members in sorted(suites.items()) for part in _parts(suite, members)]


def _newest_data(records: Iterable[Record]) -> list[Record]:
    """The records without those of an image folder's earlier contents; a suite's data must agree with its card."""
    every = list(records)
    latest: dict[str, tuple[str, str]] = {}
    for record in every:
        name, stand = record.spec.dataset, (record.provenance.started, record.spec.fingerprint)
        latest[name] = max(latest.get(name, stand), stand)
    return [
        record
        for record in every
        if _suite_of(record.spec.dataset) in cards.suite_names()
        or record.spec.fingerprint == latest[record.spec.dataset][1]
    ]


def _suite_of(dataset: str) -> str:
    """The suite a dataset stands in; a dataset without a suite card, like "folder/pets", stands alone."""
    suite = dataset.split("/", 1)[0]
    return suite if suite in cards.suite_names() else dataset


def _parts(suite: str, records: Sequence[Record]) -> list[Part]:
    groups, headline, own, title = _card(suite, records)
    kept, note = _newest(records)
    by_protocol: dict[str, list[Record]] = {}
    for record in kept:
        by_protocol.setdefault(_protocol_label(record, kept), []).append(record)
    found: list[Part] = []
    for rank, protocol in enumerate(sorted(by_protocol, key=lambda name: (name.split("#")[0] != own, name))):
        by_weights: dict[str, list[Record]] = {}
        for record in by_protocol[protocol]:
            by_weights.setdefault(_weights_label(record, by_protocol[protocol]), []).append(record)
        for weights, members in sorted(by_weights.items()):
            suffix = "".join(f"@{_file_name(name)}" for name in (protocol if rank else "", weights) if name)
            found.append(Part(_file_name(suite) + suffix, title, groups, headline, tuple(members), note))
    return found


def _card(suite: str, records: Iterable[Record]) -> tuple[Groups, Headline, str, str]:
    if suite in cards.suite_names():
        card = cards.suite(suite).card
        return card.groups, card.headline, card.protocol, card.title
    return {"all": tuple(sorted({r.spec.dataset.split("/", 1)[-1] for r in records}))}, "mean_datasets", "", suite


def _newest(records: Iterable[Record]) -> tuple[list[Record], str]:
    """The records of each method's newest version, and a sentence on those left out."""
    every = list(records)
    newest: dict[str, int] = {}
    for record in every:
        newest[record.spec.method] = max(newest.get(record.spec.method, 0), record.spec.method_version)
    old = [record for record in every if record.spec.method_version != newest[record.spec.method]]
    names = ", ".join(sorted({record.spec.method for record in old}))
    note = f"Left out: {len(old)} records of older versions of {names}." if old else ""
    return [record for record in every if record.spec.method_version == newest[record.spec.method]], note


def _protocol_label(record: Record, among: Iterable[Record]) -> str:
    """The protocol's name, with a digest where different protocols share it."""
    from bench.report.frame import protocol_digest

    protocol = record.spec.protocol
    digests = {protocol_digest(other.spec.protocol) for other in among if other.spec.protocol.name == protocol.name}
    return protocol.name if len(digests) == 1 else f"{protocol.name}#{protocol_digest(protocol)}"


def _weights_label(record: Record, among: Iterable[Record]) -> str:
    """Empty for the first weights of a backbone, a name for others."""
    own = {other.spec.weights for other in among if other.spec.backbone == record.spec.backbone}
    first = min(own, key=lambda name: (name != "pretrained", name == "random", name))
    return "" if record.spec.weights == first else record.spec.weights.removeprefix("sha256:")[:12]


def _tables(root: Path, part: Part) -> list[Path]:
    from bench.report import tables
    from bench.report.aggregate import leaderboard
    from bench.report.frame import frame
    from bench.store import write_atomically

    runs = frame(part.records)
    table = leaderboard(runs, part.groups, part.headline)
    page = root / "leaderboards" / f"{part.name}.md"
    text = tables.markdown(table, runs, part.groups, part.headline, part.title, part.note)
    write_atomically(page, lambda file: file.write_text(text))
    return [tables.write_csv(table, page.parent / f"{part.name}.csv"), page]


def _plots(root: Path, part: Part) -> list[Path]:
    from bench.report import phases, plots
    from bench.report.aggregate import datasets, intervals, leaderboard
    from bench.report.frame import frame

    runs = frame(part.records)
    table = leaderboard(runs, part.groups, part.headline)
    whiskers = intervals(runs, part.groups, part.headline)
    paths: list[Path] = []
    for backbone, rows in table.groupby("backbone", sort=True):
        stem = root / "plots" / f"{part.name}-{_file_name(str(backbone))}"
        own = [record for record in part.records if record.spec.backbone == backbone]
        rows = rows.reset_index(drop=True)
        for short, cost in (("params", "params_trained"), ("gflops", "gflops_unmerged")):
            if rows[part.headline].notna().any():
                steps = phases.trails(own, part.groups, part.headline, cost)
                file = stem.parent / f"{stem.name}-{short}"
                paths += plots.tradeoff(rows, cost, file, part.title, part.headline, whiskers, steps)
        if (rows["coverage"] > 0).any():
            paths += plots.heatmap(rows, stem.parent / f"{stem.name}-heatmap", part.groups, part.title)
        paths += phases.neurons(own, stem.parent / f"{stem.name}-neurons", part.title, datasets(part.groups))
    return paths


def _file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)
