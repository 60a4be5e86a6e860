"""One file from the web: whole and checked under its name, or not under its name at all.

    PATH               the file, complete; equal to the checksums that were known
    PATH.part          what has come so far; the next call goes on from there
    PATH.fetch.json    where it comes from and which version it is; once complete, the checksums that were seen
    PATH.lock          held by the process that downloads; others wait for it

A reply that the server has compressed on the way (Content-Encoding: gzip) is unpacked, unless the file as it came has
the known checksum or, without one, a name like x.tar.gz: many servers say so of files that are archives themselves.

What the JSON says of a file without a known checksum is what was seen, and `verified` is empty: it proves nothing.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import http.client
import json
import os
import random
import re
import shutil
import socket
import ssl
import time
import urllib.error
import urllib.request
import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from bench.core.errors import UsageError
from bench.core.lease import Held, beside, locked
from bench.core.store import write_atomically
from bench.core.version import VERSION

Progress = Callable[[int, int | None, float], object]  # bytes done, bytes in total if known, bytes a second

CHUNK = 1 << 18
TICK = 0.1  # seconds between two calls of a progress function
BUSY = {408, 425, 429, 500, 502, 503, 504}  # what a server says that may serve the same request later
FULL = (errno.ENOSPC, errno.EDQUOT)
LONGEST = 60.0  # seconds to wait at most before another attempt, whatever the server asks for


@dataclass(frozen=True)
class Fetched:
    path: Path
    size: int
    sha256: str
    md5: str
    verified: tuple[str, ...]  # "sha256", "md5": which were known beforehand and are equal; () where none was known


def fetch(
    url: str,
    path: Path,
    *,
    sha256: str | None = None,
    md5: str | None = None,
    size: int | None = None,
    progress: Progress | None = None,
    timeout: float = 30.0,
    retries: int = 5,
    backoff: float = 1.0,
) -> Fetched:
    """Downloads `url` to `path`, unless it is there already. Every fault is a UsageError of one line.

    `timeout` is how long nothing at all may come, in seconds; `retries` is how many attempts in a row may bring nothing
    new; `backoff` is the first pause between two of them, which doubles each time.
    """
    _check_url(url)
    known = Known(sha256.lower() if sha256 else None, md5.lower() if md5 else None, size)
    try:
        found = _present(path, known)
        if found:  # before anything is written: the folder may well be a read-only one that others share
            return found
        path.parent.mkdir(parents=True, exist_ok=True)
        meter = _Meter(progress)
        part = beside(path, ".part")
        with locked(path, waiting=lambda: meter(_size(part) or _size(path), size)) as held:
            found = _present(path, known)  # the process that was waited for may have brought it
            return found or _Download(url, path, known, timeout, meter, held).run(retries, backoff)
    except OSError as error:
        raise _unwritable(path, error) from error


@dataclass(frozen=True)
class Known:
    """What is known of a file before it comes; None is anything."""

    sha256: str | None
    md5: str | None
    size: int | None

    def differs(self, size: int, sha256: str, md5: str) -> str | None:
        """What is not as it should be: "its sha256 is 12, not 34"."""
        for name, seen, expected in (
            ("size", size, self.size),
            ("sha256", sha256, self.sha256),
            ("md5", md5, self.md5),
        ):
            if expected is not None and seen != expected:
                return f"its {name} is {seen}, not {expected}"
        return None

    @property
    def checksums(self) -> tuple[str, ...]:
        return tuple(name for name in ("sha256", "md5") if getattr(self, name) is not None)


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and not re.search(r"[\x00-\x20\x7f]", url)
        _ = parts.port  # raises where it is no number
    except ValueError:
        good = False
    if not good:
        raise UsageError(f"{url!r} is not an address that can be downloaded. It must start with http:// or https://.")


def _present(path: Path, known: Known) -> Fetched | None:
    """The file if it is there already and as it should be. It is not read again if it is unchanged since it came."""
    if path.is_dir():
        raise UsageError(f"{path} is a folder; a file is to be downloaded there. Remove it or choose another path.")
    if not path.is_file():
        return None
    stat = path.stat()
    wrong = None if known.size in (None, stat.st_size) else f"its size is {stat.st_size}, not {known.size}"
    if not wrong:
        seen = _recorded(path)
        if seen.get("mtime_ns") != stat.st_mtime_ns or seen.get("size") != stat.st_size:
            seen = dict(zip(("sha256", "md5"), _digests(path), strict=True))
        wrong = known.differs(stat.st_size, seen["sha256"], seen["md5"])
        if not wrong:
            return Fetched(path, stat.st_size, seen["sha256"], seen["md5"], known.checksums)
    raise UsageError(f"{path} is there already, but {wrong}. Remove it, then download it again.")


# ---------------------------------------------------------------------------------------------------- the download


class _Fault(Exception):
    """An attempt that failed. `again`: another one may succeed; `pause`: not before so many seconds."""

    def __init__(self, told: str, remedy: str, *, again: bool, pause: float = 0.0) -> None:
        super().__init__(told)
        self.remedy, self.again, self.pause = remedy, again, pause


class _Wrong(Exception):
    """All of the file came, but it is not the right one. It has been removed."""


@dataclass
class _Download:
    url: str
    path: Path
    known: Known
    timeout: float
    meter: _Meter
    held: Held

    @property
    def part(self) -> Path:
        return beside(self.path, ".part")

    @property
    def note(self) -> Path:
        return beside(self.path, ".fetch.json")

    def run(self, retries: int, backoff: float) -> Fetched:
        failures, furthest = 0, _size(self.part)
        spliced = again = False  # put together from several downloads? begun anew for that reason?
        while True:
            spliced = spliced or _size(self.part) > 0
            try:
                self.transfer()
                return self.finish()
            except _Wrong as wrong:
                if again or not spliced:
                    raise UsageError(
                        f"{self.url}: {wrong}. What came was removed. Download it again; if that does not help, the "
                        "server has another version of the file, or a proxy alters it."
                    ) from None
                spliced, again, furthest = False, True, 0  # maybe a fault of the joint: once more, in one piece
            except _Fault as fault:
                failures = failures + 1 if _size(self.part) <= furthest else 1
                furthest = max(furthest, _size(self.part))
                if not fault.again or failures > retries:
                    raise self.gave_up(fault, failures) from fault
                pause = backoff * 2 ** (failures - 1) * random.uniform(0.5, 1.0)  # so that many do not come at once
                time.sleep(min(LONGEST, max(fault.pause, pause)))

    def gave_up(self, fault: _Fault, failures: int) -> UsageError:
        often = f" ({failures} attempts)" if failures > 1 else ""
        have, _ = self.resumable()
        kept = f" {told_size(have)} are kept in {self.part.name}; the next download goes on from there." if have else ""
        return UsageError(f"{self.url}: {fault}{often}. {fault.remedy}{kept}")

    def transfer(self) -> None:
        """One attempt: after it, all of the file is in the part, or a _Fault says why not."""
        have, seen = self.resumable()
        if have and have == self.expected(seen):
            return
        request = urllib.request.Request(self.url, headers={"User-Agent": f"petbench/{VERSION}"})
        if have:
            request.add_header("Range", f"bytes={have}-")
            validator = _validator(seen)
            if validator:  # without one, the checksum will tell
                request.add_header("If-Range", validator)
        with self.reply(request) as response:
            have, total = self.agree(response, have, seen)
            self.receive(response, have, total)
        if not _size(self.part) and self.known.size != 0:
            raise _Fault("the server sent an empty file", "Try again later.", again=True)

    def expected(self, seen: dict[str, Any]) -> int | None:
        """How many bytes have to come; of what is compressed on the way the server alone knows."""
        total: int | None = seen.get("total")
        return total if seen.get("encoding") else self.known.size or total

    def resumable(self) -> tuple[int, dict[str, Any]]:
        """How many bytes of the part can be kept, and what is noted of the version that they are from."""
        have, seen = _size(self.part), _recorded(self.path)
        expected = self.expected(seen)
        same = seen.get("url") == self.url and (_validator(seen) is not None or bool(self.known.checksums))
        return (have, seen) if have and same and have <= (expected or have) else (0, {})

    def reply(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        try:
            response: http.client.HTTPResponse = _opener().open(request, timeout=self.timeout)
            return response
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 416:  # the part is longer than the file, so it is from another version
                    self.part.unlink(missing_ok=True)
                    raise _Fault("the server has another version than the part", "Try again.", again=True) from None
                raise _refused(error) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _network(error, self.url, self.timeout, started=_size(self.part) > 0) from error

    def agree(self, response: http.client.HTTPResponse, have: int, seen: dict[str, Any]) -> tuple[int, int | None]:
        """From which byte on the reply is to be written, and how long the file will be, if that is told."""
        now = {"etag": response.headers.get("ETag"), "last_modified": response.headers.get("Last-Modified")}
        now["encoding"] = self.encoding(response)
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isdecimal() else None
        if response.status == 206:
            span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
            changed = any(seen.get(key) and now[key] and seen[key] != now[key] for key in now)
            changed = changed or seen.get("encoding") != now["encoding"]
            if not have or not span or int(span[1]) != have or changed:  # not what was asked for; never spliced
                self.part.unlink(missing_ok=True)
                raise _Fault("the server sent another part than was asked for", "Try again later.", again=True)
            total = int(span[2]) if span[2] != "*" else have + total if total is not None else None
        else:  # the range was ignored, or the file has changed
            have = 0
        if total is not None and not now["encoding"] and self.known.size not in (None, total):
            raise UsageError(
                f"{self.url}: the server's file has {total} bytes, not {self.known.size}: it is another version. "
                f"Get the right one by hand and put it at {self.path}."
            )
        if not have:
            self.part.unlink(missing_ok=True)  # first, or the note would speak of another version than the part is from
            self.record(url=self.url, total=total, **now)
        return have, total

    def encoding(self, response: http.client.HTTPResponse) -> str | None:
        """How the reply is compressed on the way, which was not asked for."""
        said = response.headers.get("Content-Encoding", "").strip().lower().removeprefix("x-")
        if said not in ("", "identity", "gzip"):
            told = f"the server sends it encoded as {_one_line(said)[:40]}, which was not asked for"
            raise _Fault(told, f"Get it with a browser and put it at {self.path}.", again=False)
        return "gzip" if said == "gzip" else None

    def receive(self, response: http.client.HTTPResponse, have: int, total: int | None) -> None:
        end = total if total is not None or self.encoding(response) else self.known.size
        free = shutil.disk_usage(self.part.parent).free
        if end is not None and end - have > free:
            raise _too_full(self.path, end - have, free)
        chunk = self.read(response, end, have)
        if not have and _is_page(chunk, response.headers.get_content_type(), self.path):
            raise UsageError(
                f"{self.url}: the server sent a web page instead of the file. Open the address in a browser: it may "
                f"want a login or a click; put what you get at {self.path}."
            )
        self.meter.start(have)
        with open(self.part, "r+b" if have else "wb", buffering=0) as file:  # unbuffered: what is counted is written
            file.seek(have)
            while chunk:
                self.put(file, chunk, have, end)
                have += len(chunk)
                if self.meter(have, end):
                    self.held.check()
                if end is not None and have > end:  # of a file without Content-Length
                    break
                chunk = self.read(response, end if total is not None else None, have)
        self.meter(have, end, last=True)
        if end is not None and have < end:
            told = f"the server closed the connection after {have} of {end} bytes"
            raise _Fault(told, "Try again later.", again=True)

    def read(self, response: http.client.HTTPResponse, end: int | None, have: int) -> bytes:
        try:
            return response.read1(CHUNK if end is None else min(CHUNK, end - have)) if have != end else b""
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _network(error, self.url, self.timeout, started=True) from error

    def put(self, file: IO[bytes], chunk: bytes, have: int, end: int | None) -> None:
        """Writes all of `chunk`; a full disk keeps what it could take, for the next call to go on from."""
        rest = memoryview(chunk)
        try:
            while rest:
                rest = rest[file.write(rest) :]
        except OSError as error:
            if error.errno in FULL and end is not None:
                raise _too_full(self.path, end - have - len(chunk) + len(rest), 0) from error
            raise

    def finish(self) -> Fetched:
        size, (sha256, md5) = _size(self.part), _digests(self.part)
        wrong = self.known.differs(size, sha256, md5)
        archive = self.path.suffix.lower() in (".gz", ".tgz") and self.known == Known(None, None, None)
        if _recorded(self.path).get("encoding") and not archive and (wrong or not self.known.checksums):
            wrong = self.unpack()
            size, (sha256, md5) = _size(self.part), _digests(self.part)
            wrong = wrong or self.known.differs(size, sha256, md5)
        if wrong:
            self.part.unlink(missing_ok=True)
            self.note.unlink(missing_ok=True)
            raise _Wrong(wrong)
        with open(self.part, "rb") as file:
            os.fsync(file.fileno())
        self.held.check()
        seen = _recorded(self.path)
        os.replace(self.part, self.path)
        about = {"sha256": sha256, "md5": md5, "size": size, "verified": self.known.checksums}
        with contextlib.suppress(OSError):  # the file is there, and only has to be read once more if this is not
            self.record(**{**seen, **about, "mtime_ns": self.path.stat().st_mtime_ns})
        return Fetched(self.path, size, sha256, md5, self.known.checksums)

    def unpack(self) -> str | None:
        """Puts the content of the part in its place; what is wrong, where it has none."""
        plain = beside(self.path, ".plain")
        try:
            with gzip.open(self.part) as packed, open(plain, "wb") as file:
                shutil.copyfileobj(packed, file, CHUNK)
            with open(plain, "rb") as file:
                if _is_page(file.read(CHUNK), "", self.path):
                    return "it is a web page"
            os.replace(plain, self.part)
            return None
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            return f"it is said to be gzip and is not ({_one_line(error)})"
        finally:
            plain.unlink(missing_ok=True)

    def record(self, **about: object) -> None:
        write_atomically(self.note, lambda file: file.write_text(json.dumps(about, indent=2) + "\n"))


class _Meter:
    """Calls the progress function now and then, with the speed of the last ten seconds."""

    def __init__(self, progress: Progress | None) -> None:
        self.progress = progress
        self.seen: deque[tuple[float, int]] = deque()

    def start(self, done: int) -> None:
        self.seen = deque([(time.monotonic(), done)])

    def __call__(self, done: int, total: int | None, last: bool = False) -> bool:
        """Was it time?"""
        now = time.monotonic()
        if self.seen and now - self.seen[-1][0] < TICK and not last:
            return False
        self.seen.append((now, done))
        while now - self.seen[0][0] > 10 and len(self.seen) > 2:
            self.seen.popleft()
        if self.progress:
            then, before = self.seen[0]
            self.progress(done, total, (done - before) / (now - then) if now > then else 0.0)
        return True


# ---------------------------------------------------------------------------------------------------- the web


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a few, and never away from http and https."""

    max_redirections = 10
    max_repeats = 3

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        if urlsplit(newurl).scheme not in ("http", "https"):
            raise urllib.error.HTTPError(newurl, code, "redirected away from http", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


def _opener() -> urllib.request.OpenerDirector:
    """One that knows http, https and the proxies of the environment, and nothing else: no file:, ftp: or data:."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    return opener


def _refused(error: urllib.error.HTTPError) -> _Fault:
    """What a status code means to a person."""
    told = f"the server answered {error.code} ({_one_line(error.reason)})"
    if error.code in BUSY:
        after = error.headers.get("Retry-After", "") if error.headers else ""
        pause = float(after) if after.isdecimal() else 0.0
        return _Fault(told, "It is busy or broken; try again later.", again=True, pause=pause)
    if error.code in (404, 410):
        return _Fault(f"the file is not there ({error.code})", "It has moved; look for it by hand.", again=False)
    if error.code in (401, 403):
        remedy = "It may want a login or a form; open the address in a browser."
        return _Fault(f"the server refuses access ({error.code})", remedy, again=False)
    if error.code in (301, 302, 303, 307, 308):
        told = "it redirects in a circle, too often, or away from http and https"
        return _Fault(told, "Look for another address.", again=False)
    return _Fault(told, "Open the address in a browser.", again=False)


def _network(error: Exception, url: str, timeout: float, *, started: bool) -> _Fault:
    """What an error of the connection means to a person."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    host = urlsplit(url).netloc
    if isinstance(reason, TimeoutError):
        told = f"nothing came from {host} for {timeout:g} seconds"
        return _Fault(told, "Check the network, or try again later.", again=True)
    if isinstance(reason, socket.gaierror):
        again = started or reason.errno == socket.EAI_AGAIN  # a name that was known a moment ago will be known again
        remedy = "Check the network (is this machine online, behind a proxy?) and the address."
        return _Fault(f"the name of {host} cannot be resolved", remedy, again=again)
    if isinstance(reason, ConnectionRefusedError):
        told = f"{host} refuses the connection"
        return _Fault(told, "Check the address and the network (a firewall, a proxy?), or try later.", again=True)
    if isinstance(reason, ssl.SSLCertVerificationError):
        told = f"the certificate of {host} is not valid ({reason.verify_message})"
        return _Fault(told, "Check the clock of this machine and its certificates.", again=False)
    if isinstance(reason, http.client.IncompleteRead | http.client.RemoteDisconnected | ConnectionError):
        return _Fault("the server closed the connection midway", "Try again later.", again=True)
    if isinstance(error, http.client.InvalidURL):
        return _Fault("it is not an address that can be opened", "Correct it.", again=False)
    return _Fault(f"the connection failed ({_one_line(reason)})", "Check the network, or try later.", again=True)


def _validator(seen: dict[str, Any]) -> str | None:
    """What If-Range may compare: a strong ETag, or else a date."""
    etag, date = seen.get("etag"), seen.get("last_modified")
    return etag if etag and not etag.startswith("W/") else date or None


def _is_page(start: bytes, kind: str, path: Path) -> bool:
    """Is this a web page where none was asked for?"""
    if path.suffix.lower() in (".html", ".htm", ".xhtml"):
        return False
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return text.startswith((b"<!doctype html", b"<html")) or (kind == "text/html" and text.startswith(b"<"))


# ---------------------------------------------------------------------------------------------------- the disk


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _digests(path: Path) -> tuple[str, str]:
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            sha256.update(chunk)
            md5.update(chunk)
    return sha256.hexdigest(), md5.hexdigest()


def _recorded(path: Path) -> dict[str, Any]:
    """What is noted beside `path`; a note that cannot be read is none."""
    try:
        seen = json.loads(beside(path, ".fetch.json").read_text())
    except (OSError, ValueError):
        return {}
    return seen if isinstance(seen, dict) else {}


def told_size(count: int) -> str:
    """1234567 -> "1.2 MB"; small numbers to the byte."""
    for unit, name in ((10**9, "GB"), (10**6, "MB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} bytes"


def _too_full(path: Path, needed: int, free: int) -> UsageError:
    return UsageError(
        f"{path}: the disk is full: {needed} more bytes are needed, {free} are free, so {needed - free} are missing. "
        "Free them, then download again; what has come is kept."
    )


def _unwritable(path: Path, error: OSError) -> UsageError:
    if error.errno in FULL:
        return UsageError(f"{path}: the disk is full. Free some of it, then download again; what has come is kept.")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return UsageError(f"{path} cannot be written: {path.parent} is read-only here. Choose another folder.")
    return UsageError(f"{path} cannot be written ({_one_line(error)}). Choose another folder.")


def _one_line(error: object) -> str:
    return " ".join(str(error).split()) or type(error).__name__
