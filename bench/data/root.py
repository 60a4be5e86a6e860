"""The data root: the one folder below which `bench` keeps all that it writes about data.

    <root>/raw/         downloads and unpacked archives     <root>/prepared/    decoded arrays
    <root>/sources.json the folders that were named         <root>/hashes/      digests of own images

It is a parameter of everything that reads data; the command line and the API alone ask for the default.
"""

from __future__ import annotations

import os
from pathlib import Path

from bench.core.errors import UsageError


def default_data_root() -> Path:
    """BENCH_DATA, or petbench in the user's cache folder. Raises UsageError where there is neither."""
    if named := os.environ.get("BENCH_DATA"):
        return Path(named)
    if cache := os.environ.get("XDG_CACHE_HOME"):
        return Path(cache) / "petbench"
    try:
        return Path.home() / ".cache" / "petbench"
    except RuntimeError:  # HOME is not set, and the user has no entry in /etc/passwd: usual in containers
        raise UsageError(
            "This user has no home folder (HOME is not set), so there is no default place for data. Name one: "
            "--data-root DIR, or set BENCH_DATA."
        ) from None
