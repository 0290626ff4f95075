"""Tests of the confusion matrix against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics
from metric_tester import VOID, camvid_pair, random_masks, sklearn_matrix

from tf_levelset import MeanIoU
from tf_levelset.metrics.confusion import confusion_matrix


@pytest.mark.parametrize("seed", range(5))
def test_random_masks_against_sklearn(seed: int) -> None:
    labels, predictions = random_masks(seed, 5, (3, 17, 13))
    matrix = confusion_matrix(labels, predictions, 5, VOID)
    assert matrix.dtype == np.int64
    np.testing.assert_array_equal(matrix, sklearn_matrix(labels, predictions, 5))


def test_camvid_labels_against_sklearn() -> None:
    labels, predictions = camvid_pair()
    valid = labels != 11
    expected = sklearn.metrics.confusion_matrix(
        labels[valid], predictions[valid], labels=range(11)
    )
    metric = MeanIoU(11, ignore_class=11)
    for rows in (slice(100), slice(100, None)):
        metric.update_state(labels[None, rows], predictions[None, rows])
    np.testing.assert_array_equal(metric.confusion(), expected)
    matrix = confusion_matrix(labels, predictions, 11, ignore_class=11)
    np.testing.assert_array_equal(matrix, expected)


def test_counts_beyond_float32() -> None:
    # One pixel more than float32 can count, in one cell.
    full = np.zeros((1, 2**12, 2**12), np.uint8)
    metric = MeanIoU(2)
    metric.update_state(full, full)
    metric.update_state(full[0, 0, :1], full[0, 0, :1])
    assert metric.confusion()[0, 0] == 2**24 + 1
