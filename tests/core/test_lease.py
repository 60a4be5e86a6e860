"""One process at a time: who waits, who takes over, and who must let go."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from helpers import waiting

from bench.core import lease as module
from bench.core.errors import UnreadableFile, UsageError
from bench.core.lease import leased, locked


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_lock_of_another_machine_is_stale_only_when_it_is_not_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "data.bin.lock"
    lock.write_text("1 elsewhere pid:[1] abc\n")
    os.utime(lock, (0, 0))  # its clock is far off, which says nothing
    before = time.monotonic()
    with locked(tmp_path / "data.bin", stale=0.4):
        assert time.monotonic() - before >= 0.4
        assert left(tmp_path) == ["data.bin.lock"]
    assert left(tmp_path) == []

    monkeypatch.setattr(module, "BEAT", 0.05)
    monkeypatch.setattr(module, "alive", lambda token: None)
    released = threading.Event()

    def hold() -> None:
        with locked(tmp_path / "data.bin"):
            time.sleep(2.0)
            released.set()

    thread = threading.Thread(target=hold)
    thread.start()
    waiting.until(lock.exists)
    with locked(tmp_path / "data.bin", stale=1.2):
        assert released.is_set()
    thread.join(waiting.LONG)


def test_a_lock_that_was_lost_is_noticed(tmp_path: Path) -> None:
    with locked(tmp_path / "data.bin") as held:
        held.check()
        held.lock.write_text("another's")
        with pytest.raises(UsageError, match="taken over"):
            held.check()
    assert left(tmp_path) == ["data.bin.lock"]  # which is not ours to remove


def test_a_new_lock_is_not_broken_for_an_old_one(tmp_path: Path) -> None:
    lock = tmp_path / "data.bin.lock"
    lock.write_text("new")
    module._break(lock, "old")
    assert lock.read_text() == "new" and left(tmp_path) == ["data.bin.lock"]
    module._break(lock, "new")
    assert left(tmp_path) == []


def test_the_lock_of_a_holder_that_hangs_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "alive", lambda token: None)
    path, first = tmp_path / "data.bin", contextlib.ExitStack()
    held = first.enter_context(locked(path))
    assert held.mine() and str(os.getpid()) in held.lock.read_text()
    held.stop.set()  # it no longer touches its lock
    with locked(path, stale=0.4) as second:
        assert second.mine() and not held.mine()
        first.close()  # must not take away what is no longer its own
        assert second.mine()
    assert left(tmp_path) == []


def test_the_lock_of_a_process_that_is_gone_is_free_at_once(tmp_path: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait(waiting.LONG)
    (tmp_path / "data.bin.lock").write_text(f"{gone.pid}.1 {module._here()} abc\n")
    before = time.monotonic()
    with locked(tmp_path / "data.bin"):
        assert time.monotonic() - before < module.STALE / 10


def test_a_lease_is_refused_while_its_holder_lives_and_taken_over_when_it_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run"
    with leased(path) as held:
        assert held is not None and held.mine()
        with leased(path) as other:
            assert other is None
        assert held.mine()
    assert left(tmp_path) == []

    monkeypatch.setattr(module, "BEAT", 0.05)
    with leased(path) as held:  # a holder on another machine is known by its touches alone
        assert held is not None
        monkeypatch.setattr(module, "alive", lambda token: None)
        before = time.monotonic()
        with leased(path, stale=30.0) as other:
            assert other is None and time.monotonic() - before < 10
        held.stop.set()
        with leased(path, stale=0.5) as other:
            assert other is not None and other.mine() and not held.mine()


def test_a_number_that_another_process_has_by_now_is_no_holder(tmp_path: Path) -> None:
    (tmp_path / "run.lock").write_text(f"{os.getpid()}.1 {module._here()} abc\n")  # this pid, but begun at boot
    assert module.alive((tmp_path / "run.lock").read_text()) is False
    with leased(tmp_path / "run") as held:
        assert held is not None


def test_a_zombie_holds_nothing(tmp_path: Path) -> None:
    """A holder that was killed, and whose parent does not ask for its exit status: usual in containers."""
    child = os.fork()
    if child == 0:
        with locked(tmp_path / "run"):
            os.kill(os.getpid(), signal.SIGKILL)
    try:
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)  # it has ended, and stays a zombie
        assert left(tmp_path) == ["run.lock"]
        assert module.alive((tmp_path / "run.lock").read_text()) is False
        with leased(tmp_path / "run") as held:
            assert held is not None and held.mine()
    finally:
        os.waitpid(child, 0)


def test_what_has_a_lock_s_name_and_is_none_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.lock")
    (tmp_path / "b.lock").mkdir()
    for name in ("a", "b"):
        with pytest.raises(UnreadableFile, match=rf"{name}\.lock is not a plain file"), leased(tmp_path / name):
            pass


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 50, b"\xff\xfe", b"[" * 100_000], ids=["empty", "null", "bytes", "long"]
)
def test_a_damaged_lock_is_nobody_s_when_it_is_not_touched(content: bytes, tmp_path: Path) -> None:
    lock = tmp_path / "run.lock"
    lock.write_bytes(content)
    with leased(tmp_path / "run", stale=0.3) as held:
        assert held is not None and held.mine()
        lock.write_bytes(content)
        assert not held.mine()
    assert lock.read_bytes() == content  # let go of nothing that is not its own
