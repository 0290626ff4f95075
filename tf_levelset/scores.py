"""Class scores, logits or probabilities, as the losses and the energy read them."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tf_levelset.checks import check_numeric

CHANNELS_LAST = (
    "Channels are on the last axis, whatever Keras' `image_data_format` is: transpose "
    "(B, C, …) to (B, …, C)."
)
"""What to do about channels on another axis; the end of messages."""


def floating_scores(y_pred: tf.Tensor, from_logits: bool) -> tf.Tensor:
    """Returns class scores (B, …, C) in float32 at least.

    Args:
        y_pred: Logits or probabilities (B, …, C) of any real dtype. C = 1 is the
            sigmoid output of a binary task, which is written as two classes.
        from_logits: Whether `y_pred` holds logits.

    Returns:
        float32 scores, or float64 where `y_pred` is float64: float16 overflows in
        sums over an image.

    Raises:
        ValueError: If the number of channels is unknown or zero, or `y_pred` does not
            hold real numbers.
    """
    y_pred = tf.convert_to_tensor(y_pred)
    check_numeric("y_pred", y_pred)
    if y_pred.dtype != tf.float64:
        y_pred = tf.cast(y_pred, tf.float32)
    if not y_pred.shape.rank or not y_pred.shape[-1]:
        raise ValueError(
            "Expected y_pred (B, …, C) with a known number of channels C. Received: "
            f"y_pred of shape {y_pred.shape}. {CHANNELS_LAST}"
        )
    if y_pred.shape[-1] == 1:
        return two_channels(y_pred, from_logits)
    return y_pred


def activation_logits(y_pred: Any) -> tf.Tensor | None:
    """Returns the logits of an output that a softmax or a sigmoid has just computed.

    Keras' cross-entropies read them too: probabilities round to 0 and 1, where the
    logits still have a gradient.

    Args:
        y_pred: Output (B, …, C) of a model. A sigmoid is looked for where C = 1, and a
            softmax over the classes otherwise.

    Returns:
        The logits (B, …, C) in the dtype of the activation, without a Keras mask; or
        None if other operations followed or no logits are known. In eager mode they are
        known from Keras' activations alone.
    """
    one_channel = getattr(y_pred, "shape", None) and y_pred.shape[-1] == 1
    if tf.is_symbolic_tensor(y_pred):
        operation = y_pred.op
        while operation.type in _SAME_VALUES:
            operation = operation.inputs[0].op
        if operation.type != ("Sigmoid" if one_channel else "Softmax"):
            return None
        logits = operation.inputs[0]
    else:
        logits = getattr(y_pred, "_keras_logits", None)
        activation = tf.sigmoid if one_channel else tf.nn.softmax
        if logits is None:
            return None
        # A softmax over another axis, or a sigmoid of several channels, differs.
        if tf.reduce_any(tf.abs(activation(logits) - y_pred) > 0):
            return None
    return tf.identity(logits)  # The identity has no mask.


_SAME_VALUES = ("Cast", "DebugIdentityV2")
"""Operations between an activation and a loss: mixed precision's and debugging's."""


def two_channels(scores: tf.Tensor, from_logits: bool) -> tf.Tensor:
    """Writes a one-channel sigmoid output (…, 1) as two classes, (…, 2).

    The softmax of (0, z) is the sigmoid of z, so a binary output needs no formulas of
    its own: background and foreground are the two classes.
    """
    background = tf.zeros_like(scores) if from_logits else 1 - scores
    return tf.concat([background, scores], axis=-1)


def softmax_gradient(probabilities: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    """Returns the gradient by the logits, given that by the probabilities.

    Args:
        probabilities: Softmax outputs (…, C).
        gradient: Derivatives by the probabilities, (…, C).

    Returns:
        Derivatives by the logits, (…, C): P_k (g_k − Σ_l P_l g_l).
    """
    # Adding a constant to all g changes nothing. Where P is 1 to the last digit, the
    # products would cancel to noise unless the g of that class is subtracted first.
    of_leader = tf.where(probabilities > 0.5, gradient, 0)
    relative = gradient - tf.reduce_sum(of_leader, axis=-1, keepdims=True)
    mean = tf.reduce_sum(probabilities * relative, axis=-1, keepdims=True)
    return probabilities * (relative - mean)
