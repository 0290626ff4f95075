"""Boundary IoU of Cheng et al. (2021).

"Boundary IoU: Improving Object-Centric Image Segmentation Evaluation" compares the
pixels of a mask that are close to its outline, because the IoU of large objects depends
little on their boundaries.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from tf_levelset import compat
from tf_levelset.checks import check_positive, plain_options
from tf_levelset.metrics.base import mean_of_defined, none_if_nan
from tf_levelset.metrics.confusion import Counts
from tf_levelset.metrics.per_image import (
    Ids,
    RatioMetric,
    class_ratios,
    image_ids,
    sum_over_images,
)


@plain_options
def boundary_counts(
    labels: npt.ArrayLike,
    predictions: npt.ArrayLike,
    num_classes: int,
    ignore_class: int | None = None,
    ratio: float = 0.02,
) -> Counts:
    """Counts the intersection and union of the boundary regions of each class.

    The boundary region of a class is its mask without what remains of it after d
    erosions by a 3×3 square, where d = max(1, round(ratio · √(H² + W²))). The outside
    of the image belongs to no mask, so a mask is also eroded from the border of the
    image.

    A void pixel is in no region, and does not erode the masks around it: the erosion
    counts it as part of each mask, in the truth and in the prediction alike. So a pixel
    is at a boundary if another class is known to be within d. A band of void along a
    boundary, as in PASCAL VOC, makes the regions thinner by its width, and a band of d
    pixels hides that boundary. If void were outside of each mask instead, both masks
    would share a false boundary wherever void begins, and the score would be too high.

    Args:
        labels: Class ids of shape (H, W) or (B, H, W), integers or whole floats.
        predictions: Class ids, of the same shape as `labels`.
        num_classes: Number of classes, C, at most 65534.
        ignore_class: The label of void pixels.
        ratio: Width of the boundary region as a share of the diagonal of the image.

    Returns:
        int64 of shape (C, 2): the pixels in both regions, and in either of them.

    Raises:
        ValueError: If the shapes differ or are not those of images, if the id of a
            pixel that is not void is not a whole number in [0, C), or if `ratio` is not
            positive.

    Example:
        The prediction of an object on a road is one pixel too far to the right. In so
        small an image, all pixels but the middle of a 3×3 square are at a boundary:

        >>> road = np.zeros((5, 7), int)
        >>> road[1:4, 1:4] = 1
        >>> boundary_counts(road, np.roll(road, 1, axis=1), num_classes=2)
        array([[20, 29],
               [ 4, 12]])
    """
    check_positive(ratio=ratio)
    return sum_over_images(
        lambda truth, predicted: _count_image(truth, predicted, num_classes, ratio),
        image_ids(labels, predictions, num_classes, ignore_class),
        (num_classes, 2),
    )


def boundary_iou(counts: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Returns the boundary IoU of each class.

    Args:
        counts: Sum of `boundary_counts`, of shape (C, 2).

    Returns:
        float64 of shape (C,). NaN for a class with zero union.

    Raises:
        ValueError: If `counts` is of another shape.

    Example:
        >>> boundary_iou([[20, 29], [4, 12], [0, 0]]).round(3)
        array([0.69 , 0.333,   nan])
    """
    return class_ratios(counts)


def _count_image(truth: Ids, predicted: Ids, num_classes: int, ratio: float) -> Counts:
    depth = max(1, round(ratio * math.hypot(*truth.shape)))
    in_truth = _is_near_another_class(truth, depth, num_classes)
    in_prediction = _is_near_another_class(predicted, depth, num_classes)
    in_both = in_truth & in_prediction & (truth == predicted)
    both, of_truth, of_prediction = (
        np.bincount(ids, minlength=num_classes)[:num_classes].astype(np.int64)
        for ids in (truth[in_both], truth[in_truth], predicted[in_prediction])
    )
    return np.stack([both, of_truth + of_prediction - both], axis=1)


def _is_near_another_class(
    ids: Ids, depth: int, num_classes: int
) -> npt.NDArray[np.bool_]:
    """Returns where the square of side 2·depth + 1 around a pixel holds two classes.

    There, the erosion removes the pixel from the mask of its class, because `depth`
    erosions by a 3×3 square are one erosion by that square. The lowest and the highest
    id in the square answer the question for all classes at once. The outside of the
    image is a class of its own. The values at void pixels have no meaning.
    """
    square = np.ones((2 * depth + 1, 2 * depth + 1), np.uint8)
    # Void is above all classes, so it is never the lowest id …
    lowest = cv2.erode(ids, square)
    # … and here it is below all classes, so it is never the highest.
    shifted = np.where(ids == num_classes, 0, ids + 1)
    highest = cv2.dilate(
        shifted, square, borderType=cv2.BORDER_CONSTANT, borderValue=num_classes + 1
    )
    return lowest + 1 != highest


@compat.register
class BoundaryIoU(RatioMetric):
    """Mean boundary IoU over the classes with nonzero union, see `boundary_counts`.

    Other arguments, given by keyword, and invalid ids are those of `MeanIoU`. A pixel
    of weight 0 is void.

    The images are counted one by one on the CPU, wherever the model runs. XLA cannot
    compile that: with jit_compile=True, the first step of `fit` raises
    `tf.errors.InvalidArgumentError`. On a GPU, where Keras may choose XLA by itself,
    pass jit_compile=False to `compile`.

    Args:
        num_classes: Number of classes, C, at most 65534.
        ratio: Width of the boundary region as a share of the diagonal of the image.
        **options: The options of `MeanIoU`: name, dtype, ignore_class, sparse_y_true,
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

    _counted = "boundary regions"
    _options_of_counts = ("ratio",)

    def __init__(
        self, num_classes: int, *, ratio: float = 0.02, **options: Any
    ) -> None:
        check_positive(ratio=ratio)
        super().__init__(num_classes, **options)
        self.ratio = ratio

    def _count_image(self, truth: Ids, predicted: Ids) -> Counts:
        return _count_image(truth, predicted, self.num_classes, self.ratio)

    def scores(self) -> dict[str, Any]:
        """Returns "mean_boundary_iou" and, by class name, "class_boundary_iou".

        The values are floats, or None if they are undefined, ready for JSON.

        Raises:
            ValueError: As `result`.
        """
        ious = boundary_iou(self.counts())
        return {
            "class_boundary_iou": self.per_class(),
            "mean_boundary_iou": none_if_nan(mean_of_defined(ious)),
        }
