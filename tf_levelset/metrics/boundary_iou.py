"""Boundary IoU."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tf_levelset import compat
from tf_levelset.checks import (
    is_number,
)
from tf_levelset.metrics.base import Tally, mean_of_defined, none_if_nan, ratios
from tf_levelset.metrics.class_ids import Counts
from tf_levelset.metrics.per_image import (
    Ids,
    PairMetric,
    count_images,
    image_pairs,
    total,
)


def boundary_counts(
    labels: npt.ArrayLike,
    predictions: npt.ArrayLike,
    num_classes: int,
    ignore_class: int | None = None,
    ratio: float = 0.02,
) -> Counts:
    """Counts intersection and union of the classes' boundary regions.

    The boundary region of a class is its mask without what is left of it after d
    erosions by a 3×3 square, d = max(1, round(ratio · √(H² + W²))). The outside of the
    picture belongs to no mask, so a mask is eroded from the picture's border as well.

    A void pixel is in no region, and takes nothing from the masks around it: the
    erosion counts it as part of whichever mask it erodes, in the truth and in the
    prediction alike. So a pixel is at a boundary if another class is known to be
    within d. A band of void along a boundary, as in PASCAL VOC, thins the regions by
    its width, and one of d pixels hides that boundary. The other choice, void as the
    outside of each mask, gives both masks the same false boundary wherever void
    begins, and a score that is too high by what they share there.

    Args:
        labels: Class ids of shape (H, W) or (B, H, W), integers or whole floats.
        predictions: Class ids, of the same shape as `labels`.
        num_classes: Number of classes, C.
        ignore_class: The label of void pixels.
        ratio: Width of the boundary region as a share of the picture's diagonal.

    Returns:
        int64 of shape (C, 2): pixels in both regions, and in either.

    Raises:
        ValueError: If the shapes differ or are not of pictures, if an id outside void
            is not a whole number in [0, C), or if `ratio` is not positive.

    Example:
        A road with a car on it, found one pixel too far to the right. In a picture so
        small every pixel but the middle of a 3×3 square is at a boundary:

        >>> road = np.zeros((5, 7), int)
        >>> road[1:4, 1:4] = 1
        >>> boundary_counts(road, np.roll(road, 1, axis=1), num_classes=2)
        array([[20, 29],
               [ 4, 12]])
    """
    _check_ratio(ratio)
    return total(
        (
            _boundary_counts(*pair, num_classes, ratio)
            for pair in image_pairs(labels, predictions, num_classes, ignore_class)
        ),
        (num_classes, 2),
    )


def boundary_iou(counts: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Returns the boundary IoU of each class.

    Args:
        counts: Sum of `boundary_counts`, of shape (C, 2).

    Returns:
        float64 of shape (C,). NaN for a class with zero union.

    Raises:
        ValueError: If `counts` are of another shape.

    Example:
        >>> boundary_iou([[20, 29], [4, 12], [0, 0]]).round(3)
        array([0.69 , 0.333,   nan])
    """
    return ratios(counts)


def mean_boundary_iou(counts: npt.ArrayLike) -> float:
    """Returns the mean boundary IoU over the classes with nonzero union.

    Args:
        counts: Sum of `boundary_counts`, of shape (C, 2).

    Returns:
        The mean of `boundary_iou` without its NaNs. NaN if no class has a union.

    Raises:
        ValueError: If `counts` are of another shape.
    """
    return mean_of_defined(ratios(counts))


def _boundary_counts(
    truth: Ids, predicted: Ids, num_classes: int, ratio: float
) -> Counts:
    """Counts one picture; its void is in both arrays."""
    depth = max(1, round(ratio * math.hypot(*truth.shape)))
    in_truth = _near_another_class(truth, depth, num_classes)
    in_prediction = _near_another_class(predicted, depth, num_classes)
    both = _histogram(truth[in_truth & in_prediction & (truth == predicted)])
    sizes = _histogram(truth[in_truth]) + _histogram(predicted[in_prediction])
    return np.stack([both, sizes - both], axis=1)[:num_classes]


