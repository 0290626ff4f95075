"""Ground truth as the losses read it: one integer per pixel, and which are void."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from tf_levelset.checks import check_numeric


class Labels(NamedTuple):
    """Ground truth of a batch, its spatial axes flattened into N positions."""

    ids: tf.Tensor
    """int32 (B, N): the class of each valid pixel, 0 elsewhere."""
    valid: tf.Tensor
    """bool (B, N): False on void pixels."""
    invalid: tf.Tensor
    """bool (B, N): True where the label is neither a class nor void."""


def parse_labels(
    y_true: tf.Tensor, scores: tf.Tensor, ignore_class: int | None
) -> Labels:
    """Reads sparse or one-hot ground truth.

    Args:
        y_true: Sparse labels (B, …) or (B, …, 1) of any integer dtype, or of a
            floating dtype that holds integers; or one-hot (B, …, C), where a row of
            zeros is void.
        scores: The class scores (B, …, C) that the labels belong to. Only the shape is
            read.
        ignore_class: The label of void pixels, or None.

    Returns:
        The labels. For a label that is neither a class nor void, an
        `InvalidArgumentError` is raised when the operation runs, except under XLA,
        which drops assertions: `invalid` lets the caller return NaN there.

    Raises:
        ValueError: If the shapes do not match, or the labels are not real numbers.
    """
    check_numeric("y_true", y_true)
    num_classes = scores.shape[-1]
    if _is_one_hot(y_true.shape, scores.shape):
        ids, valid, invalid = _from_one_hot(y_true)
    else:
        if y_true.shape.rank == scores.shape.rank:
            y_true = tf.squeeze(y_true, axis=-1)
        ids, invalid = _integers(y_true)
        valid = tf.ones_like(ids, tf.bool)
    same_shape = _check_size(ids, scores)
    if ignore_class is not None:
        valid = valid & (ids != ignore_class)
    invalid = ~same_shape | valid & (invalid | (ids < 0) | (ids >= num_classes))
    _assert_none(invalid, num_classes, ignore_class)
    ids = tf.where(valid & ~invalid, ids, 0)
    flat = tf.stack([tf.shape(scores)[0], -1])
    return Labels(*(tf.reshape(tensor, flat) for tensor in (ids, valid, invalid)))


def _is_one_hot(labels: tf.TensorShape, scores: tf.TensorShape) -> bool:
    """Whether labels are one-hot rather than sparse; raises where they are neither."""
    if labels.rank is None or scores.rank is None or scores.rank < 3:
        raise ValueError(
            "Expected y_pred of a known rank of at least 3, (B, …, C). Received: "
            f"y_pred of shape {scores} and y_true of shape {labels}."
        )
    if labels.rank == scores.rank and labels[-1] is None:
        raise ValueError(
            "Expected y_true with a known last axis, which distinguishes sparse labels "
            f"(B, …, 1) from one-hot labels (B, …, {scores[-1]}). Received: {labels}"
        )
    if labels.is_compatible_with(scores):
        return True
    sparse = labels if labels.rank == scores.rank - 1 else labels[:-1]
    is_sparse = labels.rank == scores.rank - 1 or labels[-1:] == [1]
    if not (is_sparse and sparse.is_compatible_with(scores[:-1])):
        raise ValueError(
            f"Expected y_true of shape {scores[:-1]}, {[*scores[:-1], 1]} (sparse) "
            f"or {scores} (one-hot). Received: y_true of shape {labels}."
        )
    return False


def _check_size(ids: tf.Tensor, scores: tf.Tensor) -> tf.Tensor:
    """Whether labels and scores have the same size. Raises if not, except under XLA."""
    size, expected = tf.shape(ids), tf.shape(scores)[:-1]
    if not (ids.shape.is_fully_defined() and scores.shape[:-1].is_fully_defined()):
        tf.debugging.assert_equal(
            size,
            expected,
            "Expected y_true and y_pred of one size. Received: x and y",
        )
    return tf.reduce_all(size == expected)


def _integers(y_true: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns int32 ids, and whether each label is a fraction."""
    if y_true.dtype.is_floating:
        # Keras passes labels on in floating point.
        ids = tf.cast(y_true, tf.int32)
        return ids, tf.cast(ids, y_true.dtype) != y_true
    if y_true.dtype in (tf.int64, tf.uint32, tf.uint64):
        # Clipped to the range of int32, so that no other id wraps into a class.
        wide = tf.cast(y_true, tf.int64)
        wide = tf.clip_by_value(wide, tf.int32.min, tf.int32.max)
        return tf.cast(wide, tf.int32), tf.zeros_like(wide, tf.bool)
    return tf.cast(y_true, tf.int32), tf.zeros_like(y_true, tf.bool)


def _from_one_hot(y_true: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns ids, valid and invalid of one-hot rows; soft rows are invalid."""
    y_true = tf.cast(y_true, tf.float32)
    total = tf.reduce_sum(y_true, axis=-1)
    binary = tf.reduce_all((y_true == 0) | (y_true == 1), axis=-1)
    ids = tf.argmax(y_true, axis=-1, output_type=tf.int32)
    valid = ~(binary & (total == 0))
    return ids, valid, ~binary | (total > 1)


def _assert_none(
    invalid: tf.Tensor, num_classes: int, ignore_class: int | None
) -> None:
    void = "" if ignore_class is None else f" or ignore_class={ignore_class}"
    tf.debugging.assert_equal(
        tf.math.count_nonzero(invalid),
        tf.constant(0, tf.int64),
        message=(
            f"Expected labels in [0, {num_classes}){void}, or one-hot rows of zeros "
            "and a single one. Received: other labels, the number of which is x below."
        ),
    )
