"""Decode once: every split becomes one uint8 array on disk, memory-mapped by all methods, seeds and runs after that.

    <root>/prepared/<suite>-<dataset>-<key>-<size>[-crop]/{train,val,test}.{images,labels}.npy, meta.json

`key` names the source: the card's fingerprint, or a digest of which images are in which split. A folder there is
complete: it is built aside by one process while others wait, in pieces that survive a crash, and then renamed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from bench.core.errors import UsageError
from bench.core.lease import beside, locked
from bench.core.store import write_atomically
from bench.data.items import ImageList, format_unreadable, to_rgb
from bench.data.progress import OnProgress, silent
from bench.data.splits import ArraySplit, Sealed, Splits

PARTS = ("train", "val", "test")
PIECE = 256  # images between two marks of progress

REMEDY = (
    "Make room ('bench data prune' removes prepared arrays), or choose another folder with --data-root or BENCH_DATA."
)


@dataclass(frozen=True)
class Transform:
    """How an image becomes a square: squashed as a whole, or its shorter side fitted and the centre cut out."""

    size: int
    resize: Literal["squash", "crop"] = "squash"

    def __str__(self) -> str:
        return str(self.size) if self.resize == "squash" else f"{self.size}-crop"

    def __call__(self, image: Image.Image | np.ndarray) -> tuple[np.ndarray, bytes]:
        """uint8 (S, S, 3), bicubic, and the digest of the original's pixels."""
        if isinstance(image, np.ndarray):
            image = Image.fromarray(image)
        rgb = to_rgb(image)
        digest = hashlib.sha256(repr(rgb.size).encode() + rgb.tobytes()).digest()[:16]
        size, (width, height) = self.size, rgb.size
        if (width, height) != (size, size):
            box = None
            if self.resize == "crop":
                side = min(width, height)
                left, top = (width - side) / 2, (height - side) / 2
                box = (left, top, left + side, top + side)
            rgb = rgb.resize((size, size), Image.Resampling.BICUBIC, box=box)
        return np.asarray(rgb), digest


def home(root: Path, name: str, key: str, transform: Transform) -> Path:
    """Where the arrays of a data set lie once they are prepared, below a data root."""
    return root / "prepared" / f"{name.replace('/', '-')}-{key[:16]}-{transform}"


def key_of(layout: str, splits: Mapping[str, ImageList]) -> str:
    """A digest of which images, under which labels, are in which split, and from which kind of source."""
    digest = hashlib.sha256(layout.encode())
    for part in PARTS:
        if part in splits:
            digest.update(f"{part} {splits[part].digest()}".encode())
    return digest.hexdigest()


