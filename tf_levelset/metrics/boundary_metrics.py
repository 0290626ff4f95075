"""Scores of what mIoU hardly sees: boundaries and small objects.

Three measures, each summed over all pictures before anything is divided:

    boundary IoU          Cheng et al. (2021), "Boundary IoU: Improving Object-Centric
                          Image Segmentation Evaluation"
    trimap mIoU           Kohli, Ladický & Torr (2009), "Robust higher order potentials
                          for enforcing label consistency"; Chen et al. (2015),
                          DeepLab, section 5, "along object boundaries"
    small object recall   our own definition, see `small_object_counts`

The functions count one picture or a batch of them, in int64 arrays that can be added.
The Keras metrics keep such an array as their state. They call OpenCV through
`tf.numpy_function`: on the CPU, whatever the model runs on, and not under XLA.

Void pixels are left out of every count, and nothing depends on what was predicted
there. What they do to the shapes around them is said at each function.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from scipy import ndimage

from tf_levelset import compat
from tf_levelset.checks import (
    check_ignore_class,
    check_num_classes,
    is_number,
)
from tf_levelset.metrics.metrics import (
    _class_iou,
    _ConfusionMetric,
    _count_wrong,
    _CountMetric,
    _default_names,
    _divide,
    _ids_in_range,
    _mean_of_defined,
    _none_if_nan,
    _Tally,
)

Counts = npt.NDArray[np.int64]

# A picture of class ids, 0 to C − 1, and C where there is no class: on void, and in
# the Keras metrics where an id was wrong. uint8, or uint16 if there are many classes.
_Ids = npt.NDArray[Any]

_WIDEST = 1024

# OpenCV's distances are float32 and differ by some units in the last place from
# processor to processor. Up to this width their squares, which are whole numbers, are
# found again with two digits to spare; SciPy's are exact and take twice as long.
_WIDEST_IN_FLOAT32 = 128

# Of 16 bits, which also hold what is no class.
_MOST_CLASSES = 65534

_BOUNDARIES = ("all", "class", "void")
_AVERAGES = ("macro", "micro")


# --- Boundary IoU ---------------------------------------------------------------------


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
    return _total(
        (
            _boundary_counts(*pair, num_classes, ratio)
            for pair in _pictures(labels, predictions, num_classes, ignore_class)
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
    return _ratios(counts)


def mean_boundary_iou(counts: npt.ArrayLike) -> float:
    """Returns the mean boundary IoU over the classes with nonzero union.

    Args:
        counts: Sum of `boundary_counts`, of shape (C, 2).

    Returns:
        The mean of `boundary_iou` without its NaNs. NaN if no class has a union.

    Raises:
        ValueError: If `counts` are of another shape.
    """
    return _mean_of_defined(_ratios(counts))


def _boundary_counts(
    truth: _Ids, predicted: _Ids, num_classes: int, ratio: float
) -> Counts:
    """Counts one picture; its void is in both arrays."""
    depth = max(1, round(ratio * math.hypot(*truth.shape)))
    in_truth = _near_another_class(truth, depth, num_classes)
    in_prediction = _near_another_class(predicted, depth, num_classes)
    both = _histogram(truth[in_truth & in_prediction & (truth == predicted)])
    sizes = _histogram(truth[in_truth]) + _histogram(predicted[in_prediction])
    return np.stack([both, sizes - both], axis=1)[:num_classes]


def _near_another_class(
    ids: _Ids, depth: int, num_classes: int
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


def _ringed(ids: _Ids, outside: int) -> _Ids:
    return cv2.copyMakeBorder(ids, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=outside)


# --- Trimap mIoU ----------------------------------------------------------------------


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
        for the functions of `tf_levelset.metrics.metrics`.

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
    return _total(
        (
            _trimap_confusions(*pair, num_classes, widths, boundaries)
            for pair in _pictures(labels, predictions, num_classes, ignore_class)
        ),
        (len(widths), num_classes, num_classes),
    )


def _trimap_confusions(
    truth: _Ids,
    predicted: _Ids,
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
    truth: _Ids, num_classes: int, limit: float, boundaries: str
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
        window = _window(truth == index, math.ceil(limit))
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


def _window(mask: npt.NDArray[np.bool_], margin: int) -> tuple[slice, slice]:
    """Returns the mask's bounding box and a margin around it, within the picture."""
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return (
        slice(max(0, top - margin), top + height + margin),
        slice(max(0, left - margin), left + width + margin),
    )


