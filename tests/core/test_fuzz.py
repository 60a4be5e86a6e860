"""Fuzz: thousands of command lines and damaged files, from a seed. No traceback, no hang, exit codes 0, 1, 2, 130 only.

A few by default; `pytest -m fuzz tests/core/test_fuzz.py` with BENCH_EXAMPLES=10000 makes that many of each. A failure
names its number: BENCH_FUZZ_FIRST=<number> BENCH_EXAMPLES=1 makes that one alone.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
import signal
import tarfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType

import numpy as np
import pytest
import torch
from helpers.records import make
from safetensors.numpy import save_file

from bench.cli.main import main
from bench.core import configs, predictions
from bench.core.errors import BenchError
from bench.core.store import Store
from bench.data.download import archives
from bench.execution import plan as planning
from bench.execution.attempt import Settings
from bench.execution.resources import Resources
from bench.models import backbones

EXAMPLES = int(os.environ.get("BENCH_EXAMPLES", "60"))
FIRST = int(os.environ.get("BENCH_FUZZ_FIRST", "0"))
SECONDS = 60  # that nothing takes
CODES = (0, 1, 2, 130)

pytestmark = [pytest.mark.fuzz, pytest.mark.timeout(0), pytest.mark.filterwarnings("default")]


class Hang(BaseException):
    """Not an Exception, so that nothing on the way catches it."""


@contextlib.contextmanager
def deadline(seconds: int) -> Iterator[None]:
    def late(signum: int, frame: FrameType | None) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def run(arguments: Sequence[str]) -> int:
    """The exit code of a command, whose output must be UTF-8 and free of tracebacks."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", errors) for errors in ("strict", "backslashreplace"))
    with deadline(SECONDS), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(list(arguments))
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    for stream in (out, err):
        if not stream.closed:
            stream.flush()
            assert b"Traceback (most recent call last)" not in stream.buffer.getvalue()  # type: ignore[attr-defined]
    return code


def try_all(count: int, one: Callable[[random.Random], tuple[object, Callable[[], int]]]) -> None:
    """Makes `count` cases, each from its own number; `one` gives what describes a case and what runs it."""
    codes: Counter[int] = Counter()
    started = time.monotonic()
    for number in range(FIRST, FIRST + count):
        case, execute = one(random.Random(number))
        try:
            code = execute()
        except BaseException as error:
            pytest.fail(
                f"case {number}: {case!r} ended in {type(error).__name__}: {error}", pytrace=not isinstance(error, Hang)
            )
        assert code in CODES, f"case {number}: {case!r} ended with exit code {code}"
        codes[code] += 1
    print(f"\n{count} cases in {time.monotonic() - started:.0f} s; exit codes {dict(sorted(codes.items()))}")


# command lines --------------------------------------------------------------------------------------------------------

