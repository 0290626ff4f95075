"""The Dice loss against scikit-learn and Keras' implementation."""

from __future__ import annotations

from typing import Any, ClassVar

import keras
import numpy as np
import pytest
from loss_tester import CLASSES, INFINITY, ClassAverageTester
from sklearn import metrics

from tf_levelset.compat import KERAS_3
from tf_levelset.losses import DiceLoss


class TestDiceLoss(ClassAverageTester):
    loss = DiceLoss
    options: ClassVar[dict[str, Any]] = {
        "squared": True,
        "smooth": 1.0,
        "per_image": False,
        "classes": [1, 3],
    }
    bad_options: ClassVar[dict[str, list[Any]]] = {"smooth": [-1.0, INFINITY, {}]}

    def test_on_hard_predictions_it_is_one_minus_the_f1_score(self) -> None:
        rng = np.random.default_rng(0)
        labels, predicted = rng.integers(0, CLASSES, (2, 1, 8, 9))
        hard = np.eye(CLASSES, dtype=np.float32)[predicted]
        score = metrics.f1_score(labels.ravel(), predicted.ravel(), average="macro")
        np.testing.assert_allclose(DiceLoss()(labels, hard), 1 - score, rtol=1e-5)

    @pytest.mark.skipif(not KERAS_3, reason="Keras 2 has no Dice loss")
    def test_for_one_class_it_is_that_of_keras(self) -> None:
        rng = np.random.default_rng(0)
        truth = rng.integers(0, 2, (2, 5, 6, 1))
        p = rng.uniform(size=(2, 5, 6, 1)).astype(np.float32)
        ours = DiceLoss(classes=[1], per_image=False)
        expected = keras.losses.Dice()(truth.astype(np.float32), p)
        np.testing.assert_allclose(ours(truth, p), expected, rtol=1e-5)
