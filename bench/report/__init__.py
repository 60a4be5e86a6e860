"""Records -> pandas -> leaderboards and figures. Needs no torch; pandas and matplotlib load when something is written.

    DIR/leaderboards/<suite>.csv, .md                                      all backbones of a suite
    DIR/leaderboards/<suite>-reported.csv, .md                             what others report of the suite
    DIR/plots/<suite>-<backbone>-{params,gflops,heatmap,neurons}.png, .svg

A suite is the part of a dataset's name before "/", with the groups and headline of its card: a shipped one, or one that
the results folder holds (bench.core.suites), as of image folders that were asked for together. A dataset without such a
card is a suite of its own, with one group, `all`. Of images of one's own that have changed only the newest contents are
shown, and the page says so. One file holds one protocol and one set of weights a backbone:

    <suite>                        the card's protocol (without one among the records: the first by name), the
                                   pretrained weights of each backbone (without: the first by name, `random` last)
    <suite>@<protocol>             another protocol
    <suite>@[<protocol>@]<weights> other weights of a backbone

Names that are not plain end in a digest, so that no two boards share a file (bench.core.text.file_name).

Of a method that was run in several versions, only the newest stands in the tables, and the page says so.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from bench.core import configs, suites, text
from bench.core.errors import UsageError
from bench.core.record import Record

if TYPE_CHECKING:
    import pandas as pd

    from bench.core.configs import SuiteCard
    from bench.report.compare import Comparison
    from bench.report.standings import Groups, Headline

T = TypeVar("T")
Warn = Callable[[str], object]


@dataclass(frozen=True)
class Part:
    """What one leaderboard shows."""

    name: str  # of its files
    suite: str  # the suite's name, or that of the only dataset
    title: str
    groups: Groups
    headline: Headline
    runs: pd.DataFrame  # of bench.report.frame
    note: str = ""

    @cached_property
    def table(self) -> pd.DataFrame:
        """The leaderboard, for files, figures and the terminal. Raises UsageError where the runs do not compare."""
        from bench.report.aggregate import leaderboard

        return leaderboard(self.runs, self.groups, self.headline)


@dataclass(frozen=True)
class ReportedPart:
    """What others report of one suite."""

    suite: str
    name: str  # of its files
    title: str
    groups: Groups
    headline: Headline
    table: pd.DataFrame  # of bench.report.reported


@dataclass(frozen=True)
class Report:
    """The leaderboards and figures of many runs; what several of them need is computed once."""

    runs: pd.DataFrame
    reported: pd.DataFrame | None = None  # of bench.report.reported
    families: Mapping[str, str] = field(default_factory=dict)  # of every known method, for colours
    own: tuple[SuiteCard, ...] = ()  # the cards of suites that the results folder holds

    @cached_property
    def parts(self) -> list[Part]:
        return parts(self.runs, self.own)

    def only(self, digests: Collection[str]) -> Report:
        """The report of some of the runs; itself where these are all of them."""
        chosen = self.runs["digest"].isin(list(digests))
        return self if chosen.all() else replace(self, runs=self.runs[chosen].reset_index(drop=True))

    def write(self, root: Path, warn: Warn | None = None) -> list[Path]:
        """Writes the leaderboards and figures under `root`, each whole, and returns their paths.

        A part whose runs do not compare is named to `warn` and left out; without `warn` it raises UsageError.
        """
        return self.write_tables(root, warn) + self.write_plots(root)

    def write_tables(self, root: Path, warn: Warn | None = None) -> list[Path]:
        paths = _each(self.parts, lambda part: _tables(root, part), warn)
        return paths + [path for part in self.reported_parts for path in _reported(root, part)]

    def write_plots(self, root: Path) -> list[Path]:
        return _each(self.parts, lambda part: _plots(root, part, self.families), lambda _: None)

    @cached_property
    def reported_parts(self) -> list[ReportedPart]:
        """What others report, by suite; where the suite was measured too, with the gap."""
        from bench.report import reported

        measured = {part.name: part for part in self.parts}
        found: list[ReportedPart] = []
        for suite, rows in reported.suites(self.reported).items() if self.reported is not None else ():
            groups, headline, _, title = _card(suite, rows, self.own)
            own = measured[suite].table if suite in measured else None
            table = reported.table(rows, groups, headline, own)
            found.append(ReportedPart(suite, text.file_name(suite.replace("/", "-")), title, groups, headline, table))
        return found

    def compare(self, first: str, second: str, suite: str = "", backbone: str = "") -> list[Comparison]:
        """Two methods, METHOD or METHOD:VARIANT, on every leaderboard and backbone that has both.

        `suite` is the beginning of a leaderboard's name, `backbone` a whole name; empty ones choose nothing. Raises
        UsageError where no leaderboard has both, or the two are the same row.
        """
        from bench.report.compare import compare, has

        blocks = [
            (part, runs)
            for part in self.parts
            for name, runs in part.runs.groupby("backbone", sort=True)
            if part.name.startswith(suite) and backbone in ("", name)
        ]
        both = [(part, runs) for part, runs in blocks if has(runs, first) and has(runs, second)]
        if not both:
            known = ", ".join(sorted({str(name) for _, runs in blocks for name in runs["method"]})) or "nothing"
            raise UsageError(f"No leaderboard has both {first!r} and {second!r}. They have: {known}.")
        return [compare(runs, part.groups, part.headline, first, second, part.title) for part, runs in both]

    def export(
        self, kind: Literal["csv", "markdown", "latex"], suite: str = "", backbone: str = "", warn: Warn | None = None
    ) -> str:
        """The leaderboards as one text; `suite` is the beginning of a leaderboard's name, `backbone` a whole name.

        One whose runs do not compare is named to `warn` and left out; without `warn` it raises UsageError.
        """
        chosen = [part for part in self.parts if part.name.startswith(suite)]
        texts = _each(chosen, lambda part: [_export(kind, part, backbone)], warn)
        return "\n".join(filter(None, texts))

    def terminal(self) -> list[str]:
        """The leaderboards as text for a terminal, one for each part."""
        return _each(self.parts, _terminal, lambda _: None)


def load(
    root: Path,
    warn: Warn | None = None,
    families: Mapping[str, str] | None = None,
    versions: Mapping[str, int] | None = None,
) -> Report:
    """The report of a results folder, whose index it keeps; files that are no records are named to `warn`.

    Of every known method `families` gives the family, which colours the figures and the page, and `versions` the
    version: a record that says a later one, of whatever that may be, is set aside and hides none of the others.
    """
    from bench.report import index

    runs = _of_known_versions(
        _without_strangers(index.load(root, warn), warn), versions or {}, warn or (lambda _: None)
    )
    return Report(runs, _load_reported(root, warn), families or {}, suites.kept(root, warn))


def _without_strangers(runs: pd.DataFrame, warn: Warn | None) -> pd.DataFrame:
    """The runs without those of a dataset that the card of its suite does not have, which are named to `warn`: by them
    no table of the suite could be made. Without `warn` all are kept."""
    if warn is None:
        return runs
    strange = [name for name in runs["dataset"].unique() if not _has_card(name)]
    for name in strange:
        digests = sorted(runs.loc[runs["dataset"] == name, "digest"])
        shown = ", ".join(digests[:3]) + (", ..." if len(digests) > 3 else "")
        warn(f"{len(digests)} of the records are set aside, for their suite has no dataset {name!r}: {shown}.")
    return runs[~runs["dataset"].isin(strange)].reset_index(drop=True) if strange else runs


def _of_known_versions(runs: pd.DataFrame, versions: Mapping[str, int], warn: Warn) -> pd.DataFrame:
    known = runs["method"].map(versions)
    later = runs["version"] > known  # False where a method is not known here
    for (name, version), found in runs[later].groupby(["method", "version"]):
        warn(
            f"{len(found)} of the records are set aside: they are of version {version:.0f} of {name}, which is not "
            f"known here; here it is version {versions[str(name)]}. Is this bench older than the one that made them?"
        )
    return runs[~later].reset_index(drop=True) if later.any() else runs


def _has_card(dataset: str) -> bool:
    """False where a suite's card does not name the dataset; what has no suite card needs none."""
    suite = dataset.split("/", 1)[0]
    return suite not in configs.suite_names() or any(card.name == dataset for card in configs.suite(suite).datasets)


