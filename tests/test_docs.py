"""The pages of docs/ against the code."""

from __future__ import annotations

import runpy
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def test_the_page_of_methods_is_the_one_their_files_give() -> None:
    page = runpy.run_path(str(DOCS / "generate.py"))["page"]()
    assert page == (DOCS / "methods.md").read_text(), "run: python docs/generate.py"
