"""Tests of the level set energy as a metric, against Eq. 4 to 6 as they are written."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import oracles
import pytest
import tensorflow as tf
from metric_tester import VOID, in_graph, random_masks
from scipy.special import softmax

from tf_levelset import LevelSetEnergy, MeanIoU


def literal_energy(labels: Any, probabilities: Any, epsilon: float = 1 / 20) -> float:
    """The energy of one image, by `oracles` in float64."""
    valid = labels != VOID
    p = tf.constant(probabilities[valid], tf.float64)
    return float(oracles.image_energy(labels[valid], p, epsilon=epsilon))


def energy_batch() -> tuple[Any, Any, list[float]]:
    labels, _ = random_masks(11, 4, (5, 6, 7))
    logits = np.random.default_rng(1).normal(size=(5, 6, 7, 4)).astype(np.float32)
    pairs = zip(labels, softmax(logits.astype(np.float64), axis=-1), strict=True)
    return labels, logits, [literal_energy(*pair) for pair in pairs]


@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
def test_energy_is_the_mean_over_images_of_the_literal_formula(mode: str) -> None:
    labels, logits, energies = energy_batch()
    metric = LevelSetEnergy(from_logits=True, ignore_class=VOID)
    step = metric if mode == "eager" else in_graph(metric, jit_compile=mode == "xla")
    step(tf.constant(labels[:3]), tf.constant(logits[:3]))
    value = step(tf.constant(labels[3:]), tf.constant(logits[3:]))
    # 3 and 2 images: the mean of the batches' means would be another number.
    assert float(value) == pytest.approx(np.mean(energies), rel=1e-5)


def test_energy_of_probabilities_and_options() -> None:
    labels, logits, energies = energy_batch()
    metric = LevelSetEnergy(ignore_class=VOID, epsilon=0.2)
    metric.update_state(labels[..., None], softmax(logits, axis=-1))
    expected = [
        literal_energy(label, probability, 0.2)
        for label, probability in zip(labels, softmax(logits, axis=-1), strict=True)
    ]
    assert float(metric.result()) == pytest.approx(np.mean(expected), rel=1e-5)
    assert np.mean(expected) != pytest.approx(np.mean(energies), rel=1e-2)


@pytest.mark.parametrize("shape", [(5,), (5, 1)])
def test_energy_weighs_images(shape: tuple[int, ...]) -> None:
    labels, logits, energies = energy_batch()
    weights = np.array([0, 1, 2.5, 0.5, 1])
    metric = LevelSetEnergy(from_logits=True, ignore_class=VOID)
    metric.update_state(labels, logits, weights.reshape(shape))
    expected = np.average(energies, weights=weights)
    assert float(metric.result()) == pytest.approx(expected, rel=1e-5)
    metric.reset_state()
    assert float(metric.result()) == 0.0
    metric.update_state(labels, logits, 0.5)
    assert float(metric.result()) == pytest.approx(np.mean(energies), rel=1e-5)


@pytest.mark.parametrize("shape", [(1,), (4,), (5, 6, 7)])
def test_energy_refuses_weights_that_are_not_of_images(shape: tuple[int, ...]) -> None:
    labels, logits, _ = energy_batch()
    metric = LevelSetEnergy(from_logits=True, ignore_class=VOID)
    with pytest.raises(ValueError, match="Expected `sample_weight`"):
        metric.update_state(labels, logits, np.ones(shape))


@pytest.mark.parametrize("label", [-1, 4, 2**40, 0.5, np.nan])
def test_energy_refuses_labels_of_no_class(label: float) -> None:
    labels, logits, _ = energy_batch()
    labels = np.where(labels == 3, label, labels)
    metric = LevelSetEnergy(from_logits=True, ignore_class=VOID)
    with pytest.raises(tf.errors.InvalidArgumentError, match="Expected labels"):
        metric.update_state(labels, logits)


def test_energy_merges() -> None:
    labels, logits, energies = energy_batch()
    parts = [LevelSetEnergy(True, ignore_class=VOID) for _ in range(3)]
    parts[1].update_state(labels[:2], logits[:2])
    parts[2].update_state(labels[2:], logits[2:])
    parts[0].merge_state(parts[1:])
    assert float(parts[0].result()) == pytest.approx(np.mean(energies), rel=1e-5)


def test_weighted_metrics_take_masks() -> None:
    images = np.random.default_rng(0).random((4, 8, 8, 3), np.float32)
    labels, _ = random_masks(0, 4, (4, 8, 8))
    keep = np.array([1.0, 0.0, 1.0, 1.0], np.float32)
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 1)])
    metric = MeanIoU(4, ignore_class=VOID, sparse_y_pred=False)
    energy = LevelSetEnergy(from_logits=True, ignore_class=VOID)

    def loss(y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(y_pred, [1, 2, 3])

    model.compile("sgd", loss, weighted_metrics=[metric, energy])
    # 3 images and 1: the mean of the energies of the batches would be another number.
    model.evaluate(images, labels, sample_weight=keep, batch_size=3, verbose=0)
    valid = (labels != VOID) & (keep == 1)[:, None, None]
    assert metric.confusion().sum() == valid.sum()
    probabilities = softmax(model.predict(images, verbose=0), axis=-1)
    energies = [
        literal_energy(*pair) for pair in zip(labels, probabilities, strict=True)
    ]
    expected = np.average(energies, weights=keep)
    assert float(energy.result()) == pytest.approx(expected, rel=1e-4)
