"""Mean IoU of the pixels near the boundaries of the truth, within a trimap.

The measure is that of Kohli, Ladický & Torr (2009), "Robust higher order potentials for
enforcing label consistency", and of DeepLab, Chen et al. (2015), section 5, "along
object boundaries".
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from tf_levelset import compat
from tf_levelset.checks import expect, is_number, plain_options
from tf_levelset.metrics.confusion import Counts, count_pairs
from tf_levelset.metrics.iou import MeanIoU
from tf_levelset.metrics.per_image import (
    Ids,
    ImageMetric,
    class_windows,
    image_ids,
    sum_over_images,
)

_MAX_WIDTH = 1024
# OpenCV takes a third of the time of SciPy. Its distances are float32, but up to this
# width their squares, which are whole numbers, can be rounded to the exact values.
_MAX_WIDTH_IN_FLOAT32 = 128
_BOUNDARIES = ("all", "class", "void")


@plain_options
def trimap_confusions(
    labels: npt.ArrayLike,
    predictions: npt.ArrayLike,
    num_classes: int,
    widths: Sequence[float],
    ignore_class: int | None = None,
    boundaries: str = "all",
) -> Counts:
    """Counts the confusion matrix of the pixels close to the boundaries of the truth.

    A pixel is within width w if the Euclidean distance from its centre to that of the
    nearest pixel of another label is at most w. So the band of width 1 holds, on both
    sides of a boundary, the pixels that share an edge with it, and √2 adds those that
    share a corner. The border of the image is not a boundary.

    For a pixel of a class, the other labels are:

    - "all": other classes and void. In PASCAL VOC, bands of void separate the objects.
    - "class": other classes. Void is ignored: the distance may lead across it.
    - "void": void. DeepLab measures PASCAL VOC like this, "within a narrow band of void
      labels". It does not say whether its distance is Euclidean.

    Args:
        labels: Class ids of shape (H, W) or (B, H, W), integers or whole floats.
        predictions: Class ids, of the same shape as `labels`.
        num_classes: Number of classes, C, at most 65534.
        widths: Widths of the band in pixels, each in (0, 1024], in any order.
        ignore_class: The label of void pixels. They are in no band.
        boundaries: "all", "class" or "void".

    Returns:
        int64 of shape (len(widths), C, C): one confusion matrix for each width, rows
        the truth, for the functions of `tf_levelset.metrics.iou`.

    Raises:
        ValueError: If the shapes differ or are not those of images, if the id of a
            pixel that is not void is not a whole number in [0, C), if there is no width
            or one is out of range, if `boundaries` is not one of the three, or if it is
            "void" without `ignore_class`.

    Example:
        >>> labels = [[0, 0, 0, 1, 1, 1]]
        >>> predictions = [[0, 0, 1, 1, 1, 0]]
        >>> trimap_confusions(labels, predictions, 2, widths=[1, 3]).tolist()
        [[[0, 1], [0, 1]], [[2, 1], [1, 2]]]
    """
    _check_widths(widths)
    _check_boundaries(boundaries, ignore_class)

    def count(truth: Ids, predicted: Ids) -> Counts:
        return _count_image(truth, predicted, num_classes, widths, boundaries)

    images = image_ids(labels, predictions, num_classes, ignore_class)
    return sum_over_images(count, images, (len(widths), num_classes, num_classes))


def _check_widths(widths: Sequence[float]) -> None:
    numbers = list(widths) if isinstance(widths, Iterable) else []
    holds = all(is_number(w) and 0 < w <= _MAX_WIDTH for w in numbers)
    expected = f"`widths` to be one or more numbers in (0, {_MAX_WIDTH}]"
    expect(numbers != [] and holds, expected, widths)


def _check_boundaries(boundaries: str, ignore_class: int | None) -> None:
    known = boundaries in _BOUNDARIES
    expect(known, f"`boundaries` to be one of {_BOUNDARIES}", boundaries)
    expected = "`ignore_class` to be an integer, because `boundaries` is 'void'"
    expect(boundaries != "void" or ignore_class is not None, expected, ignore_class)


def _count_image(
    truth: Ids,
    predicted: Ids,
    num_classes: int,
    widths: Sequence[float],
    boundaries: str,
) -> Counts:
    distances = _boundary_distances(truth, num_classes, max(widths), boundaries)
    distances[predicted == num_classes] = np.inf
    bands = [distances <= width for width in widths]
    return np.stack(
        [count_pairs(truth[band], predicted[band], num_classes) for band in bands]
    )


def _boundary_distances(
    truth: Ids, num_classes: int, limit: float, boundaries: str
) -> npt.NDArray[np.float64]:
    """Returns the distance of each pixel to another label, infinite at void pixels.

    Distances above `limit` may be too large, because each class is measured within a
    window.
    """
    distances = np.full(truth.shape, np.inf)
    void = truth == num_classes
    if boundaries == "void":
        distances[~void] = _distances_to_zero(~void, limit)[~void]
        return distances
    for index, window in class_windows(truth, num_classes, math.ceil(limit)):
        inside = truth[window] == index
        same = inside | void[window] if boundaries == "class" else inside
        distances[window][inside] = _distances_to_zero(same, limit)[inside]
    return distances


def _distances_to_zero(
    mask: npt.NDArray[np.bool_], limit: float
) -> npt.NDArray[np.float64]:
    """Returns the Euclidean distances to the nearest False, infinite if there is none.

    Up to `limit` they are correctly rounded, so that a width of √5 includes a pixel at
    the distance √5.
    """
    if mask.all():  # Neither library defines this case.
        return np.full(mask.shape, np.inf)
    if limit > _MAX_WIDTH_IN_FLOAT32:
        exact: npt.NDArray[np.float64] = ndimage.distance_transform_edt(mask)
        return exact
    distances = cv2.distanceTransform(
        mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE
    )
    return np.sqrt(np.rint(np.square(distances, dtype=np.float64)))


@compat.register
class TrimapIoU(ImageMetric, MeanIoU):
    """Mean IoU of the pixels near the boundaries of the truth, see `trimap_confusions`.

    `confusion`, `per_class` and `scores` are those of `MeanIoU`, for these pixels.
    Other arguments, given by keyword, and invalid ids are those of `MeanIoU`, too. A
    pixel of weight 0 is void, and so makes a boundary if void does.

    The metric runs on the CPU and not under XLA, as `BoundaryIoU` does.

    Args:
        num_classes: Number of classes, C, at most 65534.
        width: Width of the band in pixels, in (0, 1024].
        boundaries: "all", "class" or "void".
        **options: The options of `MeanIoU`: name, dtype, ignore_class, sparse_y_true,
            sparse_y_pred, axis, class_names and threshold.

    Raises:
        ValueError: If an argument is out of its range, or if `boundaries` is "void"
            without `ignore_class`.

    Example:
        >>> metric = TrimapIoU(num_classes=2, width=1)
        >>> metric.update_state([[[0, 0, 0, 1, 1, 1]]], [[[0, 0, 1, 1, 1, 0]]])
        >>> metric.confusion()  # the two pixels next to the boundary
        array([[0, 1],
               [0, 1]])
        >>> float(metric.result())  # (0/1 + 1/2) / 2
        0.25
    """

    _counted = "trimap confusion matrices"
    _options_of_counts = ("width", "boundaries")

    def __init__(
        self,
        num_classes: int,
        *,
        width: float = 3,
        boundaries: str = "all",
        **options: Any,
    ) -> None:
        _check_widths([width])
        _check_boundaries(boundaries, options.get("ignore_class"))
        super().__init__(num_classes, **options)
        self.width = width
        self.boundaries = boundaries

    def _count_image(self, truth: Ids, predicted: Ids) -> Counts:
        widths = [self.width]
        return _count_image(
            truth, predicted, self.num_classes, widths, self.boundaries
        )[0]
