"""Trimap IoU."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from scipy import ndimage

from tf_levelset import compat
from tf_levelset.checks import (
    check_num_classes,
    is_number,
)
from tf_levelset.metrics.base import Tally
from tf_levelset.metrics.class_ids import Counts
from tf_levelset.metrics.iou import MeanIoU
from tf_levelset.metrics.per_image import (
    MOST_CLASSES,
    Ids,
    count_images,
    image_pairs,
    total,
    window_of,
)

_WIDEST = 1024


# OpenCV's distances are float32 and differ by some units in the last place from
# processor to processor. Up to this width their squares, which are whole numbers, are
# found again with two digits to spare; SciPy's are exact and take twice as long.
_WIDEST_IN_FLOAT32 = 128


_BOUNDARIES = ("all", "class", "void")


def trimap_confusions(
    labels: npt.ArrayLike,
    predictions: npt.ArrayLike,
    num_classes: int,
    widths: Sequence[float],
    ignore_class: int | None = None,
    boundaries: str = "all",
) -> Counts:
    """Counts the pixels within a distance of the boundaries of the truth.

    A pixel lies within width w if the Euclidean distance from its centre to that of
    the nearest pixel of another label is at most w. So the band of width 1 holds, on
    both sides of a boundary, the pixels that share an edge with it, and √2 adds those
    that share a corner. The border of the picture is no boundary.

    What counts as another label, for a pixel of a class:

    - "all": another class, or void. In PASCAL VOC void bands separate the objects.
    - "class": another class. Void is looked through: the distance may lead across it.
    - "void": void. This is how DeepLab measures on PASCAL VOC, "within a narrow band
      of void labels"; it does not say whether its distance is Euclidean.

    Args:
        labels: Class ids of shape (H, W) or (B, H, W), integers or whole floats.
        predictions: Class ids, of the same shape as `labels`.
        num_classes: Number of classes, C.
        widths: Widths of the band in pixels, each in (0, 1024], in any order.
        ignore_class: The label of void pixels. They are in no band.
        boundaries: "all", "class" or "void".

    Returns:
        int64 of shape (len(widths), C, C): a confusion matrix a width, rows the truth,
        for the functions of `tf_levelset.metrics.iou`.

    Raises:
        ValueError: If the shapes differ or are not of pictures, if an id outside void
            is not a whole number in [0, C), if a width is out of range or there is
            none, or if `boundaries` is none of the three, or "void" without
            `ignore_class`.

    Example:
        >>> labels = [[0, 0, 0, 1, 1, 1]]
        >>> predictions = [[0, 0, 1, 1, 1, 0]]
        >>> trimap_confusions(labels, predictions, 2, widths=[1, 3]).tolist()
        [[[0, 1], [0, 1]], [[2, 1], [1, 2]]]
    """
    _check_widths(widths)
    _check_boundaries(boundaries, ignore_class)
    return total(
        (
            _trimap_confusions(*pair, num_classes, widths, boundaries)
            for pair in image_pairs(labels, predictions, num_classes, ignore_class)
        ),
        (len(widths), num_classes, num_classes),
    )


def _trimap_confusions(
    truth: Ids,
    predicted: Ids,
    num_classes: int,
    widths: Sequence[float],
    boundaries: str,
) -> Counts:
    """Counts one picture."""
    ordered = np.unique(np.asarray(widths, np.float64))
    distances = _boundary_distances(truth, num_classes, ordered[-1], boundaries)
    counted = (distances <= ordered[-1]) & (predicted < num_classes)
    # The narrowest band that holds the pixel; the wider ones hold it too.
    narrowest = np.searchsorted(ordered, distances[counted])
    cells = (narrowest * num_classes + truth[counted]) * num_classes
    cells += predicted[counted]
    rings = np.bincount(cells, minlength=len(ordered) * num_classes**2)
    rings = rings.astype(np.int64).reshape(-1, num_classes, num_classes)
    bands: Counts = rings.cumsum(axis=0)[np.searchsorted(ordered, widths)]
    return bands


def _boundary_distances(
    truth: Ids, num_classes: int, limit: float, boundaries: str
) -> npt.NDArray[np.float64]:
    """Returns each pixel's distance to another label, infinite on void.

    What is above `limit` may be too large: it is measured in a window around a class.
    """
    distances = np.full(truth.shape, np.inf)
    void = truth == num_classes
    if boundaries == "void":
        distances[~void] = _distances_to_zero(~void, limit)[~void]
        return distances
    for index in np.unique(truth[~void]):
        window = window_of(truth == index, math.ceil(limit))
        inside = truth[window] == index
        same = inside | void[window] if boundaries == "class" else inside
        distances[window][inside] = _distances_to_zero(same, limit)[inside]
    return distances


def _distances_to_zero(
    mask: npt.NDArray[np.bool_], limit: float
) -> npt.NDArray[np.float64]:
    """Returns the Euclidean distances to the nearest False, infinite if there is none.

    Up to `limit` they are the correctly rounded roots of whole numbers, so that a width
    of √5 holds a pixel at the distance √5.
    """
    if mask.all():  # of which neither library promises anything
        return np.full(mask.shape, np.inf)
    if limit > _WIDEST_IN_FLOAT32:
        exact: npt.NDArray[np.float64] = ndimage.distance_transform_edt(mask)
        return exact
    distances = cv2.distanceTransform(
        mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE
    )
    return np.sqrt(np.rint(np.square(distances, dtype=np.float64)))


def _check_widths(widths: Sequence[float]) -> None:
    numbers = list(widths) if isinstance(widths, Iterable) else []
    if not numbers or not all(is_number(w) and 0 < w <= _WIDEST for w in numbers):
        raise ValueError(
            f"Expected one or more widths in (0, {_WIDEST}]. Received: {widths!r}"
        )


def _check_boundaries(boundaries: str, ignore_class: int | None) -> None:
    if boundaries not in _BOUNDARIES:
        raise ValueError(
            f"Expected `boundaries` to be one of {_BOUNDARIES}. Received: "
            f"{boundaries!r}"
        )
    if boundaries == "void" and ignore_class is None:
        raise ValueError(
            "Expected an `ignore_class` with boundaries='void'. Received: None"
        )


@compat.register
class TrimapIoU(MeanIoU):
    """Mean IoU over the pixels near the truth's boundaries, see `trimap_confusions`.

    `confusion`, `per_class` and `scores` are those of `MeanIoU`, over these pixels.
    Arguments not named here, and wrong ids: as `MeanIoU`, by keyword. A pixel of
    weight 0 is void, and so makes a boundary if void does.

    It runs on the CPU and not under XLA, as `BoundaryIoU`.

    Args:
        num_classes: Number of classes, C.
        width: Width of the band in pixels, in (0, 1024].
        boundaries: "all", "class" or "void".
        **options: Those of `MeanIoU`: name, dtype, ignore_class, sparse_y_true,
            sparse_y_pred, axis, class_names and threshold.

    Raises:
        ValueError: If an argument is out of its range, or if `boundaries` is "void"
            without `ignore_class`.

    Example:
        >>> metric = TrimapIoU(num_classes=2, width=1)
        >>> metric.update_state([[[0, 0, 0, 1, 1, 1]]], [[[0, 0, 1, 1, 1, 0]]])
        >>> metric.confusion()  # the two pixels beside the boundary
        array([[0, 1],
               [0, 1]])
        >>> float(metric.result())  # (0/1 + 1/2) / 2
        0.25
    """

    def __init__(
        self,
        num_classes: int,
        *,
        width: float = 3,
        boundaries: str = "all",
        **options: Any,
    ) -> None:
        check_num_classes(num_classes, MOST_CLASSES)
        _check_widths([width])
        _check_boundaries(boundaries, options.get("ignore_class"))
        super().__init__(num_classes, **options)
        self.width = width
        self.boundaries = boundaries

    def _counted(self) -> str:
        return (
            f"trimap metrics of {self.num_classes} classes, width {self.width} and "
            f"boundaries {self.boundaries!r}"
        )

    def _count(self, truth: tf.Tensor, predicted: tf.Tensor, valid: tf.Tensor) -> Tally:
        def count(truth: Ids, predicted: Ids) -> Counts:
            return _trimap_confusions(
                truth, predicted, self.num_classes, [self.width], self.boundaries
            )[0]

        return count_images(count, self, truth, predicted, valid)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that recreate this metric."""
        return {
            **super().get_config(),
            "width": self.width,
            "boundaries": self.boundaries,
        }
