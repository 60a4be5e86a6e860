"""Every command on a results folder survives the worst one: no traceback, no hang, one exit code, nothing forged."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest
from hostile_folder import NAMES, build, good_records

from bench.cli.main import main
from bench.core.store import Store

SECONDS = 400  # that no command takes, on however busy a machine
DIGEST = good_records()[0].spec.digest

COMMANDS = {
    "table": ["table"],
    "table-csv": ["table", "--format", "csv"],
    "table-markdown": ["table", "--format", "markdown"],
    "table-latex": ["table", "--format", "latex"],
    "compare": ["compare", "lora", "linear_probe"],
    "page": ["page"],
    "plot": ["plot"],
    "status": ["status"],
    "status-runs": ["status", "--runs"],
    "status-json": ["status", "--json"],
    "logs": ["logs", DIGEST],
    "why": ["why", DIGEST],
    "plan": ["plan", "--method", "lora", "--dataset", "pocket/digits", "--seeds", "0"],
    "cancel": ["cancel"],
    "resume": ["resume"],
}


@contextlib.contextmanager
def deadline(seconds: int) -> Iterator[None]:
    def late(signum: int, frame: FrameType | None) -> None:
        raise TimeoutError("the command hangs")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def run(*arguments: str) -> tuple[int, str, str]:
    """Exit code, output and errors of a command, with strict UTF-8 streams."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", errors) for errors in ("strict", "backslashreplace"))
    with deadline(SECONDS), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(list(arguments))
        except SystemExit as stop:
            code = int(stop.code or 0)
    texts = []
    for stream in (out, err):
        stream.flush()
        texts.append(stream.buffer.getvalue().decode())  # type: ignore[attr-defined]
    return code, texts[0], texts[1]


@pytest.fixture
def hostile(tmp_path: Path) -> Store:
    return build(tmp_path / "results")


@pytest.mark.filterwarnings("ignore:Glyph")  # matplotlib's font has no Chinese, and draws a box
@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_survives(name: str, hostile: Store) -> None:
    code, out, err = run(*COMMANDS[name], "--out", str(hostile.root))
    assert code in (0, 1, 2), err
    assert "Traceback" not in out + err
    unseen = [char for char in out + err if not char.isprintable() and char not in "\n"]
    assert unseen == []
    assert not re.search("^bench: (all runs are done|done)", out + err, re.MULTILINE)  # which only a reason says
    if name not in ("cancel", "resume", "plan"):
        assert code != 2, err  # what is whole is shown
    if name == "status-json":
        assert json.loads(out)["done"] > 0
    if name.startswith("table") or name in ("compare", "page", "plot"):
        assert code == 1 and "seed0-backup.json is set aside" in err  # the exit code tells
        assert "zzz" in err
    if name.startswith("table"):
        assert "lora" in out
    if name == "logs":
        assert DIGEST in out


def test_a_version_that_is_not_known_hides_no_row(hostile: Store) -> None:
    _, out, err = run("table", "--format", "csv", "--suite", "pocket", "--out", str(hostile.root))
    backbone = good_records()[0].spec.backbone
    (row,) = (
        row for row in csv.DictReader(io.StringIO(out))
        if (row["method"], row["variant"], row["backbone"]) == ("lora", "default", backbone)
    )  # fmt: skip
    assert (float(row["digits"]), float(row["count"])) == (50, 50)
    assert "1 of the records are set aside: they are of version 99 of lora, which is not known here" in err


def test_no_written_file_holds_a_formula_or_a_tag_and_no_two_names_share_one(hostile: Store) -> None:
    run("table", "--out", str(hostile.root))
    files = sorted((hostile.root / "leaderboards").iterdir())
    assert len(files) >= 2 * (1 + len(NAMES))  # one for each image folder, and pocket
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert path.suffix == ".csv" or "<script" not in text
        assert all(char.isprintable() or char == "\n" for char in text)
        if path.suffix == ".csv":
            cells = [cell for row in csv.reader(io.StringIO(text)) for cell in row]
            assert [cell for cell in cells if cell[:1] in "=+@" and cell] == []
            assert [
                cell for cell in cells if cell.startswith("-") and not re.fullmatch(r"-[\d.]+(e-?\d+)?", cell)
            ] == []


def test_joining_it_takes_what_is_whole_and_nothing_leaves_the_folder(hostile: Store, tmp_path: Path) -> None:
    before = {path for path in tmp_path.rglob("*") if hostile.root not in path.parents}
    code, out, err = run("join", str(hostile.root), "--out", str(tmp_path / "new"))
    assert code == 1 and "Traceback" not in err
    whole = list(hostile.records(lambda _: None))
    assert list(Store(tmp_path / "new").records()) == whole and len(whole) >= len(good_records())
    assert f"{len(whole)} records taken over" in out
    new = [path for path in tmp_path.rglob("*") if hostile.root not in path.parents and path not in before]
    assert all((tmp_path / "new") in (path, *path.parents) for path in new)
    assert all(path.is_dir() or (path.is_file() and not path.is_symlink()) for path in new)


def test_joining_into_it_keeps_what_is_there(hostile: Store, tmp_path: Path) -> None:
    lent = Store(tmp_path / "lent")
    for record in good_records():
        lent.write(record)
    before = list(hostile.records(lambda _: None))
    code, _, err = run("join", str(lent.root), "--out", str(hostile.root))
    assert (code, err) == (0, "")
    assert list(hostile.records(lambda _: None)) == before


def test_the_folder_is_as_hostile_as_it_says(hostile: Store) -> None:
    told: list[str] = []
    assert len(list(hostile.records(told.append))) > 30 and len(told) > 12
    assert sys.platform != "linux" or os.path.exists("/dev/zero")