VERBS: dict[str, tuple[str, ...]] = {
    "run --dry-run": ("--method", "--suite", "--dataset", "--backbone", "--seeds", "--set", "--protocol", "--epochs", "--precision", "--out", "--data", "--limit", "--jobs", "--slurm", "--plugin", "--json", "--weights", "--retries", "--file"),
    "plan": ("--method", "--suite", "--dataset", "--backbone", "--seeds", "--set", "--out", "--data", "--json", "--slurm", "--bundle-minutes"),
    "resume": ("--out", "--only-failed", "--json", "--jobs", "--data-root"),
    "list": ("", "--plugin", "--help"),
    "count": ("--method", "--backbone", "--classes", "--set", "--json", "--plugin"),
    "paper": ("", "--csv"),
    "table": ("--out", "--format", "--suite", "--backbone"),
    "compare": ("", "--out", "--suite", "--backbone"),
    "status": ("--out", "--runs", "--json"),
    "logs": ("", "--out"),
    "why": ("", "--out", "--plugin"),
    "cancel": ("", "--out"),
    "join": ("", "--out", "--reported", "--suite", "--backbone", "--citation", "--where"),
    "merge": ("", "--out"),
    "verify": ("", "--out"),
    "show": ("", "--out"),
    "data list": ("", "--data-root"),
    "data status": ("", "--data-root", "--json"),
    "data add": ("", "--data-root", "--sample"),
    "data verify": ("", "--data-root"),
    "data prune": ("--data-root", "--dry-run"),
    "": ("--version", "--help", ""),
    "nonsense": ("",),
}  # fmt: skip
NEEDED = {"run --dry-run": ["--method", "--suite"], "plan": ["--method", "--suite"], "count": ["--method", "--backbone", "--classes"], "compare": ["", ""], "logs": [""], "why": [""], "join": [""]}  # fmt: skip
GOOD = {
    "--method": ("lora", "linear_probe,mimi", "all", "vpt_deep"),
    "--suite": ("pocket", "vtab", "elevater"),
    "--dataset": ("pocket/digits", "pocket/digits,pocket/count", "vtab/svhn"),
    "--backbone": ("pocket_vit", "pocket_swin", "pocket_vit,pocket_swin", "resnet50"),
    "--classes": ("1", "10"),
    "--seeds": ("0", "0,1,2"),
    "--set": ("rank=4", "rank=0", "rank=-1", "alpha=1e300", "targets=q+k", "cycles=99", "rank=none", "=", "rank"),
    "--format": ("csv", "markdown", "latex"),
    "--slurm": ("partition=gpu", "timeout=0", "gpus=-1", "sbatch.x=1", "array_parallelism=0"),
}
ODD = ("", " ", "-", "--", "-1", "0", "1" * 40, "9" * 5000, "x" * 5000, "../..", "/nowhere", "a\nb", "\x1b[2J", "花", "caf\udce9", "\u202e", "=1+1", "a,b,,", "{}", "[", "nan", "1e999", "%s%n", "$HOME", "*", "lroa", "pocket/", "/", "pocket_vit ", "None", "true", "0,0", "0x10", "\uff11", "results", "here")  # fmt: skip


def command_line(random: random.Random) -> list[str]:
    verb = random.choice(list(VERBS))
    flags = [*NEEDED.get(verb, []), *random.choices(VERBS[verb], k=random.randrange(4))]
    parts = verb.split()
    for flag in flags:
        parts += [flag] if flag else []
        if flag in GOOD and random.random() < 0.6:
            parts.append(random.choice(GOOD[flag]))
        elif random.random() < 0.85:
            parts.append(random.choice(ODD))
    if random.random() < 0.1:
        random.shuffle(parts)
    # in folders that hold the whole machine a command would rightly take long, and a watch has no end
    return [part for part in parts if part not in ("/", "../..", "--watch")]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a few results, from which nothing else is seen."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("COLUMNS", "100")
    results(tmp_path / "results")
    return tmp_path


def results(root: Path) -> Store:
    store = Store(root)
    for method, score in (("lora", 0.5), ("linear_probe", 0.25), ("mimi", None)):
        record = make(method, "digits", 0, score)
        path = store.write(record)
        if score is not None:
            arrays = {name: np.arange(500, dtype=np.uint16) % 10 for name in ("labels", "predictions")}
            np.savez_compressed(path.with_suffix(".npz"), **arrays)  # type: ignore[arg-type]
    return store


def test_any_command_line_ends_with_an_exit_code(here: Path) -> None:
    def one(random: random.Random) -> tuple[object, Callable[[], int]]:
        arguments = command_line(random)
        return arguments, lambda: run(arguments)

    try_all(EXAMPLES, one)


# damaged files --------------------------------------------------------------------------------------------------------


