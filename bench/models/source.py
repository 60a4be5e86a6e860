"""What the source of a method tells without being imported: facts, hyper-parameters, the files it is made of."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path

SITES = ("site-packages", "dist-packages")  # where other people's packages lie


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def facts(path: Path, tree: ast.Module) -> tuple[dict[str, str | bool | int], dict[str, str]]:
    """Class variables written as literals, and the source of the defaults of hyper-parameters, of the one method that a
    file holds; what it inherits first."""
    said, defaults = dict[str, str | bool | int](), dict[str, str]()
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and (line := _ancestry(path, tree, node)):
            said, defaults = {}, {}
            for cls in line:
                said |= _literals(cls)
                defaults |= _defaults(cls)
    return said, defaults


def imported(path: Path) -> list[Path]:
    """A method's file and those of methods/, of its own package or beside it that it imports, directly or not; itself
    first, the others in the order of their names."""
    found: dict[Path, None] = {path: None}
    waiting = [path]
    while waiting:
        importer = waiting.pop()
        for file in _imports(importer, parse(importer)):
            if file not in found:
                found[file] = None
                waiting.append(file)
    return [path, *sorted((file for file in found if file != path), key=lambda file: (file.name, str(file)))]


def _ancestry(path: Path, tree: ast.Module, cls: ast.ClassDef, depth: int = 0) -> list[ast.ClassDef]:
    """A class below those it inherits from, down from Method; empty where it is no method."""
    for base in cls.bases:
        name = ast.unparse(base).split("[")[0]
        if name.rpartition(".")[2] == "Method":
            return [cls]
        if depth > 20:
            return []
        for file, other, parent in _classes(path, tree, name):
            if parent is not cls and (line := _ancestry(file, other, parent, depth + 1)):
                return [*line, cls]
    return []


def _classes(path: Path, tree: ast.Module, name: str) -> Iterator[tuple[Path, ast.Module, ast.ClassDef]]:
    """The class that a name means in a file: of this file, or of one that it imports."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            yield path, tree, node
    holder, _, wanted = name.rpartition(".")
    for node in tree.body:
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        for alias in node.names:
            if (alias.asname or alias.name) != (holder or name):
                continue
            for file in _imports(path, ast.Module([type(node)(**{**vars(node), "names": [alias]})], [])):
                other = parse(file)
                yield from _classes(file, other, wanted if holder else alias.name)


def _literals(cls: ast.ClassDef) -> dict[str, str | bool | int]:
    found: dict[str, str | bool | int] = {}
    for line in cls.body:
        is_fact = isinstance(line, ast.Assign) or (
            isinstance(line, ast.AnnAssign) and "ClassVar" in ast.unparse(line.annotation)
        )
        value = getattr(line, "value", None)
        if is_fact and isinstance(value, ast.Constant) and isinstance(value.value, str | bool | int):
            targets = line.targets if isinstance(line, ast.Assign) else [line.target]  # type: ignore[attr-defined]
            found |= {ast.unparse(target): value.value for target in targets}
    return found


def _defaults(cls: ast.ClassDef) -> dict[str, str]:
    """Hyper-parameters that a class adds or changes, by name: the source of their defaults."""
    defaults = {}
    for line in cls.body:
        if not isinstance(line, ast.AnnAssign) or not isinstance(line.target, ast.Name):
            continue
        if "ClassVar" in ast.unparse(line.annotation) or line.value is None:
            continue
        value = line.value
        if isinstance(value, ast.Call) and ast.unparse(value.func) in ("omit_default", "recorded_as"):
            value = value.args[-1]
        defaults[line.target.id] = ast.unparse(value)
    return defaults


def _imports(path: Path, tree: ast.Module) -> Iterator[Path]:
    """The files of one's own side that a file imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _files(path, alias.name, 0)
        elif isinstance(node, ast.ImportFrom):
            yield from _files(path, node.module or "", node.level)
            for alias in node.names:  # a name may be a module
                yield from _files(path, f"{node.module or ''}.{alias.name}".strip("."), node.level)


def _files(path: Path, module: str, level: int) -> Iterator[Path]:
    package = path.parent
    while (package / "__init__.py").is_file() and (package.parent / "__init__.py").is_file():
        package = package.parent
    top = module.partition(".")[0]
    if level:
        root = path.parents[level - 1]
    elif top == "methods":
        spec = importlib.util.find_spec("methods")
        root = Path(spec.origin).parents[1] if spec and spec.origin else package.parent
    elif top == package.name and (package / "__init__.py").is_file():
        root = package.parent
    elif path.parent.name not in SITES:
        root = path.parent
    else:
        return
    stem = root.joinpath(*module.split(".")) if module else root
    for file in (stem.with_suffix(".py"), stem / "__init__.py"):
        if module and file.is_file():
            yield file.resolve()
