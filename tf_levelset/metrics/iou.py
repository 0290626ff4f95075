"""Scores of a segmentation, exact over a whole data set, and the level set energy.

The confusion matrix of a data set holds, in row t and column p, the number n_tp of
pixels of true class t that were predicted as p. With t_i = Σ_p n_ip the pixels of
class i, the scores are those of Long, Shelhamer & Darrell (2015, section 5):

    pixel accuracy            Σ_i n_ii / Σ_i t_i
    mean accuracy             mean over i of n_ii / t_i
    mean IoU                  mean over i of n_ii / (t_i + Σ_t n_ti − n_ii)
    frequency weighted IoU    Σ_i t_i n_ii / (t_i + Σ_t n_ti − n_ii) / Σ_i t_i

Counts are summed over all images before anything is divided, as PASCAL VOC does: the
mean of the IoUs of batches is another number. A class with zero union, neither in the
truth nor in the predictions, has no IoU and is left out of the means.

The functions work on NumPy matrices; the Keras metrics keep the matrix as their state.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tf_levelset import compat
from tf_levelset.metrics.base import (
    CountMetric,
    Tally,
    checked_names,
    default_names,
    divide,
    mean_of_defined,
    none_if_nan,
)
from tf_levelset.metrics.confusion import Confusion


def class_iou(confusion: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Returns the intersection over union of each class.

    Args:
        confusion: Confusion matrix of shape (C, C), rows the truth.

    Returns:
        IoUs, float64 of shape (C,). NaN for a class with zero union.

    Raises:
        ValueError: If `confusion` is not a square matrix.

    Example:
        >>> class_iou([[3, 1, 0], [2, 4, 0], [0, 0, 0]]).round(3)
        array([0.5  , 0.571,   nan])
    """
    matrix = _square(confusion)
    union = matrix.sum(axis=1) + matrix.sum(axis=0) - np.diag(matrix)
    return divide(np.diag(matrix), union)


def mean_iou(confusion: npt.ArrayLike) -> float:
    """Returns the mean IoU over the classes with nonzero union, VOC's rule.

    Args:
        confusion: Confusion matrix of shape (C, C), rows the truth.

    Returns:
        The mean of `class_iou` without its NaNs. NaN if no class has a union.

    Raises:
        ValueError: If `confusion` is not a square matrix.

    Example:
        >>> round(mean_iou([[3, 1, 0], [2, 4, 0], [0, 0, 0]]), 3)
        0.536
    """
    return mean_of_defined(class_iou(confusion))


def pixel_accuracy(confusion: npt.ArrayLike) -> float:
    """Returns the share of pixels that were predicted right.

    Args:
        confusion: Confusion matrix of shape (C, C), rows the truth.

    Returns:
        The accuracy. NaN if no pixel was counted.

    Raises:
        ValueError: If `confusion` is not a square matrix.

    Example:
        >>> pixel_accuracy([[3, 1, 0], [2, 4, 0], [0, 0, 0]])
        0.7
    """
    matrix = _square(confusion)
    return float(divide(np.trace(matrix), matrix.sum()))


def mean_accuracy(confusion: npt.ArrayLike) -> float:
    """Returns the mean, over the classes with truth pixels, of their accuracy.

    Args:
        confusion: Confusion matrix of shape (C, C), rows the truth.

    Returns:
        The mean of the classes' recalls. NaN if no pixel was counted.

    Raises:
        ValueError: If `confusion` is not a square matrix.

    Example:
        >>> round(mean_accuracy([[3, 1, 0], [2, 4, 0], [0, 0, 0]]), 3)
        0.708
    """
    matrix = _square(confusion)
    return mean_of_defined(divide(np.diag(matrix), matrix.sum(axis=1)))


def frequency_weighted_iou(confusion: npt.ArrayLike) -> float:
    """Returns the mean IoU, each class weighted by its share of the truth.

    Args:
        confusion: Confusion matrix of shape (C, C), rows the truth.

    Returns:
        The weighted mean. NaN if no pixel was counted.

    Raises:
        ValueError: If `confusion` is not a square matrix.

    Example:
        >>> round(frequency_weighted_iou([[3, 1, 0], [2, 4, 0], [0, 0, 0]]), 3)
        0.543
    """
    matrix = _square(confusion)
    weighted = matrix.sum(axis=1) * np.nan_to_num(class_iou(matrix))
    return float(divide(weighted.sum(), matrix.sum()))


