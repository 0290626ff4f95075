"""Recall of small objects, which mean IoU hardly measures.

The measure is this package's own. `small_object_counts` defines it.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tf_levelset import compat
from tf_levelset.checks import expect, is_number, plain_options
from tf_levelset.metrics.base import divide, mean_of_defined, none_if_nan
from tf_levelset.metrics.confusion import Counts
from tf_levelset.metrics.per_image import (
    Ids,
    RatioMetric,
    class_ratios,
    class_windows,
    image_ids,
    sum_over_images,
)

_AVERAGES = ("macro", "micro")


@plain_options
def small_object_counts(
    labels: npt.ArrayLike,
    predictions: npt.ArrayLike,
    num_classes: int,
    ignore_class: int | None = None,
    max_share: float = 0.005,
    hit: float = 0.5,
    min_pixels: int = 1,
) -> Counts:
    """Counts the small objects of the truth, and those that were found.

    An object is an 8-connected component of the pixels of one class. Objects of the
    same class that touch are one object, and void pixels are part of no object. An
    object is small if it has at least `min_pixels`, and fewer than `max_share` of the
    pixels of the image, void included. A share of 0.5 % is a square of 39 px in an
    image of 640×480 (small objects of COCO are below 32 px). An object is found if at
    least `hit` of its pixels were predicted as its class.

    Each object counts once, whatever its size. Labels drawn by hand, such as those of
    CamVid, can hold as many specks of one pixel as objects: `min_pixels` excludes them.

    Args:
        labels: Class ids of shape (H, W) or (B, H, W), integers or whole floats.
        predictions: Class ids, of the same shape as `labels`.
        num_classes: Number of classes, C, at most 65534.
        ignore_class: The label of void pixels.
        max_share: Share of the pixels of the image, in (0, 1], below which an object is
            small.
        hit: Share of the pixels of an object, in (0, 1], from which on it is found.
        min_pixels: Number of pixels of the smallest object that counts.

    Returns:
        int64 of shape (C, 2): the small objects that were found, and all small objects.

    Raises:
        ValueError: If the shapes differ or are not those of images, if the id of a
            pixel that is not void is not a whole number in [0, C), if a share is not in
            (0, 1], or if `min_pixels` is below 1.

    Example:
        Two objects of class 1 have two pixels each. One pixel of the first was found,
        and none of the second:

        >>> labels = [[1, 0, 0, 1], [1, 0, 0, 1]]
        >>> predictions = [[1, 0, 0, 0], [0, 0, 0, 0]]
        >>> small_object_counts(labels, predictions, 2, max_share=0.4).tolist()
        [[0, 0], [1, 2]]
    """
    _check_options(max_share, hit, min_pixels)

    def count(truth: Ids, predicted: Ids) -> Counts:
        return _count_image(truth, predicted, num_classes, max_share, hit, min_pixels)

    images = image_ids(labels, predictions, num_classes, ignore_class)
    return sum_over_images(count, images, (num_classes, 2))


def small_object_recall(counts: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Returns the share of the small objects of each class that were found.

    Args:
        counts: Sum of `small_object_counts`, of shape (C, 2).

    Returns:
        float64 of shape (C,). NaN for a class without small objects.

    Raises:
        ValueError: If `counts` is of another shape.

    Example:
        >>> small_object_recall([[0, 0], [1, 2]])
        array([nan, 0.5])
    """
    return class_ratios(counts)


def _check_options(max_share: float, hit: float, min_pixels: int) -> None:
    for name, share in (("max_share", max_share), ("hit", hit)):
        holds = is_number(share) and 0 < share <= 1
        expect(holds, f"`{name}` to be in (0, 1]", share)
    holds = is_number(min_pixels) and min_pixels >= 1
    expect(holds, "`min_pixels` to be at least 1", min_pixels)


