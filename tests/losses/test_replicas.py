"""Losses on two replicas against one: what `fit` reports, and its steps."""

from __future__ import annotations

import subprocess
import sys

_PROGRAM = """
import keras, numpy as np, tensorflow as tf
from tf_levelset import losses
from tf_levelset.compat import KERAS_3
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
rng = np.random.default_rng(0)
# Batches of 4 and 3 images: 2 + 2 and 2 + 1 on the replicas, with different amounts of
# void.
sizes = [4, 3]
images = rng.normal(size=(7, 5, 6, 3)).astype("float32")
labels = rng.integers(0, 3, images.shape[:3])
labels[:, 0] = labels[0, 1:5] = labels[6, :, 1:] = 255
weights = rng.uniform(size=labels.shape).astype("float32")
options = dict(from_logits=True, ignore_class=255)
parts = [
    losses.ActiveContourLoss(**options),
    losses.BoundaryLoss(**options),
    losses.CrossEntropyLevelSetLoss(0.1, **options),
    losses.CrossEntropyLevelSetLoss(0.1, per_image=False, **options),
    losses.DiceLoss(reduction="sum", **options),
    losses.FocalLoss(
        reduction="mean_with_sample_weight" if KERAS_3 else "auto", **options),
    losses.LevelSetLoss(normalization="mean", **options),
    losses.LocallyAdaptiveLoss(**options),
    losses.LossMaxPooling(**options),
    losses.LovaszSoftmaxLoss(**options),
    losses.LossSum([losses.FocalLoss(**options), losses.LovaszSoftmaxLoss(**options)]),
]
def batches():
    begin = 0
    for size in sizes:
        part = slice(begin, begin + size)
        yield images[part], (labels[part],) * len(parts), (weights[part],) * len(parts)
        begin += size
def train(strategy):
    with strategy.scope():
        keras.utils.set_random_seed(0)
        inputs = keras.Input((5, 6, 3))
        heads = [keras.layers.Conv2D(3, 1, name=f"head{i}") for i in range(len(parts))]
        model = keras.Model(inputs, [head(inputs) for head in heads])
        model.compile(keras.optimizers.SGD(0.1), parts, jit_compile=False)
    spec = tf.TensorSpec((None, 5, 6, 3)), *(
        (tf.TensorSpec((None, 5, 6), kind),) * len(parts)
        for kind in (tf.int64, tf.float32))
    data = tf.data.Dataset.from_generator(batches, output_signature=spec)
    data = data.apply(tf.data.experimental.assert_cardinality(len(sizes)))
    history = model.fit(data, verbose=0).history
    return {name: value[0] for name, value in history.items()}, model.get_weights()
reported, one = train(tf.distribute.get_strategy())
of_two, two = train(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
assert len(reported) == len(parts) + 1
for name, value in reported.items():
    np.testing.assert_allclose(of_two[name], value, rtol=1e-6, err_msg=name)
for i, (a, b) in enumerate(zip(one, two, strict=True)):
    np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6, err_msg=str(i // 2))
"""


def test_two_replicas_equal_one() -> None:
    # In a new process: logical devices must be set before TensorFlow starts.
    subprocess.run([sys.executable, "-W", "ignore", "-c", _PROGRAM], check=True)
