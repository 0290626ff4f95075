"""The loss in models that are not this package's, trained for a few steps by `fit`."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from made_up_nets import u_net

from tf_levelset import (
    CrossEntropyLevelSetLoss,
    LevelSetEnergy,
)

LOSS: dict[str, Any] = {
    "level_set_weight": 1.0,
    "normalization": "mean",
    "from_logits": True,
    "ignore_class": 255,
}


def disks(shape: tuple[int, ...], batch: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Bright disks or balls on dark ground, and labels 0 and 1, with some void."""
    rng = np.random.default_rng(0)
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    centres = rng.uniform(-0.3, 0.3, (batch, len(shape)))
    distance = [
        sum((axis - c) ** 2 for axis, c in zip(axes, centre, strict=True))
        for centre in centres
    ]
    labels = (np.array(distance) < 0.3).astype(np.int32)
    images = labels[..., np.newaxis] + rng.normal(0, 0.2, (batch, *shape, 3))
    labels[rng.random(labels.shape) < 0.05] = 255
    return images.astype(np.float32), labels


def assert_learns(
    model: keras.Model, data: tuple[np.ndarray, np.ndarray], **options: Any
) -> None:
    """The loss falls, and both of its parts are there."""
    loss = CrossEntropyLevelSetLoss(**{**LOSS, **options})
    energy = LevelSetEnergy(from_logits=True, ignore_class=255)
    model.compile(keras.optimizers.Adam(0.01), loss, metrics=[energy])
    history = model.fit(*data, epochs=4, batch_size=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert history["loss"][-1] < 0.8 * history["loss"][0]


@pytest.fixture(autouse=True)
def seed() -> None:
    keras.utils.set_random_seed(0)


@pytest.mark.parametrize("form", ["mean", "scale_free", "balanced"])
def test_a_u_net(form: str) -> None:
    options = {} if form == "mean" else {"heaviside": "logit", "epsilon": 1.0}
    assert_learns(u_net(2), disks((32, 40)), normalization=form, **options)


def test_binary_segmentation_with_a_sigmoid() -> None:
    assert_learns(u_net(1), disks((32, 40)))


def test_volumes() -> None:
    inputs = keras.Input((12, 16, 14, 3))
    x = layers.Conv3D(8, 3, padding="same", activation="relu")(inputs)
    net = keras.Model(inputs, layers.Conv3D(2, 1)(x))
    assert_learns(net, disks((12, 16, 14)))
