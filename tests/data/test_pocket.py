"""The bundled images: complete, balanced, the same everywhere, and showing what their labels say."""

import ast
import math
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

from bench.data.readers import pocket

SIZES = {"train": 800, "val": 200, "test": 1000}


@cache
def made(name):
    return pocket.make(name)


def small(name, monkeypatch):
    for split in SIZES:
        monkeypatch.setitem(pocket.SIZES, split, 20)
    return pocket.make(name)


def scenes(paint, classes, each):
    """Images drawn with a fresh stream, and their labels."""
    dice = pocket.Dice(7)
    for label in list(range(classes)) * each:
        yield paint(dice, label).astype(int), label


def objects(image, threshold):
    """Where an image differs from its median colour."""
    return np.abs(image - np.median(image, axis=(0, 1))).sum(axis=2) > threshold


@pytest.mark.parametrize("name", pocket.TASKS)
def test_every_split_is_complete_and_balanced(name):
    splits, classes = made(name), len(pocket.CLASSES[name])
    assert {split: len(labels) for split, (_, labels) in splits.items()} == SIZES | (
        {"test": 797} if name == "digits" else {}
    )
    for images, labels in splits.values():
        assert (images.dtype, images.shape) == (np.uint8, (len(labels), 32, 32, 3))
        assert (labels.dtype, labels.shape) == (np.int64, (len(images),))
        counts = np.bincount(labels, minlength=classes)
        assert len(counts) == classes
        assert np.ptp(counts) <= (4 if name == "digits" else 1)
        assert (np.diff(labels) != 0).sum() > len(labels) / 2, "labels come in runs"


@pytest.mark.parametrize("name", pocket.TASKS)
def test_no_image_appears_twice(name):
    images = [image.tobytes() for split in made(name).values() for image in split[0]]
    assert len(set(images)) == len(images)


@pytest.mark.parametrize("name", pocket.TASKS)
def test_images_do_not_depend_on_the_state_of_numpy(name, monkeypatch):
    np.random.seed(1)
    first = small(name, monkeypatch)
    np.random.seed(2)
    second = small(name, monkeypatch)
    for split in SIZES:
        for one, other in zip(first[split], second[split], strict=True):
            np.testing.assert_array_equal(one, other)


def test_pocket_computes_with_whole_numbers_only():
    tree = ast.parse(Path(pocket.__file__).read_text(encoding="utf-8"))
    library = {
        "sin",
        "cos",
        "exp",
        "sqrt",
        "power",
        "hypot",
        "mean",
        "std",
        "sum",
        "dot",
        "matmul",
        "normal",
        "Generator",
    }
    for node in ast.walk(tree):
        assert not (isinstance(node, ast.Constant) and isinstance(node.value, float)), ast.unparse(node)
        assert not isinstance(node, (ast.Div, ast.MatMult)), "true division or matrix product"
        assert not (isinstance(node, ast.Attribute) and node.attr in library), ast.unparse(node)


def test_the_fingerprint_sees_every_pixel_label_and_split():
    def splits():
        images = np.arange(2 * 32 * 32 * 3, dtype=np.uint32).astype(np.uint8).reshape(2, 32, 32, 3)
        return {split: (images.copy(), np.array([0, 1], np.int64)) for split in ("train", "val")}

    known = pocket.fingerprint(splits())
    assert len(known) == 64
    assert known == pocket.fingerprint(dict(reversed(splits().items())))
    pixel, label, name = splits(), splits(), splits()
    pixel["val"][0][1, 31, 31, 2] ^= 1
    label["train"][1][0] = 1
    name["test"] = name.pop("val")
    assert len({known, *map(pocket.fingerprint, (pixel, label, name))}) == 4
    as_big_endian = {split: (images, labels.astype(">i8")) for split, (images, labels) in splits().items()}
    assert pocket.fingerprint(as_big_endian) == known


def test_an_unknown_task_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'digit'.*digits.*distance"):
        pocket.make("digit")


def test_the_dice_are_fair_and_stay_within_their_bounds():
    numbers = pocket.Dice(3).grid(-2, 3, 6000)
    assert np.abs(np.bincount(numbers + 2, minlength=6) - 1000).max() < 150
    dice = pocket.Dice(3)
    assert [dice.between(-2, 3) for _ in range(50)] == numbers[:50].tolist()


def test_the_table_holds_sines():
    truth = [2048 * math.sin(2 * math.pi * step / 1024) for step in range(1024)]
    assert np.abs(pocket._SIN - truth).max() < 0.002 * 2048


def test_enlarging_is_bilinear():
    scan = np.random.default_rng(0).integers(-99, 99, (8, 8)).astype(np.int32)
    truth = Image.fromarray(scan.astype(np.float32)).resize((24, 32), Image.Resampling.BILINEAR)
    assert np.abs(pocket._enlarged(scan, 32, 24) - np.asarray(truth)).max() <= 1


