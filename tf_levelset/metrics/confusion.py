"""Counts of the pixels of each pair of true and predicted class."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tf_levelset.checks import (
    check_ignore_class,
    check_num_classes,
    check_numeric,
    plain_options,
)
from tf_levelset.metrics.class_ids import VOID

Counts = npt.NDArray[np.int64]


@plain_options
def confusion_matrix(
    labels: npt.ArrayLike,
    predictions: npt.ArrayLike,
    num_classes: int,
    ignore_class: int | None = None,
) -> Counts:
    """Counts the pixels of each pair of true and predicted class.

    Args:
        labels: Class ids of any shape: integers, or floats that hold whole numbers.
        predictions: Class ids, of the same shape as `labels`.
        num_classes: Number of classes, C.
        ignore_class: The label of void pixels. They are not counted, whatever was
            predicted there.

    Returns:
        The confusion matrix, int64 of shape (C, C). Rows are true classes and columns
        are predicted classes.

    Raises:
        ValueError: If the shapes differ, or if the id of a pixel that is not void is
            not a whole number in [0, C). The message lists the invalid ids.

    Example:
        >>> confusion_matrix([0, 0, 1, 255], [0, 1, 1, 7], 2, ignore_class=255)
        array([[1, 1],
               [0, 1]])
    """
    check_num_classes(num_classes)
    check_ignore_class(ignore_class)
    truth, predicted = np.asarray(labels), np.asarray(predictions)
    if truth.shape != predicted.shape:
        raise ValueError(
            "Expected `labels` and `predictions` to have the same shape. Received: "
            f"{truth.shape} and {predicted.shape}"
        )
    if ignore_class is not None:
        valid = truth != ignore_class
        truth, predicted = truth[valid], predicted[valid]
    return count_pairs(
        checked_ids(truth, num_classes, "labels"),
        checked_ids(predicted, num_classes, "predictions"),
        num_classes,
    )


def checked_ids(ids: npt.NDArray[Any], num_classes: int, name: str) -> Counts:
    """Returns `ids` as int64.

    Raises:
        ValueError: If an id is not a whole number in [0, `num_classes`).
    """
    check_numeric(name, ids)
    invalid = ~((ids >= 0) & (ids < num_classes) & (ids == np.floor(ids)))
    if invalid.any():
        raise ValueError(
            f"Expected `{name}` to be in [0, {num_classes}) or `ignore_class`. "
            f"Received: {np.unique(ids[invalid]).tolist()} in {int(invalid.sum())} "
            "pixels"
        )
    return ids.astype(np.int64)


def count_pairs(
    truth: npt.NDArray[Any], predicted: npt.NDArray[Any], num_classes: int
) -> Counts:
    """Returns the confusion matrix of class ids that are known to be valid."""
    cells = truth.astype(np.int64) * num_classes + predicted
    counts = np.bincount(cells.ravel(), minlength=num_classes**2)
    return counts.astype(np.int64).reshape(num_classes, num_classes)


def count_batch(
    truth: tf.Tensor, predicted: tf.Tensor, num_classes: int
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Counts the ids and codes of `class_ids`, in eager mode, in a graph or under XLA.

    Returns:
        The confusion matrix, int64 of shape (C, C), and the numbers of invalid labels
        and of invalid predictions. Void pixels are not counted.
    """
    # A single histogram counts everything. INVALID, -1, has the first row and column,
    # and void pixels have a last cell of their own.
    size = num_classes + 1
    dtype = tf.int32 if size**2 < tf.int32.max else tf.int64
    row, column = (tf.cast(ids, dtype) + 1 for ids in (truth, predicted))
    # The output of tf.math.bincount is as long as its data demand, which XLA cannot
    # compile, so the operation is called itself. Empty weights count each cell once.
    cells = tf.raw_ops.DenseBincount(
        input=tf.reshape(tf.where(truth == VOID, size**2, row * size + column), [-1]),
        size=tf.constant(size**2 + 1, dtype),
        weights=tf.zeros([0], tf.int64),
    )
    matrix = tf.reshape(cells[:-1], [size, size])
    return matrix[1:, 1:], tf.reduce_sum(matrix[0]), tf.reduce_sum(matrix[:, 0])
