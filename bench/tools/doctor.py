"""`bench doctor`: what is here, what is wrong, and what to do about it."""

from __future__ import annotations

import importlib
import platform
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement

from bench.core.errors import UsageError

DISTRIBUTION = "petbench"
EXTRAS = ("cvt", "slurm", "hub")  # those of users


@dataclass(frozen=True)
class Finding:
    level: Literal["ok", "note", "problem"]
    topic: str
    text: str


def examine(data_root: Path | None = None) -> list[Finding]:
    """`data_root`: None for the default one."""
    findings = [Finding("ok", "python", f"{platform.python_version()} on {platform.platform()}")]
    findings += _versions()
    for name in ("torch", "torchvision", "timm"):
        try:
            importlib.import_module(name)
        except Exception as error:  # a broken build raises anything at import
            remedy = "Reinstall the pair that belongs together: pip install --force-reinstall torch torchvision"
            findings.append(Finding("problem", name, f"cannot be imported ({error}). {remedy}"))
    if any(finding.level == "problem" for finding in findings):
        return findings
    return findings + _devices() + _weights() + _data(data_root)


def _versions() -> list[Finding]:
    """Every package that pyproject.toml asks for, in the version installed here, and whether that is recent enough."""
    try:
        needs = [Requirement(line) for line in requires(DISTRIBUTION) or ()]
    except PackageNotFoundError:
        remedy = "so that versions are not compared with what is needed. pip install --editable ."
        return [Finding("note", DISTRIBUTION, f"is not installed, {remedy}")]
    core = [_version(need, "problem") for need in needs if _asked_for(need, "")]
    extra = [_version(need, "note") for need in needs if any(_asked_for(need, name) for name in EXTRAS)]
    return core + [finding for finding in dict.fromkeys(extra) if finding not in core]


def _asked_for(need: Requirement, extra: str) -> bool:
    """Whether an installation with this extra asks for it, and one without would not."""
    if need.marker is None:
        return not extra
    return need.marker.evaluate({"extra": extra}) and (not extra or not need.marker.evaluate({"extra": ""}))


def _version(need: Requirement, level: Literal["note", "problem"]) -> Finding:
    wanted = f"{need.name}{need.specifier}"
    try:
        found = version(need.name)
    except PackageNotFoundError:
        return Finding(level, need.name, f"is not installed. pip install '{wanted}'")
    if need.specifier.contains(found, prereleases=True):
        return Finding("ok", need.name, found)
    return Finding(level, need.name, f"{found} is too old: bench needs {wanted}. pip install --upgrade '{wanted}'")


def _devices() -> list[Finding]:
    import torch

    findings = [Finding("ok", "cpu", f"{torch.get_num_threads()} threads")]
    if torch.cuda.is_available():
        findings += [Finding("ok", "cuda", torch.cuda.get_device_name(i)) for i in range(torch.cuda.device_count())]
    else:
        findings.append(Finding("note", "cuda", "no device; runs use the CPU, which is enough for the pocket suite"))
    return findings


def _weights() -> list[Finding]:
    from bench.models import backbones

    findings = []
    for name in backbones.POCKET:
        path = backbones.WEIGHTS / f"{name}.safetensors"
        if path.is_file():
            findings.append(
                Finding(
                    "ok", name, f"{path.stat().st_size / 1e6:.1f} MB, pretrained on {backbones.pretraining_data(name)}"
                )
            )
        else:
            findings.append(
                Finding("problem", name, f"no weights at {path}. bench pretrain {name} --data DIR --out {path.parent}")
            )
    return findings


def _data(root: Path | None) -> list[Finding]:
    from bench.data.root import default_data_root

    try:
        home = (root or default_data_root()).absolute()
    except UsageError as error:
        return [Finding("problem", "data", str(error))]
    near = next(parent for parent in (home, *home.parents) if parent.exists())
    free = shutil.disk_usage(near).free / 1e9
    level: Literal["ok", "note"] = "ok" if free > 1 else "note"
    sets = len(list(home.glob("prepared/*/meta.json")))
    return [
        Finding(
            level, "data", f"{home}: {sets} prepared datasets, {free:.0f} GB free. BENCH_DATA or --data-root moves it."
        )
    ]
