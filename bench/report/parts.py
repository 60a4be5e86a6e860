"""The runs of a results folder, divided into leaderboards: what stands together, and what each is called.

A suite is the part of a dataset's name before "/", with the groups and headline of its card: a shipped one, or one that
the results folder holds (bench.core.suites), as of image folders that were asked for together. A dataset without such a
card is a suite of its own, with one group, `all`. Of images of one's own that have changed only the newest contents are
shown, and the note says so. One part holds one protocol and one set of weights a backbone:

    <suite>                        the card's protocol (without one among the records: the first by name), the
                                   pretrained weights of each backbone (without: the first by name, `random` last)
    <suite>@<protocol>             another protocol
    <suite>@[<protocol>@]<weights> other weights of a backbone

Names that are not plain end in a digest, so that no two parts share a file (bench.core.text.file_name).

Of a method that was run in several versions, only the newest is shown, and the note says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from bench.core import configs, text
from bench.report.aggregate import leaderboard, mixtures, twins

if TYPE_CHECKING:
    import pandas as pd

    from bench.core.configs import SuiteCard
    from bench.report.standings import Groups, Headline


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


def divide(runs: pd.DataFrame, own: Sequence[SuiteCard] = ()) -> list[Part]:
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
        groups, headline, protocol, title = shown_as(suite, members)
        alone.append(_Board(suite, (suite.replace("/", "-"),), title, groups, headline, protocol, members))
    return [*alone, *found]


def board_suite(dataset: str) -> str:
    """The shipped suite a dataset stands in; another one, like "folder/pets", stands alone unless the results folder
    has a card that names it."""
    suite = dataset.split("/", 1)[0]
    return suite if suite in configs.suite_names() else dataset


def _parts(board: _Board, note: Callable[[pd.DataFrame], str]) -> list[Part]:
    kept, versions = _newest(board.runs)
    by_protocol = _by(kept, _protocol_labels(kept))
    by_protocol.sort(key=lambda item: (item[0].split("#")[0] != board.protocol, item[0]))
    found: list[Part] = []
    for rank, (protocol, followers) in enumerate(by_protocol):
        for weights, members in _by(followers, _weights_labels(followers)):
            more = [name for name in (protocol if rank else "", weights) if name]
            text_below = " ".join(filter(None, (versions, note(members), mixtures(members), twins(members))))
            name = text.file_name(*board.files, *more)
            found.append(Part(name, board.suite, board.title, board.groups, board.headline, members, text_below))
    return found


def shown_as(suite: str, runs: pd.DataFrame, own: Sequence[SuiteCard] = ()) -> tuple[Groups, Headline, str, str]:
    """Groups, headline, protocol and title of a suite's card; of one without a card what its runs make of it."""
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
