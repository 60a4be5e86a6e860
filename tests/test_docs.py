"""The pages of docs/ against the code."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path

import pytest

from bench.cli.main import parser
from bench.models import registry

DOCS = Path(__file__).parents[1] / "docs"


def test_the_page_of_methods_is_the_one_their_files_give() -> None:
    page = runpy.run_path(str(DOCS / "generate.py"))["page"]()
    assert page == (DOCS / "methods.md").read_text(), "run: python docs/generate.py"


def test_the_readme_shows_the_committed_leaderboard() -> None:
    written = runpy.run_path(str(DOCS / "generate.py"))["readme"]()
    assert written == (DOCS.parent / "README.md").read_text(), "run: python docs/generate.py"
    assert len(re.findall(r"^\| \w+ \|.*\| 0\.\d{3} \|$", written, re.MULTILINE)) == len(registry.entries())


PAGES = [*sorted(DOCS.glob("*.md")), DOCS.parent / "README.md"]


def commands(page: Path) -> list[list[str]]:
    """The arguments of every indented line `bench ...`, but for those that leave something to the reader."""
    text = page.read_text()
    found = re.findall(r"^    (?:\$ )?bench (.+)$", text, re.MULTILINE)
    for name, value in re.findall(r'^    \$ ([A-Z]+)="(.+)"$', text, re.MULTILINE):
        found = [line.replace(f"${name}", value) for line in found]
    return [shlex.split(line, comments=True) for line in found if "..." not in line.partition("#")[0]]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_of_a_page_is_one(page: Path) -> None:
    reader = parser()
    for arguments in commands(page):
        try:
            reader.parse_args(arguments)
        except SystemExit as stop:
            pytest.fail(f"bench {' '.join(arguments)} ends with {stop.code}")


def test_the_pages_have_commands_to_check() -> None:
    assert sum(len(commands(page)) for page in PAGES) > 40
    verbs = {arguments[0] for arguments in commands(DOCS / "cluster.md")}
    assert {"plan", "run", "status", "logs", "why", "resume", "cancel", "join", "table", "data"} <= verbs
