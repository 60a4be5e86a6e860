"""Archives unpacked: zip, tar, tar.gz, tar.xz, and one file in gz or xz; told apart by content, not by name.

Nothing in an archive is trusted. Names may not leave the folder; links may not either, and are made last, so that
nothing is written through one; devices and pipes are refused; owners and permissions are not taken over; what unpacks
to too much is a bomb. What is unpacked lies in FOLDER/.unpacking until all of it is there, and is then moved to its
place, into folders that are there already if need be. FOLDER/.unpacked-ARCHIVE is written last. Nothing here relies on
tarfile's extraction filters, which not every Python 3.11 has.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import io
import json
import lzma
import os
import re
import shutil
import stat
import struct
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Literal, Self

from bench.core.errors import UsageError
from bench.core.lease import locked
from bench.core.store import write_atomically
from bench.data.download.fetch import FULL, TICK, told_size

Progress = Callable[[int, int], object]  # bytes of the archive that are done, and its size
Kind = Literal["file", "folder", "link", "hard link", "device"]

Stream = IO[bytes] | io.BufferedIOBase
Open = Callable[[], Stream]
CHUNK = 1 << 20
DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    lzma.LZMAError,
    zlib.error,
    struct.error,
    EOFError,
    ValueError,
    NotImplementedError,  # a compression that zipfile does not know
)


@dataclass(frozen=True)
class Limits:
    """What an archive may unpack to. Images hardly shrink; label files shrink to a tenth; bombs to a thousandth."""

    size: int = 500 * 10**9  # bytes
    ratio: float = 100.0  # times the size of the archive
    harmless: int = 64 * 10**6  # bytes up to which the ratio does not matter
    members: int = 5_000_000
    spare: int = 256 * 10**6  # bytes of the disk to leave free


@dataclass(frozen=True)
class Member:
    name: str  # "train/0001.jpg", with slashes only, as the archive has it: it may be a name that unpack refuses
    kind: Kind
    size: int | None  # bytes unpacked; None where only unpacking would tell
    target: str = ""  # of a link


@dataclass(frozen=True)
class Unpacked:
    files: int
    size: int  # bytes


def members(archive: Path) -> Iterator[Member]:
    """What is in an archive, in its order. A tar is read to its end for that."""
    _size(archive)
    with _readable(archive), open(archive, "rb") as file:
        for member, _ in _entries(archive, file):
            yield member


def unpack(archive: Path, folder: Path, *, limits: Limits | None = None, progress: Progress | None = None) -> Unpacked:
    """Unpacks all of an archive below `folder`, or nothing of it. Every fault is a UsageError of one line.

    Files that are there already are replaced. What a killed call left behind is removed by the next one.
    """
    size = _size(archive)
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / ".unpacking") as held, _aside(folder) as aside:
            room = _Room(archive, folder, limits or Limits(), size, shutil.disk_usage(folder).free)
            done = _unpack_to(aside, archive, room, progress)
            held.check()
            for source, target in list(_moves(archive, aside, folder)):
                os.replace(source, target)
            about = {"archive": archive.name, "archive_size": size, "files": done.files, "size": done.size}
            write_atomically(_stamp(archive, folder), lambda file: file.write_text(json.dumps(about) + "\n"))
    except OSError as error:
        raise _unwritable(archive, folder, error) from error
    finally:
        if made:
            with contextlib.suppress(OSError):
                folder.rmdir()  # only if it is empty
    if progress:
        progress(size, size)
    return done


def is_unpacked(archive: Path, folder: Path) -> bool:
    """Was this archive unpacked to the end below `folder`? It may be removed since, but not replaced."""
    try:
        about = json.loads(_stamp(archive, folder).read_text())
        return bool(not archive.exists() or archive.stat().st_size == about["archive_size"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _stamp(archive: Path, folder: Path) -> Path:
    return folder / f".unpacked-{archive.name}"


# ---------------------------------------------------------------------------------------------------- writing


@contextlib.contextmanager
def _aside(folder: Path) -> Iterator[Path]:
    aside = folder / ".unpacking"
    shutil.rmtree(aside, ignore_errors=True)  # of a call that was killed
    aside.mkdir()
    try:
        yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _unpack_to(aside: Path, archive: Path, room: _Room, progress: Progress | None) -> Unpacked:
    files = 0
    links: list[tuple[Path, Member]] = []
    tick = _Tick(progress, room.packed)
    with _readable(archive), open(archive, "rb") as file:
        for member, opened in _entries(archive, file, room.check_listing):
            room.count()
            parts = _safe(archive, member.name)
            path = aside.joinpath(*parts)
            if member.kind == "device":
                raise UsageError(f"{archive}: {member.name!r} is a device or a pipe. {_UNSAFE}")
            try:
                if member.kind == "folder":
                    path.mkdir(parents=True, exist_ok=True)
                elif member.kind == "link":
                    _check_link(archive, member, parts)
                    path.parent.mkdir(parents=True, exist_ok=True)  # now, while there is no link to go through
                    links.append((path, member))
                else:
                    files += 1
                    room.expect(member.size or 0)
                    with _source(archive, aside, member, opened) as stream, _new(path) as copy:
                        while chunk := stream.read(CHUNK):
                            room.take(len(chunk))
                            copy.write(chunk)
                            tick(file.tell())
            except MISFITS as error:
                raise _misfit(archive, member, error) from error
    for path, member in links:
        try:
            path.symlink_to(member.target)
        except MISFITS as error:
            raise _misfit(archive, member, error) from error
    return Unpacked(files, room.taken)


def _source(archive: Path, aside: Path, member: Member, opened: Open) -> Stream:
    """Where the content of a member is: a hard link is that of an earlier one, and becomes a copy."""
    return open(aside.joinpath(*_safe(archive, member.target)), "rb") if member.kind == "hard link" else opened()


def _new(path: Path) -> IO[bytes]:
    """A file of the archive, opened for writing; of two with one name the later stays, as with tar and unzip."""
    try:
        return open(path, "wb")
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        return open(path, "wb")


def _moves(archive: Path, source: Path, target: Path) -> Iterator[tuple[str, Path]]:
    """What is to be moved where, to have all of one folder in another, which may have folders of the same names."""
    for entry in sorted(os.scandir(source), key=lambda entry: entry.name):
        path, is_folder = target / entry.name, entry.is_dir(follow_symlinks=False)
        if is_folder and path.is_dir():
            yield from _moves(archive, Path(entry.path), path)
        elif path.is_file() if is_folder else path.is_dir() and not path.is_symlink():
            there, here = ("file", "folder") if is_folder else ("folder", "file")
            raise UsageError(
                f"{archive} has a {here} where {path} is a {there}. Remove that {there}, or unpack elsewhere."
            )
        else:
            yield entry.path, path


class _Room:
    """Keeps count of what an archive unpacks to, and stops it where that is too much."""

    def __init__(self, archive: Path, folder: Path, limits: Limits, packed: int, free: int) -> None:
        self.archive, self.folder, self.limits, self.packed, self.free = archive, folder, limits, packed, free
        self.taken = self.members = 0

    def check_listing(self, count: int, size: int) -> None:
        """For what an archive tells beforehand: refused before anything is written."""
        self._check_count(count)
        self.expect(size)

    def count(self) -> None:
        self.members += 1
        self._check_count(self.members)

    def take(self, size: int) -> None:
        self.expect(size)
        self.taken += size

    def expect(self, size: int) -> None:
        """Would so much more be too much?"""
        size += self.taken
        told = f"{self.archive} ({told_size(self.packed)}) unpacks to {told_size(size)} or more"
        if size > self.limits.size:
            raise UsageError(f"{told}; {told_size(self.limits.size)} are allowed. {_RAISE}")
        if size > max(self.limits.harmless, self.limits.ratio * self.packed):
            raise UsageError(f"{told}, over {self.limits.ratio:g} times its size: it may be a bomb. {_RAISE}")
        missing = size - self.free + self.limits.spare
        if missing > 0:
            raise UsageError(
                f"{told}; {self.folder} has {told_size(self.free)} free, of which {told_size(self.limits.spare)} stay "
                f"free. Free at least {told_size(missing)} more, or choose a folder on another disk."
            )

    def _check_count(self, count: int) -> None:
        if count > self.limits.members:
            raise UsageError(f"{self.archive} has over {self.limits.members} members: it may be a bomb. {_RAISE}")


class _Tick:
    """Calls a progress function now and then, with numbers that only rise."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self.progress, self.total, self.done, self.last = progress, total, 0, 0.0

    def __call__(self, done: int) -> None:
        self.done = max(self.done, done)
        if self.progress and time.monotonic() - self.last >= TICK:
            self.last = time.monotonic()
            self.progress(self.done, self.total)