def scores(
    confusion: npt.ArrayLike, class_names: Sequence[str] | None = None
) -> dict[str, Any]:
    """Returns every score of a confusion matrix, ready for JSON.

    Args:
        confusion: Confusion matrix of shape (C, C), rows the truth.
        class_names: One name a class. Defaults to "0", "1", …

    Returns:
        A dictionary of "mean_iou", "pixel_accuracy", "mean_accuracy" and
        "frequency_weighted_iou" (floats), and "class_iou", a dictionary from the
        class names to floats. What is undefined is None: JSON has no NaN.

    Raises:
        ValueError: If `confusion` is not a square matrix or the names do not fit.

    Example:
        >>> scores([[3, 1], [2, 4]], ["sky", "road"])["class_iou"]
        {'sky': 0.5, 'road': 0.5714285714285714}
    """
    matrix = _square(confusion)
    names = checked_names(class_names, len(matrix)) or default_names(len(matrix))
    return {
        "mean_iou": none_if_nan(mean_iou(matrix)),
        "pixel_accuracy": none_if_nan(pixel_accuracy(matrix)),
        "mean_accuracy": none_if_nan(mean_accuracy(matrix)),
        "frequency_weighted_iou": none_if_nan(frequency_weighted_iou(matrix)),
        "class_iou": {
            name: none_if_nan(iou)
            for name, iou in zip(names, class_iou(matrix), strict=True)
        },
    }


def _square(confusion: npt.ArrayLike) -> Confusion:
    """Returns `confusion` as an array, or raises if it is not a square matrix."""
    matrix = np.asarray(confusion)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(
            f"Expected a confusion matrix of shape (C, C). Received: {matrix.shape}"
        )
    return matrix


class _ConfusionMetric(CountMetric):
    """A score of the confusion matrix. A subclass writes only `_score`."""

    _counts_name = "confusion"

    def _counts_shape(self) -> tuple[int, ...]:
        return self.num_classes, self.num_classes

    def _counted(self) -> str:
        return f"confusion metrics of {self.num_classes} classes"

    def _count(self, truth: tf.Tensor, predicted: tf.Tensor, valid: tf.Tensor) -> Tally:
        """Counts the batch's confusion matrix, int64 of shape (C, C).

        One histogram answers all: its first row and column are those of `WRONG`, −1,
        and its last cell that of what does not count.
        """
        size = self.num_classes + 1
        dtype = tf.int32 if size**2 < tf.int32.max else tf.int64
        row, column = (tf.cast(codes, dtype) + 1 for codes in (truth, predicted))
        # The op itself: tf.math.bincount sizes its output by the data, which XLA
        # cannot compile. Empty weights count each index once.
        cells = tf.raw_ops.DenseBincount(
            input=tf.reshape(tf.where(valid, row * size + column, size**2), [-1]),
            size=tf.constant(size**2 + 1, dtype),
            weights=tf.zeros([0], tf.int64),
        )
        matrix = tf.reshape(cells[:-1], [size, size])
        return Tally(
            matrix[1:, 1:], tf.reduce_sum(matrix[0]), tf.reduce_sum(matrix[:, 0])
        )

    def confusion(self) -> Confusion:
        """Returns the counts so far, int64 of shape (C, C), rows the truth.

        Pixels with a wrong id are in no cell; this method does not raise for them.
        """
        matrix: Confusion = tf.convert_to_tensor(self._counts).numpy()
        return matrix

    def per_class(self) -> dict[str, float | None]:
        """Returns the IoU of each class by name, None where the union is zero.

        Raises:
            ValueError: As `result`.
        """
        class_scores: dict[str, float | None] = self.scores()["class_iou"]
        return class_scores

    def scores(self) -> dict[str, Any]:
        """Returns every score of the counts so far, as the function `scores` does.

        Raises:
            ValueError: As `result`.
        """
        self._check_counts()
        return scores(self.confusion(), self.class_names)


