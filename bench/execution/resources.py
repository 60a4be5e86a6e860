"""What a cluster needs to know: a TOML file with [slurm] and [[resources]], and options like partition=gpu,gpus=1."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

from bench.core.errors import UsageError
from bench.core.schema import parse
from bench.execution.plan import ResourceOverride, Slurm


@dataclass(frozen=True)
class Config:
    slurm: Slurm = dataclasses.field(default_factory=Slurm)
    resources: tuple[ResourceOverride, ...] = ()


def read(path: Path | None) -> Config:
    """Raises UsageError that lists every fault of the file."""
    if path is None:
        return Config()
    try:
        return parse(Config, tomllib.loads(path.read_text()), str(path))
    except OSError as error:
        raise UsageError(f"--config {path} cannot be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}.") from error


def with_options(slurm: Slurm, text: str) -> Slurm:
    """The options of `--slurm key=value,...` over those of the file; `sbatch.KEY=VALUE` is any other of sbatch.

    Raises UsageError that lists every fault.
    """
    found: dict[str, Any] = {f.name: getattr(slurm, f.name) for f in dataclasses.fields(slurm)}
    hints, faults = get_type_hints(Slurm), list[str]()
    for pair in filter(None, text.split(",")):
        key, equals, value = pair.partition("=")
        if not equals:
            faults.append(f"{pair!r} is not KEY=VALUE, like partition=gpu")
            continue
        if key.startswith("sbatch."):
            found["sbatch"] = {**found["sbatch"], key.removeprefix("sbatch."): value}
            continue
        name = key.replace("-", "_")
        kinds = get_args(hints.get(name)) or (hints.get(name),)
        found[name] = (*found["setup"], value) if name == "setup" else _number(value, kinds)
    try:
        options = parse(Slurm, _plain(found), "--slurm")
    except UsageError as error:
        faults.append(str(error).removeprefix("--slurm: ").removesuffix("."))
    if faults:
        raise UsageError(f"--slurm: {'; '.join(faults)}.")
    return options


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


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
