"""Which class each label and each prediction stands for."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tf_levelset.checks import (
    check_numeric,
)
from tf_levelset.xla import is_worth_compiling

Counts = npt.NDArray[np.int64]

# The code of a pixel whose id is no class. NumPy scalars: tf.where takes them as int32.
VOID = np.int32(-2)


WRONG = np.int32(-1)


# Of more classes, the compiled argmax has too many steps to be compiled quickly.
_FEW_CLASSES = 64


def check_class_ids(ids: npt.NDArray[Any], num_classes: int, what: str) -> Counts:
    """Returns `ids` as int64, or raises a ValueError that names the wrong ones."""
    check_numeric(what, ids)
    wrong = ~((ids >= 0) & (ids < num_classes) & (ids == np.floor(ids)))
    if wrong.any():
        raise ValueError(
            f"Expected {what} in [0, {num_classes}) or ignore_class. Received: "
            f"{np.unique(ids[wrong]).tolist()} in {int(wrong.sum())} pixels"
        )
    return ids.astype(np.int64)


def wide(values: tf.Tensor) -> tf.Tensor:
    """Returns integers as int32 where that holds them, else int64; floats as float32.

    A uint8 holds neither −1 nor 256, and a bfloat16 no 459: comparisons need width.
    """
    if values.dtype.is_floating:
        return tf.cast(values, tf.float32) if values.dtype.size < 4 else values
    narrow = values.dtype.size < 4 or values.dtype == tf.int32
    return tf.cast(values, tf.int32 if narrow else tf.int64)


def equals(values: tf.Tensor, number: int) -> tf.Tensor:
    """Where wide values are a number, which their type may be too narrow to hold."""
    if values.dtype.min <= number <= values.dtype.max:
        return tf.equal(values, tf.cast(number, values.dtype))
    return tf.zeros_like(values, tf.bool)


def class_or_wrong(values: tf.Tensor, num_classes: int) -> tf.Tensor:
    """Returns wide values as int32 class ids, `WRONG` where they are none.

    The range is checked before the cast: some devices cast NaN to 0, a valid id.
    """
    in_range = (values >= 0) & (values < num_classes)
    if values.dtype.is_floating:
        in_range &= tf.equal(values, tf.floor(values))
    return tf.where(in_range, tf.cast(values, tf.int32), WRONG)


def argmax(scores: tf.Tensor, axis: int) -> tf.Tensor:
    """Returns the int32 argmax, `WRONG` where a score is not finite."""
    if not scores.dtype.is_floating:
        return tf.argmax(wide(scores), axis=axis, output_type=tf.int32)
    if _is_to_compile(scores.shape, axis):
        return _one_pass_argmax(scores, axis)
    finite = tf.reduce_all(tf.math.is_finite(scores), axis=axis)
    best = tf.argmax(scores, axis=axis, output_type=tf.int32)
    return tf.where(finite, best, WRONG)


def _is_to_compile(shape: tf.TensorShape, axis: int) -> bool:
    """Whether the argmax over so many classes, and of so many pixels, is compiled."""
    if shape.rank is None or shape[axis] is None or shape[axis] > _FEW_CLASSES:
        return False
    sizes = shape.as_list()
    del sizes[axis]
    return is_worth_compiling(tf.TensorShape(sizes))


@tf.function(jit_compile=True, autograph=False)
def _one_pass_argmax(scores: tf.Tensor, axis: int) -> tf.Tensor:
    """`argmax` as XLA computes it, which reads the scores once."""
    first, *others = tf.unstack(scores, axis=axis)
    best, index = first, tf.zeros_like(first, tf.int32)
    finite = tf.math.is_finite(first)
    for channel, other in enumerate(others, 1):
        greater = other > best
        best = tf.where(greater, other, best)
        index = tf.where(greater, channel, index)
        finite &= tf.math.is_finite(other)
    return tf.where(finite, index, WRONG)


def above(scores: tf.Tensor, threshold: float) -> tf.Tensor:
    """Returns 1 above the threshold, 0 elsewhere, `WRONG` where not finite."""
    scores = wide(scores)
    if not scores.dtype.is_floating:
        scores = tf.cast(scores, tf.float64)
    above = tf.cast(scores > tf.cast(threshold, scores.dtype), tf.int32)
    return tf.where(tf.math.is_finite(scores), above, WRONG)


def count_wrong(codes: tf.Tensor, valid: tf.Tensor) -> tf.Tensor:
    """Counts the valid pixels of no class."""
    return tf.math.count_nonzero(valid & tf.equal(codes, WRONG))


def same_shape(truth: tf.Tensor, predicted: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Drops a last axis of one that only one side has, and checks the shapes."""
    shapes = truth.shape, predicted.shape
    if None not in (shapes[0].rank, shapes[1].rank):
        if _has_extra_axis(truth, predicted.shape.rank):
            truth = tf.squeeze(truth, -1)
        elif _has_extra_axis(predicted, truth.shape.rank):
            predicted = tf.squeeze(predicted, -1)
    if truth.shape.rank is None or not truth.shape.is_compatible_with(predicted.shape):
        raise ValueError(
            "Expected labels and predictions of one known rank and shape, but for a "
            f"last axis of 1. Received: {shapes[0]} and {shapes[1]}"
        )
    if truth.shape.is_fully_defined() and predicted.shape.is_fully_defined():
        return truth, predicted
    # Sizes known only when the graph runs: without this, 1 would broadcast to many.
    same = tf.debugging.assert_equal(
        tf.shape(truth),
        tf.shape(predicted),
        message="Expected labels and predictions of one shape.",
    )
    with tf.control_dependencies([same]):
        return truth, tf.reshape(predicted, tf.shape(truth))


