from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import numpy as np
import pytest
from helpers.images import paint
from PIL import Image

from bench.core.errors import UsageError
from bench.data import hashes, prepare, ready
from bench.data.items import Unreadable, format_unreadable, open_image, to_rgb
from bench.data.prepare import Transform
from bench.data.readers import folder
from bench.data.sources import Source


def test_the_fingerprint_of_plain_images_is_the_one_it_always_was(tmp_path: Path) -> None:
    root = paint(tmp_path / "pets", {"cat": 5, "dog": 5})
    source = folder.divide(root)
    digest = hashlib.sha256(b"cat\ndog")
    for part, items in source.parts.items():
        for name, label in items:
            content = hashlib.sha256((root / name).read_bytes()).hexdigest()
            digest.update(f"{part} {label} {name} {content}\n".encode())
    assert source.fingerprint == digest.hexdigest()


def test_turned_images_stand_upright_and_the_fingerprint_tells(tmp_path: Path) -> None:
    pixels = np.zeros((6, 9, 3), np.uint8)
    pixels[:3, :, 0] = 255
    stored = Image.fromarray(pixels)
    for number in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = number
        path = tmp_path / f"{number}.png"
        stored.save(path, exif=exif)
        with Image.open(path) as image:
            from PIL import ImageOps

            expected = np.asarray(ImageOps.exif_transpose(image))
        assert np.array_equal(np.asarray(open_image(path, upright=True)), expected)
        assert np.array_equal(np.asarray(open_image(path)), pixels)
        assert hashes.contents(tmp_path, [path.name])[0].endswith(" upright") == (number != 1)


def test_16_bits_are_scaled_and_unknown_ranges_refused_by_name(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    for name in ("a.png", "a.tif"):
        Image.fromarray(ramp).save(tmp_path / name)
        seen = np.asarray(open_image(tmp_path / name))[..., 0]
        assert np.abs(seen.astype(int) - np.arange(256).reshape(16, 16)).max() <= 1
        assert hashes.contents(tmp_path, [name])[0].endswith(" 16 bit")
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "f.tif")
    Image.fromarray(np.ones((4, 4), np.int32)).save(tmp_path / "i.tif")
    for name, kind in (("f.tif", "floating-point"), ("i.tif", "32-bit integers")):
        with pytest.raises(UsageError, match=f"{name} is not a readable image .*{kind}"):
            open_image(tmp_path / name)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "PA"])
def test_other_modes_are_what_pillow_makes_of_them(mode: str) -> None:
    image = Image.effect_mandelbrot((9, 7), (-2, -1, 1, 1), 50).convert("RGB").convert("P" if mode == "PA" else mode)
    image = image.convert(mode)
    assert np.array_equal(np.asarray(to_rgb(image)), np.asarray(image.convert("RGB")))


def test_a_palette_with_transparency_is_read_without_a_warning(tmp_path: Path) -> None:
    image = Image.effect_mandelbrot((9, 7), (-2, -1, 1, 1), 50).convert("P")
    image.save(tmp_path / "p.png", transparency=bytes(range(256)))
    assert open_image(tmp_path / "p.png").mode == "RGB"  # warnings are errors here


def prepared(source: folder.ImageFolder, root: Path) -> None:
    card = folder.card(source)
    given: Source = source
    assert ready.prepare_all_sizes(card, given, [Transform(8)], root) == card


def test_all_bad_images_are_named_at_once_before_anything_runs(tmp_path: Path) -> None:
    root = paint(tmp_path / "pets", {"cat": 30, "dog": 5})
    bad = ["cat/001.png", "cat/007.png", "dog/002.png"]
    for name in bad[:2]:
        (root / name).write_bytes(b"no image")
    (root / bad[2]).write_bytes(b"")
    with pytest.raises(UsageError, match="3 images cannot be read:") as caught:
        prepared(folder.divide(root), tmp_path / "data")
    assert all(name in str(caught.value) for name in bad)
    assert list((tmp_path / "data/prepared").iterdir()) == []


