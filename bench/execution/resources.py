"""What one worker needs, and a site's configuration file: a table for each executor, and [[resources]]."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from bench.core.configs import read_toml
from bench.core.errors import UsageError
from bench.core.schema import parse, plain
from bench.core.spec import RunSpec

T = TypeVar("T")


@dataclass(frozen=True)
class Resources:
    """What one worker needs. Memory in GB; minutes that it may take before it has to let go."""

    gpus: int = 0
    cpus: int = 1
    memory: float | None = None
    minutes: int = 60


@dataclass(frozen=True)
class ResourceOverride:
    """An entry of [[resources]]: the resources of the runs whose names match its patterns."""

    method: str = "*"
    suite: str = "*"
    dataset: str = "*"
    backbone: str = "*"
    gpus: int | None = None
    cpus: int | None = None
    memory: float | None = None
    minutes: int | None = None

    def __post_init__(self) -> None:
        check_least(self, gpus=0, cpus=1, minutes=1)
        if self.memory is not None and self.memory <= 0:
            raise ValueError("memory must be more than 0")

    def fits(self, spec: RunSpec) -> bool:
        names = {
            "method": spec.method,
            "suite": spec.dataset.partition("/")[0],
            "dataset": spec.dataset,
            "backbone": spec.backbone,
        }
        return all(fnmatch.fnmatchcase(name, getattr(self, key)) for key, name in names.items())


@dataclass(frozen=True)
class Config:
    """A configuration file. `executors` holds each executor's options as they stand there; the executor reads them."""

    executors: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    resources: tuple[ResourceOverride, ...] = ()


def read_config(path: Path | None, executors: Sequence[str]) -> Config:
    """Raises UsageError that lists every fault; a table that is no executor's is one."""
    if path is None:
        return Config()
    data = read_toml(path)
    tables = {name: data.pop(name) for name in executors if name in data}
    return parse(Config, {"executors": tables, **data}, str(path))


def resources_for(spec: RunSpec, defaults: Resources, overrides: Sequence[ResourceOverride]) -> Resources:
    """The resources of one run: the defaults, changed by every override that fits, the last one last."""
    for override in overrides:
        if override.fits(spec):
            asked = {name: getattr(override, name) for name in ("gpus", "cpus", "memory", "minutes")}
            defaults = dataclasses.replace(defaults, **{name: v for name, v in asked.items() if v is not None})
    return defaults


def read_options(cls: type[T], text: str, where: str) -> dict[str, Any]:
    """`key=value,...` as values for the fields of an executor's options; `table.KEY=VALUE` is an entry of a table, and
    a list may be given again and again. What does not fit its field is refused when the options are made.
    """
    hints, found, faults = get_type_hints(cls), dict[str, Any](), list[str]()
    for pair in filter(None, text.split(",")):
        key, equals, value = pair.partition("=")
        if not equals:
            faults.append(f"{pair!r} is not KEY=VALUE, like partition=gpu")
            continue
        table, dot, entry = key.partition(".")
        if dot:
            found[table] = {**found.get(table, {}), entry: value}
            continue
        name = key.replace("-", "_")
        kinds = get_args(hints.get(name)) or (hints.get(name),)
        is_list = str in kinds and Ellipsis in kinds
        found[name] = [*found.get(name, []), value] if is_list else _number(value, kinds)
    if faults:
        raise UsageError(f"{where}: {'; '.join(faults)}.")
    return found


def make_options(cls: type[T], values: Mapping[str, object], where: str) -> T:
    """The options of an executor. Raises UsageError that lists every fault."""
    return parse(cls, plain(values), where)


def check_least(asked: Any, **least: int) -> None:
    """Raises ValueError that lists every number which is too small."""
    faults = [f"{k} must be at least {v}" for k, v in least.items() if (n := getattr(asked, k)) is not None and n < v]
    if faults:
        raise ValueError("; ".join(faults))


def _number(text: str, kinds: tuple[Any, ...]) -> int | float | str:
    """A number where the field is one and the text can be read so; what cannot is refused by `parse`."""
    for kind in (int, float):
        if kind in kinds:
            try:
                number: int | float = kind(text)
            except ValueError:
                continue
            return number
    return text
