"""Draws docs/what_the_loss_sees.png: where each loss pushes a blurred prediction.

    python docs/figures/what_the_loss_sees.py docs/what_the_loss_sees.png

A synthetic scene's truth is blurred, as a net of output stride 8 would blur it, and the
gradients of cross-entropy and of the level set energy with respect to the logits of
one class are shown, each over its own largest value: red pixels are pushed up, blue
ones down.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import keras
import numpy as np
import tensorflow as tf

from tf_levelset.datasets import load_dataset
from tf_levelset.datasets.pipeline import evaluation_dataset
from tf_levelset.energy.energy import level_set_energy
from tf_levelset.inference.panels import colourize, grid, write_png
from tf_levelset.reporting.level_sets import diverging

SAMPLE = 0
CLASS = "star"
WIDTH = 300
BLUR = 2.5
"""Standard deviation of the blur, in pixels."""


def blurred_logits(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Logits (H, W, C) whose softmax is the truth blurred."""
    truth = np.eye(num_classes, dtype=np.float32)[labels]
    blurred = cv2.GaussianBlur(truth, (0, 0), BLUR)
    return np.log(0.98 * blurred + 0.02 / num_classes)


def push(labels: np.ndarray, logits: np.ndarray, level_set: bool) -> np.ndarray:
    """What gradient descent adds to the logits, (H, W, C)."""
    z = tf.constant(logits[np.newaxis])
    with tf.GradientTape() as tape:
        tape.watch(z)
        if level_set:
            loss = level_set_energy(labels[np.newaxis], z, from_logits=True)
        else:
            loss = keras.losses.sparse_categorical_crossentropy(
                labels[np.newaxis], z, from_logits=True
            )
    return -tape.gradient(loss, z).numpy()[0]


def signed_colours(values: np.ndarray) -> np.ndarray:
    """Red for positive, white for zero, blue for negative, uint8 (H, W, 3)."""
    return diverging(values / np.abs(values).max())


def main(path: Path) -> None:
    """Draws the figure."""
    source = load_dataset("synthetic", "val")
    samples = evaluation_dataset(source).skip(SAMPLE).take(1).as_numpy_iterator()
    image, labels = next(iter(samples))
    index = source.class_names.index(CLASS)
    logits = blurred_logits(labels, source.num_classes)
    probability = tf.nn.softmax(logits).numpy()[..., index]
    pushes = [push(labels, logits, level_set) for level_set in (False, True)]
    cells = {
        "image": image,
        "truth": colourize(labels, source.palette),
        f"blurred P({CLASS})": np.repeat(
            np.uint8(255 * probability)[..., np.newaxis], 3, axis=-1
        ),
        "push of cross-entropy": signed_colours(pushes[0][..., index]),
        "push of the level set": signed_colours(pushes[1][..., index]),
    }
    size = (WIDTH, round(WIDTH * labels.shape[0] / labels.shape[1]))
    enlarged = [
        cv2.resize(cell, size, interpolation=cv2.INTER_NEAREST)
        for cell in cells.values()
    ]
    write_png(path, grid([enlarged], list(cells)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