# ---------------------------------------------------------------------------------------------------- what is refused

MISFITS = (FileExistsError, FileNotFoundError, IsADirectoryError, NotADirectoryError)

_UNSAFE = "Nothing was unpacked. Get the archive from its official page."
_AGAIN = "Nothing was unpacked. Remove the archive and download it again."
_RAISE = "If it is known to be good, raise the limit."


def _safe(archive: Path, name: str) -> tuple[str, ...]:
    """The parts of a name that stays in the folder; () is the folder itself."""
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if not name or name.startswith("/") or re.match("[A-Za-z]:", name) or ".." in parts or "\0" in name:
        raise UsageError(f"{archive}: {name!r} leads out of the folder. {_UNSAFE}")
    if parts and parts[0].startswith((".unpacking", ".unpacked-")):
        raise UsageError(f"{archive}: {name!r} is a name that unpacking needs itself. {_UNSAFE}")
    return parts


def _check_link(archive: Path, member: Member, parts: tuple[str, ...]) -> None:
    """A link may go up as far as the folder, and then down; not up again, which may mean another place after a link."""
    steps = [step for step in member.target.split("/") if step not in ("", ".")]
    up = next((i for i, step in enumerate(steps) if step != ".."), len(steps))
    if not steps or member.target.startswith("/") or "\0" in member.target or ".." in steps[up:] or up >= len(parts):
        raise UsageError(f"{archive}: {member.name!r} links to {member.target!r}, out of the folder. {_UNSAFE}")


