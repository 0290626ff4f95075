"""Mean IoU and the other scores of the confusion matrix of a whole data set.

The confusion matrix holds, in row t and column p, the number n_tp of pixels of true
class t that were predicted as class p. With t_i = Σ_p n_ip, the pixels of class i, the
scores are those of Long, Shelhamer & Darrell (2015), section 5:

    pixel accuracy            Σ_i n_ii / Σ_i t_i
    mean accuracy             mean over i of n_ii / t_i
    mean IoU                  mean over i of n_ii / (t_i + Σ_t n_ti − n_ii)
    frequency weighted IoU    Σ_i t_i n_ii / (t_i + Σ_t n_ti − n_ii) / Σ_i t_i

Counts are summed over all images before anything is divided, as PASCAL VOC does. The
mean of the IoUs of batches is another number. A class with zero union, which is neither
in the truth nor in the predictions, has no IoU and does not enter the means.

The functions take NumPy matrices of shape (C, C), and raise ValueError for other
shapes. If nothing was counted, they return NaN.

The Keras metrics keep the matrix as their state.
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
    divide,
    mean_of_defined,
    mean_ratio,
    names_of_classes,
    none_if_nan,
)
from tf_levelset.metrics.confusion import Counts, count_batch


def class_iou(confusion: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Returns the intersection over union of each class.

    Args:
        confusion: Confusion matrix of shape (C, C), rows the truth.

    Returns:
        IoUs, float64 of shape (C,). NaN for a class with zero union.

    Example:
        >>> class_iou([[3, 1, 0], [2, 4, 0], [0, 0, 0]]).round(3)
        array([0.5  , 0.571,   nan])
    """
    matrix = _square(confusion)
    union = matrix.sum(axis=1) + matrix.sum(axis=0) - np.diag(matrix)
    return divide(np.diag(matrix), union)


def mean_iou(confusion: npt.ArrayLike) -> float:
    """Returns the mean IoU over the classes with nonzero union, as PASCAL VOC does.

    Args:
        confusion: Confusion matrix of shape (C, C), rows the truth.

    Example:
        >>> round(mean_iou([[3, 1, 0], [2, 4, 0], [0, 0, 0]]), 3)
        0.536
    """
    return mean_of_defined(class_iou(confusion))


def pixel_accuracy(confusion: npt.ArrayLike) -> float:
    """Returns the share of pixels that were predicted correctly.

    Args:
        confusion: Confusion matrix of shape (C, C), rows the truth.

    Example:
        >>> pixel_accuracy([[3, 1, 0], [2, 4, 0], [0, 0, 0]])
        0.7
    """
    matrix = _square(confusion)
    return float(divide(np.trace(matrix), matrix.sum()))


