"""Plain data (TOML, JSON) into frozen dataclasses, strictly: all faults of one file are reported at once.

Understood: bool, int, float, str, None, Literal, X | Y, tuple[X, ...], dict[str, X] and nested dataclasses.
An int is read where a float is asked for; nothing else is converted.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from bench.errors import UsageError

T = TypeVar("T")


def parse(cls: type[T], data: object, where: str) -> T:
    """`data` as a `cls`. Raises UsageError that lists every unknown key, missing key and wrong value."""
    faults: list[str] = []
    value = _read(cls, data, "", faults)
    if faults:
        raise UsageError(f"{where}: {'; '.join(faults)}.")
    assert isinstance(value, cls)
    return value


def plain(value: Any) -> Any:
    """A dataclass as JSON-ready data; tuples become lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    return value


def _read(kind: Any, data: Any, path: str, faults: list[str]) -> Any:
    origin, args = get_origin(kind), get_args(kind)
    if kind is Any:
        return data
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _read_dataclass(kind, data, path, faults)
    if origin is Literal:
        if data not in args or isinstance(data, bool) != isinstance(args[0], bool):
            faults.append(f"{path} = {data!r} is not one of {', '.join(map(str, args))}")
        return data
    if origin in (Union, types.UnionType):
        return _read_union(args, data, path, faults)
    if origin is tuple and isinstance(data, (list, tuple)):
        return tuple(_read(args[0], item, f"{path}[{index}]", faults) for index, item in enumerate(data))
    if origin in (dict, Mapping) and isinstance(data, Mapping):
        return {str(key): _read(args[1], item, f"{path}.{key}", faults) for key, item in data.items()}
    if kind in (float,) and isinstance(data, (int, float)) and not isinstance(data, bool):
        if not math.isfinite(data):
            faults.append(f"{path} = {data} is not a finite number")
        return float(data)
    wanted = origin or kind
    if kind is None or kind is type(None):
        wanted = type(None)
    if not isinstance(data, wanted) or (isinstance(data, bool) and wanted is not bool):
        faults.append(f"{path or 'value'} = {data!r} is not {_name(kind)}")
    return data


def _read_union(args: tuple[Any, ...], data: Any, path: str, faults: list[str]) -> Any:
    attempts: list[list[str]] = []
    for arg in args:
        attempt: list[str] = []
        value = _read(arg, data, path, attempt)
        if not attempt:
            return value
        attempts.append(attempt)
    nested = [
        a for a, arg in zip(attempts, args, strict=True) if dataclasses.is_dataclass(arg) and isinstance(data, Mapping)
    ]
    faults.extend(nested[0] if nested else [f"{path} = {data!r} is not {' or '.join(_name(arg) for arg in args)}"])
    return data


def _read_dataclass(cls: type, data: Any, path: str, faults: list[str]) -> Any:
    if not isinstance(data, Mapping):
        faults.append(f"{path or 'the file'} is not a table")
        return data
    hints = get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}
    dot = f"{path}." if path else ""
    before = len(faults)
    for key in data:
        if key not in fields:
            close = difflib.get_close_matches(str(key), fields, n=1)
            faults.append(f"unknown key '{dot}{key}'" + (f" (did you mean '{close[0]}'?)" if close else ""))
    values = {}
    for name, field in fields.items():
        if name in data:
            values[name] = _read(hints[name], data[name], f"{dot}{name}", faults)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            faults.append(f"missing key '{dot}{name}'")
    if len(faults) > before:
        return data
    try:
        return cls(**values)
    except (TypeError, ValueError) as error:
        faults.append(f"{dot or 'the file '}{error}")
        return data


def _name(kind: Any) -> str:
    names: dict[Any, str] = {int: "a whole number", float: "a number", str: "a string", bool: "true or false"}
    names |= {None: "absent", type(None): "absent"}
    if kind in names:
        return names[kind]
    return {tuple: "a list", dict: "a table"}.get(get_origin(kind) or kind, str(kind))