def _misfit(archive: Path, member: Member, error: OSError) -> UsageError:
    return UsageError(f"{archive}: {member.name!r} does not fit its other members ({error.strerror}). {_AGAIN}")


@contextlib.contextmanager
def _readable(archive: Path) -> Iterator[None]:
    try:
        yield
    except DAMAGED as error:
        told = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(f"{archive} is damaged or cut short ({told}). {_AGAIN}") from error


def _size(archive: Path) -> int:
    if not archive.is_file():
        raise UsageError(f"{archive} is not there. Download it first.")
    return archive.stat().st_size


def _unwritable(archive: Path, folder: Path, error: OSError) -> UsageError:
    told = f"{archive} cannot be unpacked to {folder}"
    if error.errno in FULL:
        return UsageError(f"{told}: the disk is full. Nothing was unpacked. Free some of it, then unpack again.")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return UsageError(f"{told}: the folder is read-only here. Choose another one.")
    return UsageError(f"{told} ({' '.join(str(error).split())}). Choose another folder.")


# ---------------------------------------------------------------------------------------------------- reading

Check = Callable[[int, int], None]  # is told early how many members there are, and of how many bytes in total
Entries = Iterator[tuple[Member, Open]]  # each with what opens it, before the next one is asked for


def _entries(archive: Path, file: IO[bytes], check: Check = lambda count, size: None) -> Entries:
    head = file.read(512)
    file.seek(0)
    if head.startswith((b"PK\3\4", b"PK\5\6")):
        yield from _zip(archive, file, check)
    elif head.startswith(b"\x1f\x8b"):
        yield from _compressed(archive, gzip.GzipFile(fileobj=file), check)
    elif head.startswith(b"\xfd7zXZ\0"):
        yield from _compressed(archive, lzma.LZMAFile(file), check)  # noqa: SIM115
    elif _is_tar(head):
        yield from _tar(file, _TarInfo)
    else:
        page = b"<html" in head.lower() or b"<!doctype html" in head.lower()
        told = "is a web page, not" if page else "is empty, not" if not head else "is not"
        raise UsageError(f"{archive} {told} a zip, tar, tar.gz, tar.xz, gz or xz. Remove it and download it again.")


