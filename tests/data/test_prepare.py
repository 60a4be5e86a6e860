"""Decode once: one process builds, the others wait; a cut build goes on; bad images and full disks leave nothing."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from helpers.waiting import LONG, until
from PIL import Image

from bench.core.errors import UsageError
from bench.data import prepare
from bench.data.items import ImageList
from bench.data.prepare import Transform

RNG = np.random.default_rng(0)


class Pictures:
    """Random pictures that count how often each is read."""

    def __init__(self, count: int, side: int = 8, broken: tuple[int, ...] = ()) -> None:
        self.pixels = RNG.integers(0, 256, (count, side, side, 3), dtype=np.uint8)
        self.reads = [0] * count
        self.broken = broken

    def read(self, index: int) -> np.ndarray:
        self.reads[index] += 1
        if index in self.broken:
            raise UsageError(f"picture {index} is not a readable image.")
        pixels: np.ndarray = self.pixels[index]
        return pixels

    def items(self) -> ImageList:
        count = len(self.pixels)
        return ImageList(np.arange(count) % 3, tuple(f"p{i}" for i in range(count)), self.read)


def test_arrays_are_the_resized_images_and_say_so(tmp_path: Path) -> None:
    pictures = Pictures(5, side=12)
    meta = prepare.build(tmp_path / "a", lambda: {"train": pictures.items(), "test": pictures.items()}, Transform(8))
    splits = prepare.read(tmp_path / "a", 3)
    expected = [np.asarray(Image.fromarray(p).resize((8, 8), Image.Resampling.BICUBIC)) for p in pictures.pixels]
    np.testing.assert_array_equal(splits.train.images[:], np.stack(expected))
    assert meta["images"] == {"train": 5, "test": 5} and len(splits.val) == 0
    assert splits.fingerprint == meta["fingerprint"]


def test_the_fingerprint_is_that_of_the_originals_not_of_the_transform(tmp_path: Path) -> None:
    pictures = Pictures(4, side=16)
    split = {"train": pictures.items(), "test": pictures.items()}
    prints = [prepare.build(tmp_path / str(t), lambda: split, t)["fingerprint"] for t in (Transform(8), Transform(4))]
    pictures.pixels[3, 0, 0, 0] ^= 1
    changed = prepare.build(tmp_path / "changed", lambda: split, Transform(8))["fingerprint"]
    assert prints[0] == prints[1] != changed


def test_crop_takes_the_centre_at_the_shorter_side() -> None:
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 255
    pixels, _ = Transform(5, "crop")(wide)
    assert pixels.shape == (5, 5, 3) and (pixels[:, 1:4] == 255).all()
    squashed, _ = Transform(5)(wide)
    assert (squashed[:, 0] < 10).all()


def test_a_cut_build_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "PIECE", 4)
    pictures = Pictures(12)
    split = {"train": pictures.items(), "test": pictures.items().take([0])}

    def cut(part: str, done: int, total: int) -> None:
        if done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare.build(tmp_path / "a", lambda: split, Transform(8), cut)
    assert not (tmp_path / "a").exists()
    prepare.build(tmp_path / "a", lambda: split, Transform(8))
    assert pictures.reads[1:] == [1] * 11  # none of them twice
    np.testing.assert_array_equal(prepare.read(tmp_path / "a", 3).train.images[:], pictures.pixels)
    assert not list((tmp_path / "a").glob("*.done"))


def test_every_bad_image_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    pictures = Pictures(9, broken=(2, 7))
    with pytest.raises(UsageError, match=r"2 images cannot be read:\npicture 2 .*\npicture 7 "):
        prepare.build(tmp_path / "a", lambda: {"train": pictures.items()}, Transform(8))
    assert list(tmp_path.iterdir()) == []


def _build(place: Path, count: int, log: Path, ready: Path, go: Path) -> None:
    pictures = Pictures(count)
    ready.touch()
    until(go.exists)  # all of them ask at once, however long each took to start

    def opened() -> dict[str, ImageList]:
        with open(log, "a") as file:
            file.write("x")
        time.sleep(0.5)
        return {"train": pictures.items(), "test": pictures.items()}

    prepare.build(place, opened, Transform(8))


def test_of_many_processes_one_builds_and_the_others_wait(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    signs = tmp_path / "signs"
    signs.mkdir()
    ready, go = [signs / str(number) for number in range(4)], signs / "go"
    args = (tmp_path / "a", 20, tmp_path / "log")
    workers = [context.Process(target=_build, args=(*args, sign, go), daemon=True) for sign in ready]
    try:
        for worker in workers:
            worker.start()
        until(lambda: all(sign.exists() for sign in ready))
        go.touch()
        for worker in workers:
            worker.join(LONG)
        assert [worker.exitcode for worker in workers] == [0] * 4
    finally:
        for worker in workers:
            worker.kill()
    assert (tmp_path / "log").read_text() == "x"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "log", "signs"]


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder]).returncode:
        pytest.skip("needs the right to mount a small tmpfs")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_told_and_leaves_nothing(tiny_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = Pictures(200, side=32)
    split = {"train": pictures.items()}
    with pytest.raises(UsageError, match=r"0.0 GB free, .* GB are needed. Make room"):
        prepare.build(tiny_disk / "a", lambda: split, Transform(32))
    monkeypatch.setattr(prepare, "_check_room", lambda *_: None)  # as if another process had taken the room meanwhile
    with pytest.raises(UsageError, match="cannot be written .No space left on device"):
        prepare.build(tiny_disk / "a", lambda: split, Transform(32))
    assert not (tiny_disk / "a").exists()


def test_prune_removes_what_was_used_longest_ago(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    for age, name in enumerate("abc"):
        split = dict.fromkeys(("train", "test"), Pictures(3).items())
        place = prepare.home(tmp_path, f"s/{name}", "k", Transform(8))
        prepare.build(place, partial(dict, split), Transform(8))
        os.utime(place, (100 - age, 100 - age))
    assert prepare.prune(tmp_path, 10**9) == []
    prepare.read(prepare.home(tmp_path, "s/c", "k", Transform(8)), 3)  # used just now
    one = sum(file.stat().st_size for file in prepare.home(tmp_path, "s/a", "k", Transform(8)).iterdir())
    assert [path.name[:3] for path, _ in prepare.prune(tmp_path, one)] == ["s-b", "s-a"]
