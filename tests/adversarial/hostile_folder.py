"""A results folder as nobody should get one: names that are markup, files that are none, bookkeeping that is damaged."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path

import numpy as np
from helpers.records import make

from bench.core.record import Record
from bench.core.store import Store

NAMES = (
    '=HYPERLINK("http:evil")',
    "@SUM(1+1)",
    "-2+3",
    "<script>alert(1)<script>",
    "a|b`c`*d*_e_[f](g)",
    "$x_1$%&#{}~^",
    "花-тест",
    "--help",
    "CON",
)
REASON = "\x1b[2J\x1b]0;owned\x07\nbench: all runs are done\r\u202eevil \udcff $x$ | <b> =1+1"
DEEP = "[" * 50_000


def good_records() -> list[Record]:
    """Of two methods that any report shows, with the names that a test looks for in what is printed."""
    keys = ("digits", "textures", "count")
    return [make(method, key, 0, 0.5) for method in ("lora", "linear_probe") for key in keys]


def build(root: Path) -> Store:
    """The folder. Of its records, the good ones and those with odd names are whole."""
    store = Store(root)
    for record in good_records():
        _write(store, record)
    for name in NAMES:
        _write(store, make(name, "digits", 0, 0.4, variant=name))
        _write(store, make("lora", name, 0, 0.4, suite="folder"))
        _write(store, make(name, "digits", 1, None, reason=REASON))
        _write(store, make("lora", "digits", 0, 0.4, backbone=name))
    _write(store, make("lora", "digits", 0, 0.9, version=99))
    _write(store, make("lora", "zzz", 0, 0.4))
    _odd_files(store)
    _bookkeeping(store)
    return store


def _write(store: Store, record: Record) -> None:
    path = store.write(record)
    if record.scores:
        zeros = np.zeros(record.scores.test_images, np.uint8)
        np.savez_compressed(path.with_suffix(".npz"), labels=zeros, predictions=zeros)
    else:
        path.with_suffix(".log").write_text(REASON, encoding="utf-8", errors="surrogateescape")


def _odd_files(store: Store) -> None:
    whole = store.path(good_records()[0].spec)
    folder = whole.parent
    shutil.copy(whole, folder / "seed0-backup.json")
    shutil.copy(whole, folder.parent / "x.json")
    os.mkfifo(folder / "pipe.json")
    (folder / "folder.json").mkdir()
    (folder / "loop.json").symlink_to("loop.json")
    (folder / "gone.json").symlink_to("nowhere")
    (folder / "zero.json").symlink_to("/dev/zero")
    (folder / "up").symlink_to(store.root)
    (folder / "machine").symlink_to("/")
    with open(folder / "huge.json", "wb") as file:
        file.truncate(2**40)
    (folder / "torn.json").write_text(whole.read_text()[:-40])
    (folder / "deep.json").write_text(DEEP)
    (folder / "binary.json").write_bytes(b"\xff\xfe\x00")
    (folder / "newer.json").write_text(whole.read_text().replace('"schema": 1', '"schema": 99'))
    (folder / "numbers.json").write_text('{"digest": ' + "9" * 6000 + ', "schema": 1}')
    os.close(os.open(os.fsencode(folder) + b"/caf\xe9\x1b[2J\nbench: done.json", os.O_CREAT | os.O_WRONLY))
    deep = folder
    for _ in range(30):
        deep = deep / "d"
    deep.mkdir(parents=True)
    reason = (
        dataclasses.replace(make("mimi", "digits", 0, None), reason="x")
        .to_json()
        .replace('"reason": "x"', '"reason": ""')
    )
    path = store.path(make("mimi", "digits", 0, None).spec)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(reason)
    (store.root / "index.json").write_text("{")
    (store.root / "reported.csv").write_text('source,method\n"', encoding="utf-8")


def _bookkeeping(store: Store) -> None:
    """Plans, starts, progress and locks: each kind torn, deep, of a wrong type, or no file."""
    spec = good_records()[0].spec
    failed = make(NAMES[0], "digits", 1, None).spec
    damages = ["", "{", "null", "[1]", '"x"', '{"a": 1}', DEEP, '{"a":' * 5000, "9" * 6000, json.dumps({"process": 5})]
    for number, damage in enumerate(damages):
        plan = store.root / "plans" / f"{number:08x}"
        (plan / "logs").mkdir(parents=True)
        for name in ("plan.json", "arrays.json", "front.json", "coordinator.json"):
            (plan / name).write_text(damage)
    for kind in (os.mkfifo, os.mkdir):
        plan = store.root / "plans" / kind.__name__
        plan.mkdir()
        kind(plan / "plan.json")
    (store.root / "plans" / "file").write_text("")
    for place, names in ((spec, ("starts.json", "progress.json")), (failed, ("starts.json", "progress.json"))):
        state = store.state(place)
        state.mkdir(parents=True)
        for name in names:
            (state / name).write_text(DEEP if place is spec else '[{"host": 1}]')
    os.mkfifo(store.root / "state" / f"{spec.digest}.lock")
    (store.root / "state" / f"{failed.digest}.lock").write_bytes(b"\xff\x1b[2J" * 10_000)
