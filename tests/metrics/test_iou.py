"""Tests of the scores of a confusion matrix, and of what replaces Keras' mean IoU."""

from __future__ import annotations

import json
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest
import sklearn.metrics
import tensorflow as tf
from metric_tester import (
    CONFUSION_CASES,
    VOID,
    Case,
    each,
    in_graph,
    random_masks,
    scores_for,
    sklearn_matrix,
    updated,
)

from tf_levelset import MeanIoU
from tf_levelset.metrics.iou import class_iou, scores

# Truth has 4 pixels of class 0, 6 of class 1, none of 2 and 3; class 2 is predicted
# in two pixels, class 3 nowhere.
#
#              predicted 0  1  2  3 | truth
#     truth 0            3  0  1  0 | 4        IoU_0 = 3/(4+4−3) = 3/5
#     truth 1            1  4  1  0 | 6        IoU_1 = 4/(6+4−4) = 2/3
#     truth 2            0  0  0  0 | 0        IoU_2 = 0/2 = 0
#     truth 3            0  0  0  0 | 0        IoU_3 = 0/0
#     predicted          4  4  2  0 | 10
HAND = np.array([[3, 0, 1, 0], [1, 4, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]], np.int64)
HAND_SCORES = [
    (3 / 5 + 2 / 3 + 0) / 3,  # three classes have a union
    (3 + 4) / 10,
    (3 / 4 + 4 / 6) / 2,  # two classes are in the truth
    4 / 10 * 3 / 5 + 6 / 10 * 2 / 3,
]
NAMES = ["sky", "road", "car", "sign"]
BY_NAME = {"sky": 0.6, "road": 2 / 3, "car": 0.0, "sign": None}


def pixels_of(matrix: npt.NDArray[np.int64]) -> tuple[list[int], list[int]]:
    """Returns labels and predictions that have this confusion matrix."""
    truth, predicted = np.indices(matrix.shape)
    labels = np.repeat(truth.ravel(), matrix.ravel())
    return labels.tolist(), np.repeat(predicted.ravel(), matrix.ravel()).tolist()


@pytest.mark.parametrize(
    ("case", "expected"), [*zip(CONFUSION_CASES, HAND_SCORES, strict=True)]
)
def test_hand_worked_matrix(case: Case, expected: float) -> None:
    assert case.score(HAND) == pytest.approx(expected, rel=1e-15)
    metric = updated(case.metric(4), *pixels_of(HAND))
    assert float(metric.result()) == pytest.approx(expected, rel=1e-6)
    np.testing.assert_array_equal(metric.confusion(), HAND)


@pytest.mark.parametrize("seed", range(5))
def test_scores_against_sklearn(seed: int) -> None:
    labels, predictions = random_masks(seed, 5, (3, 17, 13))
    matrix = sklearn_matrix(labels, predictions, 5)
    valid = labels != VOID
    truth, predicted = labels[valid], predictions[valid]
    jaccard = sklearn.metrics.jaccard_score
    assert_close = np.testing.assert_allclose
    assert_close(class_iou(matrix), jaccard(truth, predicted, average=None))
    assert_close(
        [case.score(matrix) for case in CONFUSION_CASES],
        [
            jaccard(truth, predicted, average="macro"),
            sklearn.metrics.accuracy_score(truth, predicted),
            sklearn.metrics.balanced_accuracy_score(truth, predicted),
            jaccard(truth, predicted, average="weighted"),
        ],
    )


def test_scores_are_ready_for_json() -> None:
    found = scores(HAND, NAMES)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert list(found.values())[:4] == pytest.approx(HAND_SCORES)
    assert found["class_iou"] == BY_NAME
    nothing = scores(np.zeros((2, 2), np.int64))
    assert nothing["mean_iou"] is None
    assert nothing["class_iou"] == {"0": None, "1": None}
    metric = updated(MeanIoU(4, class_names=NAMES), *pixels_of(HAND))
    assert metric.per_class() == BY_NAME
    assert metric.scores() == found


@each(CONFUSION_CASES)
def test_xla_equals_eager_mode(case: Case) -> None:
    labels, predictions = random_masks(3, 4)
    step = in_graph(case.make(), jit_compile=True)
    value = step(tf.constant(labels), tf.constant(predictions))
    assert float(value) == float(updated(case.make(), labels, predictions).result())
    nothing = in_graph(case.make(), jit_compile=True)
    assert float(nothing([VOID], [0])) == 0.0


def test_equals_keras_if_all_classes_are_present() -> None:
    labels, predictions = random_masks(9, 5, (2, 20, 20), void=0.1)
    logits = scores_for(predictions, 5)
    arguments: dict[str, Any] = {
        "num_classes": 5,
        "ignore_class": VOID,
        "sparse_y_pred": False,
    }
    ours, theirs = MeanIoU(**arguments), keras.metrics.MeanIoU(**arguments)
    assert ours.name.startswith("mean_io_u")
    for metric in (ours, theirs):
        metric.update_state(labels, logits)
    assert float(ours.result()) == pytest.approx(float(theirs.result()), rel=1e-6)
    # All arguments of Keras' own, by position.
    metric = MeanIoU(5, "iou", "float32", VOID, True, False, -1)
    assert float(metric(labels, logits)) == float(ours.result())