def _has_extra_axis(tensor: tf.Tensor, rank: int) -> bool:
    """Whether the tensor has one axis more than `rank`, and it may be of size 1."""
    return tensor.shape.rank == rank + 1 and tensor.shape[-1] in (1, None)


def mask_of(sample_weight: Any, truth: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns, in the shape of `truth`, the weights of 1 and those of no mask."""
    weight = tf.convert_to_tensor(sample_weight)
    check_numeric("sample_weight", weight)
    if weight.shape.rank is not None and _has_extra_axis(weight, truth.shape.rank):
        weight = tf.squeeze(weight, -1)
    if weight.shape.rank is None or not _fits(weight.shape, truth.shape):
        raise ValueError(
            "Expected a sample_weight that is a scalar or fits the labels from the "
            f"batch axis on. Received: {weight.shape} for labels of {truth.shape}"
        )
    weight = wide(weight)
    missing = [1] * (truth.shape.rank - weight.shape.rank)
    weight = tf.reshape(weight, tf.concat([tf.shape(weight), missing], 0))
    weight = tf.broadcast_to(weight, tf.shape(truth))
    kept = tf.equal(weight, tf.ones_like(weight))
    return kept, ~(kept | tf.equal(weight, tf.zeros_like(weight)))


def _fits(shape: tf.TensorShape, whole: tf.TensorShape) -> bool:
    """Whether each axis of `shape` is 1 or that of `whole`, from the first on."""
    return shape.rank <= whole.rank and all(
        size in (1, None) or other in (size, None)
        for size, other in zip(shape, whole, strict=False)
    )


def check_weights(wrong: tf.Tensor) -> list[Any]:
    """Raises in eager mode, and returns the assertion of a graph."""
    expected = "Expected sample weights of 0 or 1: pixel counts hold no fractions."
    if not tf.executing_eagerly():
        data = [f"{expected} Received:", wrong, "other weights"]
        return [tf.debugging.Assert(tf.equal(wrong, 0), data)]
    if int(wrong):
        raise ValueError(f"{expected} Received: {int(wrong)} pixels of other weights")
    return []
