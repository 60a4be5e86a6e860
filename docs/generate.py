"""Writes docs/methods.md from the files of methods/, and the README's leaderboard and columns from the
committed results and bench/report/columns.py.

    python docs/generate.py

A test holds them together.
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from bench.core.errors import Incompatible
from bench.models import registry, static_cost
from bench.models.method import build
from bench.report.cells import column, one
from bench.report.columns import COLUMNS, NAMED
from bench.report.tables import dataset_columns, ranks, with_interval

ROOT = Path(__file__).parents[1]
PAGE, README = ROOT / "docs" / "methods.md", ROOT / "README.md"
RESULTS = ROOT / "results" / "pocket-v1" / "leaderboards" / "pocket.csv"
SHOWN = "pocket_vit"  # in the README
TABLE = re.compile(rf"^\| `{SHOWN}`.*\n(\|.*\n)+", re.MULTILINE)  # the README's
COSTS = re.compile(rf"(^\| `({'|'.join(NAMED)})` \| .*\n)+", re.MULTILINE)  # the rows that say what a cost is
BACKBONES = {"ViT-B/16": "vit_base_patch16_224", "Swin-T": "swin_tiny_patch4_window7_224"}

HEAD = """# Methods

Written by `python docs/generate.py` from the files of `methods/`; `bench list methods` shows the same in short, and
[writing-a-method.md](writing-a-method.md) tells how to add one. The head is trained with every method and never counted
as the method's. `bench check NAME` proves what is said here on a backbone of your choice.

**sigma.** The MiMi paper defines sigma = M / N, width over hidden neurons. Its published counts labelled sigma = 32 on
Swin divide the MLP's hidden width, 4 M: `basis=mlp sigma=32`, the same network as our default `basis=dim sigma=8`.

"""


def page() -> str:
    entries = registry.entries()
    table = ["| method | family | backbones | merges | trains on ViT-B/16 | on Swin-T |", "|---|---|---|---|---:|---:|"]
    parts = []
    for name, entry in entries.items():
        counts = {label: trained(name, backbone) for label, backbone in BACKBONES.items()}
        merges = "yes" if entry.merges else "no"
        shown = [f"{count:,}" if count is not None else "refused" for count in counts.values()]
        table.append(
            f"| [`{name}`](#{name}) | {entry.family} | {' '.join(entry.supports)} | {merges} | {' | '.join(shown)} |"
        )
        parts.append(section(entry, shown))
    return HEAD + "\n".join(table) + "\n\n" + "\n".join(parts)


def trained(name: str, backbone: str) -> int | None:
    """Trained parameters at the default settings, head not counted; None where the method refuses the backbone."""
    try:
        return static_cost.count_params(build(registry.load(name), {}, name), backbone, 10).method
    except Incompatible:
        return None


def section(entry: registry.Entry, shown: list[str]) -> str:
    cls = registry.load(entry.name)
    start = "the backbone, exactly" if cls.identity_at_start else "near the backbone, not at it"
    facts = [
        ("paper", entry.paper or "folklore"),
        ("hyper-parameters", f"`{entry.defaults}`" if entry.defaults else "none"),
        ("backbones", ", ".join(entry.supports)),
        ("starts as", start),
        ("merges into the backbone", "yes, exactly" if entry.merges else "no"),
        ("trained parameters", f"ViT-B/16 {shown[0]}, Swin-T {shown[1]}"),
    ]
    if entry.aliases:
        facts.append(("also called", ", ".join(entry.aliases)))
    title, _, body = entry.doc.partition("\n")
    return "\n".join(
        [f"## {entry.name}", "", title, body.rstrip(), "", *(f"- {key}: {value}" for key, value in facts), ""]
    )


def readme() -> str:
    """The README with its leaderboard, the rows of one backbone of which no dataset is missing, and what costs mean."""
    rows = pd.read_csv(RESULTS)
    rows = rows[(rows["backbone"] == SHOWN) & rows["mean_groups"].notna()]
    columns = {
        f"`{SHOWN}`": list(rows["method"]),
        "rank": ranks(rows),
        "mean of groups": with_interval(rows, "mean_groups"),
    }
    columns |= {name.replace("_", " "): column(rows, name, one) for name in dataset_columns(rows)}
    for name in ("params_trained", "gflops_unmerged", "storage_mb", "pe"):
        columns[NAMED[name].heading] = column(rows, name, NAMED[name].show)
    lines = [list(columns), ["---", *["--:"] * (len(columns) - 1)], *zip(*columns.values(), strict=True)]
    text = TABLE.sub("".join(f"| {' | '.join(line)} |\n" for line in lines), README.read_text(encoding="utf-8"))
    return COSTS.sub("".join(f"| `{cost.name}` | {cost.meaning} |\n" for cost in COLUMNS), text)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    README.write_text(readme(), encoding="utf-8")