def test_shapes_have_the_areas_of_their_formulas():
    v, u = np.mgrid[-300:300, -300:300].astype(np.int32)
    polygon = {"triangle": 3, "square": 4, "pentagon": 5}
    areas = {name: n / 2 * 256**2 * math.sin(math.tau / n) for name, n in polygon.items()}
    areas |= {"circle": math.pi * 225**2, "ring": math.pi * (240**2 - 140**2), "cross": 4 * 150 * 240 - 150**2}
    tip, notch = 79 / math.cos(math.tau / 5), 79 / math.cos(math.pi / 5)
    areas["star"] = 5 * tip * notch * math.sin(math.pi / 5)
    for name, area in areas.items():
        assert pocket._inside(name, u, v).sum() == pytest.approx(area, rel=0.015), name
    for name in (*pocket.SHAPES, "dart"):
        assert np.hypot(u, v)[pocket._inside(name, u, v)].max() < 260, name


def test_digits_show_the_scans_they_are_labelled_with():
    def ink(images):
        border = np.concatenate(
            [images[:, :2].reshape(len(images), -1, 3), images[:, -2:].reshape(len(images), -1, 3)], 1
        )
        contrast = np.abs(images - np.median(border, axis=1)[:, None, None]).sum(axis=3)
        blurred = ndimage.gaussian_filter(contrast, (0, 2, 2))[:, ::3, ::3].reshape(len(images), -1)
        return blurred / np.linalg.norm(blurred, axis=1, keepdims=True)

    (images, labels), (unseen, truth) = made("digits")["train"], made("digits")["test"]
    found = KNeighborsClassifier(5).fit(ink(images), labels).predict(ink(unseen))
    assert (found == truth).mean() > 0.5
    every = np.concatenate([labels for _, labels in made("digits").values()])
    np.testing.assert_array_equal(np.bincount(every), np.bincount(load_digits().target))


def test_count_is_the_number_of_connected_pieces():
    images, labels = made("count")["test"]
    found = [ndimage.label(ndimage.binary_opening(objects(image.astype(int), 110)))[1] for image in images]
    assert (np.array(found) == labels + 1).mean() > 0.9


def test_the_object_of_location_lies_in_the_labelled_cell(monkeypatch):
    monkeypatch.setattr(pocket, "_stroke", lambda *_: None)
    monkeypatch.setattr(pocket, "_cloud", lambda *_: np.zeros((32, 32, 3), np.int32))
    hits = []
    for image, label in scenes(pocket._location, 16, 10):
        row, column = (place + 0.5 for place in ndimage.center_of_mass(objects(image, 80)))
        hits.append(int(row // 8) * 4 + int(column // 8) == label)
    assert np.mean(hits) > 0.95


def test_the_dart_of_orientation_points_where_the_label_says(monkeypatch):
    monkeypatch.setattr(pocket, "_stroke", lambda *_: None)
    hits = []
    for image, label in scenes(pocket._orientation, 16, 10):
        rows, columns = np.nonzero(ndimage.binary_opening(objects(image, 140)))
        points = np.stack([columns - columns.mean(), rows - rows.mean()])
        axis = np.linalg.eigh(points @ points.T)[1][:, 1]
        along = axis @ points
        heading = math.atan2(axis[1], axis[0]) + (math.pi if (along**3).sum() < 0 else 0)
        hits.append(round(heading / (math.tau / 16)) % 16 == label)
    assert np.mean(hits) > 0.85


def test_the_largest_object_of_distance_is_as_large_as_the_label_says(monkeypatch):
    stamped = []
    monkeypatch.setattr(pocket, "_stamp", lambda canvas, kind, spot, *_: stamped.append(spot / 64))
    for _, label in scenes(pocket._distance, 6, 30):
        *others, nearest = stamped
        assert 9 - label < nearest[2] < 10 - label
        assert 1 <= len(others) <= 3
        assert all(other[2] < nearest[2] - 1 for other in others)
        assert all(r <= x <= 32 - r and r <= y <= 32 - r for x, y, r in stamped), "an object is cut off"
        stamped.clear()


def test_a_shape_is_drawn_where_and_as_large_as_it_should_be():
    for x, y, r in ((10, 20, 5), (25, 6, 4), (16, 16, 12)):
        canvas = np.zeros((32, 32, 3), np.int32)
        pocket._stamp(canvas, "circle", np.array([x, y, r], np.int32) * 64, 99, np.full(3, 160, np.int32))
        cover = canvas[:, :, 0] / 160
        assert cover.sum() == pytest.approx(math.pi * (r * 225 / 256) ** 2, rel=0.03)
        centre = [place + 0.5 for place in ndimage.center_of_mass(cover)]
        assert centre == pytest.approx([y, x], abs=0.1)
