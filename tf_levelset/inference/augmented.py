"""Test-time augmentation: the mean prediction over flipped and rescaled copies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tf_levelset.checks import plain_options
from tf_levelset.inference.predictor import Predictor


@plain_options
def augmented(
    predictor: Predictor, *, flip: bool = False, scales: Sequence[float] = (1.0,)
) -> Predictor:
    """Averages a predictor's probabilities over copies of the image.

    Args:
        predictor: Predicts a single copy.
        flip: Whether every copy is also predicted mirrored left to right.
        scales: Factors by which the image is resized, one for each copy. Probabilities
            are resized back bilinearly.

    Returns:
        A predictor; `predictor` itself if there is nothing to average over.

    Raises:
        ValueError: If `scales` is empty or holds a factor that is not positive.
    """
    if not scales or min(scales) <= 0:
        raise ValueError(
            f"Expected `scales` to be one or more positive numbers. Received: {scales}"
        )
    if not flip and tuple(scales) == (1.0,):
        return predictor

    def average(image: np.ndarray) -> np.ndarray:
        total = np.float32(0)
        for scale in scales:
            copy = _resized(image, scale)
            probabilities = predictor(copy)
            if flip:
                mirrored = predictor(np.ascontiguousarray(copy[:, ::-1]))
                probabilities = (probabilities + mirrored[:, ::-1]) / 2
            if probabilities.shape[:2] != image.shape[:2]:
                size = image.shape[:2]
                probabilities = tf.image.resize(probabilities, size).numpy()
            total = total + probabilities
        return total / len(scales)

    return average


def _resized(image: np.ndarray, scale: float) -> np.ndarray:
    if scale == 1:
        return image
    size = [max(1, round(scale * n)) for n in image.shape[:2]]
    resized = tf.image.resize(image, size, antialias=True)
    return tf.cast(tf.round(resized), tf.uint8).numpy()
