"""Records -> pandas -> leaderboards and figures. Needs no torch; pandas and matplotlib load when they are used.

A report is divided into parts, one leaderboard each (bench.report.parts), of which tables, figures and text are made
(bench.report.outputs, bench.report.figures).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from bench.core import configs, suites, text
from bench.core.errors import UsageError
from bench.core.record import Record

if TYPE_CHECKING:
    import pandas as pd

    from bench.core.configs import SuiteCard
    from bench.report.compare import Comparison
    from bench.report.outputs import Export
    from bench.report.parts import Part, ReportedPart

T = TypeVar("T")
Warn = Callable[[str], object]


@dataclass(frozen=True)
class Report:
    """The leaderboards and figures of many runs; what several of them need is computed once."""

    runs: pd.DataFrame
    reported: pd.DataFrame | None = None  # of bench.report.reported
    families: Mapping[str, str] = field(default_factory=dict)  # of every known method, for colours
    own: tuple[SuiteCard, ...] = ()  # the cards of suites that the results folder holds

    @cached_property
    def parts(self) -> list[Part]:
        from bench.report.parts import divide

        return divide(self.runs, self.own)

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
        from bench.report import outputs

        paths = _each(self.parts, lambda part: outputs.write_tables(root, part), warn)
        return paths + [path for part in self.reported_parts for path in outputs.write_reported(root, part)]

    def write_plots(self, root: Path) -> list[Path]:
        from bench.report import figures

        return _each(self.parts, lambda part: figures.write_plots(root, part, self.families), lambda _: None)

    @cached_property
    def reported_parts(self) -> list[ReportedPart]:
        """What others report, by suite; where the suite was measured too, with the gap."""
        from bench.report import reported
        from bench.report.parts import ReportedPart, shown_as

        measured = {part.name: part for part in self.parts}
        found: list[ReportedPart] = []
        for suite, rows in reported.suites(self.reported).items() if self.reported is not None else ():
            groups, headline, _, title = shown_as(suite, rows, self.own)
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

    def export(self, kind: Export, suite: str = "", backbone: str = "", warn: Warn | None = None) -> str:
        """The leaderboards as one text; `suite` is the beginning of a leaderboard's name, `backbone` a whole name.

        One whose runs do not compare is named to `warn` and left out; without `warn` it raises UsageError.
        """
        from bench.report import outputs

        chosen = [part for part in self.parts if part.name.startswith(suite)]
        texts = _each(chosen, lambda part: [outputs.export(kind, part, backbone)], warn)
        return "\n".join(filter(None, texts))

    def terminal(self) -> list[str]:
        """The leaderboards as text for a terminal, one for each part."""
        from bench.report import outputs

        return _each(self.parts, outputs.terminal, lambda _: None)


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