def _load_reported(root: Path, warn: Warn | None) -> pd.DataFrame | None:
    from bench.report import reported

    try:
        return reported.load(root)
    except UsageError as error:
        if warn is None:
            raise
        warn(str(error))
        return None


def of(records: Iterable[Record]) -> Report:
    from bench.report.frame import frame

    return Report(frame(records))


def write_all(root: Path, records: Sequence[Record], warn: Warn | None = None) -> list[Path]:
    return of(records).write(root, warn)


def write_tables(root: Path, records: Sequence[Record], warn: Warn | None = None) -> list[Path]:
    return of(records).write_tables(root, warn)


def write_plots(root: Path, records: Sequence[Record]) -> list[Path]:
    return of(records).write_plots(root)


def terminal_tables(records: Sequence[Record]) -> list[str]:
    return of(records).terminal()


def _each(parts: Iterable[Part], make: Callable[[Part], list[T]], warn: Warn | None) -> list[T]:
    made: list[T] = []
    for part in parts:
        try:
            made += make(part)
        except UsageError as error:
            if warn is None:
                raise
            warn(f"No leaderboard of {part.name}: {error}")
    return made


def parts(runs: pd.DataFrame, own: Sequence[SuiteCard] = ()) -> list[Part]:
    """The runs by suite, protocol and weights, with the names of their files. `own` are cards of a results folder."""
    if runs.empty:
        return []
    runs, note = _newest_data(runs)
    return [part for board in _boards(runs, own) for part in _parts(board, note)]


