"""Training and saving with every loss: replicas, mixed precision and saved models."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from loss_tester import CLASSES, ON_LOGITS, batch

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

_REPLICAS = """
import keras, numpy as np, tensorflow as tf
from tf_levelset import losses
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
rng = np.random.default_rng(0)
images = rng.normal(size=(4, 6, 7, 3)).astype("float32")
labels = rng.integers(0, 3, (4, 6, 7))
labels[:, 0] = labels[0, 1:5] = 255  # The replicas have different amounts of void.
options = dict(from_logits=True, ignore_class=255)
def make(name):
    loss = getattr(losses, name)(**options)
    if hasattr(loss, "per_image"):  # A pool over the batch would differ.
        loss = type(loss).from_config(loss.get_config() | {"per_image": True})
    return loss
def train(strategy):
    with strategy.scope():
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((6, 7, 3)), keras.layers.Conv2D(3, 1)])
        parts = [make(name) for name in NAMES]
        loss = losses.LossSum(parts, [WEIGHTS.get(name, 1.0) for name in NAMES])
        model.compile(keras.optimizers.SGD(1.0), loss, jit_compile=False)
    data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(4)
    history = model.fit(data, epochs=2, verbose=0)
    return model.get_weights(), history.history["loss"]
one, found = train(tf.distribute.get_strategy())
two, other = train(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
for a, b in zip(one, two):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
np.testing.assert_allclose(found, other, rtol=1e-4)
"""


def test_two_replicas_equal_one() -> None:
    # In a new process: logical devices must be set before TensorFlow starts.
    names = [loss.__name__ for loss in LOSSES]
    program = f"NAMES, WEIGHTS = {names}, {WEIGHTS}\n{_REPLICAS}"
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True)


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
