"""One process at a time, on all machines of a shared disk: a file made with O_EXCL, which its holder keeps touching.

It needs no lock of the file system, so it works on NFS too, and compares no clocks of two machines.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench.core.errors import UsageError
from bench.core.files import read_start

BEAT = 5.0  # seconds after which the holder of a lock touches it again
STALE = 60.0  # seconds without a touch after which a lock is nobody's
POLL = 0.2
LARGEST = 4096  # bytes of a lock; whatever else a damaged one holds is not looked at


def beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


@dataclass
class Held:
    """A lock that this process holds, as long as nobody took it for stale: a suspended machine can lose it."""

    lock: Path
    token: str
    stop: threading.Event = field(default_factory=threading.Event)

    def mine(self) -> bool:
        return _text(self.lock) == self.token

    def check(self) -> None:
        if not self.mine():
            raise UsageError(f"{self.lock} was taken over by another process while this one slept. Let it finish.")

    def beat(self) -> None:
        while not self.stop.wait(BEAT):
            with contextlib.suppress(OSError):
                if self.mine():
                    os.utime(self.lock)


@contextlib.contextmanager
def locked(path: Path, *, waiting: Callable[[], object] = lambda: None, stale: float | None = None) -> Iterator[Held]:
    """Holds PATH.lock, after waiting for the process that does. `waiting` is called again and again meanwhile.

    A lock is stale at once if its process ran here and is gone, and otherwise if it is not touched for `stale` seconds:
    by this machine's clock alone, as those of a shared disk's machines may differ.
    """
    held = _new(path)
    seen, since = None, time.monotonic()
    while not _create(held):
        now = _state(held.lock)
        if now != seen:
            seen, since = now, time.monotonic()
        idle = time.monotonic() - since
        if now and (alive(now[0]) is False or idle > (STALE if stale is None else stale)):
            _break(held.lock, now[0])
            continue
        waiting()
        time.sleep(POLL)
    with _beating(held):
        yield held


@contextlib.contextmanager
def leased(path: Path, *, stale: float | None = None) -> Iterator[Held | None]:
    """Holds PATH.lock, or nothing as soon as another process is seen to hold it: its process lives here, or touches it.

    A stale lock is taken over, as in `locked`.
    """
    held = _new(path)
    seen, since = None, time.monotonic()
    while not _create(held):
        now = _state(held.lock)
        if now is None:
            continue  # it has just gone
        if (seen and now[0] == seen[0] and now != seen) or alive(now[0]):
            yield None
            return
        if now != seen:
            seen, since = now, time.monotonic()
        if alive(now[0]) is False or time.monotonic() - since > (STALE if stale is None else stale):
            _break(held.lock, now[0])
            continue
        time.sleep(POLL)
    with _beating(held):
        yield held


def _new(path: Path) -> Held:
    return Held(beside(path, ".lock"), token())


@contextlib.contextmanager
def _beating(held: Held) -> Iterator[None]:
    """Touches the lock again and again, and lets it go at the end, unless it is another's by then."""
    heart = threading.Thread(target=held.beat, daemon=True)
    heart.start()
    try:
        yield
    finally:
        held.stop.set()
        heart.join()
        if held.mine():
            held.lock.unlink(missing_ok=True)


def _create(held: Held) -> bool:
    try:
        handle = os.open(held.lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return False
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.write(held.token)
    except OSError:  # a full disk: nobody is to wait for a lock that is not held
        held.lock.unlink(missing_ok=True)
        raise
    return True


def _text(path: Path) -> str | None:
    """What a lock says; None if there is none. Raises UnreadableFile where something else has its name."""
    try:
        return read_start(path, LARGEST).decode("utf-8", errors="replace")
    except FileNotFoundError:
        return None


def _state(lock: Path) -> tuple[str, int] | None:
    """Whose lock it is and when it was touched; None if it has just gone."""
    text = _text(lock)
    try:
        return None if text is None else (text, lock.stat().st_mtime_ns)
    except FileNotFoundError:
        return None


def token() -> str:
    """This process, and this use of it: `alive` tells of any process on any machine whether it still runs."""
    return f"{os.getpid()}.{_started(os.getpid())} {_here()} {uuid.uuid4().hex}\n"


def host(token: str) -> str:
    return token.split(" ")[1] if token.count(" ") > 1 else "unknown"


def _here() -> str:
    """This machine since its last boot, and within it the space in which process ids count: clones of a machine and
    containers may share a name and a disk."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        space = f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        space = "-"
    return f"{socket.gethostname()} {space}"


def _started(pid: int) -> str:
    """When a process of this machine began, in the kernel's ticks since boot; "-" where the kernel does not tell, and
    "dead" of one that has ended and whose parent has not asked for its exit status: a zombie holds nothing."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "-"
    fields = stat.rpartition(")")[2].split()
    return "dead" if fields[0] in ("Z", "X", "x") else fields[19]


def alive(token: str) -> bool | None:
    """Does the process that wrote this token into its lock still run? None where it cannot be known from here."""
    match = re.fullmatch(r"(\d+)\.(\S+) (\S+ \S+) \w+\n", token)
    if not match or match[3] != _here():
        return None
    pid, started = int(match[1]), match[2]
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return None
    now = _started(pid)
    if now == "dead":
        return False
    return now == started if "-" not in (now, started) else None  # another process may have its number by now


def _break(lock: Path, token: str) -> None:
    """Removes a stale lock. Another process may do so at the same time, and hold a new one already, which stays."""
    aside = beside(lock, f".{uuid.uuid4().hex}")
    try:
        os.rename(lock, aside)
    except FileNotFoundError:
        return
    if _text(aside) != token:  # that was the new one: it goes back, unless a third has come in between
        with contextlib.suppress(OSError):
            os.link(aside, lock)
    aside.unlink(missing_ok=True)
