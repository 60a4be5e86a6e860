"""Files: read with bounds, written whole or not at all. All text is UTF-8, whatever the locale says."""

from __future__ import annotations

import errno
import json
import os
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.core.errors import UnreadableFile

SMALL = 16 * 1024 * 1024  # bytes that no text file of a results folder comes near
DEEPEST = 16  # folders below each other

Warn = Callable[[str], object]


def read_bytes(path: Path, limit: int = SMALL, follow_symlinks: bool = True) -> bytes:
    """The content of a plain file of at most `limit` bytes.

    Raises UnreadableFile for a pipe, device, folder or socket, for a larger file, for a name that no file can have
    and, without `follow_symlinks`, for a link; otherwise OSError, FileNotFoundError among them.
    """
    data, size = _read(path, limit + 1, follow_symlinks)
    if len(data) > limit:
        raise UnreadableFile(f"{path} has {max(size, len(data)):,} bytes; at most {limit:,} are read.")
    return data


def read_start(path: Path, limit: int) -> bytes:
    """The same of a file of any size: its first `limit` bytes."""
    return _read(path, limit, follow_symlinks=True)[0]


def _read(path: Path, count: int, follow_symlinks: bool) -> tuple[bytes, int]:
    """The first `count` bytes of a plain file, and how many it has."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # a pipe is not waited for
    try:
        handle = os.open(path, flags if follow_symlinks else flags | os.O_NOFOLLOW)
    except ValueError:  # NUL or half a surrogate pair in it
        raise UnreadableFile(f"{str(path)!r} is no name of a file.") from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UnreadableFile(f"{path} is a link, not a plain file.") from error
        if error.errno == errno.ENXIO:
            raise UnreadableFile(f"{path} is a socket or pipe, not a plain file.") from error
        raise
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise UnreadableFile(f"{path} is not a plain file but {_kind(found.st_mode)}.")
        with open(handle, "rb", closefd=False) as file:
            return file.read(count), found.st_size
    finally:
        os.close(handle)


def read_text(path: Path, limit: int = SMALL, follow_symlinks: bool = True) -> str:
    """As `read_bytes`; raises UnreadableFile also where the bytes are not UTF-8."""
    try:
        return read_bytes(path, limit, follow_symlinks).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UnreadableFile(f"{path} is not UTF-8: {error.reason} at byte {error.start}.") from error


def read_end(path: Path, limit: int = SMALL) -> str:
    """The last `limit` bytes of a log as text, whatever bytes they are. Raises UnreadableFile for what is no file."""
    if not path.is_file():
        raise UnreadableFile(f"{path} is not a plain file.")
    with open(path, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - limit))
        return file.read(limit).decode("utf-8", errors="replace")


def walk(folder: Path, suffix: str, warn: Warn, follow_symlinks: bool = True) -> Iterator[tuple[str, os.stat_result]]:
    """Relative path and status of everything below `folder` that ends in `suffix` and is no folder, by name.

    A link to a folder is followed, so that parts of `folder` may lie on another disk, unless it leads to where this
    walk has been or will be. Such a link, every link without `follow_symlinks`, and a folder that cannot be read are
    named to `warn` and left out. Without `folder` there is nothing.
    """
    roots = [os.path.realpath(folder)]

    def below(place: str, prefix: str, depth: int) -> Iterator[tuple[str, os.stat_result]]:
        try:
            with os.scandir(place) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except FileNotFoundError:
            return
        except OSError as error:
            warn(f"{place} is left out: {error.strerror}.")
            return
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if depth == DEEPEST:
                    warn(f"{entry.path} is left out: it lies more than {DEEPEST} folders deep.")
                else:
                    yield from below(entry.path, f"{prefix}{entry.name}/", depth + 1)
            elif entry.is_symlink() and _is_dir(entry):
                if not follow_symlinks:
                    warn(f"{entry.path} is left out: it is a link to a folder.")
                elif _overlaps(real := os.path.realpath(entry.path), roots):
                    warn(f"{entry.path} is left out: it is a link to {real}, which is read from elsewhere.")
                else:
                    roots.append(real)
                    yield from below(entry.path, f"{prefix}{entry.name}/", depth + 1)
            elif entry.name.endswith(suffix):
                try:
                    yield f"{prefix}{entry.name}", _status(entry)
                except FileNotFoundError:
                    continue  # it has just gone

    return below(str(folder), "", 1)


def write_atomically(
    path: Path, write: Callable[[Path], object], place: Callable[[Path], object] | None = None
) -> None:
    """Calls `write` on a file aside, flushes and renames it: readers see the old file or the whole new one.

    `place` gives the file its name in another way than by a rename over whatever has it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem[:100]}-", suffix=".part")
    os.close(handle)
    aside = Path(name)
    try:
        write(aside)
        with open(aside, "rb") as file:
            os.fsync(file.fileno())
        os.chmod(aside, 0o644)
        (place or (lambda file: os.replace(file, path)))(aside)
    finally:
        aside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Atomically. Line ends stay as they are, on every system."""
    write_atomically(path, lambda file: file.write_bytes(text.encode("utf-8")))


def write_json(path: Path, data: Any) -> None:
    """Plain data as one line of JSON, atomically."""
    write_text(path, json.dumps(data) + "\n")


def cache_folder() -> Path | None:
    """This user's folder for what can be made again: BENCH_DATA, or petbench in the cache; None without a home."""
    if named := os.environ.get("BENCH_DATA"):
        return Path(named)
    if cache := os.environ.get("XDG_CACHE_HOME"):
        return Path(cache) / "petbench"
    try:
        return Path.home() / ".cache" / "petbench"
    except RuntimeError:  # HOME is not set and the user has no entry in /etc/passwd: usual in containers
        return None


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links in a circle
        return False


def _status(entry: os.DirEntry[str]) -> os.stat_result:
    """Of what a link leads to; of the link where it leads nowhere, which is told when it is read."""
    try:
        return entry.stat()
    except OSError:
        return entry.stat(follow_symlinks=False)


def _overlaps(real: str, roots: Sequence[str]) -> bool:
    """Whether a folder is one of the others, lies in one or holds one."""
    return any(os.path.commonpath((real, root)) in (real, root) for root in roots)


def _kind(mode: int) -> str:
    kinds = {stat.S_ISDIR: "a folder", stat.S_ISFIFO: "a named pipe", stat.S_ISSOCK: "a socket"}
    return next((name for is_kind, name in kinds.items() if is_kind(mode)), "a device")
