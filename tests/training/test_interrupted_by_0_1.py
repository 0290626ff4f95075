"""A run that version 0.1 began, and that was killed inside an epoch, is resumed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_levelset import ExactResume, compat

DATA = Path(__file__).parents[1] / "data"
RUN = DATA / f"interrupted_by_0_1_keras{3 if compat.KERAS_3 else 2}"
"""Step 5 of 8, in epochs of 3, and in finished.json what version 0.1 ended with when
nothing interrupted it."""


def net() -> keras.Model:
    keras.utils.set_random_seed(0)
    layers = [
        keras.Input((2,)),
        keras.layers.Dense(3),
        keras.layers.BatchNormalization(),
        compat.dropout(0.5, "dropout"),
        keras.layers.Dense(1),
    ]
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse", metrics=["mae"])
    return model


def batches(start: int) -> tf.data.Dataset:
    def of_step(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        x, y = tf.sin(step + tf.range(8.0)), tf.cos(step + tf.range(4.0))
        return tf.reshape(x, (4, 2)), tf.reshape(y, (4, 1))

    return tf.data.Dataset.range(start, 8, output_type=tf.float32).map(of_step)


def test_ends_as_version_0_1_would_have(tmp_path: Path) -> None:
    for path in RUN.glob("step-5.*"):
        shutil.copy(path, tmp_path)
    model = net()
    resume = ExactResume(model, tmp_path, steps=8, steps_per_epoch=3)
    assert resume.step == 5
    for start, span in resume.parts():
        model.fit(batches(start), callbacks=[resume], shuffle=False, verbose=0, **span)
    expected = json.loads((RUN / "finished.json").read_text())
    # Another processor may round differently.
    for found, values in zip(model.get_weights(), expected["weights"], strict=True):
        np.testing.assert_allclose(found.ravel(), values, rtol=1e-5, atol=1e-6)
    for row, values in zip(resume.history, expected["history"], strict=True):
        del row["seconds"]
        assert row == pytest.approx(values, rel=1e-5)
