"""Tests of the metrics in `fit`, `evaluate`, saved models, distributed training."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
from typing import Any

import keras
import numpy as np
import pytest
from metric_tester import CASES, VOID, random_batch

ROOT = pathlib.Path(__file__).resolve().parents[2]


def tiny_model(metrics: list[Any], dtype: str = "mixed_bfloat16") -> Any:
    conv = keras.layers.Conv2D(
        4,
        3,
        padding="same",
        kernel_initializer=keras.initializers.GlorotUniform(seed=0),
        dtype=dtype,
    )
    model = keras.Sequential([keras.Input((None, None, 3)), conv])
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, ignore_class=VOID
    )
    model.compile("sgd", loss, metrics=metrics, jit_compile=False)
    return model


def test_fit_evaluate_and_save_in_mixed_precision(tmp_path: pathlib.Path) -> None:
    labels, _ = random_batch(8, 6)
    images = np.random.default_rng(0).random((*labels.shape, 3), np.float32)
    images[..., 0] += labels == 1
    names = [f"metric_{i}" for i in range(len(CASES))]
    metrics = [
        case.make(sparse_y_pred=False, name=name)
        for case, name in zip(CASES, names, strict=True)
    ]
    model = tiny_model(metrics)
    history = model.fit(images, labels, batch_size=4, epochs=2, verbose=0).history
    assert all(np.isfinite(history[name]).all() for name in names)
    path = tmp_path / "model.keras"
    model.save(path)
    for evaluated in (model, keras.models.load_model(path)):
        logits = evaluated.predict(images, batch_size=4, verbose=0)
        predicted = logits.astype(np.float32).argmax(-1)
        # 4 and 2 images: the mean of the scores of the batches would be another number.
        values = evaluated.evaluate(images, labels, batch_size=4, verbose=0)[1:]
        expected = [case.score(case.counts(labels, predicted)) for case in CASES]
        np.testing.assert_allclose(values, np.nan_to_num(expected), rtol=1e-6)


@pytest.mark.parametrize("run_eagerly", [False, True])
def test_callbacks_stop_fit_where_scores_are_nan(run_eagerly: bool) -> None:
    images, labels = np.zeros((2, 3, 3, 3), np.float32), np.zeros((2, 3, 3), int)
    images[1] = np.nan
    metrics = [
        case.make(sparse_y_pred=False, name=f"metric_{i}")
        for i, case in enumerate(CASES[:1] if run_eagerly else CASES[::4])
    ]
    model = tiny_model(metrics, "float32")
    model.run_eagerly = run_eagerly
    stop = keras.callbacks.TerminateOnNaN()
    history = model.fit(images, labels, epochs=3, verbose=0, callbacks=[stop]).history
    for metric in metrics:
        np.testing.assert_array_equal(history[metric.name], [np.nan])  # one epoch
        with pytest.raises(ValueError, match=r"without NaN.*Received: 9 invalid"):
            metric.scores()


DISTRIBUTED = """
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras
from tf_levelset import (
    BoundaryIoU, LevelSetEnergy, MeanIoU, SmallObjectRecall, TrimapIoU)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert strategy.num_replicas_in_sync == 2
rng = np.random.default_rng(0)
images = rng.random((7, 8, 8, 3), np.float32)  # Two batches, split 2 + 2 and 2 + 1.
labels = rng.integers(0, 4, (7, 4, 4)).repeat(2, 1).repeat(2, 2)
labels[0, 0, 0] = 255
def metrics():
    options = {"ignore_class": 255, "sparse_y_pred": False}
    return [MeanIoU(4, **options), BoundaryIoU(4, **options),
            TrimapIoU(4, width=1, **options),
            SmallObjectRecall(4, max_share=0.2, **options),
            LevelSetEnergy(from_logits=True, ignore_class=255)]
with strategy.scope():
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 1)])
    ours = metrics()
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, ignore_class=255)
    model.compile("sgd", loss, metrics=ours)
data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(4)
model.fit(data, epochs=2, verbose=0)
values = model.evaluate(data, verbose=0)[1:]
logits = model(images)
for metric, value, alone in zip(ours, values, metrics(), strict=True):
    alone.update_state(labels, logits)
    count = [tf.convert_to_tensor(m.variables[0]).numpy() for m in (metric, alone)]
    np.testing.assert_allclose(*count, rtol=1e-5 if count[0].dtype == float else 0)
    assert count[0].sum() > 0
    np.testing.assert_allclose(value, float(alone.result()), rtol=1e-5)
assert ours[0].confusion().sum() == 7 * 64 - 1
model.reset_metrics()
assert ours[0].confusion().sum() == 0
"""


def test_two_replicas_count_as_one() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    # A process of its own: devices cannot be split once TensorFlow has started.
    done = subprocess.run(
        [sys.executable, "-c", DISTRIBUTED],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
