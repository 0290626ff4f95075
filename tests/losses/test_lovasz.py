"""The Lovász-softmax loss against scikit-learn, and its steps in both libraries."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
import tensorflow as tf
from loss_tester import (
    CLASSES,
    ClassAverageTester,
)
from sklearn import metrics

from tf_levelset.losses import LovaszSoftmaxLoss
from tf_levelset.losses.lovasz import jaccard_steps, numpy_jaccard_steps


class TestLovaszSoftmaxLoss(ClassAverageTester):
    loss = LovaszSoftmaxLoss
    options: ClassVar[dict[str, Any]] = {"per_image": True, "classes": "all"}
    bad_options: ClassVar[dict[str, list[Any]]] = {}

    def test_on_hard_predictions_it_is_one_minus_the_mean_iou(self) -> None:
        rng = np.random.default_rng(0)
        labels, predicted = rng.integers(0, CLASSES, (2, 1, 8, 9))
        hard = np.eye(CLASSES, dtype=np.float32)[predicted]
        iou = metrics.jaccard_score(labels.ravel(), predicted.ravel(), average="macro")
        value = LovaszSoftmaxLoss()(labels, hard)
        np.testing.assert_allclose(value, 1 - iou, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_steps_by_numpy_equal_those_by_tensorflow(dtype: str) -> None:
    rng = np.random.default_rng(0)
    classes = rng.integers(-1, 3, (2, 200)).astype(np.int32)
    # Class 2 is absent from the second row, and class 3 from both.
    classes[1] = np.minimum(classes[1], 1)
    # Many errors are equal, and there are zeros of both signs.
    errors = (rng.integers(0, 20, (2, 4, 200)) / 19).astype(dtype)
    errors[0, 0, ::7] = -0.0
    errors = np.where(classes[:, np.newaxis] < 0, 0, errors).astype(dtype)
    expected = jaccard_steps(tf.constant(errors), classes).numpy()
    wanted = np.array([[True, True, False, True], [True] * 4])
    found = numpy_jaccard_steps(tf.constant(errors), classes, wanted)
    expected[0, 2] = 0
    assert found.dtype == dtype
    # TensorFlow's quotients in float32 have some roundings of 6e-8.
    np.testing.assert_allclose(found, expected, rtol=1e-6)