@compat.register
class MeanIoU(_ConfusionMetric):
    """Mean intersection over union, over the classes with nonzero union.

    A drop-in for `keras.metrics.MeanIoU` that counts in int64 and drops nothing
    silently. A label that is neither a class nor `ignore_class` (a palette mistake), a
    prediction that is no class, a pixel with a non-finite score (`argmax` calls it
    class 0) and a fraction given as an id (a probability with sparse_y_pred=True) are
    counted apart, and `result` raises.

    Give integer labels where you can: Keras 2 casts float labels to the type of the
    predictions, and bfloat16 holds no integer beyond 256 exactly.

    Under `tf.distribute`, the value that Keras 3's progress bar shows inside an epoch
    is of one replica; at its end, and in `evaluate`, it is of all.

    Args:
        num_classes: Number of classes, C.
        name: Name of the metric.
        dtype: Type of the result: float32, unless it is float64. Counts are int64.
        ignore_class: The label of void pixels. They do not count, whatever was
            predicted there.
        sparse_y_true: Whether labels are ids. If not, they are the argmax over
            `axis`; a vector of zeros is void.
        sparse_y_pred: Whether predictions are ids. If not, they are the argmax over
            `axis` of logits or probabilities, or with `threshold` of one channel.
        axis: The axis of the classes where ids are not sparse.
        class_names: C names, for `per_class` and `scores`.
        threshold: For one-channel scores: what lies above it is class 1. 0.5 for
            probabilities, 0 for logits.

    Raises:
        ValueError: If the names or the threshold do not fit the number of classes.

    Example:
        >>> metric = MeanIoU(num_classes=3, ignore_class=255)
        >>> metric.update_state([[0, 0, 1, 255]], [[0, 1, 1, 2]])
        >>> float(metric.result())  # (1/2 + 1/2) / 2: class 2 has no union
        0.5
        >>> metric.per_class()
        {'0': 0.5, '1': 0.5, '2': None}

        In `compile`, for a model that gives logits:

        >>> model.compile(  # doctest: +SKIP
        ...     loss=loss, metrics=[MeanIoU(21, ignore_class=255, sparse_y_pred=False)]
        ... )
    """

    def _score(self, confusion: tf.Tensor) -> tf.Tensor:
        iou, defined = _class_iou(confusion)
        return tf.math.divide_no_nan(tf.reduce_sum(iou), tf.reduce_sum(defined))


@compat.register
class PixelAccuracy(_ConfusionMetric):
    """Share of the valid pixels that were predicted right.

    Arguments, void and wrong ids: as `MeanIoU`.

    Example:
        >>> metric = PixelAccuracy(num_classes=3, ignore_class=255)
        >>> metric.update_state([[0, 0, 1, 255]], [[0, 1, 1, 2]])
        >>> round(float(metric.result()), 4)  # 2 of 3
        0.6667
    """

    def _score(self, confusion: tf.Tensor) -> tf.Tensor:
        right = tf.linalg.trace(confusion)
        return tf.math.divide_no_nan(right, tf.reduce_sum(confusion))


@compat.register
class MeanAccuracy(_ConfusionMetric):
    """Mean, over the classes with truth pixels, of the share predicted right.

    Arguments, void and wrong ids: as `MeanIoU`.

    Example:
        >>> metric = MeanAccuracy(num_classes=3, ignore_class=255)
        >>> metric.update_state([[0, 0, 1, 255]], [[0, 1, 1, 2]])
        >>> float(metric.result())  # (1/2 + 1/1) / 2: class 2 has no truth pixels
        0.75
    """

    def _score(self, confusion: tf.Tensor) -> tf.Tensor:
        truth = tf.reduce_sum(confusion, axis=1)
        accuracy = tf.math.divide_no_nan(tf.linalg.diag_part(confusion), truth)
        present = tf.cast(truth > 0, tf.float64)
        return tf.math.divide_no_nan(tf.reduce_sum(accuracy), tf.reduce_sum(present))


@compat.register
class FrequencyWeightedIoU(_ConfusionMetric):
    """Mean IoU, each class weighted by its share of the truth.

    Arguments, void and wrong ids: as `MeanIoU`.

    Example:
        >>> metric = FrequencyWeightedIoU(num_classes=3, ignore_class=255)
        >>> metric.update_state([[0, 0, 1, 255]], [[0, 1, 1, 2]])
        >>> float(metric.result())  # 2/3 · 1/2 + 1/3 · 1/2
        0.5
    """

    def _score(self, confusion: tf.Tensor) -> tf.Tensor:
        iou, _ = _class_iou(confusion)
        truth = tf.reduce_sum(confusion, axis=1)
        return tf.math.divide_no_nan(tf.reduce_sum(truth * iou), tf.reduce_sum(truth))


def _class_iou(confusion: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the classes' IoUs, 0 where undefined, and ones where defined."""
    right = tf.linalg.diag_part(confusion)
    union = tf.reduce_sum(confusion, 1) + tf.reduce_sum(confusion, 0) - right
    return tf.math.divide_no_nan(right, union), tf.cast(union > 0, tf.float64)