def test_many_faults_of_one_cause_are_one_line() -> None:
    errors: list[UsageError] = [
        Unreadable(f"a/{n}.jpg", f"is cut off ({n} bytes)", "Get it again") for n in range(8100)
    ]
    (line,) = format_unreadable(errors)
    assert line == "8,100 images, each is cut off (0 bytes) (a/0.jpg, a/1.jpg, a/2.jpg, ...). Get it again."
    assert len(format_unreadable([*errors[:20], UsageError("other")])) == 21


def test_images_of_one_colour_are_counted(tmp_path: Path) -> None:
    root = paint(tmp_path / "pets", {"cat": 5, "dog": 5})
    Image.new("RGB", (9, 9), "white").save(root / "cat/003.png")
    source = folder.divide(root)
    prepared(source, tmp_path / "data")
    assert ready.one_colour(folder.card(source), tmp_path / "data") == (1, ("cat/003.png",))


def aged(root: Path) -> None:
    for path in root.rglob("*"):
        os.utime(path, (1e9, 1e9))


def test_files_that_have_not_changed_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = paint(tmp_path / "pets", {"cat": 5, "dog": 5})
    aged(root)
    monkeypatch.setattr(time, "time_ns", lambda: int(4e18))  # all of it was changed long ago
    seen: list[tuple[str, int, int]] = []
    before = folder.divide(root, data_root=tmp_path / "data", on_progress=lambda *step: seen.append(step))
    assert seen == [("read", 10, 10)]
    reads: list[Path] = []
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: reads.append(path) or read(path))  # type: ignore[func-returns-value]
    assert folder.divide(root, data_root=tmp_path / "data") == before and reads == []
    (root / "cat/000.png").write_bytes(read(root / "cat/001.png"))
    os.utime(root / "cat/000.png", (1e9, 1e9))  # as `cp --preserve` leaves it
    after = folder.divide(root, data_root=tmp_path / "data")
    assert reads == [root / "cat/000.png"] and after.fingerprint != before.fingerprint
    for cache in (tmp_path / "data/hashes").iterdir():
        cache.write_text('{"cat/000.png": 7')
    assert folder.divide(root, data_root=tmp_path / "data") == after


def test_a_file_that_has_just_changed_is_not_trusted(tmp_path: Path) -> None:
    root = paint(tmp_path / "pets", {"cat": 5, "dog": 5})
    folder.divide(root, data_root=tmp_path / "data")
    assert not (tmp_path / "data/hashes").exists()


def test_two_folders_of_one_name_are_two_datasets_and_a_moved_one_is_not(tmp_path: Path) -> None:
    names = ["a/pets", "b/pets", "тест", "花", "$x|y\nz", "..hidden"]
    roots = [paint(tmp_path / name, {"cat": 5 + n, "dog": 5}) for n, name in enumerate(names)]
    cards = [folder.card(folder.divide(root)).name for root in roots]
    assert len(set(cards)) == len(cards)
    assert all(name.startswith("folder/") and not set(name[7:]) & set("$|\n/") for name in cards)
    assert cards[2].startswith("folder/тест-") and cards[5].startswith("folder/hidden-")
    roots[0].rename(tmp_path / "elsewhere-pets")
    (tmp_path / "elsewhere-pets").rename(tmp_path / "pets")
    assert folder.card(folder.divide(tmp_path / "pets")).name == cards[0]


def test_the_arrays_say_what_they_hold(tmp_path: Path) -> None:
    source = folder.divide(paint(tmp_path / "pets", {"cat": 5, "dog": 5}))
    prepared(source, tmp_path / "data")
    card = folder.card(source)
    place = prepare.home(tmp_path / "data", card.name, card.fingerprint, Transform(8))
    assert prepare.read(place, 2).classes == 2
