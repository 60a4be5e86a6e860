"""Writes docs/methods.md and a page for every method from the files of methods/, and the README's leaderboard and
columns from the committed results and bench/report/columns.py.

    python docs/generate.py

A test holds them together.
"""

from __future__ import annotations

import ast
import inspect
import math
import re
import runpy
import textwrap
import tomllib
from pathlib import Path
from typing import Any

import pandas as pd

from bench.core.errors import Incompatible
from bench.models import backbones, registry, static_cost
from bench.models.families import build_view
from bench.models.method import Method, attach, build
from bench.models.view import ModelView
from bench.report import floors
from bench.report.cells import column, one
from bench.report.columns import COLUMNS, NAMED
from bench.report.tables import dataset_columns, ranks, with_interval
from bench.tools.drawing import draw

ROOT = Path(__file__).parents[1]
INDEX, FOLDER = ROOT / "docs" / "methods.md", ROOT / "docs" / "method"  # all of them, and a page each
README, TESTS = ROOT / "README.md", ROOT / "tests" / "methods"
MEASURED = ROOT / "results" / "pocket" / "leaderboards"
RESULTS = MEASURED / "pocket2.csv"
SHOWN = "pocket_vit_patch8"  # in the README, the rows of these methods
ROWS = (
    *("mona", "full", "adapters", "fact_tk", "ssf", "bitfit", "mimi", "lora", "kadaptation", "compacter", "vpt_deep"),
    "linear_probe",
)
TABLE = re.compile(rf"^\| `{SHOWN}`.*\n(\|.*\n)+", re.MULTILINE)  # the README's
COSTS = re.compile(rf"(^\| `({'|'.join(NAMED)})` \| .*\n)+", re.MULTILINE)  # the rows that say what a cost is
JOURNAL = ("article", "journal")
ENTRIES = {"arXiv": ("misc", "howpublished"), "IJCV": JOURNAL, "Neural Networks": JOURNAL}  # the others are conferences
BACKBONES = {"ViT-B/16": "vit_base_patch16_224", "Swin-T": "swin_tiny_patch4_window7_224"}

HEAD = """# Methods

Written by `python docs/generate.py` from the files of `methods/`, a page each; `bench list methods` shows the same in
short, and [writing-a-method.md](writing-a-method.md) tells how to add one. The head is trained with every method and
never counted as the method's. `bench check NAME` proves what is said here on a backbone of your choice.

**sigma.** The MiMi paper defines sigma = M / N, width over hidden neurons. Its published counts labelled sigma = 32 on
Swin divide the MLP's hidden width, 4 M: `basis=mlp sigma=32`, the same network as our default `basis=dim sigma=8`.

"""
PICTURE = """Read off the hooks that the method has on `pocket_vit`, six blocks of width 128. x enters the part of the
block in whose line it stands, y leaves it, z is the sum, m the module that is named.
"""
COUNT = """`shape.dims` are the widths of all blocks, `shape.stages` each width once, `shape.mlp_ratio` is the hidden
width of the MLP over the block's.
"""


def pages() -> dict[Path, str]:
    """Every page of methods, by its path."""
    entries, starts = registry.entries(), runpy.run_path(str(TESTS / "test_starts.py"))["STARTS"]
    cited, checked = (
        tomllib.loads((ROOT / "docs" / "citations.toml").read_text(encoding="utf-8")),
        tests_of(list(entries)),
    )
    table = ["| method | family | backbones | merges | trains on ViT-B/16 | on Swin-T |", "|---|---|---|---|---:|---:|"]
    found: dict[Path, str] = {}
    for name, entry in entries.items():
        counts = {label: trained(name, backbone) for label, backbone in BACKBONES.items()}
        merges = "yes" if entry.merges else "no"
        shown = [f"{count:,}" if count is not None else "refused" for count in counts.values()]
        table.append(
            f"| [`{name}`](method/{name}.md) | {entry.family} | {' '.join(entry.supports)} | {merges} "
            f"| {' | '.join(shown)} |"
        )
        found[FOLDER / f"{name}.md"] = page(entry, shown, starts[name], checked[name], cited)
    return {INDEX: HEAD + "\n".join(table) + "\n"} | found


