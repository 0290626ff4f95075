"""Small objects."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tf_levelset import compat
from tf_levelset.checks import (
    is_number,
)
from tf_levelset.metrics.base import (
    Tally,
    mean_of_defined,
    none_if_nan,
    pairs,
    ratios,
)
from tf_levelset.metrics.class_ids import Counts
from tf_levelset.metrics.per_image import (
    Ids,
    PairMetric,
    count_images,
    image_pairs,
    total,
    window_of,
)

_AVERAGES = ("macro", "micro")


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

    An object is an 8-connected component of the pixels of one class; touching objects
    of a class are one, and void takes the pixels that it covers from all. It is small
    if it has fewer than `max_share` of the picture's pixels, void included: below
    0.5 %, a square of 39 px in 640×480 (COCO's small objects are below 32), and no
    fewer than `min_pixels`. It is found if at least `hit` of its pixels were predicted
    as its class.

    Each object counts once, whatever its size. Labels drawn by hand can hold as many
    specks of a pixel as objects (CamVid's do): `min_pixels` leaves them out.

    Args:
        labels: Class ids of shape (H, W) or (B, H, W), integers or whole floats.
        predictions: Class ids, of the same shape as `labels`.
        num_classes: Number of classes, C.
        ignore_class: The label of void pixels.
        max_share: Share of the picture's pixels, in (0, 1], that a small object stays
            below.
        hit: Share of an object's pixels, in (0, 1], that finds it.
        min_pixels: Pixels of the smallest object that counts.

    Returns:
        int64 of shape (C, 2): found small objects, and all small objects.

    Raises:
        ValueError: If the shapes differ or are not of pictures, if an id outside void
            is not a whole number in [0, C), if a share is not in (0, 1], or if
            `min_pixels` is below 1.

    Example:
        Two objects of class 1 and two pixels each, touching at no corner. One pixel
        of the first was found, and none of the second:

        >>> labels = [[1, 0, 0, 1], [1, 0, 0, 1]]
        >>> predictions = [[1, 0, 0, 0], [0, 0, 0, 0]]
        >>> small_object_counts(labels, predictions, 2, max_share=0.4).tolist()
        [[0, 0], [1, 2]]
    """
    _check_small_objects(max_share, hit, min_pixels)
    return total(
        (
            _small_object_counts(*pair, num_classes, max_share, hit, min_pixels)
            for pair in image_pairs(labels, predictions, num_classes, ignore_class)
        ),
        (num_classes, 2),
    )


