"""Writes docs/api.md, the reference of what `import bench` offers, from signatures and docstrings.

    python docs/generate_api.py

A test holds them together.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

import bench
from bench.models.tuned_model import TunedModel
from bench.tools.forgetting import ForgettingScores, ProbeScore

PAGE = Path(__file__).with_name("api.md")
FUNCTIONS = ("run", "plan", "load", "attach", "load_tuned", "forgetting", "check")
RETURNED = {
    "TunedModel": TunedModel,
    "ForgettingScores": ForgettingScores,
    "ProbeScore": ProbeScore,
}  # what functions return is told too

HEAD = """# Python API

Written by `python docs/generate_api.py` from the docstrings. The names are attributes of `bench`, imported when they
are first used, so that `import bench` takes no time; the last ones are what functions return. Errors are those of
`bench.core.errors`; `UsageError` says that the question was wrong, and what would be right.
"""


def page() -> str:
    classes = [name for name in bench.__all__ if isinstance(getattr(bench, name), type)]
    functions = [name for name in FUNCTIONS if name in bench.__all__]
    rest = sorted(set(bench.__all__) - {*classes, *functions, "__version__"})
    told = {**{name: getattr(bench, name) for name in (*functions, *rest, *classes)}, **RETURNED}
    contents = " · ".join(f"[{name}](#{name.lower()})" for name in told)
    return "\n".join([HEAD, contents, "", *(section(name, item) for name, item in told.items())])


def section(name: str, item: object) -> str:
    source = textwrap.dedent(inspect.getsource(item))  # type: ignore[arg-type]
    node, lines = ast.parse(source).body[0], source.splitlines()
    where = f"`{item.__module__}`"  # type: ignore[attr-defined]
    if isinstance(node, ast.ClassDef):
        return "\n".join([f"## {name}", "", where, "", *of_class(node, lines)])
    assert isinstance(node, ast.FunctionDef)
    return "\n".join([f"## {name}", "", where, "", *code(signature(node, lines)), *doc(node)])


def of_class(node: ast.ClassDef, lines: Sequence[str]) -> Iterator[str]:
    """The docstring, the fields with what their comments say of them, and every public method."""
    yield from doc(node)
    fields = [part for part in node.body if isinstance(part, ast.AnnAssign) and ast.unparse(part)[0] != "_"]
    if fields:
        yield from code("\n".join(textwrap.dedent("\n".join(lines[f.lineno - 1 : f.end_lineno])) for f in fields))
    for part in node.body:
        if isinstance(part, ast.FunctionDef) and not part.name.startswith("_"):
            decorators = [ast.unparse(decorator) for decorator in part.decorator_list]
            attribute = any(name in ("property", "cached_property") for name in decorators)
            shown = (
                f"{part.name} -> {ast.unparse(part.returns)}" if attribute and part.returns else signature(part, lines)
            )
            yield from code("\n".join([*(f"@{name}" for name in decorators if not attribute), shown]))
            yield from doc(part)


def signature(node: ast.FunctionDef, lines: Sequence[str]) -> str:
    """As it stands in the source, without `self`."""
    head = textwrap.dedent("\n".join(lines[node.lineno - 1 : node.body[0].lineno - 1])).strip()
    return re.sub(r"^def (\w+)\((\s*)(self|cls)(, |,\s*|(?=\)))", r"\1(\2", head).removeprefix("def ").removesuffix(":")


def code(text: str) -> list[str]:
    return ["```python", text, "```", ""]


def doc(node: ast.FunctionDef | ast.ClassDef) -> list[str]:
    text = ast.get_docstring(node)
    return [text, ""] if text else []


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
