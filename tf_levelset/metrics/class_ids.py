"""The class id of each label and of each prediction, as TensorFlow computes them.

Ids are int32. A pixel without a class holds one of two codes instead: `VOID` if its
label is void, and `INVALID` if its value is not a class.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tf_levelset.checks import check_numeric
from tf_levelset.xla import is_worth_compiling

# NumPy scalars, because tf.where would convert Python integers to the wrong type.
VOID = np.int32(-2)
INVALID = np.int32(-1)

# XLA compiles a few operations for each class, which takes long for many classes.
_MAX_COMPILED_CLASSES = 64


def label_ids(
    labels: Any, num_classes: int, ignore_class: int | None, sparse: bool, axis: int
) -> tf.Tensor:
    """Returns the class id, `VOID` or `INVALID` of each label.

    The arguments are those of `MeanIoU`.
    """
    labels = tf.convert_to_tensor(labels)
    check_numeric("y_true", labels)
    if sparse:
        values = _widened(labels)
        ids = _valid_ids(values, num_classes)
        if ignore_class is None:
            return ids
        void = tf.equal(values, tf.cast(ignore_class, values.dtype))
        return tf.where(void, VOID, ids)
    _check_axis(labels, axis, num_classes)
    values = _argmax(labels, axis)
    # tf.one_hot turns a void label into zeros, and the argmax of zeros is class 0.
    void = tf.reduce_all(tf.equal(labels, tf.zeros_like(labels)), axis=axis)
    if ignore_class is not None:
        # INVALID is negative, and so may be `ignore_class`.
        void |= (values >= 0) & tf.equal(tf.cast(values, tf.int64), ignore_class)
    return tf.where(void, VOID, _valid_ids(values, num_classes))


def prediction_ids(
    predictions: Any,
    num_classes: int,
    ignore_class: int | None,
    sparse: bool,
    axis: int,
    threshold: float | None,
) -> tf.Tensor:
    """Returns the class id or `INVALID` of each prediction.

    The arguments are those of `MeanIoU`.
    """
    predictions = tf.convert_to_tensor(predictions)
    check_numeric("y_pred", predictions)
    if sparse:
        return _valid_ids(_widened(predictions), num_classes)
    _check_axis(predictions, axis, num_classes)
    channels = predictions.shape[axis] if predictions.shape.rank else None
    if threshold is not None:
        if channels != 1:
            raise ValueError(
                f"Expected `y_pred` to have one channel along axis {axis}, because "
                f"`threshold` is {threshold}. Received: shape {predictions.shape}. "
                "Set `axis=1` where channels come first."
            )
        return _above(tf.squeeze(predictions, axis=axis), threshold)
    if channels is None or channels < 2:
        # The argmax of a single channel is class 0 everywhere.
        raise ValueError(
            f"Expected `y_pred` to have two or more classes along axis {axis}, or a "
            f"`threshold` for one channel. Received: shape {predictions.shape}"
        )
    has_void = ignore_class is not None and num_classes <= ignore_class < channels
    if channels > num_classes and not has_void:
        raise ValueError(
            f"Expected `num_classes` to be {channels}, the channels of `y_pred` along "
            f"axis {axis}. Received: {num_classes}, and `y_pred` of shape "
            f"{predictions.shape}"
        )
    return _valid_ids(_argmax(predictions, axis), num_classes)


def aligned(
    truth: tf.Tensor, predicted: tf.Tensor, axis: int = -1
) -> tuple[tf.Tensor, tf.Tensor]:
    """Removes a last axis of size 1 that only one tensor has, and checks the shapes.

    Labels may have it at `axis`, that of the classes, instead.
    """
    shapes = truth.shape, predicted.shape
    if has_extra_axis(truth, predicted, axis) and truth.shape[axis] == 1:
        truth = tf.squeeze(truth, axis)
    elif has_extra_axis(truth, predicted):
        truth = tf.squeeze(truth, -1)
    elif has_extra_axis(predicted, truth):
        predicted = tf.squeeze(predicted, -1)
    if truth.shape.rank is None or not truth.shape.is_compatible_with(predicted.shape):
        raise ValueError(
            "Expected labels and predictions to have a known rank and the same shape, "
            f"except for a last axis of size 1. Received: {shapes[0]} and {shapes[1]}. "
            "One-hot labels need sparse_y_true=False, scores need sparse_y_pred=False, "
            "and class ids need True."
        )
    # Without this check, a size of 1 that is known only at run time would broadcast.
    same = tf.debugging.assert_equal(
        tf.shape(truth),
        tf.shape(predicted),
        message="Expected labels and predictions to have the same shape.",
    )
    with tf.control_dependencies([same]):
        return truth, tf.reshape(predicted, tf.shape(truth))


def has_extra_axis(tensor: tf.Tensor, other: tf.Tensor, axis: int = -1) -> bool:
    """Whether `tensor` has one axis more than `other`, which may be of size 1."""
    ranks = tensor.shape.rank, other.shape.rank
    if None in ranks or ranks[0] != ranks[1] + 1:
        return False
    return tensor.shape[axis] in (1, None)


def binary_mask(sample_weight: Any, truth: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns where weights are 1, and where they are neither 0 nor 1.

    The axes of the weights are those of `truth` from the batch axis on.
    """
    weight = tf.convert_to_tensor(sample_weight)
    check_numeric("sample_weight", weight)
    if has_extra_axis(weight, truth):
        weight = tf.squeeze(weight, -1)
    if not _fits(weight.shape, truth.shape):
        raise ValueError(
            "Expected `sample_weight` to be a scalar or to have the axes of the labels "
            f"from the batch axis on. Received: shape {weight.shape} for labels of "
            f"shape {truth.shape}. If they come from `class_weight` of `fit`, pass it "
            "to the loss instead."
        )
    weight = _widened(weight)
    missing = [1] * (truth.shape.rank - weight.shape.rank)
    weight = tf.reshape(weight, tf.concat([tf.shape(weight), missing], 0))
    weight = tf.broadcast_to(weight, tf.shape(truth))
    kept = tf.equal(weight, tf.ones_like(weight))
    return kept, ~(kept | tf.equal(weight, tf.zeros_like(weight)))


