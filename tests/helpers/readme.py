"""What the README shows, for the tests that try it."""

from __future__ import annotations

from pathlib import Path

README = (Path(__file__).parents[2] / "README.md").read_text()
PLUGIN = README.split("```python\n")[1].split("```")[0]  # the method that the README adds in one file
