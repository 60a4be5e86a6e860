"""bench.core.files and the reading of bookkeeping files: bounded, plain, UTF-8, and one sentence where it is not."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.core import files
from bench.core.errors import UnreadableFile
from bench.core.schema import Damaged, read_json


def test_a_plain_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "a"
    files.write_text(path, "ä\n")
    assert files.read_bytes(path, limit=3) == b"\xc3\xa4\n" and files.read_text(path) == "ä\n"
    with pytest.raises(UnreadableFile, match="has 3 bytes; at most 2"):
        files.read_bytes(path, limit=2)
    (tmp_path / "link").symlink_to(path)
    assert files.read_text(tmp_path / "link") == "ä\n"
    with pytest.raises(UnreadableFile, match="is a link"):
        files.read_bytes(tmp_path / "link", follow_symlinks=False)


@pytest.mark.parametrize("kind", ["folder", "pipe", "socket", "device", "circle", "nul", "surrogate", "latin-1"])
def test_what_is_no_plain_text_file_is_named_at_once(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("a")
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind("a")
    elif kind == "device":
        path = Path("/dev/zero")
    elif kind == "circle":
        path.symlink_to("a")
    elif kind == "latin-1":
        path.write_bytes(b"caf\xe9")
    else:
        path = Path("a\0b" if kind == "nul" else "a\ud800")
    with pytest.raises(UnreadableFile):
        files.read_text(path)


def test_text_is_utf8_whatever_the_locale_says(tmp_path: Path) -> None:
    code = f"from pathlib import Path; from bench.core import files; p = Path({str(tmp_path)!r}) / 'a'; " + (
        "c = chr(33457); files.write_text(p, c); assert files.read_text(p) == c; files.write_json(p, c)"
    )
    env = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run([sys.executable, "-c", code], check=True, env=env)


def test_a_walk_follows_links_to_elsewhere_once_and_none_back(tmp_path: Path) -> None:
    for name in ("here/a/1.x", "here/b.x", "there/2.x", "there/deep/3.x", "there/no.y"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "here/c").symlink_to(tmp_path / "there")
    (tmp_path / "here/d").symlink_to(tmp_path / "there/deep")
    (tmp_path / "there/back").symlink_to(tmp_path / "here")
    (tmp_path / "here/root").symlink_to("/")
    (tmp_path / "here/gone.x").symlink_to("nowhere")
    told: list[str] = []
    assert [name for name, _ in files.walk(tmp_path / "here", ".x", told.append)] == [
        *("a/1.x", "b.x", "c/2.x", "c/deep/3.x", "gone.x")
    ]
    assert [any(f"{name} is left out" in line for line in told) for name in ("c/back", "here/d", "here/root")] == [
        True
    ] * 3
    told.clear()
    own = [name for name, _ in files.walk(tmp_path / "here", ".x", told.append, follow_symlinks=False)]
    assert own == ["a/1.x", "b.x", "gone.x"] and len(told) == 3
    assert list(files.walk(tmp_path / "none", ".x", pytest.fail)) == []


def test_a_walk_ends_in_folders_without_end(tmp_path: Path) -> None:
    deep = tmp_path
    for _ in range(files.DEEPEST + 2):
        deep = deep / "a"
        deep.mkdir()
    (deep / "1.x").write_text("")
    told: list[str] = []
    assert list(files.walk(tmp_path, ".x", told.append)) == [] and "folders deep" in told[0]


@dataclass(frozen=True)
class Note:
    host: str
    pid: int = 0


def test_a_bookkeeping_file_is_read_as_its_type(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    files.write_json(path, [{"host": "x"}])
    assert read_json(path, tuple[Note, ...]) == (Note("x"),)
    files.write_json(path, {"a": 1})
    assert read_json(path, dict[str, int]) == {"a": 1}
    path.unlink()
    with pytest.raises(FileNotFoundError):
        read_json(path, Note)


@pytest.mark.parametrize(
    "damage",
    [
        *(b"", b"{", b"null", b"[]", b"1", b'"x"', b"\xff\xfe", b'{"host": 1}', b'{"host": "a", "pid": "b"}', b"{}"),
        *(b"[" * 100_000, b'{"host":' * 100_000, b'{"host": ' + b"[" * 900 + b"]" * 900 + b"}"),
        *(b'{"host": "a", "pid": ' + b"9" * 5000 + b"}", b'{"host": "a", "pid": NaN}', b'{"host": "a", "pid": 1e999}'),
        *(
            b'{"host": "a", "host": "b"}',
            b'{"host": "a", "pid": true}',
            b'{"host": "a", "other": 1}',
            b" " * (files.SMALL + 1),
        ),
    ],
)
def test_a_damaged_bookkeeping_file_is_one_sentence_that_names_it(damage: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(damage)
    found = read_json(path, Note)
    assert isinstance(found, Damaged) and str(found).count(str(path)) == 1
    assert str(found).count("\n") == 0 and len(str(found)) < 600


def test_a_folder_or_pipe_for_a_bookkeeping_file_is_damaged_too(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    os.mkfifo(tmp_path / "b")
    assert isinstance(read_json(tmp_path / "a", Note), Damaged)
    assert isinstance(read_json(tmp_path / "b", Note), Damaged)
