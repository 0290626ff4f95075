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
images = rng.normal(size=(8, 5, 6, 3)).astype("float32")
labels = rng.integers(0, 3, images.shape[:3])
labels[:, 0] = labels[0, 1:5] = labels[6, :, 1:] = 255
weights = rng.uniform(size=labels.shape).astype("float32")
options = dict(from_logits=True, ignore_class=255)
def total(*names, **more):
    return losses.LossSum([getattr(losses, name)(**options, **more) for name in names])
weighted = "mean_with_sample_weight" if KERAS_3 else "auto"
parts = [
    total("ActiveContourLoss", "BoundaryLoss", "FocalLoss", "LossMaxPooling"),
    losses.CrossEntropyLevelSetLoss(0.1, reduction=weighted, **options),
    losses.LevelSetLoss(normalization="mean", reduction="sum", **options),
    total("LocallyAdaptiveLoss", "LovaszSoftmaxLoss"),
    total("CrossEntropyLevelSetLoss", "DiceLoss", per_image=False),
]
samples = tf.data.Dataset.from_tensor_slices((images, labels, weights))
# Batches of 4, 3 and 1 images: 2 + 2, 2 + 1 and 1 + 0 on the replicas, with different
# amounts of void.
data = samples.take(7).batch(4).concatenate(samples.skip(7).batch(4))
data = data.map(lambda x, y, w: (x, (y,) * len(parts), (w,) * len(parts)))
def train(strategy):
    with strategy.scope():
        keras.utils.set_random_seed(0)
        inputs = keras.Input((5, 6, 3))
        heads = [keras.layers.Conv2D(3, 1, name=f"head{i}") for i in range(len(parts))]
        model = keras.Model(inputs, [head(inputs) for head in heads])
        model.compile(keras.optimizers.SGD(0.1), parts, jit_compile=False)
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