def small_object_recall(counts: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Returns the share of each class's small objects that were found.

    Args:
        counts: Sum of `small_object_counts`, of shape (C, 2).

    Returns:
        float64 of shape (C,). NaN for a class without small objects.

    Raises:
        ValueError: If `counts` are of another shape.

    Example:
        >>> small_object_recall([[0, 0], [1, 2]])
        array([nan, 0.5])
    """
    return ratios(counts)


def mean_small_object_recall(counts: npt.ArrayLike, average: str = "macro") -> float:
    """Returns the recall of all classes' small objects.

    Args:
        counts: Sum of `small_object_counts`, of shape (C, 2).
        average: "macro", the mean of the recalls of the classes that have small
            objects, or "micro", the recall of all objects whatever their class.

    Returns:
        The recall. NaN if there is no small object.

    Raises:
        ValueError: If `counts` are of another shape, or `average` is neither.

    Example:
        >>> mean_small_object_recall([[9, 9], [0, 1]])
        0.5
        >>> mean_small_object_recall([[9, 9], [0, 1]], average="micro")
        0.9
    """
    _check_average(average)
    if average == "micro":
        counts = pairs(counts).sum(axis=0, keepdims=True)
    return mean_of_defined(ratios(counts))


def _small_object_counts(
    truth: Ids,
    predicted: Ids,
    num_classes: int,
    max_share: float,
    hit: float,
    min_pixels: int,
) -> Counts:
    """Counts one picture."""
    counts = np.zeros((num_classes, 2), np.int64)
    for index in np.unique(truth[truth < num_classes]):
        mask = truth == index
        window = window_of(mask, 0)
        number, objects, stats, _ = cv2.connectedComponentsWithStats(
            mask[window].astype(np.uint8), connectivity=8
        )
        right = np.bincount(objects[predicted[window] == index], minlength=number)
        # Object 0 is all that is not of the class.
        areas, right = stats[1:, cv2.CC_STAT_AREA], right[1:]
        # Quotients, not products: 7 / 100 is 0.07, but 0.07 · 100 is more than 7.
        small = (areas / truth.size < max_share) & (areas >= min_pixels)
        found = small & (right / areas >= hit)
        counts[index] = found.sum(), small.sum()
    return counts


def _check_small_objects(max_share: float, hit: float, min_pixels: int) -> None:
    for name, share in (("max_share", max_share), ("hit", hit)):
        if not (is_number(share) and 0 < share <= 1):
            raise ValueError(f"Expected `{name}` in (0, 1]. Received: {share!r}")
    if not (is_number(min_pixels) and min_pixels >= 1):
        raise ValueError(f"Expected `min_pixels` >= 1. Received: {min_pixels!r}")


def _check_average(average: str) -> None:
    if average not in _AVERAGES:
        raise ValueError(
            f"Expected `average` to be one of {_AVERAGES}. Received: {average!r}"
        )


@compat.register
class SmallObjectRecall(PairMetric):
    """Share of the truth's small objects that were found, see `small_object_counts`.

    Arguments not named here, and wrong ids: as `MeanIoU`, by keyword. A pixel of
    weight 0 is void, and in no object.

    It runs on the CPU and not under XLA, as `BoundaryIoU`.

    Args:
        num_classes: Number of classes, C.
        max_share: Share of the picture's pixels, in (0, 1], that a small object stays
            below.
        hit: Share of an object's pixels, in (0, 1], that finds it.
        min_pixels: Pixels of the smallest object that counts.
        average: What `result` returns: "macro", the mean over the classes that have
            small objects, or "micro", the recall of all objects. `scores` has both.
        **options: Those of `MeanIoU`: name, dtype, ignore_class, sparse_y_true,
            sparse_y_pred, axis, class_names and threshold.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> metric = SmallObjectRecall(num_classes=2, max_share=0.4)
        >>> labels = [[[1, 0, 0, 1], [1, 0, 0, 1]]]
        >>> metric.update_state(labels, [[[1, 0, 0, 0], [0, 0, 0, 0]]])
        >>> metric.per_class()  # class 0 is one object, and not small
        {'0': None, '1': 0.5}
        >>> float(metric.result())
        0.5
    """

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
        _check_small_objects(max_share, hit, min_pixels)
        _check_average(average)
        super().__init__(num_classes, **options)
        self.max_share = max_share
        self.hit = hit
        self.min_pixels = min_pixels
        self.average = average

    def _counted(self) -> str:
        return (
            f"small object metrics of {self.num_classes} classes, max_share "
            f"{self.max_share}, hit {self.hit} and min_pixels {self.min_pixels}"
        )

    def _count(self, truth: tf.Tensor, predicted: tf.Tensor, valid: tf.Tensor) -> Tally:
        def count(truth: Ids, predicted: Ids) -> Counts:
            return _small_object_counts(
                truth,
                predicted,
                self.num_classes,
                self.max_share,
                self.hit,
                self.min_pixels,
            )

        return count_images(count, self, truth, predicted, valid)

    def _score(self, counts: tf.Tensor) -> tf.Tensor:
        if self.average == "micro":
            counts = tf.reduce_sum(counts, axis=0, keepdims=True)
        return super()._score(counts)

    def scores(self) -> dict[str, Any]:
        """Returns the recalls and the numbers of small objects, ready for JSON.

        Returns:
            "macro_recall", "micro_recall" and, by name, "class_recall" (floats, None
            where there is no object), and "objects", by name (ints).

        Raises:
            ValueError: As `result`.
        """
        recalls, counts = self.per_class(), self.counts()
        return {
            "macro_recall": none_if_nan(mean_small_object_recall(counts)),
            "micro_recall": none_if_nan(mean_small_object_recall(counts, "micro")),
            "class_recall": recalls,
            "objects": dict(zip(recalls, counts[:, 1].tolist(), strict=True)),
        }

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that recreate this metric."""
        return {
            **super().get_config(),
            "max_share": self.max_share,
            "hit": self.hit,
            "min_pixels": self.min_pixels,
            "average": self.average,
        }
