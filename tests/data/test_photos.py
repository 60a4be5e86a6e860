"""Crops of photographs: complete, balanced, from parts that no two splits share, and showing what their labels say."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage, stats

from bench.data.readers import photos, pocket
from bench.data.sources import Missing


@cache
def made(name: str) -> pocket.Splits:
    return photos.make(name)


def grey(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    return np.asarray(images, dtype=np.float64).mean(axis=-1)


@pytest.mark.parametrize("name", photos.TASKS)
def test_every_split_is_complete_and_balanced_and_no_image_appears_twice(name: str) -> None:
    splits, classes = made(name), len(photos.CLASSES[name])
    assert {split: len(labels) for split, (_, labels) in splits.items()} == pocket.SIZES
    for images, labels in splits.values():
        assert (images.dtype, images.shape) == (np.uint8, (len(labels), 32, 32, 3))
        assert np.ptp(np.bincount(labels, minlength=classes)) <= 1
    assert len({image.tobytes() for images, _ in splits.values() for image in images}) == 2000


def test_no_two_splits_share_a_pixel_of_a_photograph(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every photograph is replaced by its column numbers: a crop then tells which columns it shows."""
    photo = np.tile(np.arange(512, dtype=np.int32), (512, 1))
    monkeypatch.setattr(photos, "_photo", lambda _: photo)
    dice = pocket.Dice(3)
    seen: dict[str, set[int]] = {}
    for split in photos.PARTS:
        crops = [
            paint(dice, label, split) for paint in photos._PAINTERS.values() for label in range(6) for _ in "12345"
        ]
        seen[split] = set(np.concatenate(crops).ravel().tolist())
    assert max(seen["train"]) < min(seen["val"]) and max(seen["val"]) < min(seen["test"])


def test_a_crop_is_the_photograph_turned_and_reduced(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plane of brightness has the same slope everywhere: its gradient in a crop tells scale, angle and mirroring."""
    rows, columns = np.mgrid[:200, :200].astype(np.int32) * 100
    for turn in (0, 96, 256, 700):
        for scale in (64, 128):
            du, dv = set(), set()
            for _ in range(8):
                for photo, found in ((columns, du), (rows, dv)):
                    crop = photos._crop(pocket.Dice(len(found)), photo, scale, turn).astype(float)
                    gy, gx = (np.gradient(crop, axis=axis)[4:-4, 4:-4].mean() / 100 for axis in (0, 1))
                    found.add((round(gx, 1), round(gy, 1)))
            step, angle = scale / 64, turn * 2 * np.pi / 1024
            u, v = np.array([np.cos(angle), np.sin(angle)]) * step, np.array([-np.sin(angle), np.cos(angle)]) * step
            assert all(min(np.abs(np.array(g) - u).max(), np.abs(np.array(g) + u).max()) < 0.11 for g in du)
            assert all(np.abs(np.array(g) - v).max() < 0.11 for g in dv)  # mirrored or not, verticals stay


def test_the_mean_and_contrast_of_a_crop_are_drawn_not_the_photographs() -> None:
    """Between the classes of materials lies next to none of the variance of mean and contrast."""
    images, labels = made("materials")["train"]
    for measure in (grey(images).mean((1, 2)), grey(images).std((1, 2))):
        assert stats.f_oneway(*(measure[labels == label] for label in range(8))).statistic < 12


def test_a_label_of_tilt_is_the_angle_of_the_joints() -> None:
    """The joints of a wall lie along two directions at right angles: four times their angle is one direction."""
    images, labels = made("tilt")["train"]
    smooth = ndimage.gaussian_filter(grey(images), (0, 1, 1))
    gy, gx = np.gradient(smooth, axis=1), np.gradient(smooth, axis=2)
    found = np.angle(((gx + 1j * gy) ** 4).sum((1, 2))) / 4  # of the strongest gradients, modulo 90 degrees
    told = np.deg2rad(labels * 22.5)
    off = np.abs(np.angle(np.exp(4j * (found - told)))) / 4
    assert np.median(np.rad2deg(off)) < 7


def test_what_is_far_away_is_fine() -> None:
    images, labels = made("zoom")["test"]
    rough = np.abs(np.diff(grey(images), axis=2)).mean((1, 2)) / grey(images).std((1, 2))
    means = [rough[labels == label].mean() for label in range(6)]
    assert means == sorted(means)


def test_a_photograph_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(photos.MATERIALS, "brick", "no_such_photograph.png")
    with pytest.raises(Missing, match=r"no_such_photograph.png is not here. Install it: pip install scikit-image"):
        photos.make("materials")