def _by(runs: pd.DataFrame, labels: pd.Series) -> list[tuple[str, pd.DataFrame]]:
    return [(label, runs[labels == label].reset_index(drop=True)) for label in sorted(labels.unique())]


def _newest_data(runs: pd.DataFrame) -> tuple[pd.DataFrame, Callable[[pd.DataFrame], str]]:
    """The runs without those of earlier contents of somebody's own images, and what to say of these beside some of the
    others; a suite's data must agree with its card."""
    latest = runs.sort_values(["started", "fingerprint"]).groupby("dataset")["fingerprint"].last()
    shipped = runs["dataset"].map(board_suite).isin(configs.suite_names())
    kept = shipped | (runs["fingerprint"] == runs["dataset"].map(latest))
    old = runs.loc[~kept, "dataset"]

    def note(shown: pd.DataFrame) -> str:
        counts = old[old.isin(shown["dataset"])].value_counts().sort_index()
        names = ", ".join(f"{count} of {name}" for name, count in counts.items())
        return f"Left out: records of images that have changed since: {names}." if names else ""

    return runs[kept], note


@dataclass(frozen=True)
class _Board:
    """What stands in one suite's leaderboards, of whatever protocol and weights."""

    suite: str
    files: tuple[str, ...]  # parts of the name of its files
    title: str
    groups: Groups
    headline: Headline
    protocol: str
    runs: pd.DataFrame


def _boards(runs: pd.DataFrame, own: Sequence[SuiteCard]) -> list[_Board]:
    """Shipped suites and datasets that stand alone by their names, then suites of somebody's own.

    Image folders that were asked for together stand together where runs of at least two of them are shown.
    """
    found, taken = list[_Board](), set[str]()
    for card in own:
        names = [f"{card.name}/{key}" for keys in card.groups.values() for key in keys]
        members = runs[runs["dataset"].isin(names)].reset_index(drop=True)
        folders = card.name == configs.OWN.name
        if members["dataset"].nunique() < (2 if folders else 1):
            continue
        files = ("folders", *(name.split("/", 1)[1] for name in names)) if folders else (card.name,)
        found.append(_Board(card.name, files, card.title, card.groups, card.headline, card.protocol, members))
        taken.update(names)
    rest = runs[~runs["dataset"].isin(taken)]
    alone = []
    for suite, members in _by(rest, rest["dataset"].map(board_suite)) if len(rest) else ():
        groups, headline, protocol, title = _card(suite, members)
        alone.append(_Board(suite, (suite.replace("/", "-"),), title, groups, headline, protocol, members))
    return [*alone, *found]


def board_suite(dataset: str) -> str:
    """The shipped suite a dataset stands in; another one, like "folder/pets", stands alone unless the results folder
    has a card that names it."""
    suite = dataset.split("/", 1)[0]
    return suite if suite in configs.suite_names() else dataset


def _parts(board: _Board, note: Callable[[pd.DataFrame], str]) -> list[Part]:
    from bench.report.aggregate import mixtures

    kept, versions = _newest(board.runs)
    by_protocol = _by(kept, _protocol_labels(kept))
    by_protocol.sort(key=lambda item: (item[0].split("#")[0] != board.protocol, item[0]))
    found: list[Part] = []
    for rank, (protocol, followers) in enumerate(by_protocol):
        for weights, members in _by(followers, _weights_labels(followers)):
            more = [name for name in (protocol if rank else "", weights) if name]
            text_below = " ".join(filter(None, (versions, note(members), mixtures(members))))
            name = text.file_name(*board.files, *more)
            found.append(Part(name, board.suite, board.title, board.groups, board.headline, members, text_below))
    return found


def _card(suite: str, runs: pd.DataFrame, own: Sequence[SuiteCard] = ()) -> tuple[Groups, Headline, str, str]:
    shipped = [configs.suite(suite).card] if suite in configs.suite_names() else []
    for card in (*shipped, *own):
        if card.name == suite != configs.OWN.name:
            return card.groups, card.headline, card.protocol, card.title
    return {"all": tuple(sorted({name.split("/", 1)[-1] for name in runs["dataset"]}))}, "mean_datasets", "", suite


