"""The base of all streaming metrics: totals of a data set that merge, reset and save.

A metric adds each batch to totals, and divides only in `result`. So its value is that
of the whole data set, however the images are split into batches.

CONTRIBUTING.md says how to add one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tf_levelset import compat
from tf_levelset.checks import (
    check_ignore_class,
    check_num_classes,
    expect,
    is_number,
    is_whole,
    plain_options,
)
from tf_levelset.labels import nan_where, remedies
from tf_levelset.metrics.class_ids import (
    VOID,
    aligned,
    binary_mask,
    label_ids,
    prediction_ids,
)

# Keras 2 rewrites these methods for graphs, even in eager mode, and hides what they
# raise behind a traceback of the rewrite. They do not branch on tensors.
as_written = tf.autograph.experimental.do_not_convert


class StreamingMetric(keras.metrics.Metric):
    """A metric whose variables are totals, which start at zero and add up.

    Metrics whose `_describe_totals` are equal can be merged.
    """

    def _add_total(
        self, name: str, shape: tuple[int, ...] = (), dtype: str = "int64"
    ) -> Any:
        return self.add_weight(name=name, shape=shape, initializer="zeros", dtype=dtype)

    def _in_result_dtype(self, score: tf.Tensor) -> tf.Tensor:
        return tf.cast(score, tf.float64 if self.dtype == "float64" else tf.float32)

    def reset_state(self) -> None:
        """Sets all totals to zero."""
        # Keras 2 would assign the scalar 0, which does not fit a matrix.
        for total in self.variables:
            total.assign(tf.zeros(total.shape, total.dtype))

    def merge_state(self, metrics: Iterable[Any]) -> None:
        """Adds the totals of other metrics, such as those of other workers.

        Args:
            metrics: Metrics with the same totals. All metrics of the confusion matrix
                that have the same number of classes merge with each other.

        Raises:
            ValueError: If a metric has other totals. Nothing is added then.
        """
        others = list(metrics)
        for other in others:
            theirs = (
                other._describe_totals()
                if isinstance(other, StreamingMetric)
                else "other values"
            )
            if theirs != self._describe_totals():
                raise ValueError(
                    f"Expected metrics of {self._describe_totals()}. Received: "
                    f"{other!r}, of {theirs}"
                )
        for other in others:
            for total, added in zip(self.variables, other.variables, strict=True):
                total.assign_add(tf.convert_to_tensor(added))

    def _describe_totals(self) -> str:
        return type(self).__name__


class CountMetric(StreamingMetric):
    """A score of integer counts of pixels or objects.

    `MeanIoU` describes the arguments, and the treatment of void pixels and invalid
    ids. A subclass implements `_counts_shape`, `_count` and `_score`.
    """

    # Keras 3's callbacks read this with mode="auto".
    _direction = "up"
    _counted = "counts"
    _counts_name = "counts"
    # The arguments of a subclass on which its counts depend, beside `num_classes`.
    _options_of_counts: tuple[str, ...] = ()

    @plain_options
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
        expect(is_whole(axis), "`axis` to be an integer", axis)
        if threshold is not None and (
            not is_number(threshold) or sparse_y_pred or num_classes != 2
        ):
            raise ValueError(
                "Expected `threshold` to be a number, for sparse_y_pred=False and "
                f"num_classes=2. Received: threshold={threshold!r}, "
                f"sparse_y_pred={sparse_y_pred}, num_classes={num_classes}"
            )
        names = names_of_classes(class_names, num_classes)
        self.num_classes = num_classes
        self.ignore_class = ignore_class
        self.sparse_y_true = sparse_y_true
        self.sparse_y_pred = sparse_y_pred
        self.axis = axis
        self.class_names = None if class_names is None else names
        self.threshold = threshold
        # float32 counts would stop at 2**24, the pixels of 8 images of Cityscapes.
        self._counts = self._add_total(self._counts_name, self._counts_shape())
        self._invalid_labels = self._add_total("wrong_labels")
        self._invalid_predictions = self._add_total("wrong_predictions")
        self._invalid_weights = self._add_total("wrong_weights")

    def _counts_shape(self) -> tuple[int, ...]:
        raise NotImplementedError

    def _describe_totals(self) -> str:
        options = ("num_classes", *self._options_of_counts)
        described = [f"{name}={getattr(self, name)}" for name in options]
        return f"{self._counted} with {', '.join(described)}"

    def _count(
        self, truth: tf.Tensor, predicted: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns the counts of a batch, and its invalid labels and predictions.

        `truth` and `predicted` are int32 class ids or codes of `class_ids`.
        """
        raise NotImplementedError

    def _score(self, counts: tf.Tensor) -> tf.Tensor:
        """Returns the score of float64 counts, 0 if nothing was counted."""
        raise NotImplementedError

    @as_written
    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch to the counts.

        Args:
            y_true: Labels of shape (B, …) or (B, …, 1) with any number of spatial axes.
                With sparse_y_true=False, one vector a pixel along `axis`.
            y_pred: Predicted ids of the shape of the labels. With sparse_y_pred=False,
                scores with the classes along `axis`.
            sample_weight: Mask of zeros and ones, or booleans. Its axes are those of
                the labels from the batch axis on: a scalar, (B,), …, or (B, H, W).

        Raises:
            ValueError: If the shapes do not fit, when the function is traced. In eager
                mode, also if a weight is neither 0 nor 1. A graph raises
                `tf.errors.InvalidArgumentError` instead, and under XLA `result` is NaN.
        """
        truth, predicted = aligned(
            label_ids(
                y_true,
                self.num_classes,
                self.ignore_class,
                self.sparse_y_true,
                self.axis,
            ),
            prediction_ids(
                y_pred,
                self.num_classes,
                self.ignore_class,
                self.sparse_y_pred,
                self.axis,
                self.threshold,
            ),
            self.axis,
        )
        mask = compat.keras_mask(y_pred)
        if mask is not None:
            inside, _ = binary_mask(tf.cast(mask, tf.bool), truth)
            truth = tf.where(inside, truth, VOID)
        invalid_weights = tf.constant(0, tf.int64)
        if sample_weight is not None:
            kept, invalid = binary_mask(sample_weight, truth)
            truth = tf.where(kept, truth, VOID)
            invalid_weights = tf.math.count_nonzero(invalid)
        counts, invalid_labels, invalid_predictions = self._count(truth, predicted)
        with tf.control_dependencies(_require_none({_WEIGHTS: invalid_weights})):
            counts = tf.identity(counts)
        self._counts.assign_add(counts)
        self._invalid_labels.assign_add(invalid_labels)
        self._invalid_predictions.assign_add(invalid_predictions)
        self._invalid_weights.assign_add(invalid_weights)

    @as_written
    def result(self) -> tf.Tensor:
        """Returns the score of everything counted since the last reset.

        Returns:
            A scalar, float64 if that is the dtype of the metric and float32 otherwise.
            It is 0.0 if nothing was counted, because `fit` may show a metric before the
            first valid pixel. (The functions return NaN, and `scores` None.) It is NaN
            if a score of a valid pixel was NaN or infinite, as the loss is then, so
            that callbacks such as `TerminateOnNaN` can stop `fit`. `scores` and
            `per_class` raise for such a pixel.

        Raises:
            ValueError: In eager mode, if a label that is not void or a predicted id was
                out of range. A graph raises `tf.errors.InvalidArgumentError` with the
                same message. XLA drops such checks, so the value is NaN as well.
        """
        with tf.control_dependencies(self._require_valid_pixels(self.sparse_y_pred)):
            counts = tf.cast(tf.convert_to_tensor(self._counts), tf.float64)
        invalid = tf.add_n(list(map(tf.convert_to_tensor, self.variables[1:])))
        return self._in_result_dtype(nan_where(invalid > 0, self._score(counts)))

    def _require_valid_pixels(self, of_predictions: bool = True) -> list[Any]:
        """Raises in eager mode if a pixel was invalid, else returns assertions."""
        classes = f"in [0, {self.num_classes})"
        void = "" if self.ignore_class is None else f" ({self.ignore_class})"
        required = {
            f"labels to be {classes} or `ignore_class`{void}."
            f"{remedies(self.ignore_class)}": self._invalid_labels,
            _WEIGHTS: self._invalid_weights,
        }
        if of_predictions:
            form = (
                "whole and not NaN (scores need sparse_y_pred=False)"
                if self.sparse_y_pred
                else "without NaN, from finite scores"
            )
            required[f"predictions to be {classes}, {form}"] = self._invalid_predictions
        return _require_none(required)

    def _values_by_name(self, values: npt.NDArray[Any]) -> dict[str, float | None]:
        """Returns one value for each class, None for NaN."""
        names = names_of_classes(self.class_names, self.num_classes)
        return dict(zip(names, map(none_if_nan, values), strict=True))

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
            **{name: getattr(self, name) for name in self._options_of_counts},
        }


_WEIGHTS = (
    "sample weights to be 0 or 1, because pixels are counted (pass the metric as "
    "`metrics`, not as `weighted_metrics`, and class weights to the loss)"
)


def _require_none(invalid: dict[str, Any]) -> list[Any]:
    """Raises in eager mode if a count is not zero, else returns assertions of that.

    Args:
        invalid: From what was expected of the pixels to how many violate it.
    """
    counts = {
        f"Expected {expected.rstrip('.')}. Received:": tf.convert_to_tensor(count)
        for expected, count in invalid.items()
    }
    if not tf.executing_eagerly():
        return [
            tf.debugging.Assert(tf.equal(count, 0), [text, count, "invalid pixels"])
            for text, count in counts.items()
        ]
    violated = [f"{text} {int(n)} invalid pixels" for text, n in counts.items() if n]
    if violated:
        raise ValueError("; ".join(violated))
    return []


def names_of_classes(
    class_names: Sequence[str] | None, num_classes: int
) -> tuple[str, ...]:
    """Returns `class_names`, or "0", "1", … if they are None.

    Raises:
        ValueError: If there is not one name for each class, or if one is used twice.
    """
    if class_names is None:
        return tuple(map(str, range(num_classes)))
    names = tuple(class_names) if isinstance(class_names, Iterable) else ()
    differ = len(names) == len(set(names)) == num_classes
    expect(differ, f"`class_names` to be {num_classes} different names", class_names)
    return names


def mean_ratio(parts: tf.Tensor, wholes: tf.Tensor) -> tf.Tensor:
    """Returns the mean of parts / wholes where wholes are positive, 0 if none is."""
    ratios = tf.math.divide_no_nan(parts, wholes)
    number = tf.reduce_sum(tf.cast(wholes > 0, ratios.dtype))
    return tf.math.divide_no_nan(tf.reduce_sum(ratios), number)


def divide(numerator: Any, denominator: Any) -> npt.NDArray[np.float64]:
    """Returns the quotient in float64, NaN where the denominator is zero."""
    undefined = np.full(np.shape(denominator), np.nan)
    return np.divide(numerator, denominator, out=undefined, where=denominator != 0)


def mean_of_defined(values: npt.NDArray[np.float64]) -> float:
    """Returns the mean without NaNs, and NaN if there is no other value.

    `np.nanmean` would warn in that case.
    """
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")


def none_if_nan(value: float) -> float | None:
    """Returns a float for JSON, which has no NaN."""
    return None if np.isnan(value) else float(value)
