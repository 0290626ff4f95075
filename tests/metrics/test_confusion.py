"""Tests of the confusion matrix against scikit-learn."""

from __future__ import annotations

import doctest
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
from metric_tester import VOID, camvid_pair, random_masks, sklearn_matrix

from tf_levelset import MeanIoU
from tf_levelset.metrics import confusion
from tf_levelset.metrics.confusion import confusion_matrix


def test_docstring_examples() -> None:
    found = doctest.testmod(confusion)
    assert (found.attempted, found.failed) == (1, 0)


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


@pytest.mark.parametrize(
    ("labels", "predictions", "message"),
    [
        ([0, 7, 9, 7], [0, 0, 0, 0], r"`labels` to be in \[0, 3\).*\[7, 9\] in 3"),
        ([0, -1], [0, 0], r"`labels` .*\[-1\] in 1"),
        ([0.5, 1], [0, 0], r"`labels` .*\[0.5\]"),
        ([0, np.nan], [0, 0], r"`labels` .*\[nan\]"),
        ([0, 1], [0, 3], r"`predictions` to be in \[0, 3\).*\[3\] in 1"),
        ([0, 1], [0, 1, 2], r"same shape. Received: \(2,\) and \(3,\)"),
        (["a", "b"], [0, 1], r"`labels` to hold real numbers"),
        ([1j, 0], [0, 1], r"`labels` to hold real numbers"),
    ],
)
def test_invalid_ids_are_named(labels: Any, predictions: Any, message: str) -> None:
    ignore_class = VOID if message.startswith("`labels` to be") else None
    with pytest.raises(ValueError, match=message):
        confusion_matrix(labels, predictions, 3, ignore_class)


@pytest.mark.parametrize(
    "options", [{"num_classes": "2"}, {"num_classes": 0}, {"ignore_class": "255"}]
)
def test_options_of_other_types_raise(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"Expected .*Received"):
        confusion_matrix([0, 1], [0, 1], **{"num_classes": 2, **options})


def test_counts_beyond_float32() -> None:
    # One pixel more than float32 can count, in one cell.
    full = np.zeros((1, 2**12, 2**12), np.uint8)
    metric = MeanIoU(2)
    metric.update_state(full, full)
    metric.update_state(full[0, 0, :1], full[0, 0, :1])
    assert metric.confusion()[0, 0] == 2**24 + 1


def test_more_classes_than_bfloat16_holds() -> None:
    # In bfloat16, 459 becomes 460 and 257 becomes 256.
    ids = np.arange(460, dtype="float32")
    metric = MeanIoU(460)
    metric.update_state(ids, ids)
    np.testing.assert_array_equal(metric.confusion(), np.eye(460, dtype=np.int64))
