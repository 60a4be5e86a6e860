"""Good archives of every kind, and bad ones of every kind that is known."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.waiting import LONG

from bench.core.errors import UsageError
from bench.data.download import archives as module
from bench.data.download.archives import Limits, Member, Unpacked, is_unpacked, members, unpack

FILES = {"set/train/a.jpg": b"a" * 3000, "set/train/b.jpg": os.urandom(5000), "set/labels.txt": b"a 0\nb 1\n"}
Extra = tarfile.TarInfo | zipfile.ZipInfo


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # power cuts are not what is tested


def make_zip(path: Path, files: dict[str, bytes] = FILES, extra: list[tuple[Any, bytes]] | None = None) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        for info, content in extra or []:
            archive.writestr(info, content)
    return path


def make_tar(path: Path, files: dict[str, bytes] = FILES, extra: list[tuple[Any, bytes]] | None = None) -> Path:
    kind = {".gz": "w:gz", ".tgz": "w:gz", ".xz": "w:xz"}.get(path.suffix, "w")
    with tarfile.open(path, kind) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o4777
            archive.addfile(info, io.BytesIO(content))
        for info, content in extra or []:
            archive.addfile(info, io.BytesIO(content))
    return path


def tar_info(
    name: str, kind: bytes = tarfile.REGTYPE, target: str = "", size: int = 0
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, size
    return info, b"x" * size


def zip_info(name: str, mode: int, content: bytes = b"") -> tuple[zipfile.ZipInfo, bytes]:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info, content


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".unpacked-")
    }


def refused(archive: Path, folder: Path, **options: Any) -> str:
    """The one line of an archive that is refused, after which there is no trace of it."""
    before = sorted(folder.rglob("*")) if folder.exists() else None
    with pytest.raises(UsageError) as caught:
        unpack(archive, folder, **options)
    assert (sorted(folder.rglob("*")) if folder.exists() else None) == before
    assert not is_unpacked(archive, folder)
    told = str(caught.value)
    assert "\n" not in told and str(archive) in told
    return told


MAKERS: dict[str, Callable[..., Path]] = {
    "a.zip": make_zip, "a.tar": make_tar, "a.tar.gz": make_tar, "a.tgz": make_tar, "a.tar.xz": make_tar
}  # fmt: skip


@pytest.mark.parametrize("name", MAKERS)
def test_all_of_it_and_nothing_else(tmp_path: Path, name: str) -> None:
    archive, folder = MAKERS[name](tmp_path / name), tmp_path / "deep" / "out"
    seen: list[tuple[int, int]] = []
    assert not is_unpacked(archive, folder)
    assert unpack(archive, folder, progress=lambda *now: seen.append(now)) == Unpacked(3, 8008)
    assert tree(folder) == FILES and is_unpacked(archive, folder)
    assert sorted(path.name for path in folder.iterdir()) == [f".unpacked-{name}", "set"]
    size = archive.stat().st_size
    assert seen[-1] == (size, size) and seen == sorted(seen)
    assert not any(path.stat().st_mode & 0o7111 for path in folder.rglob("*") if path.is_file())  # no set-id, no x
    assert [(m.name, m.kind, m.size) for m in members(archive)] == [(n, "file", len(c)) for n, c in FILES.items()]


def test_the_name_does_not_matter(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "a.tar.xz").rename(tmp_path / "download.zip")
    unpack(archive, tmp_path / "out")
    assert tree(tmp_path / "out") == FILES


@pytest.mark.parametrize(("name", "squeeze"), [("x.idx.gz", gzip.compress), ("x.idx.xz", lzma.compress)])
def test_one_file(tmp_path: Path, name: str, squeeze: Callable[[bytes], bytes]) -> None:
    archive = tmp_path / name
    archive.write_bytes(squeeze(b"one file" * 100))
    assert list(members(archive)) == [Member("x.idx", "file", None)]
    assert unpack(archive, tmp_path) == Unpacked(1, 800)
    assert (tmp_path / "x.idx").read_bytes() == b"one file" * 100 and archive.exists()


def test_into_folders_that_are_there(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    unpack(make_tar(tmp_path / "a.tar"), folder)
    unpack(make_zip(tmp_path / "b.zip", {"set/train/a.jpg": b"new", "set/test/c.jpg": b"c"}), folder)
    assert tree(folder) == {**FILES, "set/train/a.jpg": b"new", "set/test/c.jpg": b"c"}
    clash = make_zip(tmp_path / "c.zip", {"set/0": b"0", "set/train": b"file"})
    assert f"has a file where {folder / 'set/train'} is a folder" in refused(clash, folder)
    clash = make_zip(tmp_path / "d.zip", {"set/0": b"0", "set/labels.txt/x": b""})
    assert f"has a folder where {folder / 'set/labels.txt'} is a file" in refused(clash, folder)
    assert is_unpacked(tmp_path / "a.tar", folder)
    (tmp_path / "a.tar").write_bytes(b"another")
    assert not is_unpacked(tmp_path / "a.tar", folder)
    (tmp_path / "a.tar").unlink()
    assert is_unpacked(tmp_path / "a.tar", folder)


def test_names_as_they_come(tmp_path: Path) -> None:
    extra = [tar_info("./", tarfile.DIRTYPE), tar_info("./empty/", tarfile.DIRTYPE)]
    unpack(
        make_tar(tmp_path / "a.tar", {"./x//y/ä b.txt": b"1", "twice": b"old", "./twice": b"new"}, extra),
        tmp_path / "a",
    )
    assert tree(tmp_path / "a") == {"x/y/ä b.txt": b"1", "twice": b"new"} and (tmp_path / "a" / "empty").is_dir()
    unpack(make_zip(tmp_path / "b.zip", {"x\\y\\z.txt": b"1", "e/": b""}), tmp_path / "b")
    assert tree(tmp_path / "b") == {"x/y/z.txt": b"1"} and (tmp_path / "b" / "e").is_dir()


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "a/..", "C:/x", "..", "..\\x"])
def test_names_that_lead_out(tmp_path: Path, name: str) -> None:
    assert "leads out" in refused(make_zip(tmp_path / "a.zip", {"good": b"1", name: b"2"}), tmp_path / "out")
    if "\\" not in name:
        assert "leads out" in refused(make_tar(tmp_path / "a.tgz", {"good": b"1", name: b"2"}), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) in (["a.tgz", "a.zip"], ["a.zip"])


def test_names_of_its_own(tmp_path: Path) -> None:
    for name in (".unpacking.lock", ".unpacked-a.zip", ".unpacking/x"):
        assert "needs itself" in refused(make_zip(tmp_path / "a.zip", {name: b""}), tmp_path / "out")


def test_links_within(tmp_path: Path) -> None:
    links = [
        tar_info("set/best.jpg", tarfile.SYMTYPE, "train/a.jpg"),
        tar_info("set/train/up.txt", tarfile.SYMTYPE, "../labels.txt"),
        tar_info("only/links/l.txt", tarfile.SYMTYPE, "../../set/labels.txt"),
        tar_info("copy.jpg", tarfile.LNKTYPE, "set/train/a.jpg"),
    ]
    unpack(make_tar(tmp_path / "a.tar", FILES, links), tmp_path / "out")
    assert os.readlink(tmp_path / "out/set/best.jpg") == "train/a.jpg"
    for name in ("set/train/up.txt", "only/links/l.txt"):
        assert (tmp_path / "out" / name).read_bytes() == FILES["set/labels.txt"]
    assert not (tmp_path / "out/copy.jpg").is_symlink() and (tmp_path / "out/copy.jpg").read_bytes() == b"a" * 3000
    unpack(
        make_zip(tmp_path / "a.zip", FILES, [zip_info("l", stat.S_IFLNK | 0o777, b"set/labels.txt")]), tmp_path / "b"
    )
    assert (tmp_path / "b" / "l").is_symlink() and (tmp_path / "b" / "l").read_bytes() == FILES["set/labels.txt"]


@pytest.mark.parametrize("target", ["/etc", "..", "../x", "d/../..", "./../x", "", "d/.."])
def test_links_that_leave(tmp_path: Path, target: str) -> None:
    assert "out of the folder" in refused(
        make_tar(tmp_path / "a.tar", FILES, [tar_info("l", tarfile.SYMTYPE, target)]), tmp_path / "out"
    )
    archive = make_zip(tmp_path / "a.zip", FILES, [zip_info("l", stat.S_IFLNK | 0o777, target.encode())])
    assert "out of the folder" in refused(archive, tmp_path / "out")


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    """The well-known ways out: by a link to a folder, by a chain of links, by a hard link to a link."""
    out, victim = tmp_path / "out", tmp_path / "victim"
    victim.write_bytes(b"unharmed")
    through = [tar_info("a/d", tarfile.SYMTYPE, "../b"), tar_info("a/d/x", size=3)]
    assert "does not fit" in refused(make_tar(tmp_path / "1.tar", {"b/y": b""}, through), out)
    chain = [
        tar_info("p/q/r", tarfile.SYMTYPE, "../.."),
        tar_info("s", tarfile.SYMTYPE, "p/q/r/.."),  # in the folder by its letters, out of it by the first link
    ]
    assert "out of the folder" in refused(make_tar(tmp_path / "2.tar", {}, chain), out)
    hard = [tar_info("l", tarfile.SYMTYPE, "b"), tar_info("h", tarfile.LNKTYPE, "l")]
    assert "does not fit" in refused(make_tar(tmp_path / "3.tar", {"b": b"1"}, hard), out)
    for target in ("../victim", str(victim), "nothing"):
        told = refused(make_tar(tmp_path / "4.tar", {}, [tar_info("h", tarfile.LNKTYPE, target)]), out)
        assert "leads out" in told or "does not fit" in told
    parents = [tar_info("n/up", tarfile.SYMTYPE, ".."), tar_info("n/up/m/l", tarfile.SYMTYPE, "../..")]
    assert "does not fit" in refused(make_tar(tmp_path / "5.tar", {}, parents), out)
    assert victim.read_bytes() == b"unharmed" and not out.exists()


def test_devices_and_pipes(tmp_path: Path) -> None:
    for kind in (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE):
        assert "device" in refused(make_tar(tmp_path / "a.tar", {}, [tar_info("x", kind)]), tmp_path / "out")
    assert "device" in refused(make_zip(tmp_path / "a.zip", {}, [zip_info("x", stat.S_IFIFO)]), tmp_path / "out")


@pytest.mark.parametrize("files", [{"a": b"1", "a/b": b"2"}, {"a/b": b"1", "a": b"2"}])
def test_a_file_and_a_folder_of_one_name(tmp_path: Path, files: dict[str, bytes]) -> None:
    assert "does not fit" in refused(make_tar(tmp_path / "a.tar", files), tmp_path / "out")
    assert "does not fit" in refused(make_zip(tmp_path / "a.zip", files), tmp_path / "out")


# ---------------------------------------------------------------------------------------------------- too much


@pytest.mark.parametrize("name", [*MAKERS, "one.gz", "one.xz"])
def test_bombs(tmp_path: Path, name: str) -> None:
    archive, zeros = tmp_path / name, {"zeros": bytes(3_000_000)}
    if name.startswith("one"):
        archive.write_bytes((gzip if name == "one.gz" else lzma).compress(zeros["zeros"]))
    else:
        (make_zip if name == "a.zip" else make_tar)(archive, zeros)
    small = Limits(harmless=1_000_000)
    if name != "a.tar":
        assert "bomb" in refused(archive, tmp_path / "out", limits=small)
    assert "are allowed" in refused(archive, tmp_path / "out", limits=Limits(size=2_000_000))
    unpack(archive, tmp_path / "out", limits=Limits(harmless=1_000_000, ratio=50_000))


def test_too_many_members(tmp_path: Path) -> None:
    files = {str(i): b"" for i in range(30)}
    for archive in (make_zip(tmp_path / "a.zip", files), make_tar(tmp_path / "a.tar", files)):
        assert "over 29 members" in refused(archive, tmp_path / "out", limits=Limits(members=29))
        unpack(archive, tmp_path / archive.suffix, limits=Limits(members=30))


@pytest.mark.parametrize(("name", "missing"), [("a.zip", 500), ("a.tar", 500), ("a.tgz", 600), ("a.tar.xz", 600)])
def test_more_than_the_disk_has(tmp_path: Path, name: str, missing: int, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = MAKERS[name](tmp_path / name, {"x": os.urandom(1000), "y": os.urandom(2000)})
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2500))
    told = refused(archive, tmp_path / "out", limits=Limits(spare=0))
    found = re.search(r"2500 bytes free.*Free at least (\d+) bytes more", told)
    assert found and missing <= int(found[1]) < missing + 500
    assert "2499 bytes stay free" in refused(archive, tmp_path / "out", limits=Limits(spare=2499))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB, where this process may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no tmpfs can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_fills_up_on_the_way(tmp_path: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = make_tar(tmp_path / "a.tar", {"a": os.urandom(700_000), "b": os.urandom(700_000)})
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)  # it looked enough
    assert "disk is full" in refused(archive, small_disk)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert "read-only" in refused(archive, small_disk)


# ---------------------------------------------------------------------------------------------------- damaged


@pytest.mark.parametrize("name", [*MAKERS, "one.gz", "one.xz"])
def test_cut_short_anywhere(tmp_path: Path, name: str) -> None:
    archive = tmp_path / name
    if name.startswith("one"):
        archive.write_bytes((gzip if name == "one.gz" else lzma).compress(os.urandom(2000)))
    else:
        MAKERS[name](archive)
    whole = archive.read_bytes()
    end = len(whole) - (10240 - 512 if name == "a.tar" else 0)  # of a tar's closing blocks, one is enough
    data = end - 512 - 8008 if name == "a.tar" else 0
    for size in {600, 1024, data or 700, end // 2, end - 512, end - 9, end - 1}:
        archive.write_bytes(whole[:size])
        told = refused(archive, tmp_path / "out")
        assert "damaged or cut short" in told or "is not a zip" in told, (size, told)


@pytest.mark.parametrize("name", [*MAKERS])
def test_a_damaged_middle(tmp_path: Path, name: str) -> None:
    archive = MAKERS[name](tmp_path / name)
    content = bytearray(archive.read_bytes())
    at = 512 + 3072 + 100 if name == "a.tar" else len(content) // 2  # in a tar: the second header
    content[at : at + 8] = bytes(byte ^ 0xFF for byte in content[at : at + 8])
    archive.write_bytes(content)
    assert "damaged or cut short" in refused(archive, tmp_path / "out")
    if name != "a.zip":  # whose table of contents is whole
        with pytest.raises(UsageError, match="damaged or cut short"):
            list(members(archive))


def test_a_checksum_at_the_very_end(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "a.tgz")
    content = bytearray(archive.read_bytes())
    content[-6] ^= 1
    archive.write_bytes(content)
    assert "damaged or cut short" in refused(archive, tmp_path / "out")


def test_what_is_no_archive(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    for content, told in ((b"", "is empty"), (b"<!DOCTYPE html>..", "is a web page"), (b"PNG" * 999, "is not a zip")):
        archive.write_bytes(content)
        assert told in refused(archive, tmp_path / "out")
    archive.unlink()
    assert "is not there" in refused(archive, tmp_path / "out")
    with pytest.raises(UsageError, match="is not there"):
        list(members(archive))


def test_an_encrypted_zip(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"x": b"1"})
    content = bytearray(archive.read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1
    archive.write_bytes(content)
    assert "encrypted" in refused(archive, tmp_path / "out")


def test_a_tar_without_closing_blocks(tmp_path: Path) -> None:
    """Some writers leave them out; the compression tells that nothing is missing."""
    plain = make_tar(tmp_path / "a.tar").read_bytes().rstrip(b"\0")
    plain += bytes(-len(plain) % 512)
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(plain))
    unpack(tmp_path / "a.tar.gz", tmp_path / "out")
    assert tree(tmp_path / "out") == FILES


# ---------------------------------------------------------------------------------------------------- killed

SCRIPT = """
import sys, time
from pathlib import Path
from bench.data.download import archives
def stop(*now): print("on the way", flush=True); time.sleep(60)
archives.unpack(Path(sys.argv[1]), Path(sys.argv[2]), progress=stop)
"""


def test_a_killed_call_leaves_nothing_after_the_next(tmp_path: Path) -> None:
    archive, folder = make_tar(tmp_path / "a.tgz"), tmp_path / "out"
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(archive), str(folder)], stdout=subprocess.PIPE)
    late = threading.Timer(LONG, process.kill)
    late.start()
    assert process.stdout and process.stdout.readline() == b"on the way\n"
    late.cancel()
    process.send_signal(signal.SIGKILL)
    process.wait(LONG)
    process.stdout.close()
    assert sorted(path.name for path in folder.iterdir()) == [".unpacking", ".unpacking.lock"]
    assert not is_unpacked(archive, folder)
    before = time.monotonic()
    unpack(archive, folder)
    assert time.monotonic() - before < 10  # nobody waits for a process that is gone
    assert sorted(path.name for path in folder.iterdir()) == [".unpacked-a.tgz", "set"] and tree(folder) == FILES


def test_a_large_tar_is_not_kept_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = make_tar(tmp_path / "a.tar", {str(i): b"" for i in range(50)})
    real, most = module._tar_member, 0

    def spy(info: tarfile.TarInfo) -> Member:
        nonlocal most
        import gc

        if info.name == "49":
            most = sum(
                type(thing) is module._TarInfo for thing in gc.get_objects()
            )  # isinstance would wake lazy modules
        return real(info)

    monkeypatch.setattr(module, "_tar_member", spy)
    unpack(archive, tmp_path / "out")
    assert most < 5
