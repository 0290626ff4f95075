"""Sample weights, reductions and Keras masks, which the base class handles."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from loss_tester import (
    CLASSES,
    ON_LOGITS,
    VOID,
    batch,
    pixel_weights,
    value_and_gradient,
)

from tf_levelset import (
    CrossEntropyLevelSetLoss,
    LevelSetLoss,
    level_set_energy,
    losses,
)
from tf_levelset.compat import KERAS_3

WEIGHTED_MEAN: dict[str, Any] = {"reduction": "mean_with_sample_weight"}
LOSSES = [
    getattr(losses, name)
    for name in losses.__all__
    if name not in ("LossSum", "SegmentationLoss")
]
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


# --- Keras masks ---


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("one_hot", [False, True])
def test_what_a_keras_mask_leaves_out_is_void(loss: Any, one_hot: bool) -> None:
    labels, logits = batch()
    valid, weight = labels != VOID, pixel_weights()
    expected = value_and_gradient(loss(**ON_LOGITS), labels, logits, weight)
    # Under the mask, labels may be anything.
    truth = np.where(valid, labels, 77)
    if one_hot:
        truth = np.where(valid[..., np.newaxis], np.eye(CLASSES)[truth % CLASSES], 5)

    def masked(_: Any, outputs: tf.Tensor, sample_weight: Any) -> tf.Tensor:
        outputs = tf.identity(outputs)
        outputs._keras_mask = tf.constant(valid)
        return loss(from_logits=True)(truth, outputs, sample_weight)

    found = value_and_gradient(masked, None, logits, weight)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-6, atol=1e-9)


def test_masks_of_other_shapes() -> None:
    labels, logits = batch((2, 3, 4), void=0)
    loss = LevelSetLoss(from_logits=True)
    rows = np.array([[1, 1, 0], [0, 1, 1]])

    def masked(mask: np.ndarray) -> tf.Tensor:
        outputs = tf.constant(logits)
        outputs._keras_mask = tf.constant(mask)
        return loss(labels, outputs)

    void = np.where(rows[..., np.newaxis], labels, VOID)
    expected = LevelSetLoss(**ON_LOGITS)(void, logits)
    for mask in (rows == 1, rows.repeat(4).reshape(2, 3, 4, 1)):
        np.testing.assert_allclose(masked(mask), expected, rtol=1e-6)
    with pytest.raises(ValueError, match="Keras mask of y_pred to have the axes"):
        masked(rows[:, :2])
