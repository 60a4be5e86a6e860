"""Numbers that others report, beside those measured here: rows of their own, never averaged or ranked with records.

    DIR/reported.csv    source, method, variant, backbone, dataset, protocol, accuracy, note

`accuracy` is in %, `dataset` is SUITE/KEY, `source` says who printed it. The file is validated whenever it is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.core import configs
from bench.core.errors import UsageError
from bench.core.store import write_atomically
from bench.core.text import csv_cell
from bench.core.text import markdown as safe
from bench.report.cells import column, one, pipe, whole
from bench.report.frame import key_of, suite_of
from bench.report.standings import Groups, Headline, Standings, datasets
from bench.report.tables import MEAN_NAMES, ranks

FILE = "reported.csv"
KEY = ("source", "method", "variant", "backbone", "dataset", "protocol")
COLUMNS = (*KEY, "accuracy", "note")
NEEDED = ("source", "method", "backbone", "dataset", "accuracy")
ALSO = {"accuracy_last_epoch": "accuracy", "value": "accuracy", "erratum": "note"}  # names in results/published
SHOWN_FAULTS = 10
SHARED = ("source", "backbone", "protocol")  # by rows that compare
FIRST = ("source", "method", "variant", "backbone", "protocol")  # columns of a table, before its datasets
LAST = ("mean_datasets", "mean_groups", "bound_low", "bound_high", "tie_group", "rank_best", "rank_worst", "coverage")


def load(root: Path) -> pd.DataFrame:
    """The reported rows of a results folder, COLUMNS; none where there is no file. Raises UsageError as `read` does."""
    path = root / FILE
    return read(path) if path.is_file() else pd.DataFrame(columns=list(COLUMNS)).astype({"accuracy": float})


def read(path: Path, defaults: Mapping[str, str] | None = None, where: Mapping[str, str] | None = None) -> pd.DataFrame:
    """The rows of a CSV file, COLUMNS, sorted.

    `defaults` gives columns that the file lacks; its `suite` goes before dataset keys that have none. `where` keeps
    rows whose column contains a text. The files of results/published are read too: of them, rows of other metrics than
    accuracy and of means are left out. Raises UsageError that lists what is wrong, line by line.
    """
    given = dict(defaults or {})
    try:
        rows = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    except (OSError, UnicodeDecodeError, ValueError) as error:  # pandas' parser errors are ValueErrors
        raise UsageError(f"{path} is not a CSV file that can be read: {error}.") from error
    rows.insert(0, "line", np.arange(len(rows)) + 2)
    for name, text in (where or {}).items():
        if name not in rows:
            known = ", ".join(rows.columns[1:])
            raise UsageError(f"{path} has no column {name!r} to choose rows by. It has: {known}.")
        rows = rows[rows[name].str.contains(text, regex=False)]
    if "metric" in rows:
        rows = rows[(rows["metric"] == "accuracy") & (rows["dataset"] != "mean")]
    if "source" not in rows and {"paper", "table"} <= set(rows.columns):
        rows = rows.assign(source=rows["paper"] + ", " + rows["table"])
    rows = rows.rename(columns={old: new for old, new in ALSO.items() if new not in rows.columns})
    suite = given.pop("suite", "")
    rows = rows.assign(**{name: text for name, text in given.items() if text and name not in rows.columns})
    if missing := [name for name in NEEDED if name not in rows.columns]:
        raise UsageError(
            f"{path} lacks the columns {', '.join(missing)}; --citation, --backbone and --suite can give some."
        )
    rows = rows.assign(**{name: "" for name in COLUMNS if name not in rows.columns})
    if suite:
        rows["dataset"] = [name if "/" in name else f"{suite}/{name}" for name in rows["dataset"]]
    faults = [f"line {row['line']}: {fault}" for row in rows.to_dict("records") for fault in _faults(row)]
    twice = rows[rows.duplicated(list(KEY))]
    faults += [
        f"line {line}: its source, method, backbone and dataset stand in an earlier line" for line in twice["line"]
    ]
    if faults:
        more = f" And {len(faults) - SHOWN_FAULTS} more." if len(faults) > SHOWN_FAULTS else ""
        raise UsageError(f"{path}: {'; '.join(faults[:SHOWN_FAULTS])}.{more}")
    chosen = rows[list(COLUMNS)].assign(accuracy=rows["accuracy"].astype(float))
    return chosen.sort_values(list(KEY), ignore_index=True)


def _faults(row: Mapping[Any, Any]) -> list[str]:
    faults = [f"{name} is empty" for name in NEEDED if not str(row[name]).strip()]
    faults += [f"{name} has characters that cannot be printed" for name in COLUMNS if not str(row[name]).isprintable()]
    try:
        accuracy = float(str(row["accuracy"]))
    except ValueError:
        accuracy = np.nan
    if not 0 <= accuracy <= 100:
        faults.append(f"accuracy = {str(row['accuracy'])!r} is not a number between 0 and 100")
    dataset = str(row["dataset"])
    if "/" not in dataset:
        faults.append(f"dataset = {dataset!r} is not SUITE/KEY; --suite gives the suite")
    elif suite_of(dataset) in configs.suite_names() and key_of(dataset) not in datasets(_groups(suite_of(dataset))):
        faults.append(f"the suite {suite_of(dataset)} has no dataset {key_of(dataset)!r}")
    return faults


def _groups(suite: str) -> Groups:
    return configs.suite(suite).card.groups


def join(root: Path, rows: pd.DataFrame) -> tuple[int, int]:
    """Adds rows to DIR/reported.csv; how many were new, and how many were there.

    Raises UsageError where one is there with another accuracy: then nothing is written.
    """
    old = load(root)
    both = rows.merge(old, on=list(KEY), suffixes=("", "_old"))
    if (clash := both[both["accuracy"] != both["accuracy_old"]]).size:
        row = clash.iloc[0]
        name = f"{row['method']} on {row['dataset']} of {row['source']}"
        raise UsageError(f"{name} stands in {root / FILE} with {row['accuracy_old']:g}, not {row['accuracy']:g}.")
    merged = pd.concat([old, rows]) if len(old) else rows
    merged = merged.drop_duplicates(list(KEY)).sort_values(list(KEY), ignore_index=True)
    text = merged.to_csv(index=False, lineterminator="\n")
    write_atomically(root / FILE, lambda file: file.write_text(text, encoding="utf-8"))
    return len(merged) - len(old), len(both)


def suites(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of each suite."""
    return {str(name): part for name, part in rows.groupby(rows["dataset"].map(suite_of), sort=True)}


