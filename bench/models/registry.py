"""Finds methods: the files of `methods/`, entry points of the group `petbench.methods`, and --plugin FILE.

A method's name is the name of its file. Listing reads the source and imports nothing.
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from bench.core.errors import UsageError, unknown
from bench.models import source

if TYPE_CHECKING:
    from bench.models.method import Method

ORDER = (
    "baseline",
    "adapters",
    "low-rank",
    "prompts",
    "scale and shift",
    "selection",
    "side network",
    "other",
)  # of families, in lists


@dataclass(frozen=True)
class Entry:
    """A method as its source describes it."""

    name: str
    path: Path
    module: str  # to import it by; empty for a plugin file
    title: str  # first line of the docstring
    family: str
    paper: str
    defaults: str  # "rank=8 alpha=8.0"
    supports: tuple[str, ...]  # families of backbones
    merges: bool
    doc: str  # the module's docstring
    aliases: tuple[str, ...]
    fields: tuple[str, ...]  # names of the hyper-parameters
    version: int


def entries(plugins: Iterable[Path] = ()) -> dict[str, Entry]:
    """Every method by name, families in order."""
    spec = importlib.util.find_spec("methods")
    assert spec is not None
    assert spec.submodule_search_locations
    found: dict[str, Entry] = {}
    for folder in spec.submodule_search_locations:
        for path in Path(folder).glob("[!_]*.py"):
            found[path.stem] = _entry(path, path.stem, f"methods.{path.stem}")
    for point in entry_points(group="petbench.methods"):
        origin = importlib.util.find_spec(point.module)
        if origin is None or origin.origin is None:
            raise UsageError(f"The entry point {point.name!r} names {point.module!r}, which is not installed.")
        _add(found, _entry(Path(origin.origin), point.name, point.module))
    for path in plugins:
        if not path.is_file():
            raise UsageError(f"No plugin file at {path}.")
        if path.suffix != ".py" or not path.stem.isidentifier():
            raise UsageError(f"{path}: a plugin is a Python file whose name is the method's, like my_method.py.")
        _add(found, _entry(path.resolve(), path.stem, ""))
    rank = {family: index for index, family in enumerate(ORDER)}
    return dict(sorted(found.items(), key=lambda item: (rank.get(item[1].family, len(ORDER)), item[0])))


def families(plugins: Iterable[Path] = ()) -> dict[str, str]:
    """The family of every method."""
    return {name: entry.family for name, entry in entries(plugins).items()}


def versions(plugins: Iterable[Path] = ()) -> dict[str, int]:
    """The version of every method."""
    return {name: entry.version for name, entry in entries(plugins).items()}


def _add(found: dict[str, Entry], entry: Entry) -> None:
    if entry.name in found:
        raise UsageError(
            f"Two methods are called {entry.name!r}: {found[entry.name].path} and {entry.path}. Rename one."
        )
    found[entry.name] = entry


def _entry(path: Path, name: str, module: str) -> Entry:
    return _read_entry(path, name, module, path.stat().st_mtime_ns)


@cache
def _read_entry(path: Path, name: str, module: str, changed: int) -> Entry:
    """Once for every state of the file, which `changed` names."""
    try:
        tree = source.parse(path)
    except (SyntaxError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid Python: {error}.") from error
    doc = ast.get_docstring(tree) or ""
    facts, defaults = source.facts(path, tree)
    return Entry(
        name=name,
        path=path,
        module=module,
        title=doc.split("\n")[0],
        family=str(facts.get("family", "other")),
        paper=str(facts.get("paper", "")),
        defaults=" ".join(f"{name}={value}" for name, value in defaults.items()),
        supports=tuple(str(facts.get("supports", "vit swin swinv2 cvt eva eva02")).split()),
        merges=bool(facts.get("merges", False)),
        doc=doc,
        aliases=tuple(str(facts.get("aliases", "")).split()),
        fields=tuple(defaults),
        version=int(facts.get("version", 1)),
    )


def canonical(name: str, plugins: Iterable[Path] = ()) -> str:
    """The method's own name, for one of its aliases too."""
    return next((e.name for e in entries(plugins).values() if name in e.aliases), name)


def load(name: str, plugins: Iterable[Path] = ()) -> type[Method]:
    """The method's class, imported."""
    from bench.models.method import Method

    known, name = entries(plugins), canonical(name, plugins)
    if name not in known:
        raise unknown("method", name, known)
    entry = known[name]
    module_name = entry.module or f"petbench_plugin_{name}"
    try:
        if entry.module:
            module = importlib.import_module(entry.module)
        else:
            spec = importlib.util.spec_from_file_location(module_name, entry.path)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[module_name] = module
            spec.loader.exec_module(module)
    except Exception as error:
        raise UsageError(f"{entry.path} cannot be imported: {type(error).__name__}: {error}.") from error
    classes = [
        c
        for c in vars(module).values()
        if isinstance(c, type) and issubclass(c, Method) and c.__module__ == module_name
    ]
    if len(classes) != 1:
        raise UsageError(f"{entry.path} must hold exactly one Method; it holds {len(classes)}.")
    _check(classes[0], entry)
    return classes[0]


@cache
def _check(cls: type[Method], entry: Entry) -> None:
    """Raises UsageError where the class is not what its source says without being imported, which lists show."""
    source_digest(cls)  # now: the file may be edited while the method runs
    said = {name: getattr(entry, name) for name in ("family", "paper", "merges", "version")}
    said |= {"supports": " ".join(entry.supports), "hyper-parameters": " ".join(entry.fields)}
    true = {name: getattr(cls, name) for name in ("family", "paper", "merges", "version")}
    true |= {"supports": " ".join(cls.supports.split())}
    true |= {"hyper-parameters": " ".join(field.name for field in dataclasses.fields(cls))}
    for name, value in true.items():
        if said[name] != value:
            raise UsageError(
                f"{entry.path}: its source says {name} = {said[name]!r}, the class has {value!r}. Write it out as a "
                "literal, in the class or in one that it inherits from."
            )


@cache
def source_digest(cls: type[Method]) -> str:
    """sha256 over the code of a method's file and of every file of its own side that it imports, directly or not.

    As it was loaded, without comments, docstrings and what only describes it: to correct those changes no number.
    """
    path = Path(sys.modules[cls.__module__].__file__ or "")
    return code_digest(file.read_text(encoding="utf-8") for file in source.imported(path))


def code_digest(sources: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for text in sources:
        tree = ast.parse(text)
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                node.body = [line for line in node.body if not _describes(line)] or [ast.Pass()]
        digest.update(ast.unparse(tree).encode())
    return digest.hexdigest()[:16]


def _describes(line: ast.stmt) -> bool:
    if isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant):
        return True
    names = [ast.unparse(target) for target in line.targets] if isinstance(line, ast.Assign) else []
    return bool(names) and set(names) <= {"family", "paper", "supports", "merges", "aliases"}
