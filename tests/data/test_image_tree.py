from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers.images import paint

from bench.core.errors import UsageError
from bench.data.readers import folder


def sizes(source: folder.ImageFolder) -> tuple[int, ...]:
    return tuple(len(source.parts[part]) for part in ("train", "val", "test"))


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("Training", "Validation", "Testing"),
        ("TRAIN", "valid", "Test"),
        ("train", "dev", "eval"),
        ("train", "val", "test"),
    ],
)
def test_splits_go_by_the_usual_names_in_any_case(train: str, val: str, test: str, tmp_path: Path) -> None:
    counts = {train: 6, val: 2, test: 3}
    root = paint(tmp_path / "x", {f"{part}/{name}": n for part, n in counts.items() for name in ("cat", "dog")})
    source = folder.divide(root)
    assert source.classes == ("cat", "dog") and sizes(source) == (12, 4, 6)
    assert folder.summary(source)[1:] == [
        f"  train  12 images, 6 a class; {train}/",
        f"  val    4 images, 2 a class; {val}/",
        f"  test   6 images, 3 a class; {test}/",
    ]


def test_imagenets_train_and_val_test_on_val_and_cut_the_validation_off_train(tmp_path: Path) -> None:
    root = paint(tmp_path / "imagenet", {"train/a": 10, "train/b": 10, "val/a": 3, "val/b": 3})
    source = folder.divide(root)
    assert sizes(source) == (16, 4, 6)
    assert {name.split("/")[0] for name, _ in source.parts["test"]} == {"val"}
    assert "val/, for there is no test/" in folder.summary(source)[3]
    assert "a fifth of train, drawn with seed 0" in folder.summary(source)[2]


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    source = folder.divide(paint(tmp_path / "vehicles", {"bus": 5, "car": 5, "train": 5, "test": 5}))
    assert source.classes == ("bus", "car", "test", "train")
    root = paint(tmp_path / "split", {f"{part}/{name}": 4 for part in ("train", "test") for name in ("car", "train")})
    assert folder.divide(root).classes == ("car", "train")


def test_what_systems_leave_behind_is_no_class_and_no_image(tmp_path: Path) -> None:
    root = paint(tmp_path / "pets", {"cat": 5, "dog": 5, "__MACOSX/cat": 3, ".cache": 2, "@eaDir": 1})
    for name in ("._000.jpg", "Thumbs.db", "desktop.ini", ".DS_Store"):
        (root / "cat" / name).write_bytes(b"left")
    source = folder.divide(root)
    assert source.classes == ("cat", "dog") and sum(sizes(source)) == 10 and source.notes == ()


def test_files_that_are_not_read_are_counted_and_jfif_is_read(tmp_path: Path) -> None:
    root = paint(tmp_path / "pets", {"cat": 5, "dog": 5, "owl": 5})
    (root / "cat/000.png").rename(root / "cat/000.JFIF")
    for number in range(3):
        (root / f"dog/{number}.heic").write_bytes(b"heic")
    (root / "dog/0.avif").write_bytes(b"avif")
    (root / "dog/README").write_bytes(b"hello")
    (root / "loose.jpg").write_bytes(b"")
    source = folder.divide(root)
    assert sum(sizes(source)) == 15
    assert "5 files are not read: 3 .heic, 1 .avif, 1 (no suffix)" in " ".join(folder.summary(source))
    assert "1 images lie in" in " ".join(folder.summary(source))
    for path in (root / "owl").iterdir():
        path.rename(path.with_suffix(".jp2"))
    with pytest.raises(UsageError, match=r"no readable image for class owl .* 5 \.jp2"):
        folder.divide(root)


def test_a_folder_beside_the_splits_is_named(tmp_path: Path) -> None:
    root = paint(tmp_path / "x", {"train/a": 5, "train/b": 5, "test/a": 2, "test/b": 2, "holdout/a": 1, "holdout/b": 1})
    assert "Not used, for it is no split: holdout/." in " ".join(folder.summary(folder.divide(root)))


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ({"fold1/a": 3, "fold1/b": 3, "fold2/a": 3, "fold2/b": 3}, "the folders fold1, fold2 hold folders"),
        ({"archive/cat": 3, "archive/dog": 3}, r"holds one folder. Did you mean --data .*/x/archive\?"),
        ({"train/a": 3, "train/b": 3, "training/a": 1, "training/b": 1, "test/a": 1, "test/b": 1}, "both name train"),
        ({"train/a": 3, "train/b": 3, "test": 4}, "holds images without class folders"),
        ({"train/a/s1": 3, "train/b/s1": 3, "test/a": 1, "test/b": 1}, "the folders a, b hold folders"),
        ({"train/a": 3, "train/b": 3}, r"has train/ but no test/.*--data .*/x/train cuts"),
    ],
)
def test_what_cannot_be_told_is_refused_in_one_line(layout: dict[str, int], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        folder.divide(paint(tmp_path / "x", layout))
    assert "\n" not in str(caught.value)


def test_names_of_files_need_not_be_utf_8_nor_plain(tmp_path: Path) -> None:
    root = paint(tmp_path / "x", {"c$|\nat": 5, "dog": 5})
    os.rename(root / "dog/000.png", os.fsencode(root / "dog") + b"/caf\xe9.png")
    source = folder.divide(root)
    assert sum(sizes(source)) == 10 and "\n" not in "".join(folder.summary(source))
    folder.write_lists(source, tmp_path / "lists.json")
    "\n".join(folder.summary(source)).encode()


def test_a_link_that_leads_nowhere_is_a_bad_image_not_an_absent_one(tmp_path: Path) -> None:
    root = paint(tmp_path / "x", {"cat": 5, "dog": 5})
    (root / "cat/link.png").symlink_to(tmp_path / "gone.png")
    assert sum(sizes(folder.divide(root))) == 11
