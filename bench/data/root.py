"""The data root: the one folder below which `bench` keeps all that it writes about data.

    <root>/raw/         downloads and unpacked archives     <root>/prepared/    decoded arrays
    <root>/sources.json the folders that were named         <root>/hashes/      digests of own images

It is a parameter of everything that reads data; the command line and the API alone ask for the default.
"""

from __future__ import annotations

from pathlib import Path

from bench.core.errors import UsageError
from bench.core.files import cache_folder


def default_data_root() -> Path:
    """BENCH_DATA, or petbench in the user's cache folder. Raises UsageError where there is neither."""
    folder = cache_folder()
    if folder is None:
        raise UsageError(
            "This user has no home folder (HOME is not set), so there is no default place for data. Name one: "
            "--data-root DIR, or set BENCH_DATA."
        )
    return folder
