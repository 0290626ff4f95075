"""Counts that are made image by image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tf_levelset.checks import (
    check_ignore_class,
    check_num_classes,
)
from tf_levelset.metrics.base import (
    CountMetric,
    Tally,
    default_names,
    none_if_nan,
    ratios,
)
from tf_levelset.metrics.class_ids import Counts, check_class_ids, count_wrong

# A picture of class ids, 0 to C − 1, and C where there is no class: on void, and in
# the Keras metrics where an id was wrong. uint8, or uint16 if there are many classes.
Ids = npt.NDArray[Any]


# Of 16 bits, which also hold what is no class.
MOST_CLASSES = 65534


def image_pairs(
    labels: npt.ArrayLike,
    predictions: npt.ArrayLike,
    num_classes: int,
    ignore_class: int | None,
) -> Iterator[tuple[Ids, Ids]]:
    """Yields the truth and the prediction of each picture, void in both as C."""
    check_num_classes(num_classes, MOST_CLASSES)
    check_ignore_class(ignore_class)
    truth, predicted = np.asarray(labels), np.asarray(predictions)
    if truth.shape != predicted.shape or truth.ndim not in (2, 3):
        raise ValueError(
            "Expected labels and predictions of one shape, (H, W) or (B, H, W). "
            f"Received: {truth.shape} and {predicted.shape}"
        )
    valid = (
        np.full(truth.shape, True) if ignore_class is None else truth != ignore_class
    )
    pair = (
        _compact(
            check_class_ids(truth[valid], num_classes, "labels"), valid, num_classes
        ),
        _compact(
            check_class_ids(predicted[valid], num_classes, "predictions"),
            valid,
            num_classes,
        ),
    )
    shape = (1, *truth.shape)[-3:]
    return with_pixels(*(ids.reshape(shape) for ids in pair))


def _compact(
    ids: npt.NDArray[Any], valid: npt.NDArray[np.bool_], num_classes: int
) -> Ids:
    """Puts the valid pixels' ids into a picture, with C elsewhere."""
    picture = np.full(valid.shape, num_classes, id_type(num_classes))
    picture[valid] = ids
    return picture


def id_type(num_classes: int) -> type[np.generic]:
    """The narrowest type of OpenCV's that holds 0 to C + 1."""
    return np.uint8 if num_classes <= 254 else np.uint16


def total(counts: Iterator[Counts], shape: tuple[int, ...]) -> Counts:
    """Adds the pictures' counts."""
    return sum(counts, np.zeros(shape, np.int64))


def with_pixels(
    truths: Iterable[Ids], predictions: Iterable[Ids]
) -> Iterator[tuple[Ids, Ids]]:
    """Yields the pairs of pictures that have a pixel; OpenCV takes no others."""
    pairs = zip(truths, predictions, strict=True)
    return (pair for pair in pairs if pair[0].size)


def window_of(mask: npt.NDArray[np.bool_], margin: int) -> tuple[slice, slice]:
    """Returns the mask's bounding box and a margin around it, within the picture."""
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return (
        slice(max(0, top - margin), top + height + margin),
        slice(max(0, left - margin), left + width + margin),
    )


class PairMetric(CountMetric):
    """A metric whose counts are two numbers a class: the score's, and those of all."""

    def __init__(self, num_classes: int, **options: Any) -> None:
        check_num_classes(num_classes, MOST_CLASSES)
        super().__init__(num_classes, **options)

    def _counts_shape(self) -> tuple[int, ...]:
        return self.num_classes, 2

    def counts(self) -> Counts:
        """Returns the counts so far, int64 of shape (C, 2). Does not raise."""
        pairs: Counts = tf.convert_to_tensor(self._counts).numpy()
        return pairs

    def per_class(self) -> dict[str, float | None]:
        """Returns the score of each class by name, None where it has none.

        Raises:
            ValueError: As `result`.
        """
        self._check_counts()
        names = self.class_names or default_names(self.num_classes)
        values = map(none_if_nan, ratios(self.counts()))
        return dict(zip(names, values, strict=True))

    def _score(self, counts: tf.Tensor) -> tf.Tensor:
        ratios = tf.math.divide_no_nan(counts[:, 0], counts[:, 1])
        defined = tf.cast(counts[:, 1] > 0, tf.float64)
        return tf.math.divide_no_nan(tf.reduce_sum(ratios), tf.reduce_sum(defined))


def count_images(
    count: Callable[[Ids, Ids], Counts],
    metric: CountMetric,
    truth: tf.Tensor,
    predicted: tf.Tensor,
    valid: tf.Tensor,
) -> Tally:
    """Adds up what `count` says of each picture of a batch of codes."""
    if truth.shape.rank == 4 and truth.shape[-1] == 1:
        truth, predicted, valid = (
            tf.squeeze(tensor, -1) for tensor in (truth, predicted, valid)
        )
    if truth.shape.rank != 3:
        raise ValueError(
            "Expected labels of pictures, (B, H, W) or (B, H, W, 1). Received: "
            f"{truth.shape}"
        )
    nothing = tf.constant(metric.num_classes)
    ids = [
        # What is no class is counted as a fault elsewhere.
        tf.cast(tf.where(codes >= 0, codes, nothing), id_type(metric.num_classes))
        for codes in (tf.where(valid, truth, nothing), predicted)
    ]
    shape = metric._counts_shape()

    def count_all(truths: npt.NDArray[Any], predictions: npt.NDArray[Any]) -> Counts:
        pairs = with_pixels(truths, predictions)
        return total((count(*pair) for pair in pairs), shape)

    return Tally(
        tf.ensure_shape(tf.numpy_function(count_all, ids, tf.int64), shape),
        count_wrong(truth, valid),
        count_wrong(predicted, valid),
    )
