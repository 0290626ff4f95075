"""The focal loss against Keras' implementation, and where a prediction is certain."""

from __future__ import annotations

from typing import Any, ClassVar

import keras
import numpy as np
import pytest
import tensorflow as tf
from loss_tester import (
    CLASSES,
    INFINITY,
    NAN,
    LossTester,
    batch,
    value_and_gradient,
)

from tf_levelset.losses import FocalLoss


class TestFocalLoss(LossTester):
    loss = FocalLoss
    options: ClassVar[dict[str, Any]] = {"gamma": 1.5, "alpha": 0.6}
    bad_options: ClassVar[dict[str, list[Any]]] = {
        "gamma": [-1.0, NAN, INFINITY, "2"],
        "alpha": [0.0, INFINITY, None],
    }
    averages_images = False

    @pytest.mark.parametrize("from_logits", [True, False])
    def test_without_void_it_is_that_of_keras(self, from_logits: bool) -> None:
        labels, scores = batch(void=0)
        if not from_logits:
            scores = tf.nn.softmax(scores).numpy()
        ours = FocalLoss(gamma=1.5, alpha=0.4, from_logits=from_logits)
        theirs = keras.losses.CategoricalFocalCrossentropy(
            gamma=1.5, alpha=0.4, from_logits=from_logits
        )
        expected = theirs(np.eye(CLASSES, dtype=np.float32)[labels], scores)
        np.testing.assert_allclose(ours(labels, scores), expected, rtol=1e-5)

    @pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
    def test_gradient_where_the_prediction_is_certain(self, gamma: float) -> None:
        # A wrong pixel has the factor 1 and the gradient of the cross-entropy.
        logits = np.array([[[[100.0, 0.0], [0.0, 100.0]]]], np.float32)
        loss = FocalLoss(gamma=gamma, alpha=1.0, from_logits=True)
        value, gradient = value_and_gradient(loss, np.array([[[1, 1]]]), logits)
        assert value == 50
        expected = np.array([[[[0.5, -0.5], [0.0, 0.0]]]])
        np.testing.assert_allclose(gradient, expected, atol=1e-12)
