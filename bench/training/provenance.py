"""Where a record comes from: code, device, versions, batch job."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
from datetime import datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path

import torch

from bench.core.record import Provenance
from bench.core.version import VERSION
from bench.models import backbones, registry
from bench.training.job import Job

HARNESS = ("core/spec.py", "data/augment.py", "data/fewshot.py", "data/prepare.py", "data/splits.py")
HARNESS_ROOMS = ("models", "training")
"""Files and folders of the package whose code can change a run's numbers."""


def of(job: Job, notes: dict[str, str], started: datetime, seconds: float) -> Provenance:
    """How a record's numbers came about; `notes` are what the run found out on its way."""
    return Provenance(
        source="measured",
        code=code_version(),
        method_sha256=registry.source_digest(type(job.method)),
        weights_sha256=notes.get("weights_sha256", ""),
        transform=notes.get("transform", ""),
        pretrained_on=backbones.pretraining_data(job.spec.backbone) if job.spec.weights == "pretrained" else None,
        device=job.device,
        device_name=device_name(job.device),
        dtype={"fp32": "float32", "bf16": "bfloat16 autocast"}[job.spec.protocol.precision],
        threads=torch.get_num_threads(),
        host=socket.gethostname(),
        versions={"python": platform.python_version(), **{name: version(name) for name in ("torch", "timm", "numpy")}},
        started=started.isoformat(timespec="seconds"),
        seconds=seconds,
        job=batch_job(),
        shots_sha256=notes.get("shots_sha256"),
        texts_sha256=notes.get("texts_sha256"),
        harness_sha256=harness_digest(),
    )


@cache
def harness_digest() -> str:
    """Digest of the harness's own code that can change numbers, as it was when this process first asked.

    Comments, docstrings and layout do not matter. Where data are read from does not either: the fingerprint of the
    data, part of every spec, tells of that.
    """
    package = Path(__file__).parents[1]
    files = [package / name for name in HARNESS]
    files += [path for room in HARNESS_ROOMS for path in sorted((package / room).glob("*.py"))]
    return registry.code_digest(path.read_text(encoding="utf-8") for path in files)


def compatibility_key(job: Job) -> str:
    """What a checkpoint must have been made with for its training to go on here with the same numbers."""
    method = registry.source_digest(type(job.method))
    code = (VERSION, code_version(), method, version("torch"), version("timm"))
    return f"{job.spec.digest} {code} {job.device} {torch.get_num_threads()} threads"


def batch_job() -> str | None:
    """The id of the batch system's job that this process is part of: 7_3 is task 3 of array 7."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")


@cache
def device_name(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@cache
def code_version() -> str | None:
    """Commit of the checkout this package runs from, "+dirty" where its files were changed; None outside a checkout."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None

    def git(*args: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *args], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "bench", "methods", "datasets")
        return git("rev-parse", "--short=12", "HEAD") + ("+dirty" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None
