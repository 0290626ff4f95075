"""What all streaming metrics share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tf_levelset.checks import (
    check_ignore_class,
    check_num_classes,
    check_numeric,
    is_number,
    is_whole,
)
from tf_levelset.metrics.class_ids import (
    VOID,
    Counts,
    above,
    argmax,
    check_weights,
    class_or_wrong,
    equals,
    mask_of,
    same_shape,
    wide,
)

# Keras 2 rewrites these methods for graphs, even in eager mode, and wraps what they
# raise in a traceback of the rewrite. They branch on no tensor and need none of it.
as_written = tf.autograph.experimental.do_not_convert


def divide(numerator: Any, denominator: Any) -> npt.NDArray[np.float64]:
    """Returns the quotient in float64, NaN where the denominator is zero."""
    undefined = np.full(np.shape(denominator), np.nan)
    return np.divide(numerator, denominator, out=undefined, where=denominator != 0)


def mean_of_defined(values: npt.NDArray[np.float64]) -> float:
    """Returns the mean of what is not NaN (`np.nanmean` warns where nothing is)."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")


def none_if_nan(value: float) -> float | None:
    """Returns a number for JSON, which has no NaN."""
    return None if np.isnan(value) else float(value)


def default_names(num_classes: int) -> tuple[str, ...]:
    """Returns the class ids as names."""
    return tuple(str(index) for index in range(num_classes))


def checked_names(
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


def pairs(counts: npt.ArrayLike) -> Counts:
    """Returns counts as an array, or raises if they are no pairs."""
    pairs = np.asarray(counts)
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise ValueError(f"Expected counts of shape (C, 2). Received: {pairs.shape}")
    return pairs


def ratios(counts: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Returns the first of each pair over the second, NaN where that is zero."""
    found = pairs(counts)
    return divide(found[:, 0], found[:, 1])


class Tally(NamedTuple):
    """What a batch adds to a metric's counters, int64."""

    counts: tf.Tensor
    """Of the metric's `_counts_shape`."""
    wrong_labels: tf.Tensor
    """Scalar: counted pixels whose label is `WRONG`."""
    wrong_predictions: tf.Tensor
    """Scalar: counted pixels whose prediction is `WRONG`."""


class CountMetric(keras.metrics.Metric):
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
        self.class_names = checked_names(class_names, num_classes)
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

    def _count(self, truth: tf.Tensor, predicted: tf.Tensor, valid: tf.Tensor) -> Tally:
        """Counts a batch.

        Args:
            truth: The class, `VOID` or `WRONG` of each label, int32.
            predicted: The class or `WRONG` of each prediction, int32.
            valid: Where the label is not void and the weight is 1, boolean.
        """
        raise NotImplementedError

    def _score(self, counts: tf.Tensor) -> tf.Tensor:
        """Returns the score of float64 counts, 0 for counts of zero."""
        raise NotImplementedError

    @as_written
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
        truth, predicted = same_shape(
            self._truth_codes(y_true), self._predicted_codes(y_pred)
        )
        valid = truth != VOID
        wrong_weights = tf.constant(0, tf.int64)
        if sample_weight is not None:
            kept, wrong = mask_of(sample_weight, truth)
            valid &= kept
            wrong_weights = tf.math.count_nonzero(wrong)
        tally = self._count(truth, predicted, valid)
        with tf.control_dependencies(check_weights(wrong_weights)):
            counts = tf.identity(tally.counts)
        self._counts.assign_add(counts)
        self._wrong_labels.assign_add(tally.wrong_labels)
        self._wrong_predictions.assign_add(tally.wrong_predictions)
        self._wrong_weights.assign_add(wrong_weights)

    def _truth_codes(self, y_true: Any) -> tf.Tensor:
        """Returns the class, `VOID` or `WRONG` of each label, int32."""
        y_true = tf.convert_to_tensor(y_true)
        check_numeric("y_true", y_true)
        if self.sparse_y_true:
            values = wide(y_true)
            codes = class_or_wrong(values, self.num_classes)
            if self.ignore_class is None:
                return codes
            return tf.where(equals(values, self.ignore_class), VOID, codes)
        self._check_axis(y_true)
        values = argmax(y_true, self.axis)
        # tf.one_hot makes zeros of a void label, and argmax of zeros is class 0.
        void = tf.reduce_all(tf.equal(y_true, tf.zeros_like(y_true)), axis=self.axis)
        if self.ignore_class is not None:
            # What is `WRONG` is no class, whatever number stands for void.
            void |= (values >= 0) & equals(values, self.ignore_class)
        return tf.where(void, VOID, class_or_wrong(values, self.num_classes))

    def _predicted_codes(self, y_pred: Any) -> tf.Tensor:
        """Returns the class or `WRONG` of each prediction, int32."""
        y_pred = tf.convert_to_tensor(y_pred)
        check_numeric("y_pred", y_pred)
        if self.sparse_y_pred:
            return class_or_wrong(wide(y_pred), self.num_classes)
        self._check_axis(y_pred)
        channels = y_pred.shape[self.axis] if y_pred.shape.rank else None
        if self.threshold is not None:
            if channels != 1:
                raise ValueError(
                    f"Expected one channel along axis {self.axis}, as `threshold` is "
                    f"{self.threshold}. Received: shape {y_pred.shape}"
                )
            return above(tf.squeeze(y_pred, axis=self.axis), self.threshold)
        if channels is None or channels < 2:
            # The argmax of one channel is class 0 everywhere.
            raise ValueError(
                "Expected predictions with two or more classes along axis "
                f"{self.axis}, or a `threshold` for one channel. Received: shape "
                f"{y_pred.shape}"
            )
        return class_or_wrong(argmax(y_pred, self.axis), self.num_classes)

    def _check_axis(self, values: tf.Tensor) -> None:
        """Raises unless there is an axis of the classes, as far as that is known."""
        rank = values.shape.rank
        if rank is not None and not -rank <= self.axis < rank:
            raise ValueError(
                f"Expected an axis {self.axis} of the classes. Received: shape "
                f"{values.shape}"
            )

    @as_written
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
            counted = other._counted() if isinstance(other, CountMetric) else "others"
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
