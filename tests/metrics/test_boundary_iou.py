"""Tests of boundary IoU against its authors' definition."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metric_tester import VOID, random_image

from tf_levelset.metrics.boundary_iou import boundary_counts, boundary_iou


@settings(max_examples=25, deadline=None, database=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.001, 0.1, 0.2, 0.4, 3.0]))
def test_counts_are_those_of_the_authors(seed: int, ratio: float) -> None:
    labels, predictions = random_image(seed)
    counts = boundary_counts(labels, predictions, 4, VOID, ratio)
    assert counts.dtype == np.int64
    expected = oracles.boundary_counts(labels, predictions, 4, ratio)
    np.testing.assert_array_equal(counts, expected)
    # Without void, the formula as published, whatever the label of void.
    labels = np.where(labels == VOID, 0, labels)
    expected = oracles.boundary_counts(labels, predictions, 4, ratio)
    for void in (None, VOID):
        counts = boundary_counts(labels, predictions, 4, void, ratio)
        np.testing.assert_array_equal(counts, expected)


def test_boundary_iou_by_hand() -> None:
    # d = 1, and a square of 3×3 in a corner, of which two rows were found.
    labels = np.zeros((8, 8), int)
    labels[:3, :3] = 1
    predictions = labels.copy()
    predictions[2, :3] = 0
    # The square loses all but its middle, 8 pixels, and two rows of it lose all 6.
    # 5 of these are in both: the middle is not.
    # The road loses the rim of the image and what touches the square: 28 in the truth.
    # In the prediction the row below the square moves up by one, from (3, 1) to
    # (3, 3), and with it out of the region: 28 again, and 28 − 3 in both.
    counts = boundary_counts(labels, predictions, 2)
    np.testing.assert_array_equal(counts, [[25, 31], [5, 9]])
    np.testing.assert_array_equal(boundary_iou(counts), [25 / 31, 5 / 9])


@pytest.mark.parametrize(("ratio", "depth"), [(1 / 16, 2), (3 / 16, 8), (0.01, 1)])
def test_depth_is_rounded_as_by_the_authors(ratio: float, depth: int) -> None:
    # The diagonal is 40: 2.5 becomes 2, 7.5 becomes 8, and 0.4 is at least 1.
    labels = np.zeros((24, 32), int)
    counts = boundary_counts(labels, labels, 1, ratio=ratio)
    expected = 24 * 32 - (24 - 2 * depth) * (32 - 2 * depth)
    assert counts.tolist() == [[expected, expected]]


@pytest.mark.parametrize("rows", range(4))
def test_void_along_a_boundary_hides_as_many_pixels(rows: int) -> None:
    # d = 3. Class 1 begins at row 12, so rows 9 to 11 are at its boundary, less those
    # that are void. Inside class 0 are rows 3 to 8 and columns 3 to 16.
    labels = np.zeros((20, 20), int)
    labels[12 - rows :] = VOID
    labels[12:] = 1
    counts = boundary_counts(labels, np.minimum(labels, 1), 2, VOID, ratio=0.1)
    expected = (12 - rows) * 20 - 6 * 14
    assert counts[0].tolist() == [expected, expected]
