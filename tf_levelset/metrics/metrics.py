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

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tf_levelset import compat
from tf_levelset.checks import (
    check_ignore_class,
    check_num_classes,
    check_numeric,
    is_number,
    is_whole,
)
from tf_levelset.energy import energy
from tf_levelset.xla import is_worth_compiling

Confusion = npt.NDArray[np.int64]

# The code of a pixel whose id is no class. NumPy scalars: tf.where takes them as int32.
_VOID = np.int32(-2)
_WRONG = np.int32(-1)

# Of more classes, the compiled argmax has too many steps to be compiled quickly.
_FEW_CLASSES = 64


# Keras 2 rewrites these methods for graphs, even in eager mode, and wraps what they
# raise in a traceback of the rewrite. They branch on no tensor and need none of it.
_as_written = tf.autograph.experimental.do_not_convert


# --- Functions of a confusion matrix -------------------------------------------------


def confusion_matrix(
    labels: npt.ArrayLike,
    predictions: npt.ArrayLike,
    num_classes: int,
    ignore_class: int | None = None,
) -> Confusion:
    """Counts the pixels of each pair of true and predicted class.

    Args:
        labels: Class ids, of any shape and of any integer type, or whole floats.
        predictions: Class ids, of the same shape as `labels`.
        num_classes: Number of classes, C.
        ignore_class: The label of void pixels. They do not count, whatever was
            predicted there.

    Returns:
        The confusion matrix, int64 of shape (C, C): rows are the truth, columns the
        predictions.

    Raises:
        ValueError: If the shapes differ, or if an id outside void is not a whole
            number in [0, C). The message names the ids.

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
            "Expected labels and predictions of one shape. Received: "
            f"{truth.shape} and {predicted.shape}"
        )
    if ignore_class is not None:
        valid = truth != ignore_class
        truth, predicted = truth[valid], predicted[valid]
    cells = _ids_in_range(truth, num_classes, "labels") * num_classes
    cells += _ids_in_range(predicted, num_classes, "predictions")
    counts = np.bincount(cells.ravel(), minlength=num_classes**2)
    return counts.astype(np.int64).reshape(num_classes, num_classes)


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
    return _divide(np.diag(matrix), union)


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
    return _mean_of_defined(class_iou(confusion))


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
    return float(_divide(np.trace(matrix), matrix.sum()))


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
    return _mean_of_defined(_divide(np.diag(matrix), matrix.sum(axis=1)))


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
    return float(_divide(weighted.sum(), matrix.sum()))


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
    names = _checked_names(class_names, len(matrix)) or _default_names(len(matrix))
    return {
        "mean_iou": _none_if_nan(mean_iou(matrix)),
        "pixel_accuracy": _none_if_nan(pixel_accuracy(matrix)),
        "mean_accuracy": _none_if_nan(mean_accuracy(matrix)),
        "frequency_weighted_iou": _none_if_nan(frequency_weighted_iou(matrix)),
        "class_iou": {
            name: _none_if_nan(iou)
            for name, iou in zip(names, class_iou(matrix), strict=True)
        },
    }


def _ids_in_range(ids: npt.NDArray[Any], num_classes: int, what: str) -> Confusion:
    """Returns `ids` as int64, or raises a ValueError that names the wrong ones."""
    check_numeric(what, ids)
    wrong = ~((ids >= 0) & (ids < num_classes) & (ids == np.floor(ids)))
    if wrong.any():
        raise ValueError(
            f"Expected {what} in [0, {num_classes}) or ignore_class. Received: "
            f"{np.unique(ids[wrong]).tolist()} in {int(wrong.sum())} pixels"
        )
    return ids.astype(np.int64)


def _square(confusion: npt.ArrayLike) -> Confusion:
    """Returns `confusion` as an array, or raises if it is not a square matrix."""
    matrix = np.asarray(confusion)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(
            f"Expected a confusion matrix of shape (C, C). Received: {matrix.shape}"
        )
    return matrix


def _divide(numerator: Any, denominator: Any) -> npt.NDArray[np.float64]:
    """Returns the quotient in float64, NaN where the denominator is zero."""
    undefined = np.full(np.shape(denominator), np.nan)
    return np.divide(numerator, denominator, out=undefined, where=denominator != 0)


def _mean_of_defined(values: npt.NDArray[np.float64]) -> float:
    """Returns the mean of what is not NaN (`np.nanmean` warns where nothing is)."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")


