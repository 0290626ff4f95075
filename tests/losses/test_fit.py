"""Training and saving with every loss: mixed precision and saved models."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from loss_tester import CLASSES, ON_LOGITS, VOID, batch

from tf_levelset import LevelSetEnergy, MeanIoU, level_set_energy
from tf_levelset.losses import (
    ActiveContourLoss,
    BoundaryLoss,
    CrossEntropyLevelSetLoss,
    DiceLoss,
    FocalLoss,
    LevelSetLoss,
    LocallyAdaptiveLoss,
    LossMaxPooling,
    LossSum,
    LovaszSoftmaxLoss,
    SegmentationLoss,
)
from tf_levelset.metrics.confusion import confusion_matrix
from tf_levelset.metrics.iou import mean_iou

LOSSES: tuple[type[SegmentationLoss], ...] = (
    ActiveContourLoss,
    BoundaryLoss,
    CrossEntropyLevelSetLoss,
    DiceLoss,
    FocalLoss,
    LevelSetLoss,
    LocallyAdaptiveLoss,
    LossMaxPooling,
    LovaszSoftmaxLoss,
)

WEIGHTS = {"LevelSetLoss": 0.01}
"""Factors of losses in the sum of all; the others have 1."""


def compiled_model() -> tuple[keras.Model, np.ndarray, np.ndarray]:
    """Returns a model compiled with the sum of all losses, images and labels."""
    keras.utils.set_random_seed(0)
    labels, _ = batch()
    images = np.random.default_rng(0).normal(size=(3, 6, 7, 3)).astype(np.float32)
    model = keras.Sequential([keras.Input((6, 7, 3)), keras.layers.Conv2D(CLASSES, 1)])
    parts = [loss(**ON_LOGITS) for loss in LOSSES]
    weights = [WEIGHTS.get(loss.__name__, 1.0) for loss in LOSSES]
    total = LossSum([*parts, LossSum(parts[:2])], [*weights, 1.0])
    model.compile("sgd", total, jit_compile=False)
    return model, images, labels


def test_steps_that_a_masking_layer_leaves_out_are_void() -> None:
    rng = np.random.default_rng(0)
    steps = rng.normal(size=(3, 6, 2)).astype(np.float32)
    steps[0, 1:4] = steps[2] = 0
    labels = rng.integers(0, 3, (3, 6))
    inputs = keras.Input((6, 2))
    x = keras.layers.Masking()(inputs)
    model = keras.Model(inputs, keras.layers.Dense(3)(x))
    parts = [loss(from_logits=True) for loss in (CrossEntropyLevelSetLoss, DiceLoss)]
    metrics = [MeanIoU(3, sparse_y_pred=False), LevelSetEnergy(from_logits=True)]
    model.compile(loss=LossSum(parts), metrics=metrics)
    found = model.evaluate(steps, labels, verbose=0)
    void = np.where((steps == 0).all(-1), VOID, labels)
    logits = model.predict(steps, verbose=0)
    total = sum(type(part)(**ON_LOGITS)(void, logits) for part in parts)
    confusion = confusion_matrix(void, logits.argmax(-1), 3, ignore_class=VOID)
    energy = level_set_energy(void, logits, **ON_LOGITS)
    expected = [total, mean_iou(confusion), np.mean(energy)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    # Keras 2 passes the mask, times the weights of the images, as weights.
    metrics = [LevelSetEnergy(from_logits=True)]
    model.compile(loss=parts[0], weighted_metrics=metrics)
    weights = np.array([1.0, 3.0, 0.0])
    found = model.evaluate(steps, labels, sample_weight=weights, verbose=0)
    np.testing.assert_allclose(found[1], np.dot(energy, weights) / 4, rtol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_training_under_mixed_precision(policy: str) -> None:
    keras.mixed_precision.set_global_policy(policy)
    try:
        model, images, labels = compiled_model()
        assert model(images).dtype.name == policy.removeprefix("mixed_")
        history = model.fit(images, labels, epochs=3, verbose=0).history
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert np.isfinite(history["loss"]).all()
    assert history["loss"][-1] < history["loss"][0]


def test_saved_model_loads_without_custom_objects(tmp_path: Path) -> None:
    model, images, labels = compiled_model()
    before = model.evaluate(images, labels, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    types = [type(loss) for loss in loaded.loss.losses]
    assert types == [*LOSSES, LossSum]
    after = loaded.evaluate(images, labels, verbose=0)
    np.testing.assert_allclose(after, before, rtol=1e-6)
