"""Digests of the files of own images, kept so that a file which has not changed is not read again by every command.

<root>/hashes/<digest of the folder>.json      file -> size, times of change, digest
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from bench.core.store import write_atomically
from bench.data.items import DECODING, is_16_bit, orientation
from bench.data.progress import OnProgress, silent

PIECE = 256  # files between two marks of progress
SETTLED = 2.0  # seconds: a file changed later than that may change again within one tick of its clock

Stamp = tuple[int, int, int]  # size, and when content and entry were changed, in ns


def contents(
    folder: Path, names: Sequence[str], data_root: Path | None = None, on_progress: OnProgress = silent
) -> list[str]:
    """What the files below `folder` hold: the sha256 of each, and how it is read where that is not plainly ("upright":
    turned as its EXIF says; "16 bit": scaled). "unreadable" where it cannot be opened.

    With a data root, digests are kept there, and those of unchanged files are taken from there.
    """
    cache = _cache(folder, data_root)
    known = _load(cache)
    now = time.time_ns()
    found: list[tuple[Stamp | None, str]] = []

    def one(name: str) -> tuple[Stamp | None, str]:
        path = folder / name
        try:
            status = path.stat()
            stamp = (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            if known.get(name, (None, ""))[0] == stamp:
                return known[name]
            return stamp, _content(path.read_bytes())
        except OSError:  # it is named, with all others, when it is decoded
            return None, "unreadable"

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for start in range(0, len(names), PIECE):
            found += pool.map(one, names[start : start + PIECE])
            on_progress("read", len(found), len(names))
    settled = {
        name: (stamp, content)
        for name, (stamp, content) in zip(names, found, strict=True)
        if stamp is not None and max(stamp[1:]) < now - SETTLED * 1e9
    }
    if cache is not None and any(known.get(name) != entry for name, entry in settled.items()):
        _save(cache, known | settled)
    return [content for _, content in found]


def _content(data: bytes) -> str:
    digest = hashlib.sha256(data).hexdigest()
    try:
        with Image.open(io.BytesIO(data)) as image:
            turned = image.format != "TIFF" and orientation(image) != 1  # Pillow turns TIFF by itself
            return digest + (" upright" if turned else "") + (" 16 bit" if is_16_bit(image) else "")
    except DECODING:  # not an image: named when it is decoded
        return digest


def _cache(folder: Path, data_root: Path | None) -> Path | None:
    if data_root is None:
        return None
    return data_root / "hashes" / f"{hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]}.json"


def _load(cache: Path | None) -> dict[str, tuple[Stamp, str]]:
    """What is known; nothing of a file that is damaged, which is then written anew."""
    try:
        entries = json.loads(cache.read_text(encoding="utf-8")) if cache else {}
        return {str(name): ((int(a), int(b), int(c)), str(content)) for name, (a, b, c, content) in entries.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _save(cache: Path, entries: Mapping[str, tuple[Stamp, str]]) -> None:
    text = json.dumps({name: [*stamp, content] for name, (stamp, content) in entries.items()}, indent=0)
    cache.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(cache, lambda file: file.write_text(text + "\n", encoding="utf-8"))