def damaged(random: random.Random, data: bytes) -> bytes:
    """The bytes after one to three accidents: cut, flipped, doubled, exchanged, or a value of another kind."""
    for _ in range(random.randint(1, 3)):
        place = random.randrange(len(data) + 1)
        end = min(len(data), place + random.randint(1, 40))
        kind = random.randrange(8)
        if kind == 0:
            data = data[:place]
        elif kind == 1 and data:
            place = min(place, len(data) - 1)
            data = data[:place] + bytes([data[place] ^ 1 << random.randrange(8)]) + data[place + 1 :]
        elif kind == 2:
            data = data[:end] + data[place:]
        elif kind == 3:
            data = data[:place] + data[end:]
        elif kind == 4:
            data = data[:place] + random.randbytes(random.randint(1, 8)) + data[place:]
        elif kind == 5:
            data = data[:place] + random.choice(TOKENS) + data[place:]
        elif kind == 6:
            data = data.replace(random.choice(VALUES), random.choice(TOKENS), 1)
        else:
            data = with_other_value(random, data)
    return data


TOKENS = (b"null", b"-1", b"1e999", b"NaN", b'""', b"[]", b"{}", b"[[[[", b'"\\ud800"', b'"../../x"', b"9" * 5000, b"true", b'"\\u0000"', b'"a\\nb"', b"0.5", b"[" * 3000, b"\xff", b"18446744073709551616", b'"=1+1"')  # fmt: skip
VALUES = (b"0", b"1", b"true", b"null", b'"digits"', b'"lora"', b"0.5", b"100", b'"done"', b"[", b"}", b":", b",", b'"')


def with_other_value(random: random.Random, data: bytes) -> bytes:
    """JSON with one value exchanged for another kind, or with a key left out or twice; else as it was."""
    try:
        whole = json.loads(data)
    except (ValueError, RecursionError):  # damaged already, or nested without end
        return data
    place = whole
    for _ in range(random.randint(1, 4)):
        keys = list(place) if isinstance(place, dict) else list(range(len(place))) if isinstance(place, list) else []
        if not keys:
            break
        key = random.choice(keys)
        if random.random() < 0.4 or not isinstance(place[key], (dict, list)):
            others = [
                None,
                -1,
                1.5,
                10**30,
                "",
                "x" * 300,
                "\x1b[2J",
                [],
                {},
                [[]],
                True,
                "../x",
                1e308,
                "花",
                {"a": 1},
            ]
            place[key] = random.choice(others)
            break
        place = place[key]
    return json.dumps(whole).encode()


def a_plan(store: Store) -> Path:
    """A plan of the records of a folder, as a run would have left it."""
    records = list(store.records())
    runs = tuple(planning.PlannedRun(record.spec, 1.0) for record in records)
    cards = {record.spec.dataset: configs.dataset(record.spec.dataset) for record in records}
    bundles = (planning.Bundle((0, 1), 2.0, Resources()), planning.Bundle((2,), 1.0, Resources()))
    plan = planning.Plan(planning.ExecutionContext("cpu"), Settings(), cards, runs, bundles, executor="slurm")
    path = planning.write(plan, store.root)
    (path.parent / "arrays.json").write_text('[{"job": "7", "bundles": [0]}]', encoding="utf-8")
    return path


def state_file(store: Store, name: str) -> Path:
    folder = store.state(make("mimi", "digits", 0, None).spec)
    folder.mkdir(parents=True, exist_ok=True)
    start = {"host": "h", "pid": 1, "job": None, "time": "2025-01-01T00:00:00", "ended": None}
    step = {"start": start, "phase": "train", "epoch": 1, "epochs": 2, "images_per_second": 5.0}
    (folder / name).write_text(json.dumps([start] if name == "starts.json" else step), encoding="utf-8")
    return folder / name


READERS = (
    ["table"],
    ["table", "--format", "csv"],
    ["status"],
    ["status", "--runs"],
    ["status", "--json"],
    ["logs", make("mimi", "digits", 0, None).spec.digest],
    ["why", make("lora", "digits", 0, 0.5).spec.digest],
    ["compare", "lora", "linear_probe"],
    ["cancel"],
)