def build(
    place: Path, splits: Callable[[], Mapping[str, ImageList]], transform: Transform, on_progress: OnProgress = silent
) -> dict[str, Any]:
    """Decodes what is not decoded yet; its meta.json: fingerprint, images per split, and how many are of one colour.

    One process builds, the others wait for it; a build that was cut goes on where it stopped.
    Raises UsageError that names every unreadable image (examples, of a cause that more than twenty have), or says that
    the disk is full.
    """
    if not (place / "meta.json").is_file():
        with _room(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            with locked(place):
                if not (place / "meta.json").is_file():  # otherwise the process that was waited for has built it
                    _build(place, splits(), transform, on_progress)
    meta: dict[str, Any] = json.loads((place / "meta.json").read_text(encoding="utf-8"))
    return meta


@contextlib.contextmanager
def _room(place: Path) -> Iterator[None]:
    """A full or read-only disk, told as what it is."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UsageError(f"{place.parent} cannot be written ({error.strerror}). {REMEDY}") from error


def _build(place: Path, splits: Mapping[str, ImageList], transform: Transform, on_progress: OnProgress) -> None:
    aside = beside(place, ".building")
    aside.mkdir(parents=True, exist_ok=True)
    try:
        fingerprint, plain = _fill(aside, splits, transform, on_progress)
    except UsageError:
        shutil.rmtree(aside)
        raise
    meta = {
        "fingerprint": fingerprint,
        "images": {part: len(items) for part, items in splits.items()},
        "transform": str(transform),
        "one_colour": {"images": len(plain), "examples": plain[:3]},
    }
    for mark in aside.glob("*.done"):
        mark.unlink()
    write_atomically(
        aside / "meta.json", lambda file: file.write_text(json.dumps(meta, indent=1) + "\n", encoding="utf-8")
    )
    if place.is_dir():  # without meta.json: of an older version
        shutil.rmtree(place)
    aside.rename(place)


def _fill(
    aside: Path, splits: Mapping[str, ImageList], transform: Transform, on_progress: OnProgress
) -> tuple[str, list[str]]:
    """The arrays of every split. The fingerprint of the original images and their labels, whatever the transform, and
    the names of the images that are of one colour. Raises UsageError that names the unreadable images of all splits."""
    _check_room(aside, sum(len(items) for items in splits.values()) * transform.size**2 * 3)
    fingerprint = hashlib.sha256()
    bad: list[UsageError] = []
    plain: list[str] = []
    for part in PARTS:
        if part in splits:
            digests = _decode(aside, part, splits[part], transform, on_progress, bad, plain)
            labels = np.ascontiguousarray(splits[part].labels)
            fingerprint.update(part.encode() + digests.tobytes() + labels.tobytes())
            np.save(aside / f"{part}.labels.npy", labels)
    if bad:
        raise UsageError("\n".join([f"{len(bad):,} images cannot be read:", *format_unreadable(bad)]))
    return fingerprint.hexdigest(), plain


def _decode(
    aside: Path,
    part: str,
    items: ImageList,
    transform: Transform,
    on_progress: OnProgress,
    bad: list[UsageError],
    plain: list[str],
) -> np.ndarray:
    """Fills <part>.images.npy piece by piece; the digest of every original image, (N, 16). Adds to `bad` the faults of
    images that cannot be read, to `plain` the names of those of one colour."""
    shape = (len(items), transform.size, transform.size, 3)
    images = _open(aside / f"{part}.images.npy", shape)
    digests = _open(aside / f"{part}.digests.npy", (len(items), 16))
    marks = aside / f"{part}.done"
    done = {int(line) for line in marks.read_text(encoding="utf-8").split()} if marks.exists() else set()

    def one(index: int) -> UsageError | None:
        try:
            pixels, digest = transform(items.read(index))
        except UsageError as error:
            return error
        images[index], digests[index] = pixels, np.frombuffer(digest, np.uint8)
        return None

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for start in range(0, len(items), PIECE):
            end = min(start + PIECE, len(items))
            if start not in done:
                bad += [error for error in pool.map(one, range(start, end)) if error]
                if not bad:
                    images.flush()
                    digests.flush()
                    with open(marks, "a", encoding="utf-8") as file:
                        file.write(f"{start}\n")
            pixels = images[start:end].reshape(end - start, -1)
            plain += [items.names[start + i] for i in np.flatnonzero((pixels == pixels[:, :1]).all(axis=1))]
            on_progress(f"decode {part}", end, len(items))
    return np.array(digests)


def _open(path: Path, shape: tuple[int, ...]) -> np.memmap[Any, np.dtype[np.uint8]]:
    """A writable array on disk, the one that an earlier attempt has begun if it has this shape."""
    if path.exists():
        found = np.lib.format.open_memmap(path, mode="r+")
        if found.shape == shape:
            return found
        path.with_name(path.name.replace(".images.npy", ".done").replace(".digests.npy", ".done")).unlink(
            missing_ok=True
        )
    made: np.memmap[Any, np.dtype[np.uint8]] = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    with open(path, "r+b") as file:  # takes the room now: a full disk must not surface as a bus error later
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return made


def _check_room(folder: Path, needed: int) -> None:
    there = sum(path.stat().st_blocks * 512 for path in folder.iterdir())
    free = shutil.disk_usage(folder).free
    if needed - there > free:
        raise UsageError(f"{folder.parent} has {free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB are needed. {REMEDY}")


def read(place: Path, classes: int) -> Splits:
    """The prepared arrays of a data set. A source without a validation split has an empty one."""
    os.utime(place)  # when it was last used, for `bench data prune`
    meta = json.loads((place / "meta.json").read_text(encoding="utf-8"))

    def arrays(part: str) -> ArraySplit:
        found = ArraySplit(*(np.load(place / f"{part}.{kind}.npy", mmap_mode="r") for kind in ("images", "labels")))
        if len(found) != meta["images"][part]:
            raise UsageError(
                f"{place} is damaged: {part} has {len(found)} images. Remove the folder; it is built anew."
            )
        return found

    train = arrays("train")
    val = arrays("val") if "val" in meta["images"] else train.take(np.arange(0))
    return Splits(train, val, Sealed(lambda: arrays("test")), classes, meta["fingerprint"])


def prune(root: Path, keep_bytes: int) -> list[tuple[Path, int]]:
    """Removes prepared folders, least recently used first, until at most `keep_bytes` are left; what went."""
    folder = root / "prepared"
    for aside in folder.glob("*.building"):
        if not aside.with_suffix(".lock").exists():  # nobody is building it any more
            shutil.rmtree(aside)
    found = sorted((path.stat().st_mtime, path) for path in folder.glob("*") if (path / "meta.json").is_file())
    sizes = {path: sum(file.stat().st_size for file in path.iterdir()) for _, path in found}
    removed = []
    total = sum(sizes.values())
    for _, path in found:
        if total <= keep_bytes:
            break
        shutil.rmtree(path)
        total -= sizes[path]
        removed.append((path, sizes[path]))
    return removed
