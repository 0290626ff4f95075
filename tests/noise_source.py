"""A small source of noise, for tests of the input pipeline."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tf_levelset.datasets import Source


def noise_source(
    num_samples: int = 5,
    size: tuple[int, int] = (16, 20),
    image_size: tuple[int, int] | None = (16, 20),
) -> Source:
    """Noise of 4 classes; pixel (0, 0) of image i has the value i in every channel."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (num_samples, *size, 3), dtype=np.uint8)
    images[:, 0, 0] = np.arange(num_samples, dtype=np.uint8)[:, np.newaxis]
    labels = rng.choice(np.array([0, 1, 2, 3, 255], np.uint8), (num_samples, *size))
    image_table, label_table = tf.constant(images), tf.constant(labels)
    return Source(
        name="noise",
        class_names=("a", "b", "c", "d"),
        palette=np.arange(12).reshape(4, 3),
        num_samples=num_samples,
        load=lambda index: (image_table[index], label_table[index]),
        sample_names=tuple(f"s{i}" for i in range(num_samples)),
        image_size=image_size,
    )
