"""Plain data (TOML, JSON) into frozen dataclasses, strictly: all faults of one file are reported at once.

Understood: bool, int, float, str, None, Literal, X | Y, tuple[X, ...], dict[str, X] and nested dataclasses; also
Annotated[X, Range(0, 1)] and Annotated[str, Pattern(...)], whose values must lie in the range or match as a whole.
An int is read where a float is asked for; nothing else is converted.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from bench.core import files
from bench.core.errors import UnreadableFile, UsageError

T = TypeVar("T")
Reader = Callable[[Any, str, list[str]], Any]
"""reader(data, path, faults) is the value of `data`, or adds to `faults` what is wrong at `path`."""


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included."""

    low: float
    high: float = math.inf

    def admits(self, value: float) -> bool:
        return self.low <= value <= self.high

    def __str__(self) -> str:
        return f"at least {self.low:g}" if self.high == math.inf else f"between {self.low:g} and {self.high:g}"


@dataclass(frozen=True)
class Pattern:
    """Texts that match `regex` as a whole; `wanted` says in words which they are."""

    regex: str
    wanted: str

    def admits(self, value: str) -> bool:
        return re.fullmatch(self.regex, value) is not None

    def __str__(self) -> str:
        return self.wanted


def parse(cls: type[T], data: object, where: str) -> T:
    """`data` as a `cls`. Raises UsageError that lists every unknown key, missing key and wrong value."""
    faults: list[str] = []
    value = _read_dataclass(cls, data, "", faults)
    if faults:
        raise UsageError(f"{where}: {'; '.join(faults)}.")
    assert isinstance(value, cls)
    return value


@dataclasses.dataclass(frozen=True)
class Damaged:
    """A file that is not what it should be, and why, in one sentence that names it."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return self.reason


def read_json(path: Path, kind: type[T], limit: int = files.SMALL) -> T | Damaged:
    """The JSON file as a `kind`: a dataclass, `dict[str, X]`, `tuple[X, ...]` or another type that is understood here.

    Whatever is wrong with the file comes back as Damaged; where there is none, FileNotFoundError is raised.
    """
    try:
        return read_value(kind, loads(files.read_text(path, limit)), str(path))
    except FileNotFoundError:
        raise
    except (UnreadableFile, UsageError) as error:
        return Damaged(path, str(error))
    except ValueError as error:
        return Damaged(path, f"{path} is not JSON: {error}.")
    except OSError as error:
        return Damaged(path, f"{path} cannot be read: {error.strerror}.")


def loads(text: str) -> Any:
    """JSON as the standard has it. Raises ValueError also for NaN, a key that comes twice, and nesting without end."""
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("its brackets are nested too deep") from None


def read_value(kind: type[T], data: object, where: str) -> T:
    """As `parse`, for any type that is understood."""
    faults: list[str] = []
    value = _reader(kind)(data, "", faults)
    if faults:
        raise UsageError(f"{where}: {'; '.join(faults)}.")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"key {next(key for key in keys if keys.count(key) > 1)!r} comes twice")
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def plain(value: Any) -> Any:
    """A dataclass as JSON-ready data; tuples become lists."""
    if value is None or type(value) in (str, int, float, bool):  # first, for most values are
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    return value


@cache
def _fields(cls: type) -> dict[str, tuple[Reader, bool]]:
    """Of every field its reader and whether it must be there. Once a class: resolving type hints is slow.

    Readers are not kept by type: `int | float` and `float | int` are equal, and read 3 differently.
    """
    hints = get_type_hints(cls, include_extras=True)
    missing = dataclasses.MISSING
    return {
        f.name: (_reader(hints[f.name]), f.default is missing and f.default_factory is missing)
        for f in dataclasses.fields(cls)
        if f.init
    }


def _reader(kind: Any) -> Reader:
    origin, args = get_origin(kind), get_args(kind)
    if kind is Any:
        return lambda data, path, faults: data
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return lambda data, path, faults: _read_dataclass(kind, data, path, faults)
    if origin is Annotated:
        return _checked_reader(_reader(args[0]), args[1])
    if origin is Literal:
        return lambda data, path, faults: _read_literal(args, data, path, faults)
    if origin in (Union, types.UnionType):
        return _union_reader(args)
    if origin is tuple:
        return _tuple_reader(_reader(args[0]))
    if origin in (dict, Mapping):
        return _mapping_reader(_reader(args[1]), kind)
    if kind is float:
        return _read_float
    return _plain_reader(type(None) if kind is None else kind)


def _checked_reader(read: Reader, check: Range | Pattern) -> Reader:
    def read_checked(data: Any, path: str, faults: list[str]) -> Any:
        before = len(faults)
        value = read(data, path, faults)
        if len(faults) == before and not check.admits(value):
            faults.append(_not(data, path, str(check)))
        return value

    return read_checked


def _plain_reader(kind: type) -> Reader:
    def read(data: Any, path: str, faults: list[str]) -> Any:
        if type(data) is not kind and (not isinstance(data, kind) or isinstance(data, bool)):
            faults.append(_not(data, path, _name(kind)))
        return data

    return read


def _read_float(data: Any, path: str, faults: list[str]) -> Any:
    if isinstance(data, bool) or not isinstance(data, (int, float)):
        faults.append(_not(data, path, _name(float)))
        return data
    try:
        value = float(data)
    except OverflowError:
        value = math.inf
    if not math.isfinite(value):
        faults.append(_not(data, path, "a finite number"))
    return value


def _read_literal(args: tuple[Any, ...], data: Any, path: str, faults: list[str]) -> Any:
    if not any(type(data) is type(arg) and data == arg for arg in args):
        faults.append(_not(data, path, f"one of {', '.join(map(str, args))}"))
    return data


def _tuple_reader(read_item: Reader) -> Reader:
    def read(data: Any, path: str, faults: list[str]) -> Any:
        if not isinstance(data, (list, tuple)):
            faults.append(_not(data, path, _name(tuple)))
            return data
        return tuple([read_item(item, f"{path}[{index}]", faults) for index, item in enumerate(data)])

    return read


def _mapping_reader(read_item: Reader, kind: Any) -> Reader:
    def read(data: Any, path: str, faults: list[str]) -> Any:
        if not isinstance(data, Mapping):
            faults.append(_not(data, path, _name(kind)))
            return data
        return {str(key): read_item(item, f"{path}.{key}", faults) for key, item in data.items()}

    return read


def _union_reader(args: tuple[Any, ...]) -> Reader:
    readers = [_reader(arg) for arg in args]
    kept = {kind for kind in (bool, int, str, type(None)) if _keeps(kind, args)}

    def read(data: Any, path: str, faults: list[str]) -> Any:
        if type(data) in kept:
            return data
        attempts: list[list[str]] = []
        for reader in readers:
            attempt: list[str] = []
            value = reader(data, path, attempt)
            if not attempt:
                return value
            attempts.append(attempt)
        nested = [
            attempt
            for attempt, arg in zip(attempts, args, strict=True)
            if (dataclasses.is_dataclass(arg) and isinstance(data, Mapping)) or _admits_kind(arg, data)
        ]
        faults.extend(nested[0] if nested else [_not(data, path, " or ".join(_name(arg) for arg in args))])
        return data

    return read


def _admits_kind(arg: Any, data: Any) -> bool:
    """Whether `data` has the type that the check of `arg` is about: then the check's fault is the one to tell."""
    if get_origin(arg) is not Annotated or isinstance(data, bool):
        return False
    kind = get_args(arg)[0]
    return isinstance(data, (int, float) if kind is float else kind)