def _newest(runs: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The runs of each method's newest version, and a sentence on those left out."""
    newest = runs["version"] == runs.groupby("method")["version"].transform("max")
    old = runs[~newest]
    if old.empty:
        return runs, ""
    shown = runs[newest].groupby("method")["version"].first()
    names = ", ".join(f"{name} (shown: version {shown[name]})" for name in sorted(old["method"].unique()))
    return runs[newest], f"Left out: {len(old)} records of older versions of {names}."


def _protocol_labels(runs: pd.DataFrame) -> pd.Series:
    """The protocol's name, with a digest where different protocols share it."""
    alone = runs.groupby("protocol")["protocol_digest"].transform("nunique") == 1
    return runs["protocol"].where(alone, runs["protocol"] + "#" + runs["protocol_digest"])


def _weights_labels(runs: pd.DataFrame) -> pd.Series:
    """Empty for the first weights of a backbone, a name for others."""
    first = {
        backbone: min(own.unique(), key=lambda name: (name != "pretrained", name == "random", name))
        for backbone, own in runs.groupby("backbone")["weights"]
    }
    names = {name: name.removeprefix("sha256:")[:12] for name in runs["weights"].unique()}
    return runs["weights"].map(names).mask(runs["weights"] == runs["backbone"].map(first), "")


def _tables(root: Path, part: Part) -> list[Path]:
    from bench.core.store import write_atomically
    from bench.report import floors, tables

    page = root / "leaderboards" / f"{part.name}.md"
    written = tables.markdown(part.table, part.runs, part.groups, part.headline, part.title, part.note)
    written += floors.markdown(part.suite)
    write_atomically(page, lambda file: file.write_text(written))
    return [tables.write_csv(part.table, page.parent / f"{part.name}.csv"), page]


def _reported(root: Path, part: ReportedPart) -> list[Path]:
    from bench.core.store import write_atomically
    from bench.report import reported

    csv, page = (root / "leaderboards" / f"{part.name}-reported{ending}" for ending in (".csv", ".md"))
    written = reported.markdown(part.table, part.groups, part.headline, part.title)
    write_atomically(csv, lambda file: file.write_text(reported.csv(part.table)))
    write_atomically(page, lambda file: file.write_text(written))
    return [csv, page]


def _export(kind: Literal["csv", "markdown", "latex"], part: Part, backbone: str) -> str:
    from bench.report import floors, tables
    from bench.report.latex import latex

    table, runs = part.table, part.runs
    if backbone:
        table = table[table["backbone"] == backbone].reset_index(drop=True)
        runs = runs[runs["backbone"] == backbone].reset_index(drop=True)
    if table.empty:
        return ""
    if kind == "csv":
        return tables.csv(table)
    if kind == "latex":
        return latex(table, runs, part.groups, part.headline, part.title)
    return tables.markdown(table, runs, part.groups, part.headline, part.title, part.note) + floors.markdown(part.suite)


def _terminal(part: Part) -> list[str]:
    from bench.report import floors, tables

    shown = tables.terminal(part.table, part.headline, shutil.get_terminal_size((150, 24)).columns)
    return [text.printable_lines("\n".join(filter(None, (shown, floors.terminal(part.suite), part.note))))]


def _plots(root: Path, part: Part, families: Mapping[str, str]) -> list[Path]:
    from bench.report import heatmap, phases, plots
    from bench.report.standings import datasets

    paths: list[Path] = []
    for backbone, rows in part.table.groupby("backbone", sort=True):
        stem = root / "plots" / f"{part.name}-{text.file_name(str(backbone))}"
        own = part.runs[part.runs["backbone"] == backbone]
        rows = plots.with_overhead(rows.reset_index(drop=True))
        if rows[part.headline].notna().any():
            trails = phases.trails(own, part.groups, part.headline, "params_trained")
            for short, cost, steps in (("params", "params_trained", trails), ("gflops", "gflops_overhead", None)):
                file = stem.parent / f"{stem.name}-{short}"
                paths += plots.tradeoff(rows, cost, file, part.title, part.headline, steps, families)
        if (rows["coverage"] > 0).any():
            file = stem.parent / f"{stem.name}-heatmap"
            paths += heatmap.heatmap(rows, file, part.groups, part.headline, part.title)
        paths += phases.neurons(own, stem.parent / f"{stem.name}-neurons", part.title, datasets(part.groups))
    return paths