def _none_if_nan(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _default_names(num_classes: int) -> tuple[str, ...]:
    return tuple(str(index) for index in range(num_classes))


def _checked_names(
    class_names: Sequence[str] | None, num_classes: int
) -> tuple[str, ...] | None:
    """Returns the names as a tuple: one a class, and none twice."""
    if class_names is None:
        return None
    names = tuple(class_names) if isinstance(class_names, Iterable) else ()
    if len(names) != num_classes or len(set(names)) != num_classes:
        raise ValueError(
            f"Expected {num_classes} different class names. Received: {class_names!r}"
        )
    return names


# --- Keras metrics over counts -------------------------------------------------------


class _Tally(NamedTuple):
    """What a batch adds to a metric's counters, int64."""

    counts: tf.Tensor
    """Of the metric's `_counts_shape`."""
    wrong_labels: tf.Tensor
    """Scalar: counted pixels whose label is `_WRONG`."""
    wrong_predictions: tf.Tensor
    """Scalar: counted pixels whose prediction is `_WRONG`."""


class _CountMetric(keras.metrics.Metric):
    """A score of integer counts of everything seen since the last reset.

    The arguments, and what the metrics do with void and with wrong ids, are described
    at `MeanIoU`. A subclass writes what it counts (`_counts_name`, `_counts_shape`,
    `_counted` and `_count`) and `_score`.
    """

    # Read by Keras 3's callbacks with mode="auto".
    _direction = "up"
    _counts_name = "counts"

    def __init__(
        self,
        num_classes: int,
        name: str | None = None,
        dtype: Any = None,
        ignore_class: int | None = None,
        sparse_y_true: bool = True,
        sparse_y_pred: bool = True,
        axis: int = -1,
        *,
        class_names: Sequence[str] | None = None,
        threshold: float | None = None,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        check_num_classes(num_classes)
        check_ignore_class(ignore_class)
        if not is_whole(axis):
            raise ValueError(f"Expected `axis` to be an integer. Received: {axis!r}")
        if threshold is not None and not is_number(threshold):
            raise ValueError(
                f"Expected `threshold` to be a number. Received: {threshold!r}"
            )
        if threshold is not None and (sparse_y_pred or num_classes != 2):
            raise ValueError(
                "Expected `threshold` with sparse_y_pred=False and num_classes=2. "
                f"Received: sparse_y_pred={sparse_y_pred}, num_classes={num_classes}"
            )
        self.num_classes = num_classes
        self.ignore_class = None if ignore_class is None else int(ignore_class)
        self.sparse_y_true = sparse_y_true
        self.sparse_y_pred = sparse_y_pred
        self.axis = axis
        self.class_names = _checked_names(class_names, num_classes)
        self.threshold = threshold
        self._counts = self._add_counter(self._counts_name, self._counts_shape())
        self._wrong_labels = self._add_counter("wrong_labels", ())
        self._wrong_predictions = self._add_counter("wrong_predictions", ())
        self._wrong_weights = self._add_counter("wrong_weights", ())

    def _add_counter(self, name: str, shape: tuple[int, ...]) -> Any:
        # A float32 counter stands still at 2**24: 41 images of Cityscapes' size.
        return self.add_weight(
            name=name, shape=shape, initializer="zeros", dtype="int64"
        )

    def _counts_shape(self) -> tuple[int, ...]:
        raise NotImplementedError

    def _counted(self) -> str:
        """Says what is counted. Metrics merge if they say the same."""
        raise NotImplementedError

    def _count(
        self, truth: tf.Tensor, predicted: tf.Tensor, valid: tf.Tensor
    ) -> _Tally:
        """Counts a batch.

        Args:
            truth: The class, `_VOID` or `_WRONG` of each label, int32.
            predicted: The class or `_WRONG` of each prediction, int32.
            valid: Where the label is not void and the weight is 1, boolean.
        """
        raise NotImplementedError

    def _score(self, counts: tf.Tensor) -> tf.Tensor:
        """Returns the score of float64 counts, 0 for counts of zero."""
        raise NotImplementedError

    @_as_written
    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch to the counts.

        Args:
            y_true: Labels of shape (B, …) or (B, …, 1) with any number of spatial
                axes, or with sparse_y_true=False one vector a pixel along `axis`.
            y_pred: Predicted ids of the labels' shape, or with sparse_y_pred=False
                scores with the classes along `axis`.
            sample_weight: Mask of ones and zeros (or booleans), aligned with the
                labels from the batch axis on: a scalar, (B,), …, or (B, H, W).

        Raises:
            ValueError: If shapes do not fit, at trace time; in eager mode, if a
                weight is neither 0 nor 1. In a graph that is an
                `InvalidArgumentError`, and under XLA a NaN in `result`.
        """
        truth, predicted = _same_shape(
            self._truth_codes(y_true), self._predicted_codes(y_pred)
        )
        valid = truth != _VOID
        wrong_weights = tf.constant(0, tf.int64)
        if sample_weight is not None:
            kept, wrong = _mask(sample_weight, truth)
            valid &= kept
            wrong_weights = tf.math.count_nonzero(wrong)
        tally = self._count(truth, predicted, valid)
        with tf.control_dependencies(_check_weights(wrong_weights)):
            counts = tf.identity(tally.counts)
        self._counts.assign_add(counts)
        self._wrong_labels.assign_add(tally.wrong_labels)
        self._wrong_predictions.assign_add(tally.wrong_predictions)
        self._wrong_weights.assign_add(wrong_weights)

    def _truth_codes(self, y_true: Any) -> tf.Tensor:
        """Returns the class, `_VOID` or `_WRONG` of each label, int32."""
        y_true = tf.convert_to_tensor(y_true)
        check_numeric("y_true", y_true)
        if self.sparse_y_true:
            values = _wide(y_true)
            codes = _class_or_wrong(values, self.num_classes)
            if self.ignore_class is None:
                return codes
            return tf.where(_equals(values, self.ignore_class), _VOID, codes)
        self._check_axis(y_true)
        values = _argmax(y_true, self.axis)
        # tf.one_hot makes zeros of a void label, and argmax of zeros is class 0.
        void = tf.reduce_all(tf.equal(y_true, tf.zeros_like(y_true)), axis=self.axis)
        if self.ignore_class is not None:
            # What is `_WRONG` is no class, whatever number stands for void.
            void |= (values >= 0) & _equals(values, self.ignore_class)
        return tf.where(void, _VOID, _class_or_wrong(values, self.num_classes))

    def _predicted_codes(self, y_pred: Any) -> tf.Tensor:
        """Returns the class or `_WRONG` of each prediction, int32."""
        y_pred = tf.convert_to_tensor(y_pred)
        check_numeric("y_pred", y_pred)
        if self.sparse_y_pred:
            return _class_or_wrong(_wide(y_pred), self.num_classes)
        self._check_axis(y_pred)
        channels = y_pred.shape[self.axis] if y_pred.shape.rank else None
        if self.threshold is not None:
            if channels != 1:
                raise ValueError(
                    f"Expected one channel along axis {self.axis}, as `threshold` is "
                    f"{self.threshold}. Received: shape {y_pred.shape}"
                )
            return _above(tf.squeeze(y_pred, axis=self.axis), self.threshold)
        if channels is None or channels < 2:
            # The argmax of one channel is class 0 everywhere.
            raise ValueError(
                "Expected predictions with two or more classes along axis "
                f"{self.axis}, or a `threshold` for one channel. Received: shape "
                f"{y_pred.shape}"
            )
        return _class_or_wrong(_argmax(y_pred, self.axis), self.num_classes)

    def _check_axis(self, values: tf.Tensor) -> None:
        """Raises unless there is an axis of the classes, as far as that is known."""
        rank = values.shape.rank
        if rank is not None and not -rank <= self.axis < rank:
            raise ValueError(
                f"Expected an axis {self.axis} of the classes. Received: shape "
                f"{values.shape}"
            )

    @_as_written
    def result(self) -> tf.Tensor:
        """Returns the score of everything counted since the last reset.

        Returns:
            A scalar, float64 if that is the metric's dtype and float32 otherwise.
            0.0 where nothing was counted: `fit` shows a metric before any valid
            pixel may have come. (The functions say NaN, `scores` says None.)

        Raises:
            ValueError: In eager mode, if a label outside void or a prediction was out
                of range. In a graph that is an `InvalidArgumentError` with the same
                words. XLA drops such checks, so the value is NaN as well.
        """
        checks = self._check_counts()
        with tf.control_dependencies(checks):
            counts = tf.cast(tf.convert_to_tensor(self._counts), tf.float64)
        score = self._score(counts)
        wrong = tf.add_n([tf.convert_to_tensor(count) for _, count in self._faults()])
        score = tf.where(wrong > 0, tf.cast(np.nan, tf.float64), score)
        return tf.cast(score, tf.float64 if self.dtype == "float64" else tf.float32)

    def _faults(self) -> list[tuple[str, Any]]:
        """Returns what was expected of the pixels, and how many broke it."""
        classes = f"in [0, {self.num_classes})"
        void = "" if self.ignore_class is None else f" ({self.ignore_class})"
        return [
            (f"Expected labels {classes} or ignore_class{void}.", self._wrong_labels),
            (
                f"Expected predictions {classes}, from finite scores.",
                self._wrong_predictions,
            ),
            ("Expected sample weights of 0 or 1.", self._wrong_weights),
        ]

    def _check_counts(self) -> list[Any]:
        """Raises in eager mode, and returns the assertions of a graph."""
        if not tf.executing_eagerly():
            return [
                tf.debugging.Assert(
                    tf.equal(tf.convert_to_tensor(count), 0),
                    [f"{expected} Received:", count, "pixels out of range"],
                )
                for expected, count in self._faults()
            ]
        counted = [
            (expected, int(tf.convert_to_tensor(count)))
            for expected, count in self._faults()
        ]
        messages = [
            f"{expected} Received: {count} pixels out of range"
            for expected, count in counted
            if count
        ]
        if messages:
            raise ValueError("; ".join(messages))
        return []

    def reset_state(self) -> None:
        """Sets all counts to zero."""
        # Keras 2 would assign the scalar 0, which does not fit a matrix.
        for count in self.variables:
            count.assign(tf.zeros(count.shape, tf.int64))

    def merge_state(self, metrics: Iterable[Any]) -> None:
        """Adds the counts of other metrics, as of other workers or parts.

        Args:
            metrics: Metrics that count the same: that of a score of the confusion
                matrix, any such metric with as many classes.

        Raises:
            ValueError: If a metric has other counts to give. Nothing is added then.
        """
        others = list(metrics)
        for other in others:
            counted = other._counted() if isinstance(other, _CountMetric) else "others"
            if counted != self._counted():
                raise ValueError(
                    f"Expected {self._counted()}. Received: {other!r}, of {counted}"
                )
        for other in others:
            for mine, theirs in zip(self.variables, other.variables, strict=True):
                mine.assign_add(tf.convert_to_tensor(theirs))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that recreate this metric."""
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "ignore_class": self.ignore_class,
            "sparse_y_true": self.sparse_y_true,
            "sparse_y_pred": self.sparse_y_pred,
            "axis": self.axis,
            "class_names": None if self.class_names is None else list(self.class_names),
            "threshold": self.threshold,
        }


class _ConfusionMetric(_CountMetric):
    """A score of the confusion matrix. A subclass writes only `_score`."""

    _counts_name = "confusion"

    def _counts_shape(self) -> tuple[int, ...]:
        return self.num_classes, self.num_classes

    def _counted(self) -> str:
        return f"confusion metrics of {self.num_classes} classes"

    def _count(
        self, truth: tf.Tensor, predicted: tf.Tensor, valid: tf.Tensor
    ) -> _Tally:
        """Counts the batch's confusion matrix, int64 of shape (C, C).

        One histogram answers all: its first row and column are those of `_WRONG`, −1,
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
        return _Tally(
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


# --- From tensors to class ids --------------------------------------------------------


def _wide(values: tf.Tensor) -> tf.Tensor:
    """Returns integers as int32 where that holds them, else int64; floats as float32.

    A uint8 holds neither −1 nor 256, and a bfloat16 no 459: comparisons need width.
    """
    if values.dtype.is_floating:
        return tf.cast(values, tf.float32) if values.dtype.size < 4 else values
    narrow = values.dtype.size < 4 or values.dtype == tf.int32
    return tf.cast(values, tf.int32 if narrow else tf.int64)


def _equals(values: tf.Tensor, number: int) -> tf.Tensor:
    """Where wide values are a number, which their type may be too narrow to hold."""
    if values.dtype.min <= number <= values.dtype.max:
        return tf.equal(values, tf.cast(number, values.dtype))
    return tf.zeros_like(values, tf.bool)


def _class_or_wrong(values: tf.Tensor, num_classes: int) -> tf.Tensor:
    """Returns wide values as int32 class ids, `_WRONG` where they are none.

    The range is checked before the cast: some devices cast NaN to 0, a valid id.
    """
    in_range = (values >= 0) & (values < num_classes)
    if values.dtype.is_floating:
        in_range &= tf.equal(values, tf.floor(values))
    return tf.where(in_range, tf.cast(values, tf.int32), _WRONG)


def _argmax(scores: tf.Tensor, axis: int) -> tf.Tensor:
    """Returns the int32 argmax, `_WRONG` where a score is not finite."""
    if not scores.dtype.is_floating:
        return tf.argmax(_wide(scores), axis=axis, output_type=tf.int32)
    if _is_to_compile(scores.shape, axis):
        return _one_pass_argmax(scores, axis)
    finite = tf.reduce_all(tf.math.is_finite(scores), axis=axis)
    best = tf.argmax(scores, axis=axis, output_type=tf.int32)
    return tf.where(finite, best, _WRONG)


def _is_to_compile(shape: tf.TensorShape, axis: int) -> bool:
    """Whether the argmax over so many classes, and of so many pixels, is compiled."""
    if shape.rank is None or shape[axis] is None or shape[axis] > _FEW_CLASSES:
        return False
    sizes = shape.as_list()
    del sizes[axis]
    return is_worth_compiling(tf.TensorShape(sizes))


@tf.function(jit_compile=True, autograph=False)
def _one_pass_argmax(scores: tf.Tensor, axis: int) -> tf.Tensor:
    """`_argmax` as XLA computes it, which reads the scores once."""
    first, *others = tf.unstack(scores, axis=axis)
    best, index = first, tf.zeros_like(first, tf.int32)
    finite = tf.math.is_finite(first)
    for channel, other in enumerate(others, 1):
        greater = other > best
        best = tf.where(greater, other, best)
        index = tf.where(greater, channel, index)
        finite &= tf.math.is_finite(other)
    return tf.where(finite, index, _WRONG)


def _above(scores: tf.Tensor, threshold: float) -> tf.Tensor:
    """Returns 1 above the threshold, 0 elsewhere, `_WRONG` where not finite."""
    scores = _wide(scores)
    if not scores.dtype.is_floating:
        scores = tf.cast(scores, tf.float64)
    above = tf.cast(scores > tf.cast(threshold, scores.dtype), tf.int32)
    return tf.where(tf.math.is_finite(scores), above, _WRONG)


def _count_wrong(codes: tf.Tensor, valid: tf.Tensor) -> tf.Tensor:
    return tf.math.count_nonzero(valid & tf.equal(codes, _WRONG))


def _same_shape(truth: tf.Tensor, predicted: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
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


def _mask(sample_weight: Any, truth: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
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
    weight = _wide(weight)
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


def _check_weights(wrong: tf.Tensor) -> list[Any]:
    """Raises in eager mode, and returns the assertion of a graph."""
    expected = "Expected sample weights of 0 or 1: pixel counts hold no fractions."
    if not tf.executing_eagerly():
        data = [f"{expected} Received:", wrong, "other weights"]
        return [tf.debugging.Assert(tf.equal(wrong, 0), data)]
    if int(wrong):
        raise ValueError(f"{expected} Received: {int(wrong)} pixels of other weights")
    return []


# --- The level set energy -------------------------------------------------------------


@compat.register
class LevelSetEnergy(keras.metrics.Metric):
    """Mean over images of the level set energy (Eq. 4), the curve of Figure 4b.

    An image without valid pixels has energy 0 and counts as an image.

    Args:
        from_logits: Whether predictions are logits rather than probabilities.
        heaviside: Name of the Heaviside function (Eq. 6).
        epsilon: Its width, ε. The paper takes 1/20.
        ignore_class: The label of void pixels, which are outside the image.
        class_weight: C factors of the classes' energies, or None.
        normalization: As in `tf_levelset.energy.energy.level_set_energy`.
        signed: As in `tf_levelset.energy.energy.level_set_energy`.
        name: Name of the metric.
        dtype: Type of the result: float32, unless it is float64.

    Example:
        Two pixels of class 0 and two of class 1; P = 1/2 leaves both level sets at
        zero, H = 1/2 everywhere and c1 = c2 = 1/2. A class costs 4 · 1/4 = 1:

        >>> metric = LevelSetEnergy()
        >>> undecided = tf.fill([1, 2, 2, 2], 0.5)
        >>> metric.update_state([[[0, 0], [1, 1]]], undecided)
        >>> round(float(metric.result()), 4)
        2.0
    """

    _direction = "down"

    def __init__(
        self,
        from_logits: bool = False,
        heaviside: str = "mahf",
        epsilon: float = 1 / 20,
        ignore_class: int | None = None,
        class_weight: Sequence[float] | None = None,
        normalization: str = "sum",
        signed: bool = False,
        name: str | None = "level_set_energy",
        dtype: Any = None,
    ) -> None:
        energy.check_options(heaviside, epsilon, normalization, class_weight, signed)
        check_ignore_class(ignore_class)
        super().__init__(name=name, dtype=dtype)
        self.from_logits = from_logits
        self.heaviside = heaviside
        self.epsilon = epsilon
        self.ignore_class = None if ignore_class is None else int(ignore_class)
        self.class_weight = None if class_weight is None else tuple(class_weight)
        self.normalization = normalization
        self.signed = signed
        # float64: a float32 total of long runs loses the digits of what is added.
        self._total = self._add_sum("total")
        self._weight = self._add_sum("weight")

    def _add_sum(self, name: str) -> Any:
        return self.add_weight(
            name=name, shape=(), initializer="zeros", dtype="float64"
        )

    @_as_written
    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds the energies of a batch.

        Args:
            y_true: Labels of shape (B, H, W) or (B, H, W, 1).
            y_pred: Logits or probabilities of shape (B, H, W, C).
            sample_weight: Weights of the images, a scalar or of shape (B,) or (B, 1).

        Raises:
            ValueError: If the shapes do not fit, at trace time.
            tf.errors.InvalidArgumentError: For labels that are neither a class nor
                void (under XLA, a NaN in `result`).
        """
        energies = energy.level_set_energy(
            y_true,
            y_pred,
            from_logits=self.from_logits,
            heaviside=self.heaviside,
            epsilon=self.epsilon,
            ignore_class=self.ignore_class,
            class_weight=self.class_weight,
            normalization=self.normalization,
            signed=self.signed,
        )
        energies = tf.cast(energies, tf.float64)
        weights = _image_weights(sample_weight, energies)
        self._total.assign_add(tf.reduce_sum(weights * energies))
        self._weight.assign_add(tf.reduce_sum(weights))

    @_as_written
    def result(self) -> tf.Tensor:
        """Returns the weighted mean energy of an image, 0.0 before any image."""
        total = tf.convert_to_tensor(self._total)
        mean = tf.math.divide_no_nan(total, tf.convert_to_tensor(self._weight))
        return tf.cast(mean, tf.float64 if self.dtype == "float64" else tf.float32)

    def merge_state(self, metrics: Iterable[Any]) -> None:
        """Adds the sums of other metrics, as of other workers or parts.

        Args:
            metrics: Other metrics of this class.

        Raises:
            ValueError: If a metric is of another class. Nothing is added then.
        """
        others = list(metrics)
        for other in others:
            if not isinstance(other, LevelSetEnergy):
                raise ValueError(
                    f"Expected LevelSetEnergy metrics. Received: {other!r}"
                )
        for other in others:
            for mine, theirs in zip(self.variables, other.variables, strict=True):
                mine.assign_add(tf.convert_to_tensor(theirs))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that recreate this metric."""
        weights = self.class_weight
        return {
            **super().get_config(),
            "from_logits": self.from_logits,
            "heaviside": self.heaviside,
            "epsilon": self.epsilon,
            "ignore_class": self.ignore_class,
            "class_weight": None if weights is None else [float(w) for w in weights],
            "normalization": self.normalization,
            "signed": self.signed,
        }


def _image_weights(sample_weight: Any, energies: tf.Tensor) -> tf.Tensor:
    """Returns one float64 weight an image, of shape (B,)."""
    if sample_weight is None:
        return tf.ones_like(energies)
    weights = tf.convert_to_tensor(sample_weight)
    check_numeric("sample_weight", weights)
    weights = tf.cast(weights, tf.float64)
    if weights.shape.rank == 2 and weights.shape[1] == 1:
        weights = tf.squeeze(weights, 1)
    if weights.shape.rank == 0:
        return tf.fill(tf.shape(energies), weights)
    if weights.shape.rank != 1 or not weights.shape.is_compatible_with(energies.shape):
        raise ValueError(
            "Expected a sample_weight that is a scalar or of shape (B,). Received: "
            f"{weights.shape} for energies of {energies.shape}"
        )
    # Not a broadcast: one weight for many images would be a mistake in the caller.
    return tf.reshape(weights, tf.shape(energies))