def mean_accuracy(confusion: npt.ArrayLike) -> float:
    """Returns the mean of the accuracies of the classes that are in the truth.

    Args:
        confusion: Confusion matrix of shape (C, C), rows the truth.

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
    """Returns all scores of a confusion matrix, ready for JSON.

    Args:
        confusion: Confusion matrix of shape (C, C), rows the truth.
        class_names: One name for each class. Defaults to "0", "1", …

    Returns:
        A dictionary of "mean_iou", "pixel_accuracy", "mean_accuracy" and
        "frequency_weighted_iou" (floats), and "class_iou", a dictionary from class
        names to floats. Undefined scores are None, because JSON has no NaN.

    Raises:
        ValueError: If `confusion` is not a square matrix or the names do not fit.

    Example:
        >>> scores([[3, 1], [2, 4]], ["sky", "road"])["class_iou"]
        {'sky': 0.5, 'road': 0.5714285714285714}
    """
    matrix = _square(confusion)
    names = names_of_classes(class_names, len(matrix))
    return {
        "mean_iou": none_if_nan(mean_iou(matrix)),
        "pixel_accuracy": none_if_nan(pixel_accuracy(matrix)),
        "mean_accuracy": none_if_nan(mean_accuracy(matrix)),
        "frequency_weighted_iou": none_if_nan(frequency_weighted_iou(matrix)),
        "class_iou": dict(zip(names, map(none_if_nan, class_iou(matrix)), strict=True)),
    }


def _square(confusion: npt.ArrayLike) -> Counts:
    """Returns `confusion` as an array, or raises if it is not a square matrix."""
    matrix = np.asarray(confusion)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(
            "Expected `confusion` to be a confusion matrix of shape (C, C). Received: "
            f"shape {matrix.shape}"
        )
    return matrix


class ConfusionMetric(CountMetric):
    """A score of the confusion matrix. A subclass implements only `_score`."""

    _counts_name = "confusion"
    _counted = "confusion matrices"

    def _counts_shape(self) -> tuple[int, ...]:
        return self.num_classes, self.num_classes

    def _count(
        self, truth: tf.Tensor, predicted: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        return count_batch(truth, predicted, self.num_classes)

    def confusion(self) -> Counts:
        """Returns the counts so far, int64 of shape (C, C), rows the truth.

        Pixels with an invalid id are not counted. This method does not raise for them.
        """
        matrix: Counts = tf.convert_to_tensor(self._counts).numpy()
        return matrix

    def per_class(self) -> dict[str, float | None]:
        """Returns the IoU of each class by name, None where the union is zero.

        Raises:
            ValueError: As `result`.
        """
        self._require_valid_pixels()
        return self._values_by_name(class_iou(self.confusion()))

    def scores(self) -> dict[str, Any]:
        """Returns all scores of the counts so far, as the function `scores` does.

        Raises:
            ValueError: As `result`.
        """
        self._require_valid_pixels()
        return scores(self.confusion(), self.class_names)


@compat.register
class MeanIoU(ConfusionMetric):
    """Mean intersection over union, over the classes with nonzero union.

    This metric replaces `keras.metrics.MeanIoU`. It counts in int64 and does not drop
    invalid pixels silently: it counts them apart, and `result` raises. A pixel is
    invalid if its label is neither a class nor `ignore_class` (such as a colour that is
    not in the palette), if its prediction is not a class, or if an id is not a whole
    number (such as a probability with sparse_y_pred=True). If one of its scores is NaN
    or infinite (`argmax` would return class 0), `result` is NaN, and `scores` raises.

    Use integer labels if you can. Keras 2 casts float labels to the dtype of the
    predictions, and bfloat16 cannot hold all integers above 256.

    Under `tf.distribute`, the value in the progress bar of Keras 3 is that of one
    replica within an epoch. At the end of the epoch, and in `evaluate`, it is that of
    all.

    Args:
        num_classes: Number of classes, C.
        name: Name of the metric.
        dtype: Dtype of the result: float32, unless it is float64. Counts are int64.
        ignore_class: The label of void pixels. They are not counted, whatever was
            predicted there.
        sparse_y_true: Whether labels are ids. If not, the label is the argmax over
            `axis`, and a vector of zeros is void.
        sparse_y_pred: Whether predictions are ids. If not, the prediction is the argmax
            over `axis` of logits or probabilities, or with `threshold` that of one
            channel.
        axis: The axis of the classes of labels or predictions that are not sparse.
        class_names: C names, for `per_class` and `scores`.
        threshold: For scores of one channel: scores above it are class 1. Use 0.5 for
            probabilities, and 0 for logits.

    Raises:
        ValueError: If the names or the threshold do not fit the number of classes.

    Example:
        >>> metric = MeanIoU(num_classes=3, ignore_class=255)
        >>> metric.update_state([[0, 0, 1, 255]], [[0, 1, 1, 2]])
        >>> float(metric.result())  # (1/2 + 1/2) / 2: class 2 has no union
        0.5
        >>> metric.per_class()
        {'0': 0.5, '1': 0.5, '2': None}

        In `compile`, for a model that returns logits:

        >>> model.compile(  # doctest: +SKIP
        ...     loss=loss, metrics=[MeanIoU(21, ignore_class=255, sparse_y_pred=False)]
        ... )
    """

    def _score(self, counts: tf.Tensor) -> tf.Tensor:
        return mean_ratio(tf.linalg.diag_part(counts), _union(counts))


@compat.register
class PixelAccuracy(ConfusionMetric):
    """Share of the valid pixels that were predicted correctly.

    Arguments, void pixels and invalid ids are those of `MeanIoU`.

    Example:
        >>> metric = PixelAccuracy(num_classes=3, ignore_class=255)
        >>> metric.update_state([[0, 0, 1, 255]], [[0, 1, 1, 2]])
        >>> round(float(metric.result()), 4)  # 2 of 3
        0.6667
    """

    def _score(self, counts: tf.Tensor) -> tf.Tensor:
        return tf.math.divide_no_nan(tf.linalg.trace(counts), tf.reduce_sum(counts))


@compat.register
class MeanAccuracy(ConfusionMetric):
    """Mean of the accuracies of the classes that are in the truth.

    Arguments, void pixels and invalid ids are those of `MeanIoU`.

    Example:
        >>> metric = MeanAccuracy(num_classes=3, ignore_class=255)
        >>> metric.update_state([[0, 0, 1, 255]], [[0, 1, 1, 2]])
        >>> float(metric.result())  # (1/2 + 1/1) / 2: class 2 is not in the truth
        0.75
    """

    def _score(self, counts: tf.Tensor) -> tf.Tensor:
        return mean_ratio(tf.linalg.diag_part(counts), tf.reduce_sum(counts, axis=1))


@compat.register
class FrequencyWeightedIoU(ConfusionMetric):
    """Mean IoU, each class weighted by its share of the truth.

    Arguments, void pixels and invalid ids are those of `MeanIoU`.

    Example:
        >>> metric = FrequencyWeightedIoU(num_classes=3, ignore_class=255)
        >>> metric.update_state([[0, 0, 1, 255]], [[0, 1, 1, 2]])
        >>> float(metric.result())  # 2/3 · 1/2 + 1/3 · 1/2
        0.5
    """

    def _score(self, counts: tf.Tensor) -> tf.Tensor:
        iou = tf.math.divide_no_nan(tf.linalg.diag_part(counts), _union(counts))
        truth = tf.reduce_sum(counts, axis=1)
        return tf.math.divide_no_nan(tf.reduce_sum(truth * iou), tf.reduce_sum(truth))


def _union(confusion: tf.Tensor) -> tf.Tensor:
    sums = tf.reduce_sum(confusion, axis=1) + tf.reduce_sum(confusion, axis=0)
    return sums - tf.linalg.diag_part(confusion)
