"""Downloads from a server on this machine that does, on request, what servers should not do."""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import http.server
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from helpers.waiting import LONG, until

from bench.core.errors import UsageError
from bench.core.lease import locked
from bench.data.download import fetch as module
from bench.data.download.fetch import Fetched, fetch

BODY = bytes(range(256)) * 2000  # 512,000 bytes
SHA256 = hashlib.sha256(BODY).hexdigest()
MD5 = hashlib.md5(BODY).hexdigest()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # power cuts are not what is tested


@dataclass
class Reply:
    status: int = 200
    body: bytes = BODY
    etag: str | None = '"one"'
    ranges: bool = True
    cut: int | None = None  # close after so many bytes
    stall: int | None = None  # send nothing more after so many bytes
    pause: float = 0.0  # seconds before each piece
    length: bool = True
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Site:
    url: str
    replies: list[Reply]  # one a request; the last one again and again
    asked: list[dict[str, str]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)


class _Handler(http.server.BaseHTTPRequestHandler):
    site: Site

    def do_GET(self) -> None:
        site = self.site
        site.asked.append({"path": self.path, **{key.lower(): value for key, value in self.headers.items()}})
        reply = site.replies.pop(0) if len(site.replies) > 1 else site.replies[0]
        body, status, headers = reply.body, reply.status, dict(reply.headers)
        span = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if span and reply.ranges and self.headers.get("If-Range", reply.etag) == reply.etag:
            start = int(span[1])
            status = 206 if start < len(body) else 416
            headers.setdefault("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            body = body[start:]
        self.send_response(status)
        if reply.etag:
            headers["ETag"] = reply.etag
        if reply.length:
            headers.setdefault("Content-Length", str(len(body)))
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            for at in range(0, len(body), 1 << 16):
                piece = body[at : min(at + (1 << 16), reply.cut or len(body), reply.stall or len(body))]
                time.sleep(reply.pause)
                self.wfile.write(piece)
                if reply.stall is not None and at + (1 << 16) >= reply.stall:
                    site.over.wait(20)
                    return
                if reply.cut is not None and at + (1 << 16) >= reply.cut:
                    return

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("no_proxy", "*")

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # of connections that the tests break

    class Handler(_Handler):
        pass

    server = Server(("127.0.0.1", 0), Handler)
    Handler.site = Site(f"http://127.0.0.1:{server.server_address[1]}/data.bin", [Reply()])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield Handler.site
    Handler.site.over.set()
    server.shutdown()
    server.server_close()
    thread.join(LONG)


def get(site: Site, path: Path, **options: Any) -> Fetched:
    return fetch(site.url, path, **{"backoff": 0.01, **options})


def fault(site: Site, path: Path, **options: Any) -> str:
    """The one line of a failed download."""
    with pytest.raises(UsageError) as caught:
        get(site, path, **options)
    told = str(caught.value)
    assert "\n" not in told and (site.url in told or str(path) in told)
    return told


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def cut_short(site: Site, path: Path, at: int = 200_000, **reply: Any) -> None:
    """Leaves a part of so many bytes."""
    before, site.replies[:] = list(site.replies), [Reply(cut=at, **reply)]
    assert "closed the connection" in fault(site, path, retries=0)
    assert (path.parent / f"{path.name}.part").stat().st_size == at and not path.exists()
    site.replies[:], site.asked[:] = before, []


def test_a_file_and_what_is_noted_of_it(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "data.bin"
    got = get(site, path, sha256=SHA256.upper(), md5=MD5, size=len(BODY))
    assert got == Fetched(path, len(BODY), SHA256, MD5, ("sha256", "md5"))
    assert path.read_bytes() == BODY and left(path.parent) == ["data.bin", "data.bin.fetch.json"]
    note = json.loads((path.parent / "data.bin.fetch.json").read_text())
    assert (note["url"], note["etag"], note["sha256"]) == (site.url, '"one"', SHA256)
    assert note["verified"] == ["sha256", "md5"]


def test_without_a_known_checksum_nothing_is_called_verified(site: Site, tmp_path: Path) -> None:
    got = get(site, tmp_path / "data.bin")
    assert got.verified == () and got.sha256 == SHA256
    note = json.loads((tmp_path / "data.bin.fetch.json").read_text())
    assert note["verified"] == [] and note["sha256"] == SHA256


def test_a_file_that_is_there_is_not_asked_for(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "data.bin"
    path.write_bytes(BODY)
    assert get(site, path, sha256=SHA256).verified == ("sha256",)
    told = fault(site, path, sha256="0" * 64)
    assert "is there already" in told and "Remove it" in told
    assert "size is 512000, not 5" in fault(site, path, size=5)
    path.unlink()
    get(site, path)
    assert len(site.asked) == 1
    monkeypatch.setattr(module, "_digests", lambda path: pytest.fail("it was read again"))
    assert get(site, path, sha256=SHA256).verified == ("sha256",)  # from the note, as the file is unchanged
    assert "sha256" in fault(site, path, sha256="0" * 64)
    assert len(site.asked) == 1


def test_a_cut_download_goes_on(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "data.bin"
    cut_short(site, path)
    assert get(site, path, sha256=SHA256).sha256 == SHA256
    assert [asked.get("range") for asked in site.asked] == ["bytes=200000-"]
    assert site.asked[0]["if-range"] == '"one"'
    assert left(tmp_path) == ["data.bin", "data.bin.fetch.json"]


def test_cuts_within_one_call_are_mended(site: Site, tmp_path: Path) -> None:
    site.replies = [Reply(cut=70_000)] * 9  # each brings something new, so none counts as a failure in a row
    assert get(site, tmp_path / "data.bin", retries=1).sha256 == SHA256
    assert len(site.asked) == 8


def test_a_server_that_ignores_ranges(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "data.bin"
    cut_short(site, path)
    site.replies = [Reply(ranges=False)]
    assert get(site, path).sha256 == SHA256 and len(site.asked) == 1


def test_a_file_that_changed_between_attempts(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "data.bin"
    cut_short(site, path, body=b"\0" * len(BODY), etag='"zero"')
    assert get(site, path).sha256 == SHA256
    assert site.asked[0]["if-range"] == '"zero"' and len(site.asked) == 1


def test_a_note_never_speaks_of_another_version_than_the_part(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the two, when the file has changed: the old part is gone before the new version is noted."""
    path = tmp_path / "data.bin"
    cut_short(site, path, body=b"\0" * len(BODY), etag='"zero"')
    with monkeypatch.context() as patched:
        patched.setattr(module._Download, "receive", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            get(site, path)
    assert left(tmp_path) == ["data.bin.fetch.json"]
    assert get(site, path).sha256 == SHA256


def test_a_server_that_ignores_if_range(site: Site, tmp_path: Path) -> None:
    """It sends the end of another file, and says so: nothing is spliced."""
    path = tmp_path / "data.bin"
    cut_short(site, path, body=b"\0" * len(BODY), etag='"zero"')
    rest = {"Content-Range": f"bytes 200000-{len(BODY) - 1}/{len(BODY)}"}
    site.replies = [Reply(206, BODY[200_000:], ranges=False, headers=rest), Reply()]
    assert get(site, path).sha256 == SHA256 and len(site.asked) == 2


def test_a_wrong_splice_is_found_by_the_checksum_and_loaded_anew(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "data.bin"
    cut_short(site, path, body=b"\0" * len(BODY), etag=None)
    site.replies = [Reply(etag=None)]
    assert get(site, path, sha256=SHA256).sha256 == SHA256
    assert [asked.get("range") for asked in site.asked] == ["bytes=200000-", None]


def test_without_validator_and_checksum_nothing_is_resumed(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "data.bin"
    cut_short(site, path, etag=None)
    assert get(site, path).sha256 == SHA256
    assert "range" not in site.asked[0]


def test_a_part_longer_than_the_file(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "data.bin"
    (tmp_path / "data.bin.part").write_bytes(BODY + BODY)
    (tmp_path / "data.bin.fetch.json").write_text(json.dumps({"url": site.url, "etag": '"one"', "total": None}))
    assert get(site, path).sha256 == SHA256
    assert [asked.get("range") for asked in site.asked] == [f"bytes={2 * len(BODY)}-", None]


def test_a_part_of_another_address_is_dropped(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "data.bin"
    cut_short(site, path)
    fetch(f"{site.url}?mirror", path, sha256=SHA256)
    assert "range" not in site.asked[0]


def test_a_complete_part_only_has_to_be_checked(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "data.bin"
    cut_short(site, path)
    (tmp_path / "data.bin.part").write_bytes(BODY)
    assert get(site, path, sha256=SHA256).sha256 == SHA256 and not site.asked


@pytest.mark.parametrize("known", [{"sha256": "0" * 64}, {"md5": "1" * 32}])
def test_a_wrong_checksum(site: Site, tmp_path: Path, known: dict[str, str]) -> None:
    told = fault(site, tmp_path / "data.bin", **known)
    assert next(iter(known)) in told and next(iter(known.values())) in told and "removed" in told
    assert left(tmp_path) == [] and len(site.asked) == 1


def test_a_size_that_is_not_the_known_one(site: Site, tmp_path: Path) -> None:
    told = fault(site, tmp_path / "data.bin", size=1000)
    assert "512000 bytes, not 1000" in told and left(tmp_path) == []
    site.replies = [Reply(length=False)]  # told only by what comes
    assert "its size is" in fault(site, tmp_path / "data.bin", size=1000)
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("status", "told", "attempts"),
    [(404, "not there", 1), (403, "refuses access", 1), (410, "not there", 1), (418, "418", 1), (503, "503", 3)],
)
def test_status_codes(site: Site, tmp_path: Path, status: int, told: str, attempts: int) -> None:
    site.replies = [Reply(status, b"no", headers={"Retry-After": "0"})]
    assert told in fault(site, tmp_path / "data.bin", retries=2)
    assert len(site.asked) == attempts and left(tmp_path) == []


def test_a_busy_server_is_asked_again(site: Site, tmp_path: Path) -> None:
    site.replies = [Reply(503, b""), Reply(429, b""), Reply()]
    assert get(site, tmp_path / "data.bin").sha256 == SHA256


def test_a_slow_server_and_its_progress(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TICK", 0.03)
    site.replies = [Reply(pause=0.05)]
    seen: list[tuple[int, int | None, float]] = []
    get(site, tmp_path / "data.bin", timeout=20, progress=lambda *now: seen.append(now))
    done = [now[0] for now in seen]
    assert done == sorted(done) and done[-1] == len(BODY) and len(done) > 3
    assert {now[1] for now in seen} == {len(BODY)}
    assert 0 < seen[-1][2] < len(BODY) / 0.3


def test_a_stalled_server(site: Site, tmp_path: Path) -> None:
    site.replies = [Reply(stall=100_000)]
    told = fault(site, tmp_path / "data.bin", timeout=0.4, retries=0)
    assert "nothing came" in told and "0.4 seconds" in told
    assert (tmp_path / "data.bin.part").stat().st_size == 100_000
    site.replies = [Reply()]
    assert get(site, tmp_path / "data.bin").sha256 == SHA256
    assert site.asked[-1]["range"] == "bytes=100000-"


def test_a_server_that_always_closes_midway(site: Site, tmp_path: Path) -> None:
    site.replies = [Reply(cut=100_000, ranges=False)]
    told = fault(site, tmp_path / "data.bin", retries=2)
    assert "after 100000 of 512000 bytes (3 attempts)" in told and "kept in data.bin.part" in told
    assert left(tmp_path) == ["data.bin.fetch.json", "data.bin.part"]


def test_without_a_length(site: Site, tmp_path: Path) -> None:
    site.replies = [Reply(length=False)]
    seen: list[int | None] = []
    get(site, tmp_path / "data.bin", progress=lambda done, total, speed: seen.append(total))
    assert set(seen) == {None}
    site.replies = [Reply(length=False, cut=1000), Reply(length=False)]  # only the known size tells that it was cut
    assert get(site, tmp_path / "b", size=len(BODY)).sha256 == SHA256


PACKED = gzip.compress(BODY, mtime=0)
ENCODED = {"Content-Encoding": "gzip"}


@pytest.mark.parametrize("known", [{}, {"size": len(BODY)}, {"sha256": SHA256}, {"md5": MD5, "size": len(BODY)}])
@pytest.mark.parametrize("length", [True, False])
def test_what_is_compressed_on_the_way_is_stored_as_it_is(
    site: Site, tmp_path: Path, known: dict[str, Any], length: bool
) -> None:
    site.replies = [Reply(body=PACKED, headers=ENCODED, length=length)]
    got = get(site, tmp_path / "data.bin", **known)
    assert (tmp_path / "data.bin").read_bytes() == BODY and got.sha256 == SHA256
    assert got.verified == tuple(name for name in ("sha256", "md5") if name in known)
    assert left(tmp_path) == ["data.bin", "data.bin.fetch.json"]


def test_an_archive_that_is_said_to_be_compressed_on_the_way_stays_one(site: Site, tmp_path: Path) -> None:
    site.replies = [Reply(body=PACKED, headers={"Content-Encoding": "x-gzip"})]
    assert get(site, tmp_path / "data.tar.gz").path.read_bytes() == PACKED
    assert get(site, tmp_path / "data.bin", sha256=hashlib.sha256(PACKED).hexdigest()).path.read_bytes() == PACKED
    assert (
        get(site, tmp_path / "b.tar.gz", sha256=SHA256).path.read_bytes() == BODY
    )  # twice packed: as the checksum says


def test_a_cut_download_of_what_is_compressed_goes_on(site: Site, tmp_path: Path) -> None:
    body = os.urandom(300_000)
    packed = gzip.compress(body)
    site.replies = [Reply(body=packed, headers=ENCODED, cut=100_000), Reply(body=packed, headers=ENCODED)]
    assert get(site, tmp_path / "data.bin").path.read_bytes() == body
    assert "range" in site.asked[-1]


def test_wrong_and_unknown_encodings_are_told(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "data.bin"
    site.replies = [Reply(headers=ENCODED)]
    assert "it is said to be gzip and is not" in fault(site, path)
    site.replies = [Reply(body=PACKED[:-9], headers=ENCODED)]
    assert "it is said to be gzip and is not" in fault(site, path)
    site.replies = [Reply(body=gzip.compress(b"<!DOCTYPE html>login"), headers=ENCODED)]
    assert "it is a web page" in fault(site, path)
    site.replies = [Reply(headers={"Content-Encoding": "br"})]
    assert "encoded as br, which was not asked for" in fault(site, path)
    assert not path.exists() and not (tmp_path / "data.bin.part").exists()


def test_an_empty_file_is_a_fault(site: Site, tmp_path: Path) -> None:
    site.replies = [Reply(body=b"")]
    assert "empty" in fault(site, tmp_path / "data.bin", retries=1)
    assert not (tmp_path / "data.bin").exists()


@pytest.mark.parametrize(
    ("body", "kind"), [(b"\n<!DOCTYPE html><p>Sign in", "text/plain"), (b"<p>Sign in", "text/html; charset=utf-8")]
)
def test_a_page_in_place_of_the_file(site: Site, tmp_path: Path, body: bytes, kind: str) -> None:
    site.replies = [Reply(body=body, headers={"Content-Type": kind})]
    assert "web page" in fault(site, tmp_path / "data.zip")
    assert "data.zip" not in left(tmp_path) and "data.zip.part" not in left(tmp_path)
    get(site, tmp_path / "page.html")  # asked for


def test_redirects(site: Site, tmp_path: Path) -> None:
    def to(place: str) -> Reply:
        return Reply(302, b"", headers={"Location": place})

    site.replies = [to("/elsewhere"), Reply()]
    assert get(site, tmp_path / "data.bin").sha256 == SHA256
    for place in ("file:///etc/passwd", "ftp://127.0.0.1/x", "/data.bin"):
        site.replies = [to(place)]
        assert "redirects" in fault(site, tmp_path / "b", retries=3)
    assert left(tmp_path) == ["data.bin", "data.bin.fetch.json"]


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://a/b", "data:,x", "http://", "/x", "http://a/ b", "http://a:x/", "http://[a/"]
)
def test_addresses_that_are_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(UsageError, match="must start with http"):
        fetch(url, tmp_path / "b")
    assert left(tmp_path) == []


def test_a_refused_connection_and_an_unknown_name(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        site.url = f"http://127.0.0.1:{free.getsockname()[1]}/b"
    assert "refuses the connection (2 attempts)" in fault(site, tmp_path / "b", retries=1)

    def unknown(*args: object, **options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    site.url = "http://no.such.host.invalid/b"
    told = fault(site, tmp_path / "b")
    assert "cannot be resolved" in told and "attempts" not in told and "online" in told


# ---------------------------------------------------------------------------------------------------- the disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 384 KiB, where this process may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=384k", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no tmpfs can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_too_small(site: Site, small_disk: Path) -> None:
    told = fault(site, small_disk / "data.bin", size=len(BODY))
    assert "disk is full" in told and "missing" in told and "data.bin.part" not in left(small_disk)
    site.replies = [Reply(length=False)]  # the disk fills up on the way
    told = fault(site, small_disk / "data.bin", size=None)
    kept = (small_disk / "data.bin.part").stat().st_size
    assert "disk is full" in told and 0 < kept < len(BODY)
    assert "disk is full" in fault(site, small_disk / "other.bin") and "other.bin.lock" not in left(small_disk)


def test_a_disk_that_fills_up(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The free space looked enough, but others write too. What has come stays, and is gone on from."""
    real = module._Download.put

    class Full:
        def __init__(self, file: Any) -> None:
            self.file = file

        def write(self, data: memoryview) -> int:
            room = 300_000 - self.file.tell()
            if room <= 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return int(self.file.write(data[:room]))

    with monkeypatch.context() as patched:
        patched.setattr(module._Download, "put", lambda self, file, *rest: real(self, cast(Any, Full(file)), *rest))
        told = fault(site, tmp_path / "data.bin")
    assert "212000 more bytes are needed" in told and "212000 are missing" in told
    assert (tmp_path / "data.bin.part").stat().st_size == 300_000
    assert get(site, tmp_path / "data.bin", sha256=SHA256).sha256 == SHA256
    assert site.asked[-1]["range"] == "bytes=300000-"


def test_a_read_only_folder(site: Site, small_disk: Path) -> None:
    (small_disk / "there").write_bytes(BODY[:1000])
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    told = fault(site, small_disk / "data.bin")
    assert "read-only" in told and not site.asked
    assert get(site, small_disk / "there", size=1000).size == 1000  # nothing has to be written for it


def test_a_path_that_cannot_be(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot be written" in fault(site, tmp_path / "file" / "b")
    assert "is a folder" in fault(site, tmp_path)


# ---------------------------------------------------------------------------------------------------- several processes

SCRIPT = """
import sys
from pathlib import Path
from bench.data.download.fetch import fetch
print(fetch(sys.argv[1], Path(sys.argv[2]), sha256=sys.argv[3]).size)
"""


def start(site: Site, path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT, site.url, str(path), SHA256]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_and_one_download(site: Site, tmp_path: Path) -> None:
    site.replies = [Reply(pause=0.15)]
    both = [start(site, tmp_path / "data.bin") for _ in range(2)]
    try:
        for process in both:
            out, err = process.communicate(timeout=LONG)
            assert (process.returncode, out) == (0, f"{len(BODY)}\n"), err
    finally:
        for process in both:
            process.kill()
    assert len(site.asked) == 1 and left(tmp_path) == ["data.bin", "data.bin.fetch.json"]


def test_a_killed_process_is_gone_on_from_at_once(site: Site, tmp_path: Path) -> None:
    site.replies = [Reply(stall=100_000)]
    process = start(site, tmp_path / "data.bin")
    part = tmp_path / "data.bin.part"

    def stalled() -> bool:
        assert process.poll() is None, process.communicate(timeout=LONG)[1]
        return part.exists() and part.stat().st_size == 100_000

    try:
        until(stalled)
    finally:
        process.kill()
        process.communicate(timeout=LONG)
    assert "data.bin.lock" in left(tmp_path)
    site.replies = [Reply()]
    before = time.monotonic()
    assert get(site, tmp_path / "data.bin", sha256=SHA256).sha256 == SHA256
    assert site.asked[-1]["range"] == "bytes=100000-" and time.monotonic() - before < 10
    assert left(tmp_path) == ["data.bin", "data.bin.fetch.json"]


def test_the_waiting_one_reports_how_far_the_other_is(site: Site, tmp_path: Path) -> None:
    path, seen = tmp_path / "data.bin", []

    def other() -> None:
        with locked(path):
            (tmp_path / "data.bin.part").write_bytes(b"12345")
            time.sleep(0.5)

    thread = threading.Thread(target=other)
    thread.start()
    until((tmp_path / "data.bin.part").exists)
    get(site, path, progress=lambda done, total, speed: seen.append(done))
    thread.join(LONG)
    assert seen[0] == 5 and seen[-1] == len(BODY)
