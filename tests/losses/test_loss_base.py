"""Sample weights and reductions, which the base class handles."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from loss_tester import CLASSES, ON_LOGITS, VOID, batch, pixel_weights

from tf_levelset import CrossEntropyLevelSetLoss, LevelSetLoss, level_set_energy
from tf_levelset.compat import KERAS_3

WEIGHTED_MEAN: dict[str, Any] = {"reduction": "mean_with_sample_weight"}
only_keras_3 = pytest.mark.skipif(not KERAS_3, reason="Keras 2 has no such reduction")


def test_class_weights_of_fit_are_refused_by_name() -> None:
    labels, logits = batch()
    data = tf.data.Dataset.from_tensors((logits, labels % CLASSES))
    model = keras.Sequential([keras.Input((6, 7, CLASSES)), keras.layers.ReLU()])
    model.compile("sgd", LevelSetLoss(from_logits=True))
    with pytest.raises(ValueError, match="`class_weight` of the loss"):
        model.fit(data, class_weight=dict.fromkeys(range(7), 1.0), shuffle=False)


@only_keras_3
@pytest.mark.parametrize("weight", [None, 2.0, np.array([1.0, 2.0, 5.0], np.float32)])
def test_mean_with_sample_weight(weight: Any) -> None:
    labels, logits = batch(void=0)
    loss = LevelSetLoss(from_logits=True, **WEIGHTED_MEAN)
    energies = level_set_energy(labels, logits, from_logits=True).numpy()
    weights = weight if isinstance(weight, np.ndarray) else None
    expected = np.average(energies, weights=weights)
    np.testing.assert_allclose(loss(labels, logits, weight), expected, rtol=1e-5)


@only_keras_3
def test_weighted_mean_over_valid_pixels_is_that_of_keras() -> None:
    labels, logits = batch()
    weight = pixel_weights()
    ours = CrossEntropyLevelSetLoss(0.0, **ON_LOGITS, **WEIGHTED_MEAN)
    theirs = keras.losses.SparseCategoricalCrossentropy(**ON_LOGITS, **WEIGHTED_MEAN)
    for form in (None, weight, np.where(labels == VOID, 0, weight)):
        expected = theirs(labels, logits, form)
        np.testing.assert_allclose(ours(labels, logits, form), expected, rtol=1e-6)
    energy = LevelSetLoss(**ON_LOGITS, **WEIGHTED_MEAN)
    twice = energy(labels, logits, np.float32(2))
    np.testing.assert_allclose(twice, energy(labels, logits), rtol=1e-5)
