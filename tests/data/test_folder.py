from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.images import paint
from PIL import Image

from bench.core.errors import UsageError
from bench.data import ready
from bench.data.prepare import Transform
from bench.data.readers import folder
from bench.data.root import default_data_root


def names(source: folder.ImageFolder, part: str) -> set[str]:
    return {path for path, _ in source.parts[part]}


def test_a_folder_of_classes_is_divided_by_class_and_seed(tmp_path: Path) -> None:
    root = paint(tmp_path / "pets", {"cat": 25, "dog": 50})
    source = folder.divide(root)
    for label, total in ((0, 25), (1, 50)):
        counts = [sum(item[1] == label for item in source.parts[part]) for part in ("train", "val", "test")]
        assert counts == [total * 16 // 25, total * 4 // 25, total // 5]
    assert not (names(source, "train") & names(source, "test")) and not (names(source, "val") & names(source, "test"))
    assert folder.divide(root) == source
    assert folder.divide(root, seed=1).parts != source.parts


def test_given_splits_are_kept_and_a_missing_val_is_cut_from_train(tmp_path: Path) -> None:
    root = paint(tmp_path / "pets", {"train/cat": 10, "train/dog": 10, "test/cat": 3, "test/dog": 3})
    source = folder.divide(root)
    assert names(source, "test") == {f"test/{c}/{i:03}.png" for c in ("cat", "dog") for i in range(3)}
    assert (len(source.parts["train"]), len(source.parts["val"])) == (16, 4)
    paint(root, {"val/cat": 2, "val/dog": 2})
    whole = folder.divide(root)
    assert (len(whole.parts["train"]), len(whole.parts["val"])) == (20, 4)


def test_a_limit_bounds_training_images_evenly_over_classes(tmp_path: Path) -> None:
    root = paint(tmp_path / "pets", {"cat": 25, "dog": 50, "owl": 25})
    source = folder.divide(root, limit=30)
    assert len(source.parts["train"]) + len(source.parts["val"]) == 30
    assert {sum(label == c for _, label in source.parts["train"]) for c in range(3)} == {8}
    assert len(source.parts["test"]) == 20
    assert sum(len(folder.divide(root, limit=7).parts[part]) for part in ("train", "val")) == 7
    with pytest.raises(UsageError, match="--limit 5 is too small for 3 classes"):
        folder.divide(root, limit=5)
    assert folder.card(source, 30).name == f"folder/pets-{source.fingerprint[:6]}@30"


def test_the_fingerprint_follows_names_labels_and_pixels(tmp_path: Path) -> None:
    root = paint(tmp_path / "pets", {"cat": 5, "dog": 5})
    before = folder.divide(root).fingerprint
    assert folder.divide(root).fingerprint == before
    (root / "cat/000.png").write_bytes((root / "cat/001.png").read_bytes())
    assert folder.divide(root).fingerprint != before


def test_images_are_decoded_once_and_equal_a_plain_resize(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "cache"))
    source = folder.divide(paint(tmp_path / "pets", {"cat": 5, "dog": 5}))
    splits = ready.load(folder.card(source), Transform(16), default_data_root(), source)
    path, label = source.parts["train"][2]
    plain = Image.open(source.root / path).resize((16, 16), Image.Resampling.BICUBIC)
    assert np.array_equal(splits.train.images[2], np.asarray(plain))
    assert splits.train.labels[2] == label

    def refuse(*_: object) -> None:
        raise AssertionError("decoded twice")

    monkeypatch.setattr(folder, "open_image", refuse)
    again = ready.load(folder.card(source), Transform(16), default_data_root(), source)
    assert np.array_equal(again.train.images[:], splits.train.images[:])


def test_the_division_is_put_down(tmp_path: Path) -> None:
    source = folder.divide(paint(tmp_path / "pets", {"cat": 5, "dog": 5}))
    folder.write_lists(source, tmp_path / "lists.json")
    lists = json.loads((tmp_path / "lists.json").read_text())
    assert lists["classes"] == ["cat", "dog"]
    assert lists["fingerprint"] == source.fingerprint
    assert set(lists["train"]) == names(source, "train")


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ({"cat": 5}, "holds 1 class folders; at least two"),
        ({"cat": 5, "dog": 0}, "no readable image for class dog"),
        ({"train/cat": 5, "train/dog": 5}, "has train/ but no test/"),
        ({"val/cat": 5, "test/cat": 5}, "has val/ but no train/"),
        ({"train/cat": 5, "train/dog": 5, "test/cat": 5, "test/cow": 5}, "classes cow, dog are not in both"),
    ],
)
def test_a_folder_that_cannot_be_used_is_told_in_one_line(layout: dict[str, int], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        folder.divide(paint(tmp_path / "pets", layout))


def test_a_broken_image_is_named_and_nothing_half_built_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "cache"))
    root = paint(tmp_path / "pets", {"cat": 5, "dog": 5})
    whole = (root / "dog/003.png").read_bytes()
    (root / "dog/003.png").write_bytes(whole[: len(whole) // 2])
    source = folder.divide(root)
    with pytest.raises(UsageError, match=r"dog/003.png is not a readable image"):
        ready.load(folder.card(source), Transform(16), default_data_root(), source)
    assert list((tmp_path / "cache/prepared").iterdir()) == []