def _zip(archive: Path, file: IO[bytes], check: Check) -> Entries:
    with zipfile.ZipFile(file) as whole:
        infos = whole.infolist()
        check(len(infos), sum(info.file_size for info in infos))
        for info in infos:
            if info.flag_bits & 1:
                raise UsageError(f"{archive} is encrypted. Unpack it by hand, with its password.")
            name = info.filename.replace("\\", "/")  # as some tools for Windows write it
            kind = _kind(info, name)
            target = ""
            if kind == "link":
                if info.file_size > 4096:
                    raise zipfile.BadZipFile(f"the link {name!r} is too long")
                target = whole.read(info).decode()
            yield Member(name, kind, info.file_size, target), partial(whole.open, info)


def _kind(info: zipfile.ZipInfo, name: str) -> Kind:
    mode = stat.S_IFMT(info.external_attr >> 16) if info.create_system == 3 else 0  # 3: made on Unix
    if mode == stat.S_IFLNK:
        return "link"
    if name.endswith("/"):
        return "folder"
    return "file" if mode in (0, stat.S_IFREG, stat.S_IFDIR) else "device"


def _compressed(archive: Path, stream: gzip.GzipFile | lzma.LZMAFile, check: Check) -> Entries:
    check(0, _size(archive))  # it will not be less
    head = stream.read(512)
    stream.seek(0)
    if _is_tar(head):
        yield from _tar(stream, _CompressedTarInfo)
    else:
        name = archive.stem if archive.suffix.lower() in (".gz", ".xz") else f"{archive.name}.content"
        yield Member(name, "file", None), lambda: stream


def _is_tar(head: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


class _TarInfo(tarfile.TarInfo):
    """tarfile takes a damaged header, and the end of the file, for the end of the archive. Here they are faults."""

    ends: tuple[str, ...] = ("EOFHeaderError",)

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tar)
        except tarfile.HeaderError as error:
            if type(error).__name__ in cls.ends:
                raise
            raise tarfile.ReadError(str(error)) from error


class _CompressedTarInfo(_TarInfo):
    """Some leave the closing blocks out; if the file were cut short, the decompression would tell."""

    ends = ("EOFHeaderError", "EmptyHeaderError")


def _tar(stream: IO[bytes] | gzip.GzipFile | lzma.LZMAFile, info_type: type[_TarInfo]) -> Entries:
    with tarfile.open(fileobj=stream, mode="r|", tarinfo=info_type) as whole:
        while (info := whole.next()) is not None:
            yield _tar_member(info), partial(_open_member, whole, info)
            whole.members.clear()  # type: ignore[attr-defined]  # or a million of them would fill the memory
    while stream.read(CHUNK):  # to the end, where the checksum of the compression is
        pass


def _tar_member(info: tarfile.TarInfo) -> Member:
    kind: Kind = "device"
    if info.isdir():
        kind = "folder"
    elif info.isreg():
        kind = "file"
    elif info.issym():
        kind = "link"
    elif info.islnk():
        kind = "hard link"
    return Member(info.name, kind, info.size if kind == "file" else 0, info.linkname)


def _open_member(whole: tarfile.TarFile, info: tarfile.TarInfo) -> Stream:
    stream = whole.extractfile(info)
    assert stream is not None  # a regular file
    return stream