def test_any_damaged_results_folder_can_be_asked(here: Path) -> None:
    """Records, predictions, plans, arrays, starts, progress, reported numbers and the index."""
    whole = results(here / "whole")
    plan = a_plan(whole)
    state_file(whole, "starts.json")
    state_file(whole, "progress.json")
    (whole.root / "reported.csv").write_text(
        "source,method,variant,backbone,dataset,protocol,accuracy,note\nA,lora,,pocket_vit,pocket/digits,,50,\n"
    )
    run(["table", "--out", str(whole.root)])
    files = [
        path
        for path in sorted(whole.root.rglob("*"))
        if path.suffix in (".json", ".npz", ".csv") and "leaderboards" not in path.parts
    ]
    index = sorted((here / "data" / "index").glob("*.json"))
    assert len(index) == 1 and len(files) >= 9 and plan in files
    texts = {path: path.read_bytes() for path in [*files, *index]}

    def one(random: random.Random) -> tuple[object, Callable[[], int]]:
        path = random.choice([*files, *index])
        data, reader = damaged(random, texts[path]), list(random.choice([*READERS, ["join", str(whole.root)]]))

        def execute() -> int:
            path.write_bytes(data)
            out = here / "joined" if reader[0] == "join" else whole.root
            try:
                return run([*reader, "--out", str(out)])
            finally:
                shutil.rmtree(here / "joined", ignore_errors=True)
                for left in whole.root.rglob("*.corrupt"):
                    left.unlink()
                path.write_bytes(texts[path])

        return (path.name, reader, data[:4000]), execute

    try_all(EXAMPLES, one)


def test_any_damaged_predictions_weights_cards_or_archives_are_refused_in_a_sentence(here: Path) -> None:
    arrays = {"labels": np.arange(50, dtype=np.uint8), "scores": np.ones((50, 3), np.float32)}
    np.savez_compressed(here / "a.npz", **arrays)  # type: ignore[arg-type]
    np.savez(here / "b.npz", **arrays)  # type: ignore[arg-type]
    save_file({"weight": np.ones((4, 4), np.float32), "bias": np.ones(4, np.float32)}, here / "w.safetensors")
    torch.save({"weight": torch.ones(4, 4)}, here / "w.pth")
    cards = sorted(configs.folder().glob("*.toml"))
    (here / "images" / "a").mkdir(parents=True)
    (here / "images" / "a" / "x.txt").write_text("x")
    shutil.make_archive(str(here / "z"), "zip", here / "images")
    with tarfile.open(here / "t.tar.gz", "w:gz") as archive:
        archive.add(here / "images", "images")
    with zipfile.ZipFile(here / "deep.zip", "w") as zipped:
        zipped.writestr("../x", "x")
    names = ("a.npz", "b.npz", "w.safetensors", "w.pth", "z.zip", "t.tar.gz", "deep.zip")
    texts = {name: (here / name).read_bytes() for name in names} | {f"card {p.name}": p.read_bytes() for p in cards}

    def one(random: random.Random) -> tuple[object, Callable[[], int]]:
        name = random.choice(list(texts))
        data = damaged(random, texts[name])
        path = here / ("card.toml" if name.startswith("card") else f"damaged-{name}")

        def execute() -> int:
            path.write_bytes(data)
            with deadline(SECONDS):
                return 2 if read_damaged(path, here) else 0

        return (name, data[:4000]), execute

    try_all(EXAMPLES, one)


def read_damaged(path: Path, here: Path) -> bool:
    """Whether the file is refused, as what is damaged beyond reading must be: by an error of bench's own."""
    try:
        if path.suffix == ".npz":
            predictions.read(path)
        elif path.suffix == ".toml":
            configs.read_suite(path)
        elif path.suffix in (".safetensors", ".pth"):
            backbones._load(torch.nn.Linear(4, 4), path, "linear")
        else:
            archives.unpack(path, here / "unpacked")
    except BenchError:
        return True
    finally:
        shutil.rmtree(here / "unpacked", ignore_errors=True)
    return False