def _fits(shape: tf.TensorShape, whole: tf.TensorShape) -> bool:
    """Whether each axis of `shape` is 1 or that of `whole`, from the first one on."""
    if shape.rank is None or shape.rank > whole.rank:
        return False
    return all(
        size in (1, None) or other in (size, None)
        for size, other in zip(shape, whole, strict=False)
    )


def _check_axis(values: tf.Tensor, axis: int, num_classes: int) -> None:
    rank = values.shape.rank
    if rank is not None and not -rank <= axis < rank:
        raise ValueError(
            f"Expected `axis` to be an axis of the values. Received: {axis} for shape "
            f"{values.shape}"
        )
    if rank is None or rank < 3 or values.shape[1] != num_classes:
        return
    size = values.shape[axis]
    if size is not None and 1 < size < num_classes:
        raise ValueError(
            f"Expected `axis` to be that of the {num_classes} classes. Received: "
            f"{axis} for shape {values.shape}. Set `axis=1` where channels come first."
        )


def _widened(values: tf.Tensor) -> tf.Tensor:
    """Returns integers as int64, and floats with at least 32 bits.

    Comparisons need the width: uint8 cannot hold -1 or 256, nor bfloat16 459.
    """
    if not values.dtype.is_floating:
        return tf.cast(values, tf.int64)
    return tf.cast(values, tf.float32) if values.dtype.size < 4 else values


def _valid_ids(values: tf.Tensor, num_classes: int) -> tf.Tensor:
    """Returns int32 class ids, `INVALID` where a value is not a class."""
    # The range is checked before the cast, because some devices cast NaN to 0.
    valid = (values >= 0) & (values < num_classes)
    if values.dtype.is_floating:
        valid &= tf.equal(values, tf.floor(values))
    return tf.where(valid, tf.cast(values, tf.int32), INVALID)


def _above(scores: tf.Tensor, threshold: float) -> tf.Tensor:
    """Returns 1 above the threshold, 0 elsewhere, `INVALID` where not finite."""
    scores = _widened(scores)
    if not scores.dtype.is_floating:
        scores = tf.cast(scores, tf.float64)
    above = tf.cast(scores > tf.cast(threshold, scores.dtype), tf.int32)
    return tf.where(tf.math.is_finite(scores), above, INVALID)


def _argmax(scores: tf.Tensor, axis: int) -> tf.Tensor:
    """Returns the int32 argmax, `INVALID` where a score is not finite."""
    if not scores.dtype.is_floating:
        return tf.argmax(_widened(scores), axis=axis, output_type=tf.int32)
    classes, pixels = scores.shape[axis], scores.shape.as_list()
    del pixels[axis]
    if (
        classes is not None
        and classes <= _MAX_COMPILED_CLASSES
        and is_worth_compiling(tf.TensorShape(pixels))
    ):
        return _compiled_argmax(scores, axis)
    finite = tf.reduce_all(tf.math.is_finite(scores), axis=axis)
    best = tf.argmax(scores, axis=axis, output_type=tf.int32)
    return tf.where(finite, best, INVALID)


@tf.function(jit_compile=True, autograph=False)
def _compiled_argmax(scores: tf.Tensor, axis: int) -> tf.Tensor:
    """Computes `_argmax` in one pass over the scores.

    TensorFlow's operations on a CPU read the scores several times, which takes most of
    the time of an update.
    """
    first, *others = tf.unstack(scores, axis=axis)
    best, index = first, tf.zeros_like(first, tf.int32)
    finite = tf.math.is_finite(first)
    for channel, other in enumerate(others, 1):
        greater = other > best
        best = tf.where(greater, other, best)
        index = tf.where(greater, channel, index)
        finite &= tf.math.is_finite(other)
    return tf.where(finite, index, INVALID)
