"""Small data sets in memory, of noise, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_levelset.datasets import Source

VOID = 255
NAMES = ("sky", "road", "car")
SIZES = [(4, 6), (7, 5), (3, 3)]
Sample = tuple[np.ndarray, np.ndarray]


def samples(classes: Sequence[int] = (0, 1, 2), void: float = 0.2) -> list[Sample]:
    """Noise and labels of some of the classes, of three sizes."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3), np.uint8) for size in SIZES]
    labels = [rng.choice(classes, size).astype(np.uint8) for size in SIZES]
    for label in labels:
        label[rng.uniform(size=label.shape) < void] = VOID
    return list(zip(images, labels, strict=True))


def source_of(
    pairs: Sequence[Sample], names: Sequence[str] = NAMES, **fields: Any
) -> Source:
    """Returns a source of these samples, with other `fields` of its own."""

    def read(index: np.ndarray) -> Sample:
        return pairs[int(index)]

    def load(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image, labels = tf.numpy_function(read, [index], (tf.uint8, tf.uint8))
        return (
            tf.ensure_shape(image, (None, None, 3)),
            tf.ensure_shape(labels, (None, None)),
        )

    own: dict[str, Any] = {
        "name": "made/val",
        "class_names": tuple(names),
        "palette": [(10 * i, 0, 0) for i in range(len(names))],
        "num_samples": len(pairs),
        "load": load,
        "sample_names": tuple(map(str, range(len(pairs)))),
        "ignore_class": VOID,
    }
    return Source(**{**own, **fields})


def by_colour(image: np.ndarray) -> np.ndarray:
    """A predictor: the brightest channel is the class."""
    return tf.nn.softmax(image.astype(np.float32) / 64).numpy()
