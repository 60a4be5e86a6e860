"""`bench doctor`: what is here, what is wrong, and what to do about it."""

from __future__ import annotations

import importlib
import platform
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from bench.core.errors import UsageError

PACKAGES = ("torch", "torchvision", "timm", "numpy", "pandas", "matplotlib", "seaborn", "safetensors")


@dataclass(frozen=True)
class Finding:
    level: Literal["ok", "note", "problem"]
    topic: str
    text: str


def examine(data_root: Path | None = None) -> list[Finding]:
    """`data_root`: None for the default one."""
    findings = [Finding("ok", "python", f"{platform.python_version()} on {platform.platform()}")]
    for name in PACKAGES:
        try:
            findings.append(Finding("ok", name, version(name)))
        except PackageNotFoundError:
            findings.append(Finding("problem", name, f"is not installed. pip install {name}"))
    for name in ("torch", "torchvision", "timm"):
        try:
            importlib.import_module(name)
        except Exception as error:  # a broken build raises anything at import
            remedy = "Reinstall the pair that belongs together: pip install --force-reinstall torch torchvision"
            findings.append(Finding("problem", name, f"cannot be imported ({error}). {remedy}"))
    if any(finding.level == "problem" for finding in findings):
        return findings
    return findings + _devices() + _weights() + _data(data_root)


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