# --- Small objects --------------------------------------------------------------------


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
    return _total(
        (
            _small_object_counts(*pair, num_classes, max_share, hit, min_pixels)
            for pair in _pictures(labels, predictions, num_classes, ignore_class)
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
    return _ratios(counts)


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
        counts = _pairs(counts).sum(axis=0, keepdims=True)
    return _mean_of_defined(_ratios(counts))


def _small_object_counts(
    truth: _Ids,
    predicted: _Ids,
    num_classes: int,
    max_share: float,
    hit: float,
    min_pixels: int,
) -> Counts:
    """Counts one picture."""
    counts = np.zeros((num_classes, 2), np.int64)
    for index in np.unique(truth[truth < num_classes]):
        mask = truth == index
        window = _window(mask, 0)
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


# --- What the measures share ----------------------------------------------------------


def _pictures(
    labels: npt.ArrayLike,
    predictions: npt.ArrayLike,
    num_classes: int,
    ignore_class: int | None,
) -> Iterator[tuple[_Ids, _Ids]]:
    """Yields the truth and the prediction of each picture, void in both as C."""
    check_num_classes(num_classes, _MOST_CLASSES)
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
            _ids_in_range(truth[valid], num_classes, "labels"), valid, num_classes
        ),
        _compact(
            _ids_in_range(predicted[valid], num_classes, "predictions"),
            valid,
            num_classes,
        ),
    )
    shape = (1, *truth.shape)[-3:]
    return _of_pixels(*(ids.reshape(shape) for ids in pair))


def _compact(
    ids: npt.NDArray[Any], valid: npt.NDArray[np.bool_], num_classes: int
) -> _Ids:
    """Puts the valid pixels' ids into a picture, with C elsewhere."""
    picture = np.full(valid.shape, num_classes, _id_type(num_classes))
    picture[valid] = ids
    return picture


def _id_type(num_classes: int) -> type[np.generic]:
    """The narrowest type of OpenCV's that holds 0 to C + 1."""
    return np.uint8 if num_classes <= 254 else np.uint16


def _total(counts: Iterator[Counts], shape: tuple[int, ...]) -> Counts:
    """Adds the pictures' counts."""
    return sum(counts, np.zeros(shape, np.int64))


def _of_pixels(
    truths: Iterable[_Ids], predictions: Iterable[_Ids]
) -> Iterator[tuple[_Ids, _Ids]]:
    """Yields the pairs of pictures that have a pixel; OpenCV takes no others."""
    pairs = zip(truths, predictions, strict=True)
    return (pair for pair in pairs if pair[0].size)


def _histogram(ids: _Ids) -> Counts:
    """Counts each id of one or two bytes, also those that are no class."""
    counts = np.bincount(ids.ravel(), minlength=np.iinfo(ids.dtype).max + 1)
    return counts.astype(np.int64)


def _pairs(counts: npt.ArrayLike) -> Counts:
    """Returns counts as an array, or raises if they are no pairs."""
    pairs = np.asarray(counts)
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise ValueError(f"Expected counts of shape (C, 2). Received: {pairs.shape}")
    return pairs


