"""Imports are the architecture: who may import whom (design, section 2)."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIGHT = {"errors", "parse", "spec", "record", "store", "cards", "registry", "cli"}  # never import torch when imported
HEAVY = ("torch", "timm", "safetensors")


def imports(path: Path, *, top_level: bool) -> set[str]:
    """Modules that a file imports; only those of the top level, outside `if TYPE_CHECKING`, if so asked."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("path", files("methods"), ids=lambda p: p.stem)
def test_methods_import_torch_and_the_contract_only(path: Path) -> None:
    allowed = ("torch", "bench.models.method", "bench.models.view", "bench.core.errors", "methods._")
    for name in imports(path, top_level=False):
        root = name.split(".")[0]
        if root in ("bench", "methods"):
            assert name in ("bench",) or name.startswith(allowed), f"{path.name} imports {name}"
        else:
            assert root == "torch" or root in sys.stdlib_module_names, f"{path.name} imports {name}"


@pytest.mark.parametrize("name", sorted(LIGHT) + ["report"])
def test_light_modules_start_without_torch(name: str) -> None:
    code = f"import sys, bench.{name}; print([m for m in {HEAVY} + ('pandas', 'matplotlib') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert out.stdout.strip() == "[]"


@pytest.mark.parametrize("path", files("bench/report"), ids=lambda p: p.stem)
def test_reports_read_records_and_nothing_else(path: Path) -> None:
    allowed = (
        "bench.core.record",
        "bench.core.configs",
        "bench.core.spec",
        "bench.core.errors",
        "bench.core.store",
        "bench.report",
    )
    for name in imports(path, top_level=False):
        if name.split(".")[0] in ("bench", "methods", *HEAVY):
            assert name == "bench" or name.startswith(allowed), f"{path.name} imports {name}"


def test_only_run_and_the_command_line_see_data_training_and_measures_together() -> None:
    for path in files("bench"):
        seen = imports(path, top_level=False)
        parts = {
            part for part in ("train", "measure", "data.prepare") if any(n.startswith(f"bench.{part}") for n in seen)
        }
        if path.stem not in ("run", "cli"):
            assert len(parts) <= 1, f"{path.name} imports {parts}"


def test_there_is_no_import_cycle() -> None:
    graph: dict[str, set[str]] = {}
    for path in files("bench") + files("methods"):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        graph[module] = imports(path, top_level=True)
    graph = {module: {n for n in names if n in graph and n != module} for module, names in graph.items()}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join((*trail, module))
        if module not in done:
            for other in graph[module] - {"bench"}:
                visit(other, (*trail, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_datasets_holds_no_python() -> None:
    """A package of that name would overwrite Hugging Face's `datasets` at install."""
    assert not list((ROOT / "datasets").rglob("*.py"))
