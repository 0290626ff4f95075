"""Counting of one image at a time, for measures that need the shapes of regions.

The functions work on NumPy images. The Keras metrics call them through
`tf.numpy_function`: on the CPU, wherever the model runs, and not under XLA.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from scipy import ndimage

from tf_levelset.checks import check_ignore_class, check_num_classes
from tf_levelset.metrics.base import CountMetric, divide, mean_ratio
from tf_levelset.metrics.class_ids import INVALID, VOID
from tf_levelset.metrics.confusion import Counts, checked_ids

# An image (H, W) or a batch (B, H, W) of class ids from 0 to C − 1. The id C stands for
# no class: for void pixels, and in the Keras metrics for invalid ids.
Ids = npt.NDArray[np.uint16]

# uint16 also holds C and C + 1.
_MAX_CLASSES = 65534


def image_ids(
    labels: npt.ArrayLike,
    predictions: npt.ArrayLike,
    num_classes: int,
    ignore_class: int | None,
) -> tuple[Ids, Ids]:
    """Returns the class ids of labels and predictions, of shape (B, H, W).

    Void pixels have the id C in both.

    Raises:
        ValueError: If the shapes differ or are not those of images, or if the id of a
            pixel that is not void is not a whole number in [0, C).
    """
    check_num_classes(num_classes, _MAX_CLASSES)
    check_ignore_class(ignore_class)
    truth, predicted = np.asarray(labels), np.asarray(predictions)
    if truth.shape != predicted.shape or truth.ndim not in (2, 3):
        raise ValueError(
            "Expected `labels` and `predictions` to have the same shape, (H, W) or "
            f"(B, H, W). Received: {truth.shape} and {predicted.shape}"
        )
    valid = (
        np.ones(truth.shape, bool) if ignore_class is None else truth != ignore_class
    )
    images = []
    for name, values in (("labels", truth), ("predictions", predicted)):
        ids = np.full(truth.shape, num_classes, np.uint16)
        ids[valid] = checked_ids(values[valid], num_classes, name)
        images.append(ids.reshape((1, *truth.shape)[-3:]))
    return images[0], images[1]


def sum_over_images(
    count: Callable[[Ids, Ids], Counts],
    images: tuple[Iterable[Ids], Iterable[Ids]],
    shape: tuple[int, ...],
) -> Counts:
    """Returns the sum of the counts of each image. Images without pixels have none."""
    total = np.zeros(shape, np.int64)
    for truth, predicted in zip(*images, strict=True):
        if truth.size:
            total += count(truth, predicted)
    return total


def class_windows(
    ids: Ids, num_classes: int, margin: int = 0
) -> Iterator[tuple[int, tuple[slice, ...]]]:
    """Yields each class of an image, and its bounding box with a margin around it."""
    for index, box in enumerate(ndimage.find_objects(ids + 1, num_classes)):
        if box is not None:
            yield (
                index,
                tuple(slice(max(0, s.start - margin), s.stop + margin) for s in box),
            )


def class_ratios(counts: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Returns the first of each pair over the second, NaN where that is zero.

    Raises:
        ValueError: If `counts` is not of shape (C, 2).
    """
    pairs = np.asarray(counts)
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise ValueError(
            f"Expected `counts` to be of shape (C, 2). Received: shape {pairs.shape}"
        )
    return divide(pairs[:, 0], pairs[:, 1])


class ImageMetric(CountMetric):
    """A metric that counts one image at a time. A subclass implements `_count_image`.

    Options other than its own are those of `tf_levelset.metrics.MeanIoU`.
    """

    def __init__(self, num_classes: int, **options: Any) -> None:
        check_num_classes(num_classes, _MAX_CLASSES)
        super().__init__(num_classes, **options)

    def _count_image(self, truth: Ids, predicted: Ids) -> Counts:
        raise NotImplementedError

    def _count(
        self, truth: tf.Tensor, predicted: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        if truth.shape.rank == 4 and truth.shape[-1] == 1:
            truth, predicted = tf.squeeze(truth, -1), tf.squeeze(predicted, -1)
        if truth.shape.rank != 3:
            raise ValueError(
                "Expected `y_true` to be labels of images, of shape (B, H, W) or "
                f"(B, H, W, 1), or one-hot labels with sparse_y_true=False and scores "
                f"with sparse_y_pred=False. Received: shape {truth.shape}"
            )
        void, shape = tf.equal(truth, VOID), self._counts_shape()
        images, invalid = [], []
        for ids in (truth, predicted):
            no_class = void | tf.equal(ids, INVALID)
            ids_or_none = tf.where(no_class, self.num_classes, ids)
            images.append(tf.cast(ids_or_none, tf.uint16))
            invalid.append(tf.math.count_nonzero(no_class & ~void))

        def count(truths: Ids, predictions: Ids) -> Counts:
            return sum_over_images(self._count_image, (truths, predictions), shape)

        counts = tf.numpy_function(count, images, tf.int64)
        return tf.ensure_shape(counts, shape), invalid[0], invalid[1]


class RatioMetric(ImageMetric):
    """The mean over classes of the ratio of two counts, an array of shape (C, 2)."""

    def _counts_shape(self) -> tuple[int, ...]:
        return self.num_classes, 2

    def counts(self) -> Counts:
        """Returns the counts so far, int64 of shape (C, 2). Does not raise."""
        pairs: Counts = tf.convert_to_tensor(self._counts).numpy()
        return pairs

    def per_class(self) -> dict[str, float | None]:
        """Returns the score of each class by name, None where it is undefined.

        Raises:
            ValueError: As `result`.
        """
        self._require_valid_pixels()
        return self._values_by_name(class_ratios(self.counts()))

    def _score(self, counts: tf.Tensor) -> tf.Tensor:
        return mean_ratio(counts[:, 0], counts[:, 1])