def table(rows: pd.DataFrame, groups: Groups, headline: Headline, measured: pd.DataFrame | None = None) -> pd.DataFrame:
    """One row a (source, method, variant, backbone, protocol), best headline first within a source and backbone.

    The datasets and both means in %; `bound_*`, what the headline may be where a dataset is missing; tie groups and
    ranks over datasets among the rows of one source, backbone and protocol, as bench.report.standings has them.
    `measured` is the leaderboard of the suite: where it has a method, variant and backbone, their headline there, and
    the `gap` measured less reported.
    """
    blocks = [
        _block(part, groups, headline).assign(**dict(zip(SHARED, map(str, names), strict=True)))
        for names, part in rows.groupby(list(SHARED), sort=True)
    ]
    columns = [*FIRST, *datasets(groups), *LAST]
    found = pd.concat(blocks, ignore_index=True)[columns]
    if measured is None:
        return found
    own = measured.set_index(["method", "variant", "backbone"])[headline]
    names = zip(found["method"], found["variant"].replace("", "default"), found["backbone"], strict=True)
    found["measured"] = [float(own[name]) if name in own.index else np.nan for name in names]
    return found.assign(gap=found["measured"] - found[headline])


def _block(part: pd.DataFrame, groups: Groups, headline: Headline) -> pd.DataFrame:
    """The rows of one source, backbone and protocol, without these."""
    cells = part.assign(key=part["dataset"].map(key_of)).pivot(
        index=["method", "variant"], columns="key", values="accuracy"
    )
    cells = cells.reindex(columns=list(datasets(groups)))
    scores = cells.to_numpy(dtype=float)[:, :, None]
    stand = Standings(scores, groups, headline)
    columns = {
        "mean_datasets": Standings(scores, groups, "mean_datasets").mean.value,
        "mean_groups": Standings(scores, groups, "mean_groups").mean.value,
        "bound_low": stand.bounds[0],
        "bound_high": stand.bounds[1],
        "tie_group": stand.tie_group,
        "rank_best": stand.ranks[0],
        "rank_worst": stand.ranks[1],
        "coverage": cells.notna().mean(axis=1).to_numpy(),
    }
    block = cells.reset_index().rename_axis(columns=None).assign(**columns)
    return block.sort_values(headline, ascending=False, na_position="last", kind="stable")


def markdown(rows: pd.DataFrame, groups: Groups, headline: Headline, title: str) -> str:
    """A page of reported rows, of `table`: one table a source."""
    parts = [f"# {safe(title)}: reported by others", "Numbers as their sources print them. None was measured here."]
    for source, part in rows.groupby("source", sort=True):
        columns: dict[str, list[str]] = {"method": [safe(name) for name in part["method"]]}
        for name in ("variant", "backbone", "protocol"):
            if part[name].any():
                columns[name] = [safe(text) for text in part[name]]
        if part["tie_group"].notna().any():
            columns |= {"rank": ranks(part), "tie group": column(part, "tie_group", whole)}
        columns |= {safe(key): column(part, key, one) for key in datasets(groups)}
        columns |= {MEAN_NAMES[name]: column(part, name, one) for name in ("mean_datasets", "mean_groups")}
        if "gap" in part and part["gap"].notna().any():
            columns |= {name: column(part, name, one) for name in ("measured", "gap")}
        parts += [f"## {safe(str(source))}", pipe(columns)]
    legend = (
        f"Rows stand by the {MEAN_NAMES[headline]}; ranks and tie groups are over datasets at 95 %, within one source "
        "and backbone (Holm). measured: the same method and variant here; gap: measured less reported."
    )
    return "\n\n".join([*parts, legend]) + "\n"


def csv(rows: pd.DataFrame) -> str:
    """Of `table`; numbers with four decimals, missing ones empty."""
    texts = {name: rows[name].map(csv_cell) for name in FIRST}
    return rows.assign(**texts).to_csv(index=False, lineterminator="\n", float_format="%.4f")