def _near_another_class(
    ids: Ids, depth: int, num_classes: int
) -> npt.NDArray[np.bool_]:
    """Whether the square of side 2·depth + 1 around a pixel holds more than one class.

    That is where the erosion takes the pixel from the mask of its own class: d times
    a 3×3 square is once a square of 2d + 1. The lowest and the highest id in it answer
    for all classes at once. The ring around the picture is a class of its own. What is
    said of a void pixel has no meaning.
    """
    square = np.ones((2 * depth + 1, 2 * depth + 1), np.uint8)
    # Void, C, is above all classes, so it is never the lowest of a class's square …
    lowest = cv2.erode(_ringed(ids, num_classes), square)
    # … and here, as 0, never the highest.
    shifted = np.where(ids == num_classes, 0, ids + 1)
    highest = cv2.dilate(_ringed(shifted, num_classes + 1), square)
    return (lowest + 1 != highest)[1:-1, 1:-1]


def _ringed(ids: Ids, outside: int) -> Ids:
    return cv2.copyMakeBorder(ids, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=outside)


def _histogram(ids: Ids) -> Counts:
    """Counts each id of one or two bytes, also those that are no class."""
    counts = np.bincount(ids.ravel(), minlength=np.iinfo(ids.dtype).max + 1)
    return counts.astype(np.int64)


def _check_ratio(ratio: float) -> None:
    if not (is_number(ratio) and 0 < ratio < math.inf):
        raise ValueError(f"Expected a positive `ratio`. Received: {ratio!r}")


@compat.register
class BoundaryIoU(PairMetric):
    """Mean boundary IoU over the classes with nonzero union, see `boundary_counts`.

    Arguments not named here, and wrong ids: as `MeanIoU`, by keyword. A pixel of
    weight 0 is void.

    The counting runs in OpenCV on the CPU, picture by picture, wherever the model
    runs. XLA cannot compile it: with jit_compile=True the first step of `fit` raises
    `tf.errors.InvalidArgumentError`. Where Keras would choose XLA by itself, on a GPU,
    `compile` wants jit_compile=False.

    Args:
        num_classes: Number of classes, C.
        ratio: Width of the boundary region as a share of the picture's diagonal.
        **options: Those of `MeanIoU`: name, dtype, ignore_class, sparse_y_true,
            sparse_y_pred, axis, class_names and threshold.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> metric = BoundaryIoU(num_classes=2, ignore_class=255)
        >>> labels = [[[0, 0, 1, 1], [0, 0, 1, 255]]]
        >>> metric.update_state(labels, [[[0, 0, 1, 1], [0, 1, 1, 0]]])
        >>> metric.per_class()  # 3 / 4 each: all 7 pixels are at a boundary
        {'0': 0.75, '1': 0.75}
        >>> float(metric.result())
        0.75
    """

    def __init__(
        self, num_classes: int, *, ratio: float = 0.02, **options: Any
    ) -> None:
        _check_ratio(ratio)
        super().__init__(num_classes, **options)
        self.ratio = ratio

    def _counted(self) -> str:
        return f"boundary metrics of {self.num_classes} classes, ratio {self.ratio}"

    def _count(self, truth: tf.Tensor, predicted: tf.Tensor, valid: tf.Tensor) -> Tally:
        def count(truth: Ids, predicted: Ids) -> Counts:
            # Whatever was predicted there, void is void in both.
            predicted = np.where(truth == self.num_classes, truth, predicted)
            return _boundary_counts(truth, predicted, self.num_classes, self.ratio)

        return count_images(count, self, truth, predicted, valid)

    def scores(self) -> dict[str, Any]:
        """Returns "mean_boundary_iou" and, by name, "class_boundary_iou".

        Floats, ready for JSON; None where nothing was counted.

        Raises:
            ValueError: As `result`.
        """
        return {
            "class_boundary_iou": self.per_class(),
            "mean_boundary_iou": none_if_nan(mean_boundary_iou(self.counts())),
        }

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that recreate this metric."""
        return {**super().get_config(), "ratio": self.ratio}