def trained(name: str, backbone: str) -> int | None:
    """Trained parameters at the default settings, head not counted; None where the method refuses the backbone."""
    try:
        return static_cost.count_params(build(registry.load(name), {}, name), backbone, 10).method
    except Incompatible:
        return None


def page(
    entry: registry.Entry, shown: list[str], starts: dict[str, Any], checked: list[str], cited: dict[str, Any]
) -> str:
    cls = registry.load(entry.name)
    title, _, body = entry.doc.partition("\n")
    facts = [
        ("family", entry.family),
        ("hyper-parameters", f"`{entry.defaults}`" if entry.defaults else "none"),
        ("backbones", ", ".join(entry.supports)),
        ("starts as", "the backbone, exactly" if cls.identity_at_start else "not exactly the backbone"),
        ("merges into the backbone", "yes, exactly" if entry.merges else "no"),
        ("trained parameters", f"ViT-B/16 {shown[0]}, Swin-T {shown[1]}"),
        *([("also called", ", ".join(entry.aliases))] if entry.aliases else []),
    ]
    net = attached(cls, entry.name)
    parts = {
        "At a glance": "\n".join(["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in facts)]),
        "Where it sits": f"{PICTURE}\n```text\n{draw(net)}```",
        "Where it starts": start(net, starts),
        "How many it trains": counted(cls),
        "Checked against": "\n".join(f"- {line}" for line in checked),
        "Measured": measured(entry.name),
        "How to cite": cite(entry, cited),
    }
    sections = [f"## {heading}\n\n{text}\n" for heading, text in parts.items() if text]
    return "\n".join([f"# {entry.name}", "", title, body.rstrip(), "", "[All methods](../methods.md)", "", *sections])


def attached(cls: type[Method], name: str) -> ModelView:
    net = build_view(backbones.create("pocket_vit", classes=10, weights="random"))
    attach(build(cls, {}, name), net)
    return net


def start(net: ModelView, starts: dict[str, Any]) -> str:
    """A table of the tensors that a method adds, with the distributions that tests/methods/test_starts.py holds."""
    if not net.pet:
        return "All that trains is the backbone's own, from the values it has."
    kept, rows = net.pet.state_dict(), dict[str, None]()  # in order, each once
    for name, tensor in [*net.pet.named_parameters(), *((n, b) for n, b in net.pet.named_buffers() if n in kept)]:
        own, shape = name.partition(".")[2], tuple(tensor.shape)
        if tensor.is_floating_point():
            law = starts.get(f"{own} {shape}", starts.get(own))
            told = re.sub(r"(?<=\.)\d+(?=\.)", "i", own)
            rows[f"| `{told}` | {' x '.join(map(str, shape))} | {distribution(law)} |"] = None
    head = "On `pocket_vit`; `tests/methods/test_starts.py` draws and compares."
    return "\n".join([head, "", "| tensor | shape | start |", "|---|---|---|", *rows])


def distribution(law: Any) -> str:
    kind = type(law).__name__
    if kind == "Constant":
        return f"{law.value:g}"
    if kind == "Uniform":
        return f"uniform in +-{law.bound:.3g}"
    if kind == "Normal":
        return f"N({law.mean:g}, {law.std:.3g})" + ("" if math.isinf(law.cut) else f", cut at {law.cut:g} std")
    return "as said above"


def counted(cls: type[Method]) -> str:
    if cls.count is Method.count:
        return "No closed form: what trains depends on the backbone's own tensors, its head or the data."
    return f"{COUNT}\n```python\n{textwrap.dedent(inspect.getsource(cls.count))}```"


def tests_of(names: list[str]) -> dict[str, list[str]]:
    """The files of tests/methods with a test that names the method, by what they say they are."""
    found: dict[str, list[str]] = {name: [] for name in names}
    for path in sorted(TESTS.glob("test_*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        title = " ".join((ast.get_docstring(tree) or "").split("\n\n")[0].split())
        for name in names:
            if any(name in named_by(tree, test, names) for test in tree.body):
                found[name].append(f"`tests/methods/{path.name}`: {title}")
    return {name: [*files, f"`bench check {name}`: every promise that it lists"] for name, files in found.items()}


def named_by(tree: ast.Module, test: ast.stmt, names: list[str]) -> set[str]:
    """The methods that a test names, itself or in the lists that it is run over."""
    if not isinstance(test, ast.FunctionDef) or not test.name.startswith("test_") or "refused" in test.name:
        return set()
    nodes = [*ast.walk(test)]
    used = {node.id for each in test.decorator_list for node in ast.walk(each) if isinstance(node, ast.Name)}
    for statement in tree.body:
        if isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            if any(isinstance(target, ast.Name) and target.id in used for target in targets):
                nodes += ast.walk(statement)
    settings = {id(value) for node in nodes if isinstance(node, ast.Dict) for value in node.values}
    settings |= {id(node.value) for node in nodes if isinstance(node, ast.keyword)}  # slow="full"
    words = {
        node.value
        for node in nodes
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in settings
    }
    titled = {name for name in names if name in test.name}  # a word may be an option of another method
    return words & (titled or set(names))


def measured(name: str) -> str:
    """The method's rows of the boards of results/pocket, once there are some."""
    rows = []
    for path in sorted(MEASURED.glob("*.csv")):
        board = pd.read_csv(path)
        for _, row in board[(board["method"] == name) & board["mean_groups"].notna()].iterrows():
            cells = (row["variant"], row["backbone"], row["protocol"], f"{row['mean_groups']:.1f}", f"{row['seeds']:g}")
            rows.append(f"| {path.stem} | {' | '.join(map(str, cells))} |")
    head = ["| board | variant | backbone | protocol | mean of groups, % | seeds |", "|---|---|---|---|---:|---:|"]
    return "\n".join([*head, *rows]) if rows else ""


def cite(entry: registry.Entry, cited: dict[str, Any]) -> str:
    if not entry.paper:
        return "Folklore: there is no one paper."
    number = entry.paper.partition("arXiv ")[2]
    paper = cited[number or entry.paper]
    surname = re.sub(r"\W", "", entry.paper.split()[0]).lower()
    kind, where = ENTRIES.get(paper["venue"], ("inproceedings", "booktitle"))
    fields = {
        "author": " and ".join(paper["authors"].split(", ")),
        "title": f"{{{paper['title']}}}",
        where: paper["venue"],
        "year": paper["year"],
    }
    if number:
        fields |= {"eprint": number, "archiveprefix": "arXiv"}
    lines = [f"  {key} = {{{value}}}," for key, value in fields.items()]
    return "\n".join(["```bibtex", f"@{kind}{{{surname}{paper['year']}{entry.name},", *lines, "}", "```"])


def readme() -> str:
    """The README with some rows of one backbone's leaderboard, the ranks those among all, and what costs mean."""
    rows = pd.read_csv(RESULTS)
    rows = rows[(rows["backbone"] == SHOWN) & rows["method"].isin(ROWS)]
    columns = {
        f"`{SHOWN}`": list(rows["method"]),
        "rank": ranks(rows),
        "mean of groups": with_interval(rows, "mean_groups"),
    }
    columns |= {name.replace("_", " "): column(rows, name, one) for name in dataset_columns(rows)}
    for name in ("params_trained", "gflops_unmerged", "storage_mb", "pe"):
        columns[NAMED[name].heading] = column(rows, name, NAMED[name].show)
    lines = [list(columns), ["---", *["--:"] * (len(columns) - 1)], *zip(*columns.values(), strict=True)]
    for name, scores in floors.of("pocket2").items():
        cells = {key.replace("_", " ").replace("(groups)", "of groups"): one(score) for key, score in scores.items()}
        lines.append([f"*{name}*", *(cells.get(heading, "") for heading in list(columns)[1:])])
    text = TABLE.sub("".join(f"| {' | '.join(line)} |\n" for line in lines), README.read_text(encoding="utf-8"))
    return COSTS.sub("".join(f"| `{cost.name}` | {cost.meaning} |\n" for cost in COLUMNS), text)


if __name__ == "__main__":
    written = pages()
    FOLDER.mkdir(exist_ok=True)
    for path in set(FOLDER.glob("*.md")) - set(written):
        path.unlink()
    for path, text in written.items():
        path.write_text(text, encoding="utf-8")
    README.write_text(readme(), encoding="utf-8")
