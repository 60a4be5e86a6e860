"""The pages against the code: what they show is what there is."""

from __future__ import annotations

import ast
import importlib.util
import re
import runpy
import shlex
import subprocess
import tomllib
from functools import cache
from pathlib import Path

import pytest

from bench.cli.main import parser
from bench.models import registry

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [
    *sorted(DOCS.rglob("*.md")),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "results").glob("*/README.md")),
    ROOT / "tests" / "slurm" / "README.md",
]
page_of_the_project = pytest.mark.parametrize(
    "page", PAGES, ids=lambda page: str(page.relative_to(ROOT).with_suffix(""))
)
FOLDERS = ("bench", "methods", "datasets", "docs", "tests", "benchmarks", "plugins", "examples", ".ci", ".github")
OLD = "CHANGELOG.md"  # tells of names that are gone


def test_the_pages_of_methods_are_those_their_files_give() -> None:
    pages = runpy.run_path(str(DOCS / "generate.py"))["pages"]()
    there = {path: path.read_text(encoding="utf-8") for path in [DOCS / "methods.md", *(DOCS / "method").glob("*.md")]}
    assert set(pages) == set(there), "run: python docs/generate.py"
    for path, page in pages.items():
        assert page == there[path], f"{path.name} differs; run: python docs/generate.py"


def test_the_papers_to_cite_are_those_that_the_methods_name() -> None:
    cited = tomllib.loads((DOCS / "citations.toml").read_text(encoding="utf-8"))
    named = {entry.paper for entry in registry.entries().values() if entry.paper}
    assert set(cited) == {paper.partition("arXiv ")[2] or paper for paper in named}
    for paper in named:
        entry = cited[paper.partition("arXiv ")[2] or paper]
        first = re.split(r" et al| and |,", paper)[0]
        assert first.split()[-1] in entry["authors"].split(", ")[0], paper
        assert abs(entry["year"] - int(re.search(r" (20\d\d)\b", paper)[1])) <= 1, paper  # type: ignore[index]  # of a preprint
        number = paper.partition("arXiv ")[2]
        assert not number or 0 <= entry["year"] - 2000 - int(number[:2]) <= 2, paper


def test_the_page_of_the_api_is_the_one_its_docstrings_give() -> None:
    page = runpy.run_path(str(DOCS / "generate_api.py"))["page"]()
    assert page == (DOCS / "api.md").read_text(encoding="utf-8"), "run: python docs/generate_api.py"


def test_the_readme_shows_the_committed_leaderboard() -> None:
    generate = runpy.run_path(str(DOCS / "generate.py"))
    written = generate["readme"]()
    assert written == (ROOT / "README.md").read_text(encoding="utf-8"), "run: python docs/generate.py"
    shown = re.findall(r"^\| (\w+) \|.*\| 0\.\d{3} \|$", written, re.MULTILINE)
    assert sorted(shown) == sorted(generate["ROWS"])


# commands -------------------------------------------------------------------------------------------------------------


def commands(page: Path) -> list[list[str]]:
    """The arguments of every `bench ...`, indented or in backticks, but for those that leave something to the reader."""
    text = page.read_text(encoding="utf-8")
    found = re.findall(r"^    (?:\$ )?bench (.+)$", text, re.MULTILINE)
    for name, value in re.findall(r'^    \$ ([A-Z]+)="(.+)"$', text, re.MULTILINE):
        found = [line.replace(f"${name}", value) for line in found]
    return [shlex.split(line, comments=True) for line in found if "..." not in line.partition("#")[0]]


