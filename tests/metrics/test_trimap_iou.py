"""Tests of trimap IoU against brute force and SciPy."""

from __future__ import annotations

import math

import numpy as np
import oracles
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st
from metric_tester import BOUNDARIES, VOID, camvid_pair, random_image

from tf_levelset import TrimapIoU
from tf_levelset.metrics.confusion import confusion_matrix
from tf_levelset.metrics.trimap_iou import trimap_confusions

WIDTHS = (3, 1, math.sqrt(5), 2.5, 1)  # in no order, and one twice


@settings(max_examples=25, deadline=None, database=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(BOUNDARIES))
def test_trimap_is_brute_force(seed: int, boundaries: str) -> None:
    labels, predictions = random_image(seed)
    found = trimap_confusions(labels, predictions, 4, WIDTHS, VOID, boundaries)
    assert found.dtype == np.int64
    for width, matrix in zip(WIDTHS, found, strict=True):
        expected = oracles.trimap_confusion(labels, predictions, 4, width, boundaries)
        np.testing.assert_array_equal(matrix, expected)


@pytest.mark.parametrize("boundaries", BOUNDARIES)
def test_a_width_includes_its_own_distance(boundaries: str) -> None:
    # All distances there are in an image of 30×30, and the next float below each.
    labels = np.zeros((30, 30), int)
    labels[0, 0] = 1 if boundaries == "class" else VOID
    rows, columns = np.indices(labels.shape)
    exact = np.sqrt(rows**2 + columns**2)
    distances = np.unique(exact)[1:].tolist()
    below = np.nextafter(distances, 0).tolist()
    found = trimap_confusions(
        labels, labels * 0, 2, distances + below, VOID, boundaries
    )
    holding = found[:, 0].sum(axis=-1)
    expected = [(exact <= d).sum() - 1 for d in distances]
    np.testing.assert_array_equal(holding[: len(distances)], expected)
    np.testing.assert_array_equal(holding[len(distances) :], [0, *expected[:-1]])


@pytest.mark.parametrize("widths", [(1, 20.5, 100, 128), (1, 20.5, 300, 1024)])
@pytest.mark.parametrize("boundaries", BOUNDARIES)
def test_trimap_of_a_large_image(boundaries: str, widths: tuple[float, ...]) -> None:
    labels = np.zeros((900, 1200), np.uint8)
    labels[3, 7], labels[880, 40], labels[10, 1190] = 1, VOID, 2
    other = {"all": labels != 0, "class": (labels == 1) | (labels == 2)}
    zeros = other.get(boundaries, labels == VOID)
    rows, columns = np.indices(labels.shape)
    squares = [(rows - r) ** 2 + (columns - c) ** 2 for r, c in np.argwhere(zeros)]
    exact = np.sqrt(np.min(squares, axis=0))
    found = trimap_confusions(labels, labels * 0, 3, widths, VOID, boundaries)
    expected = [((exact <= width) & (labels == 0)).sum() for width in widths]
    np.testing.assert_array_equal(found[:, 0, 0], expected)
    assert 0 < expected[0] < expected[1] < expected[2] < expected[3]


def test_boundaries_of_void_require_void() -> None:
    with pytest.raises(ValueError, match="Expected `ignore_class`"):
        trimap_confusions([[0]], [[0]], 2, [1], None, "void")
    with pytest.raises(ValueError, match="Expected `ignore_class`"):
        TrimapIoU(2, boundaries="void")


def test_camvid_labels() -> None:
    labels, predictions = camvid_pair()
    distances = np.full(labels.shape, np.inf)
    for index in range(11):
        inside = labels == index
        if inside.any():
            exact = scipy.ndimage.distance_transform_edt(inside)
            distances[inside] = exact[inside]
    found = trimap_confusions(labels, predictions, 11, (1, 5, 10), 11)
    for width, matrix in zip((1, 5, 10), found, strict=True):
        near = np.where(distances <= width, labels, 11)
        expected = confusion_matrix(near, predictions, 11, 11)
        np.testing.assert_array_equal(matrix, expected)
