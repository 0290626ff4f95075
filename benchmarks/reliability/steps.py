"""Some steps of training on one or more replicas, for the trial `workers`.

`python -m benchmarks.reliability.steps FILE [--replicas R]` trains every case of
`CASES` and writes the variables after each of `STEPS`. If TF_CONFIG is set, this
process is one of its workers, and the chief writes.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_levelset import (
    CaffeSGD,
    CrossEntropyLevelSetLoss,
    FocalLoss,
    compat,
)
from tf_levelset.models import at_input_size, create_model
from tf_levelset.training import distribution

CLASSES, VOID = 3, 255
BATCH = 4
STEPS = (1, 3)
"""After which the variables are looked at."""

COMMON: dict[str, Any] = {"from_logits": True, "ignore_class": VOID}
VGG: dict[str, Any] = {"width": 0.05, "dilation": 1, "dropout": 0.0}
RESNET: dict[str, Any] = {"width": 0.125, "depth": 0.25}

LOSSES: dict[str, Callable[[], keras.losses.Loss]] = {
    "cross-entropy": lambda: CrossEntropyLevelSetLoss(0.0, **COMMON),
    "plain": lambda: CrossEntropyLevelSetLoss(2.8, normalization="mean", **COMMON),
    "balanced": lambda: CrossEntropyLevelSetLoss(
        12.0, normalization="balanced", heaviside="logit", epsilon=1.0, **COMMON
    ),
    "focal": lambda: FocalLoss(**COMMON),
}

NETS: dict[str, tuple[str, dict[str, Any], float]] = {
    "LargeFOV": ("deeplab_largefov", VGG, 1e-3),
    "LargeFOV, normalised": ("deeplab_largefov", {**VGG, "batch_norm": True}, 0.1),
    "ResNet, frozen": ("deeplab_resnet101", RESNET, 1e-5),
}
"""By name: a net, its options and a learning rate that moves it far, but no farther."""

CASES = (
    *(("LargeFOV", loss) for loss in LOSSES),
    ("LargeFOV, normalised", "balanced"),
    ("ResNet, frozen", "balanced"),
)


def main() -> None:
    """Trains the cases and writes the variables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--cases", type=int, default=len(CASES), help="only the first")
    options = parser.parse_args()
    strategy = strategy_of(options.replicas)
    found: dict[str, Any] = {}
    for net, loss in CASES[: options.cases]:
        found.update(train(strategy, net, loss))
    if distribution.is_chief(strategy):
        np.savez(options.file, **found)
    distribution.wait_for_all(strategy)


def strategy_of(replicas: int) -> tf.distribute.Strategy:
    """The strategy of so many replicas on this CPU, or of the workers of TF_CONFIG."""
    if os.environ.get("TF_CONFIG"):
        return distribution.strategy_named("workers")
    if replicas == 1:
        return distribution.strategy_named(None)
    (cpu,) = tf.config.list_physical_devices("CPU")
    devices = [tf.config.LogicalDeviceConfiguration()] * replicas
    tf.config.set_logical_device_configuration(cpu, devices)
    return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(replicas)])


def train(
    strategy: tf.distribute.Strategy, net: str, loss: str
) -> dict[str, np.ndarray]:
    """Trains one case; returns its variables by the number of steps, and their name."""
    images, labels = samples()

    def batches(workers: int, worker: int) -> tf.data.Dataset:
        mine = (images[worker::workers], labels[worker::workers])
        return tf.data.Dataset.from_tensor_slices(mine).batch(BATCH // workers).repeat()

    keras.utils.set_random_seed(0)
    with strategy.scope():
        name, options, rate = NETS[net]
        model = at_input_size(create_model(name, CLASSES, upsample=False, **options))
        optimizer = CaffeSGD(rate, momentum=0.9, l2=1e-4)
        model.compile(optimizer, LOSSES[loss]())
    found = variables(model, f"{net}/{loss}/0")
    done = 0
    for steps in STEPS:
        distribution.fit(
            model,
            distribution.distribute(strategy, batches),
            steps_per_epoch=steps - done,
            verbose=0,
        )
        done = steps
        found.update(variables(model, f"{net}/{loss}/{steps}"))
    return found


def samples() -> tuple[np.ndarray, np.ndarray]:
    """A batch in which void is anything but evenly spread."""
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (BATCH, 33, 41, 3)).astype(np.float32)
    labels = rng.integers(0, CLASSES, (BATCH, 33, 41))
    labels[0, 3:] = VOID
    labels[1, :, :20] = VOID
    labels[2, :1] = VOID
    return images, labels


def variables(model: keras.Model, prefix: str) -> dict[str, np.ndarray]:
    """Copies of what training changes: weights, and batch statistics."""
    trained = {compat.variable_path(variable) for variable in model.trainable_variables}
    found = {}
    for index, variable in enumerate(model.variables):
        is_weight = compat.variable_path(variable) in trained
        kind = "weights" if is_weight else "statistics"
        found[f"{prefix}/{kind}/{index}"] = compat.raw_variable(variable).numpy()
    return found


if __name__ == "__main__":
    main()