def _keeps(kind: type, args: tuple[Any, ...]) -> bool:
    """Whether the first of `args` to take every `kind` is `kind` itself: then no attempt, and no message, is needed."""
    for arg in args:
        if arg is kind or arg is Any:
            return True
        if get_origin(arg) is Literal or (arg is float and kind is int):
            return False
    return False


def _read_dataclass(cls: type, data: Any, path: str, faults: list[str]) -> Any:
    if not isinstance(data, Mapping):
        faults.append(f"{path or 'the file'} is not a table")
        return data
    fields = _fields(cls)
    dot = f"{path}." if path else ""
    before = len(faults)
    for key in data:
        if key not in fields:
            close = difflib.get_close_matches(str(key), fields, n=1)
            faults.append(f"unknown key '{dot}{key}'" + (f" (did you mean '{close[0]}'?)" if close else ""))
    values = {}
    for name, (read, required) in fields.items():
        if name in data:
            values[name] = read(data[name], dot + name, faults)
        elif required:
            faults.append(f"missing key '{dot}{name}'")
    if len(faults) > before:
        return data
    try:
        return cls(**values)
    except (TypeError, ValueError) as error:
        faults.append(f"{dot}{error}")
        return data


def _not(data: Any, path: str, wanted: str) -> str:
    """`epochs = 'five' is not a whole number`; of a value that fills the screen only the beginning."""
    try:
        shown = repr(data)
    except ValueError:  # a whole number of more digits than Python writes
        shown = "a huge number"
    except RecursionError:
        shown = "something nested very deep"
    return f"{path or 'value'} = {shown if len(shown) <= 200 else shown[:200] + '...'} is not {wanted}"


def _name(kind: Any) -> str:
    names: dict[Any, str] = {int: "a whole number", float: "a number", str: "a string", bool: "true or false"}
    names |= {None: "absent", type(None): "absent"}
    kind = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    if kind in names:
        return names[kind]
    return {tuple: "a list", dict: "a table", Mapping: "a table"}.get(get_origin(kind) or kind, str(kind))
