"""A lease on a piece of work: one process has it, others see who, and take it over when its holder has died.

A file made with O_EXCL, whose holder touches it every few seconds. It needs no lock of the file system, so it works on
NFS too; clocks are not compared: a waiting process watches, on its own clock, whether the file's time still moves.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

BEAT = 5.0  # seconds between two touches
DEAD = 60.0  # seconds without one after which a lease is free


@dataclass(frozen=True)
class Holder:
    host: str
    pid: int

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


class Lease:
    def __init__(self, path: Path, *, beat: float = BEAT, dead: float = DEAD) -> None:
        self.path, self.beat, self.dead = path, beat, dead
        self._token = uuid.uuid4().hex
        self._seen: tuple[int, float] | None = None  # the file's time, and since when it has not moved
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def acquire(self) -> bool:
        """Takes the lease if it is free or its holder is dead; False where somebody else has it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self._is_dead():
            aside = self.path.with_name(f"{self.path.name}.{self._token}")
            with contextlib.suppress(FileNotFoundError):  # of several takers one renames it, the others find nothing
                self.path.rename(aside)
                aside.unlink()
        try:
            handle = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return False
        with os.fdopen(handle, "w") as file:
            json.dump({"host": socket.gethostname(), "pid": os.getpid(), "token": self._token}, file)
        self._stop.clear()
        self._thread = threading.Thread(target=self._touch, daemon=True)
        self._thread.start()
        return True

    def mine(self) -> bool:
        """Whether this process still has the lease; it may have been taken over while it was suspended."""
        try:
            return bool(json.loads(self.path.read_text())["token"] == self._token)
        except (OSError, ValueError, KeyError):
            return False

    def holder(self) -> Holder | None:
        """Who has the lease; None where nobody has."""
        try:
            data = json.loads(self.path.read_text())
            return Holder(data["host"], data["pid"])
        except (OSError, ValueError, KeyError):
            return None

    def release(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if self.mine():
            self.path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def held(self) -> Iterator[bool]:
        """Whether it was acquired; released at the end."""
        got = self.acquire()
        try:
            yield got
        finally:
            if got:
                self.release()

    def _is_dead(self) -> bool:
        try:
            changed = self.path.stat().st_mtime_ns
        except OSError:
            return False
        holder = self.holder()
        if holder is not None and holder.host == socket.gethostname() and not _alive(holder.pid):
            return True
        if self._seen is None or self._seen[0] != changed:
            self._seen = (changed, time.monotonic())
        return time.monotonic() - self._seen[1] > self.dead

    def _touch(self) -> None:
        while not self._stop.wait(self.beat):
            if not self.mine():
                return
            with contextlib.suppress(OSError):
                os.utime(self.path)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