def mentioned(page: Path) -> list[list[str]]:
    """The words of every `bench ...` in backticks within a sentence, which may leave its arguments out."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    found = re.findall(r"`bench ([^`]+)`", " ".join(text.split()))
    return [re.sub(r"[\[\]]|\.\.\.", " ", line).split() for line in found]


@cache
def verbs_and_options() -> tuple[set[str], set[str]]:
    """Every verb, those of a verb too ("data fetch"), and every option of any of them."""
    verbs, options = set(), {"--help", "--version"}

    def walk(node: object, name: str) -> None:
        for action in node._actions:  # type: ignore[attr-defined]  # argparse has no public way to ask
            options.update(action.option_strings)
            if isinstance(action.choices, dict):
                for verb, command in action.choices.items():
                    verbs.add(f"{name} {verb}".strip())
                    walk(command, f"{name} {verb}".strip())

    walk(parser(), "")
    return verbs, options


@page_of_the_project
def test_every_command_of_a_page_is_one(page: Path) -> None:
    reader = parser()
    for arguments in commands(page):
        try:
            reader.parse_args(arguments)
        except SystemExit as stop:
            pytest.fail(f"bench {' '.join(arguments)} ends with {stop.code}")


@page_of_the_project
def test_every_command_that_a_sentence_names_is_one(page: Path) -> None:
    verbs, options = verbs_and_options()
    for words in mentioned(page):
        assert words[0] in verbs or words[0] in options, f"`bench {' '.join(words)}`"
        if any(verb.startswith(f"{words[0]} ") for verb in verbs) and len(words) > 1:
            assert f"{words[0]} {words[1].rstrip(',')}" in verbs, f"`bench {' '.join(words)}`"
        for word in words:
            assert not word.startswith("--") or word.partition("=")[0] in options, f"`bench {' '.join(words)}`: {word}"


def test_the_pages_have_commands_to_check() -> None:
    assert sum(len(commands(page)) for page in PAGES) > 40
    assert sum(len(mentioned(page)) for page in PAGES) > 30
    verbs = {arguments[0] for arguments in commands(DOCS / "cluster.md")}
    assert {"plan", "run", "status", "logs", "why", "resume", "cancel", "join", "table", "data"} <= verbs


# files and modules ----------------------------------------------------------------------------------------------------


def paths(text: str) -> set[str]:
    """The files and folders of the project that a text names: `bench/data/splits.py`, `methods/`, `tests/slurm`."""
    named = re.findall(r"(?<![\w/.-])([\w.-]+(?:/[\w.-]+)*/?)(?![\w/*<{])", text)
    return {path for path in named if path.partition("/")[0] in FOLDERS and "/" in path and "..." not in path}


def modules(text: str) -> set[str]:
    """The dotted names that a text names below the packages of the project: `bench.models.view`, `bench.run`."""
    return set(re.findall(r"(?<![\w/.-])((?:bench|methods)(?!\.(?:md|py|toml)\b)(?:\.[A-Za-z_]\w*)+)", text))


def exists(dotted: str) -> bool:
    """Whether a dotted name is a module, or a public name of one; read from the source, so that nothing is imported."""
    parts = dotted.split(".")
    for size in range(len(parts), 0, -1):
        path = ROOT.joinpath(*parts[:size])
        source = path.with_suffix(".py") if path.with_suffix(".py").is_file() else path / "__init__.py"
        if source.is_file():
            return size == len(parts) or parts[size] in names(source)
    return False


def names(source: Path) -> set[str]:
    """What a module defines or imports at its top level, or lists as its own."""
    found: set[str] = set()
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            found |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            found |= {leaf.id for leaf in ast.walk(node) if isinstance(leaf, ast.Name)}
            found |= {
                leaf.value for leaf in ast.walk(node) if isinstance(leaf, ast.Constant) and isinstance(leaf.value, str)
            }
    return found


@page_of_the_project
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    for path in paths(page.read_text(encoding="utf-8")) if page.name != OLD else ():
        assert (ROOT / path).exists(), path


@page_of_the_project
def test_every_module_that_a_page_names_is_there(page: Path) -> None:
    for dotted in modules(page.read_text(encoding="utf-8")) if page.name != OLD else ():
        assert exists(dotted), dotted


def test_paths_and_modules_that_are_gone_are_noticed() -> None:
    text = "see `bench/splits.py`, bench.report.gone and bench.core.store.Store; write runs/x.json and bench data"
    assert paths(text) == {"bench/splits.py"}
    assert modules(text) == {"bench.report.gone", "bench.core.store.Store"}
    assert [exists(name) for name in ("bench.report.gone", "bench.core.store.Store", "bench.core.store.Gone")] == [
        False,
        True,
        False,
    ]


@page_of_the_project
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not target.startswith(("http://", "https://")):
            file, _, anchor = target.partition("#")
            there = page.parent / file if file else page
            assert there.exists(), target
            assert not anchor or anchor in anchors(there), target


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, made as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# what is shipped ------------------------------------------------------------------------------------------------------


def test_the_package_says_that_it_is_typed() -> None:
    package = importlib.util.find_spec("bench")
    assert package is not None
    assert package.origin is not None
    marker = Path(package.origin).parent / "py.typed"
    assert marker.is_file()
    if (ROOT / ".git").exists():  # hatchling leaves out what git ignores
        ignored = subprocess.run(["git", "check-ignore", "--quiet", marker], cwd=ROOT, timeout=60).returncode
        assert ignored == 1


def test_the_citation_has_the_version_of_the_package() -> None:
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert version
    assert f"\nversion: {version[1]}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
