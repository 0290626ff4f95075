"""Nets that are not this package's."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers


def u_net(num_classes: int, depth: int = 2, mode: str = "nearest") -> keras.Model:
    """A U-Net in ten lines."""
    x = inputs = keras.Input((None, None, 3))
    skips = []
    for i in range(depth):
        x = layers.Conv2D(8 * 2**i, 3, padding="same", activation="relu")(x)
        skips.append(x)
        x = layers.MaxPooling2D()(x)
    for i, skip in reversed(list(enumerate(skips))):
        x = layers.UpSampling2D(interpolation=mode)(x)
        x = layers.Concatenate()([x, skip])
        x = layers.Conv2D(8 * 2**i, 3, padding="same", activation="relu")(x)
    return keras.Model(inputs, layers.Conv2D(num_classes, 1)(x))


class Own(keras.Model):
    """A model that is not functional."""

    def __init__(self, *steps: Any) -> None:
        super().__init__()
        self.steps = list(steps)

    def call(self, x: Any, training: bool = False) -> Any:
        for step in self.steps:
            x = step(x)
        return x
