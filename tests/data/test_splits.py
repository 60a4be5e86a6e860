"""Views of image arrays: nothing is copied until it is asked for."""

from __future__ import annotations

import numpy as np
import pytest

from bench.data.splits import ArraySplit, Rows

RNG = np.random.default_rng(0)


def arrays(count: int) -> ArraySplit:
    return ArraySplit(RNG.integers(0, 256, (count, 2, 2, 3), dtype=np.uint8), np.arange(count))


def test_two_splits_in_one_are_their_concatenation() -> None:
    first, second = arrays(5), arrays(3)
    both = first + second
    expected = np.concatenate((first.images[:], second.images[:]))
    assert isinstance(both.images, Rows) and both.images.shape == (8, 2, 2, 3)
    order = np.array([7, 0, 4, 5, 2])
    np.testing.assert_array_equal(both.images[order], expected[order])
    np.testing.assert_array_equal(both.images[3:7], expected[3:7])
    np.testing.assert_array_equal(both.labels[order], np.array([2, 0, 4, 0, 2]))


def test_chosen_images_keep_their_order_and_labels() -> None:
    whole = arrays(6)
    index = np.array([4, 1, 3])
    some = whole.take(index)
    np.testing.assert_array_equal(some.images[:], whole.images[index])
    np.testing.assert_array_equal(
        (some + whole).images[2:5], np.stack([whole.images[3], whole.images[0], whole.images[1]])
    )
    np.testing.assert_array_equal(some.take(np.array([2])).labels, [3])


def test_choosing_from_a_sum_is_refused() -> None:
    with pytest.raises(ValueError, match="one array"):
        (arrays(2) + arrays(2)).take(np.array([0]))