def _ratios(counts: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Returns the first of each pair over the second, NaN where that is zero."""
    pairs = _pairs(counts)
    return _divide(pairs[:, 0], pairs[:, 1])


def _check_ratio(ratio: float) -> None:
    if not (is_number(ratio) and 0 < ratio < math.inf):
        raise ValueError(f"Expected a positive `ratio`. Received: {ratio!r}")


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


# --- Keras metrics --------------------------------------------------------------------


class _PairMetric(_CountMetric):
    """A metric whose counts are two numbers a class: the score's, and those of all."""

    def __init__(self, num_classes: int, **options: Any) -> None:
        check_num_classes(num_classes, _MOST_CLASSES)
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
        names = self.class_names or _default_names(self.num_classes)
        values = map(_none_if_nan, _ratios(self.counts()))
        return dict(zip(names, values, strict=True))

    def _score(self, counts: tf.Tensor) -> tf.Tensor:
        ratios = tf.math.divide_no_nan(counts[:, 0], counts[:, 1])
        defined = tf.cast(counts[:, 1] > 0, tf.float64)
        return tf.math.divide_no_nan(tf.reduce_sum(ratios), tf.reduce_sum(defined))


@compat.register
class BoundaryIoU(_PairMetric):
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
        >>> labels = tf.constant([[[0, 0, 1, 1], [0, 0, 1, 255]]])
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

    def _count(
        self, truth: tf.Tensor, predicted: tf.Tensor, valid: tf.Tensor
    ) -> _Tally:
        def count(truth: _Ids, predicted: _Ids) -> Counts:
            # Whatever was predicted there, void is void in both.
            predicted = np.where(truth == self.num_classes, truth, predicted)
            return _boundary_counts(truth, predicted, self.num_classes, self.ratio)

        return _count_pictures(count, self, truth, predicted, valid)

    def scores(self) -> dict[str, Any]:
        """Returns "mean_boundary_iou" and, by name, "class_boundary_iou".

        Floats, ready for JSON; None where nothing was counted.

        Raises:
            ValueError: As `result`.
        """
        return {
            "class_boundary_iou": self.per_class(),
            "mean_boundary_iou": _none_if_nan(mean_boundary_iou(self.counts())),
        }

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that recreate this metric."""
        return {**super().get_config(), "ratio": self.ratio}


@compat.register
class TrimapIoU(_ConfusionMetric):
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
        check_num_classes(num_classes, _MOST_CLASSES)
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

    def _count(
        self, truth: tf.Tensor, predicted: tf.Tensor, valid: tf.Tensor
    ) -> _Tally:
        def count(truth: _Ids, predicted: _Ids) -> Counts:
            return _trimap_confusions(
                truth, predicted, self.num_classes, [self.width], self.boundaries
            )[0]

        return _count_pictures(count, self, truth, predicted, valid)

    def _score(self, counts: tf.Tensor) -> tf.Tensor:
        iou, defined = _class_iou(counts)
        return tf.math.divide_no_nan(tf.reduce_sum(iou), tf.reduce_sum(defined))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that recreate this metric."""
        return {
            **super().get_config(),
            "width": self.width,
            "boundaries": self.boundaries,
        }


@compat.register
class SmallObjectRecall(_PairMetric):
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

    def _count(
        self, truth: tf.Tensor, predicted: tf.Tensor, valid: tf.Tensor
    ) -> _Tally:
        def count(truth: _Ids, predicted: _Ids) -> Counts:
            return _small_object_counts(
                truth,
                predicted,
                self.num_classes,
                self.max_share,
                self.hit,
                self.min_pixels,
            )

        return _count_pictures(count, self, truth, predicted, valid)

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
            "macro_recall": _none_if_nan(mean_small_object_recall(counts)),
            "micro_recall": _none_if_nan(mean_small_object_recall(counts, "micro")),
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


def _count_pictures(
    count: Callable[[_Ids, _Ids], Counts],
    metric: _CountMetric,
    truth: tf.Tensor,
    predicted: tf.Tensor,
    valid: tf.Tensor,
) -> _Tally:
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
        tf.cast(tf.where(codes >= 0, codes, nothing), _id_type(metric.num_classes))
        for codes in (tf.where(valid, truth, nothing), predicted)
    ]
    shape = metric._counts_shape()

    def total(truths: npt.NDArray[Any], predictions: npt.NDArray[Any]) -> Counts:
        pairs = _of_pixels(truths, predictions)
        return _total((count(*pair) for pair in pairs), shape)

    return _Tally(
        tf.ensure_shape(tf.numpy_function(total, ids, tf.int64), shape),
        _count_wrong(truth, valid),
        _count_wrong(predicted, valid),
    )