def _count_image(
    truth: Ids,
    predicted: Ids,
    num_classes: int,
    max_share: float,
    hit: float,
    min_pixels: int,
) -> Counts:
    counts = np.zeros((num_classes, 2), np.int64)
    for index, window in class_windows(truth, num_classes):
        mask = (truth[window] == index).astype(np.uint8)
        number, objects, stats, _ = cv2.connectedComponentsWithStats(
            mask, connectivity=8
        )
        correct = np.bincount(objects[predicted[window] == index], minlength=number)
        # Object 0 is everything that is not of the class.
        areas, correct = stats[1:, cv2.CC_STAT_AREA], correct[1:]
        # These are quotients, because 7 / 100 equals 0.07, but 0.07 · 100 exceeds 7.
        small = (areas / truth.size < max_share) & (areas >= min_pixels)
        found = small & (correct / areas >= hit)
        counts[index] = found.sum(), small.sum()
    return counts


@compat.register
class SmallObjectRecall(RatioMetric):
    """Share of the small objects of the truth that were found.

    `small_object_counts` defines small objects. Other arguments, given by keyword, and
    invalid ids are those of `MeanIoU`. A pixel of weight 0 is void, and in no object.

    The metric runs on the CPU and not under XLA, as `BoundaryIoU` does.

    Args:
        num_classes: Number of classes, C, at most 65534.
        max_share: As in `small_object_counts`.
        hit: As in `small_object_counts`.
        min_pixels: As in `small_object_counts`.
        average: The value of `result`: "macro", the mean over the classes that have
            small objects, or "micro", the recall of all objects. `scores` returns both.
        **options: The options of `MeanIoU`: name, dtype, ignore_class, sparse_y_true,
            sparse_y_pred, axis, class_names and threshold.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> metric = SmallObjectRecall(num_classes=2, max_share=0.4)
        >>> labels = [[[1, 0, 0, 1], [1, 0, 0, 1]]]
        >>> metric.update_state(labels, [[[1, 0, 0, 0], [0, 0, 0, 0]]])
        >>> metric.per_class()  # class 0 is one object, which is not small
        {'0': None, '1': 0.5}
        >>> float(metric.result())
        0.5
    """

    _counted = "small objects"
    _options_of_counts = ("max_share", "hit", "min_pixels")

    def __init__(
        self,
        num_classes: int,
        *,
        max_share: float = 0.005,
        hit: float = 0.5,
        min_pixels: int = 1,
        average: str = "macro",
        **options: Any,
    ) -> None:
        _check_options(max_share, hit, min_pixels)
        expect(average in _AVERAGES, f"`average` to be one of {_AVERAGES}", average)
        super().__init__(num_classes, **options)
        self.max_share = max_share
        self.hit = hit
        self.min_pixels = min_pixels
        self.average = average

    def _count_image(self, truth: Ids, predicted: Ids) -> Counts:
        options = self.max_share, self.hit, self.min_pixels
        return _count_image(truth, predicted, self.num_classes, *options)

    def _score(self, counts: tf.Tensor) -> tf.Tensor:
        if self.average == "micro":
            counts = tf.reduce_sum(counts, axis=0, keepdims=True)
        return super()._score(counts)

    def scores(self) -> dict[str, Any]:
        """Returns the recalls and the numbers of small objects, ready for JSON.

        Returns:
            A dictionary of "macro_recall" and "micro_recall", and by class name
            "class_recall" (floats, or None if there is no small object) and "objects"
            (integers).

        Raises:
            ValueError: As `result`.
        """
        recalls, counts = self.per_class(), self.counts()
        return {
            "macro_recall": none_if_nan(mean_of_defined(small_object_recall(counts))),
            "micro_recall": none_if_nan(float(divide(*counts.sum(axis=0)))),
            "class_recall": recalls,
            "objects": dict(zip(recalls, counts[:, 1].tolist(), strict=True)),
        }

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that recreate this metric."""
        return {**super().get_config(), "average": self.average}
