"""Imports are the architecture. Who may import whom is import-linter's to hold (pyproject.toml); here is what it cannot."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIGHT = (  # never import torch, pandas or matplotlib when they are imported
    *("bench", "bench.api", "bench.cli.main", "bench.report", "bench.models.registry", "bench.execution.request"),
    *(f"bench.core.{name}" for name in ("configs", "errors", "record", "schema", "spec", "store", "text")),
)
HEAVY = ("torch", "timm", "safetensors", "pandas", "matplotlib", "sklearn", "rich")
LATE = (
    "bench/cli",
    "bench/api.py",
    "bench/execution",
    "bench/report/__init__.py",
)  # rooms that import when they compute
SLOW = (
    "numpy",
    "torch",
    "torchvision",
    "transformers",
    "sklearn",
    "scipy",
    "bench.models",
    "bench.data",
)  # or optional


def imports(path: Path) -> set[str]:
    """Modules that a file imports, wherever it does."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("path", files("methods"), ids=lambda p: p.stem)
def test_methods_import_torch_and_the_contract_only(path: Path) -> None:
    allowed = ("torch", "bench.models", "bench.core.errors", "methods")
    for name in imports(path):
        root = name.split(".")[0]
        if root in ("bench", "methods"):
            assert name in ("bench", "bench.core") or name.startswith(allowed), f"{path.name} imports {name}"
        else:
            assert root == "torch" or root in sys.stdlib_module_names, f"{path.name} imports {name}"


@pytest.mark.parametrize("name", LIGHT)
def test_light_modules_start_without_torch(name: str) -> None:
    code = f"import sys, {name}; print([m for m in {HEAVY} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert out.stdout.strip() == "[]"


def test_the_command_line_alone_reads_arguments_and_one_executor_alone_knows_slurm() -> None:
    for path in files("bench"):
        place, found = path.relative_to(ROOT).as_posix(), imports(path)
        assert "argparse" not in found or place.startswith("bench/cli/"), place
        assert not {"submitit"} & found or place == "bench/execution/executors/slurm.py", place


def test_nothing_travels_through_environment_variables() -> None:
    """Reading what the user or the batch system set is one thing, setting it on the way another."""
    for path in files("bench"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            targets = node.targets if isinstance(node, ast.Assign) else []
            assert not any("environ" in ast.unparse(target) for target in targets), path


def test_imports_inside_functions_are_there_for_start_up_time() -> None:
    """What computes is imported when it is needed, by the rooms that a command passes before it computes."""
    for path in files("bench"):
        place = path.relative_to(ROOT).as_posix()
        if place.startswith(LATE):
            continue
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(function, ast.FunctionDef):
                continue
            for node in ast.walk(function):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    name = node.names[0].name if isinstance(node, ast.Import) else node.module or ""
                    assert name.startswith(SLOW), f"{place}: {ast.unparse(node)} in {function.name}"


def test_datasets_holds_no_python() -> None:
    """A package of that name would overwrite Hugging Face's `datasets` at install."""
    assert not list((ROOT / "datasets").rglob("*.py"))


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Within a room too, where import-linter's floors say nothing."""
    graph: dict[str, set[str]] = {}
    for path in files("bench") + files("methods"):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        nodes = ast.parse(path.read_text(encoding="utf-8")).body
        found = {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names}
        for node in nodes:
            if isinstance(node, ast.ImportFrom) and node.module:
                found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        graph[module] = found
    graph = {module: {n for n in names if n in graph and n != module} for module, names in graph.items()}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join((*trail, module))
        if module not in done:
            for other in sorted(graph[module] - {"bench"}):
                visit(other, (*trail, module))
            done.add(module)

    for module in graph:
        visit(module, ())
