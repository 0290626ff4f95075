"""The paper's loss as one would first write it: Eq. 4–8, one-hot, tanh, autodiff."""

from __future__ import annotations

import keras
import tensorflow as tf

EPSILON = 1 / 20
WEIGHT = 0.67
VOID = 255


def literal_loss(y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
    """Returns CE + 0.67 E/n without void: the "mean" form of our loss.

    Args:
        y_true: int32 (B, H, W), 255 on void.
        y_pred: Logits, float32 (B, H, W, C).

    Returns:
        The scalar loss, differentiable by TensorFlow's own rules.
    """
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, ignore_class=VOID
    )
    return cross_entropy(y_true, y_pred) + WEIGHT * tf.reduce_mean(
        literal_energy(y_true, y_pred)
    )


def literal_energy(y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
    """Returns E/n of each image, (B,), term by term as Eq. 4 and 5 are printed."""
    valid = tf.cast(y_true != VOID, y_pred.dtype)[..., tf.newaxis]
    truth = tf.one_hot(y_true, y_pred.shape[-1], dtype=y_pred.dtype) * valid
    phi = tf.nn.softmax(y_pred) - 0.5
    inside = 0.5 * (1 + tf.tanh(phi / EPSILON)) * valid
    outside = valid - inside
    c1 = _total(truth * inside) / (_total(inside) + 1e-7)
    c2 = _total(truth * outside) / (_total(outside) + 1e-7)
    energies = tf.square(truth - c1) * inside + tf.square(truth - c2) * outside
    present = tf.cast(_total(truth) > 0, y_pred.dtype)
    count = tf.reduce_sum(valid, axis=(1, 2, 3))
    return tf.math.divide_no_nan(
        tf.reduce_sum(present * energies, axis=(1, 2, 3)), count
    )


def _total(values: tf.Tensor) -> tf.Tensor:
    """Sums over the pixels, (B, 1, 1, C)."""
    return tf.reduce_sum(values, axis=(1, 2), keepdims=True)
