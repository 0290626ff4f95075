"""Sample weights, reductions and bad input, which the base class handles."""

from __future__ import annotations

import json
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from loss_tester import ON_LOGITS, VOID, batch, pixel_weights, value_and_gradient

from tf_levelset import CrossEntropyLevelSetLoss, LevelSetLoss, level_set_energy
from tf_levelset.compat import KERAS_3

WEIGHTED_MEAN: dict[str, Any] = {"reduction": "mean_with_sample_weight"}
only_keras_3 = pytest.mark.skipif(not KERAS_3, reason="Keras 2 has no such reduction")


@pytest.mark.parametrize("shape", [(2,), (6,), (3, 7), (3, 6, 6), (7,), (3, 6, 7, 2)])
def test_weights_of_other_shapes_raise(shape: tuple[int, ...]) -> None:
    labels, logits = batch(void=0)
    weights = np.ones(shape, np.float32)
    for form in (weights, weights.tolist()):
        with pytest.raises(ValueError, match=r"Expected sample_weight .* Received"):
            LevelSetLoss(from_logits=True)(labels, logits, form)


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


@pytest.mark.parametrize(
    ("labels", "scores", "weight"),
    [
        (np.full((3, 6, 7), "a"), np.zeros((3, 6, 7, 4)), None),
        (np.zeros((3, 6, 7), complex), np.zeros((3, 6, 7, 4)), None),
        (np.zeros((3, 6, 7), int), np.zeros((3, 6, 7, 4), complex), None),
        (np.zeros((3, 6, 7), int), np.zeros((3, 6, 7, 4)), "heavy"),
        (np.zeros((3, 6, 7), int), np.float32(0), 1.0),
        (np.zeros((3, 6, 7), int), np.float32(0), None),
    ],
)
def test_arrays_without_numbers_raise(labels: Any, scores: Any, weight: Any) -> None:
    for loss in (LevelSetLoss, CrossEntropyLevelSetLoss):
        with pytest.raises(ValueError, match=r"Expected .*Received"):
            loss(from_logits=True)(labels, tf.constant(scores), weight)


@pytest.mark.parametrize("shape", [(0, 5), (2, 0)])
def test_no_pixel_on_one_axis_is_zero(shape: tuple[int, ...]) -> None:
    scores = np.zeros((*shape, 4), np.float32)
    for loss in (LevelSetLoss, CrossEntropyLevelSetLoss):
        value, gradient = value_and_gradient(
            loss(from_logits=True), np.zeros(shape, int), scores
        )
        assert value == 0
        assert gradient.shape == scores.shape


def test_configuration_of_numpy_numbers_is_json() -> None:
    options: dict[str, Any] = {
        "level_set_weight": np.float32(0.5),
        "from_logits": np.bool_(True),
        "epsilon": np.float64(0.25),
        "ignore_class": np.int64(255),
        "class_weight": np.ones(3, np.float32),
        "signed": np.bool_(True),
    }
    loss = CrossEntropyLevelSetLoss(**options)
    config = json.loads(json.dumps(loss.get_config()))
    assert CrossEntropyLevelSetLoss(**config).get_config() == config
    assert config["ignore_class"] == 255
