"""Tests of the boundary and small object scores against their literal definitions."""

from __future__ import annotations

import doctest
import inspect
import json
import math
import os
import pathlib
import subprocess
import sys
import types
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import oracles
import pytest
import scipy.ndimage
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import tf_levelset
from tf_levelset.metrics import boundary_iou, confusion, iou, small_objects, trimap_iou

bm: Any = types.SimpleNamespace(
    **{
        name: value
        for module in (boundary_iou, trimap_iou, small_objects)
        for name, value in vars(module).items()
        if not name.startswith("_")
    }
)
metrics: Any = types.SimpleNamespace(
    MeanIoU=tf_levelset.MeanIoU,
    mean_iou=iou.mean_iou,
    confusion_matrix=confusion.confusion_matrix,
)

Ids = npt.NDArray[np.int64]

ROOT = pathlib.Path(__file__).resolve().parents[2]
VOID = 255
WIDTHS = (3, 1, math.sqrt(5), 2.5, 1)  # in no order, and one twice
MODES = ("all", "class", "void")

quick = settings(max_examples=25, deadline=None, database=None)
seeds = st.integers(0, 2**32 - 1)


def random_picture(seed: int, num_classes: int = 4) -> tuple[Ids, Ids]:
    """Labels with void, and predictions without: blocks, and specks upon them."""
    rng = np.random.default_rng(seed)
    height, width, block = rng.integers(1, 15, 3)
    pictures = []
    for speck in rng.choice([0, 0.05, 0.3], 2):
        blocks = rng.integers(0, num_classes, (15, 15))
        ids = np.kron(blocks, np.ones((block, block), int))[:height, :width]
        specks = rng.random(ids.shape) < speck
        pictures.append(np.where(specks, rng.integers(0, num_classes, ids.shape), ids))
    labels, predictions = pictures
    predictions = np.where(rng.random(labels.shape) < 0.3, predictions, labels)
    top, left, size = rng.integers(0, 10, 3)
    labels[top : top + size // 2, left : left + size] = VOID
    labels[rng.random(labels.shape) < rng.choice([0, 0.1])] = VOID
    return labels, predictions


def random_batch(seed: int, count: int = 3) -> tuple[Ids, Ids]:
    """Pictures of 12×14 with void."""
    rng = np.random.default_rng(seed)
    labels = np.kron(rng.integers(0, 4, (count, 3, 4)), np.ones((1, 4, 4), int))
    labels = labels[:, :, :14]
    moved = np.roll(labels, 1, axis=2)
    predictions = np.where(rng.random(labels.shape) < 0.1, 0, moved)
    labels[rng.random(labels.shape) < 0.05] = VOID
    return labels, predictions


Count = Callable[..., Any]
# Each function with its options, its shape for 4 classes, and its metric.
CASES: list[tuple[Count, dict[str, Any], Any]] = [
    (bm.boundary_counts, {"ratio": 0.1}, bm.BoundaryIoU),
    *(
        (bm.trimap_confusions, {"widths": [2], "boundaries": mode}, bm.TrimapIoU)
        for mode in MODES
    ),
    (bm.small_object_counts, {"max_share": 0.1, "min_pixels": 2}, bm.SmallObjectRecall),
]
case = pytest.mark.parametrize(
    ("function", "options", "cls"),
    CASES,
    ids=["boundary", *(f"trimap-{mode}" for mode in MODES), "small"],
)


def made(cls: Any, options: dict[str, Any], **more: Any) -> Any:
    """The metric that counts what the function with these options does."""
    options = {k: v[0] if k == "widths" else v for k, v in options.items()}
    options = {("width" if k == "widths" else k): v for k, v in options.items()}
    return cls(4, **{"ignore_class": VOID, **options, **more})


def counted(metric: Any) -> Any:
    return tf.convert_to_tensor(metric.variables[0]).numpy()


def counts_of(function: Count, options: dict[str, Any], *pair: Any) -> Any:
    """The counts in the shape that the metric keeps."""
    counts = function(*pair, 4, ignore_class=VOID, **options)
    return counts[0] if counts.ndim == 3 else counts


def score_of(cls: Any, counts: Any) -> float:
    score = {
        bm.BoundaryIoU: bm.mean_boundary_iou,
        bm.TrimapIoU: metrics.mean_iou,
        bm.SmallObjectRecall: bm.mean_small_object_recall,
    }[cls]
    return score(counts)


def test_docstring_examples() -> None:
    for module in (boundary_iou, trimap_iou, small_objects):
        found = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
        assert found.attempted > 0
        assert found.failed == 0


# --- Boundary IoU ---------------------------------------------------------------------


@quick
@given(seeds, st.sampled_from([0.001, 0.1, 0.2, 0.4, 3.0]))
def test_boundary_counts_are_the_authors(seed: int, ratio: float) -> None:
    labels, predictions = random_picture(seed)
    counts = bm.boundary_counts(labels, predictions, 4, VOID, ratio)
    assert counts.dtype == np.int64
    expected = oracles.boundary_counts(labels, predictions, 4, ratio)
    np.testing.assert_array_equal(counts, expected)
    # Without void, the formula as published, whatever was said of void.
    labels = np.where(labels == VOID, 0, labels)
    expected = oracles.boundary_counts(labels, predictions, 4, ratio)
    for void in (None, VOID):
        counts = bm.boundary_counts(labels, predictions, 4, void, ratio)
        np.testing.assert_array_equal(counts, expected)


def test_boundary_iou_by_hand() -> None:
    # d = 1, and a square of 3×3 in a corner, of which two rows were found.
    labels = np.zeros((8, 8), int)
    labels[:3, :3] = 1
    predictions = labels.copy()
    predictions[2, :3] = 0
    # The square loses all but its middle, 8 pixels, and two rows of it lose all 6.
    # 5 of these are in both: the middle is not.
    # The road loses the picture's rim and what touches the square: 28 in the truth.
    # In the prediction the row below the square moves up by one, from (3, 1) to
    # (3, 3), and with it out of the region: 28 again, and 28 − 3 in both.
    counts = bm.boundary_counts(labels, predictions, 2)
    np.testing.assert_array_equal(counts, [[25, 31], [5, 9]])
    assert bm.mean_boundary_iou(counts) == (25 / 31 + 5 / 9) / 2


@pytest.mark.parametrize(("ratio", "depth"), [(1 / 16, 2), (3 / 16, 8), (0.01, 1)])
def test_depth_is_rounded_as_the_authors_do(ratio: float, depth: int) -> None:
    # The diagonal is 40: 2.5 becomes 2, 7.5 becomes 8, and 0.4 is at least 1.
    labels = np.zeros((24, 32), int)
    counts = bm.boundary_counts(labels, labels, 1, ratio=ratio)
    expected = 24 * 32 - (24 - 2 * depth) * (32 - 2 * depth)
    assert counts.tolist() == [[expected, expected]]


def test_void_has_no_boundary_of_its_own() -> None:
    labels = np.zeros((20, 20), int)
    labels[8:12] = VOID
    counts = bm.boundary_counts(labels, np.zeros_like(labels), 2, VOID, ratio=0.05)
    # d = 1: the rim of the picture, without its 8 void pixels.
    np.testing.assert_array_equal(counts, [[76 - 8, 76 - 8], [0, 0]])


@pytest.mark.parametrize("rows", range(4))
def test_void_along_a_boundary_hides_as_many_pixels(rows: int) -> None:
    # d = 3. Class 1 begins at row 12, so rows 9 to 11 are at its boundary, less those
    # that are void. Inside class 0 are rows 3 to 8 and columns 3 to 16.
    labels = np.zeros((20, 20), int)
    labels[12 - rows :] = VOID
    labels[12:] = 1
    counts = bm.boundary_counts(labels, np.minimum(labels, 1), 2, VOID, ratio=0.1)
    expected = (12 - rows) * 20 - 6 * 14
    assert counts[0].tolist() == [expected, expected]


@pytest.mark.parametrize("num_classes", [1, 254, 255, 300, 65534])
def test_any_number_of_classes(num_classes: int) -> None:
    rng = np.random.default_rng(0)
    ids = np.array([0, num_classes - 1, num_classes // 2])
    labels, predictions = ids[rng.integers(0, 3, (2, 9, 9)).repeat(2, 1).repeat(2, 2)]
    labels[3:6, 3:6] = -1
    present = np.unique(ids)
    counts = bm.boundary_counts(labels, predictions, num_classes, -1)
    # The same with the ids renamed to 0, 1, 2.
    small = np.searchsorted(present, labels), np.searchsorted(present, predictions)
    renamed = np.where(labels == -1, VOID, small[0]), small[1]
    expected = oracles.boundary_counts(*renamed, len(present), 0.02)
    np.testing.assert_array_equal(counts[present], expected)
    assert counts.sum() == expected.sum()
    objects = bm.small_object_counts(labels, predictions, num_classes, -1, 0.3)
    expected = oracles.small_objects(*renamed, len(present), 0.3)
    np.testing.assert_array_equal(objects[present], expected)


# --- Trimap ---------------------------------------------------------------------------


@quick
@given(seeds, st.sampled_from(MODES))
def test_trimap_is_brute_force(seed: int, mode: str) -> None:
    labels, predictions = random_picture(seed)
    found = bm.trimap_confusions(labels, predictions, 4, WIDTHS, VOID, mode)
    assert found.dtype == np.int64
    for width, matrix in zip(WIDTHS, found, strict=True):
        expected = oracles.trimap_confusion(labels, predictions, 4, width, mode)
        np.testing.assert_array_equal(matrix, expected)


@pytest.mark.parametrize("mode", MODES)
def test_a_width_holds_its_own_distance(mode: str) -> None:
    # All distances there are in a picture of 30×30, and the next float below each.
    labels = np.zeros((30, 30), int)
    labels[0, 0] = 1 if mode == "class" else VOID
    rows, columns = np.indices(labels.shape)
    exact = np.sqrt(rows**2 + columns**2)
    distances = np.unique(exact)[1:].tolist()
    below = np.nextafter(distances, 0).tolist()
    found = bm.trimap_confusions(labels, labels * 0, 2, distances + below, VOID, mode)
    holding = found[:, 0].sum(axis=-1)
    expected = [(exact <= d).sum() - 1 for d in distances]
    np.testing.assert_array_equal(holding[: len(distances)], expected)
    np.testing.assert_array_equal(holding[len(distances) :], [0, *expected[:-1]])


@pytest.mark.parametrize("widths", [(1, 20.5, 100, 128), (1, 20.5, 300, 1024)])
@pytest.mark.parametrize("mode", MODES)
def test_trimap_of_a_large_picture(mode: str, widths: tuple[float, ...]) -> None:
    labels = np.zeros((900, 1200), np.uint8)
    labels[3, 7], labels[880, 40], labels[10, 1190] = 1, VOID, 2
    other = {"all": labels != 0, "class": (labels == 1) | (labels == 2)}
    zeros = other.get(mode, labels == VOID)
    rows, columns = np.indices(labels.shape)
    squares = [(rows - r) ** 2 + (columns - c) ** 2 for r, c in np.argwhere(zeros)]
    exact = np.sqrt(np.min(squares, axis=0))
    found = bm.trimap_confusions(labels, labels * 0, 3, widths, VOID, mode)
    expected = [((exact <= width) & (labels == 0)).sum() for width in widths]
    np.testing.assert_array_equal(found[:, 0, 0], expected)
    assert 0 < expected[0] < expected[1] < expected[2] < expected[3]


def test_what_lies_across_void() -> None:
    labels = [[0, 0, VOID, VOID, VOID, 1, 1]]
    seen = {"all": [2, 4, 4, 4], "class": [0, 0, 2, 4], "void": [2, 4, 4, 4]}
    for mode, expected in seen.items():
        found = bm.trimap_confusions(
            labels, [[0] * 7], 2, [1, 2, 4, 5], VOID, boundaries=mode
        )
        assert found.sum(axis=(1, 2)).tolist() == expected


def test_a_picture_of_one_class_has_no_band() -> None:
    labels = np.zeros((5, 6), int)
    for mode in MODES:
        assert bm.trimap_confusions(labels, labels, 2, [9], VOID, mode).sum() == 0
    labels[:] = VOID
    for mode in MODES:
        assert bm.trimap_confusions(labels, labels * 0, 2, [9], VOID, mode).sum() == 0


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mode", MODES)
def test_trimap_equals_a_band_made_with_addons(tfa: Any, mode: str) -> None:
    for seed in range(12):
        labels, predictions = random_picture(seed)
        distances = np.full(labels.shape, np.inf)
        for index in np.unique(labels[labels != VOID]):
            inside = labels == index
            same = {
                "all": inside,
                "class": inside | (labels == VOID),
                "void": labels != VOID,
            }[mode]
            if same.all():
                continue
            picture = tf.constant(same[..., None], tf.uint8) * 255
            transformed = tfa.image.euclidean_dist_transform(picture)[..., 0].numpy()
            distances[inside] = transformed[inside]
        # Half of the gap between 2 and √5 is more than float32's error.
        for width in (1.1, 2.1, 3.05):
            found = bm.trimap_confusions(labels, predictions, 4, [width], VOID, mode)
            near = np.where(distances <= width, labels, VOID)
            expected = metrics.confusion_matrix(near, predictions, 4, VOID)
            np.testing.assert_array_equal(found[0], expected)


# --- Small objects --------------------------------------------------------------------


@quick
@given(seeds, st.sampled_from([0.02, 0.1, 0.5, 1]), st.sampled_from([0.07, 0.5, 1]))
def test_small_objects_are_the_definition(seed: int, share: float, hit: float) -> None:
    labels, predictions = random_picture(seed)
    for least in (1, 3):
        found = bm.small_object_counts(
            labels, predictions, 4, VOID, share, hit, min_pixels=least
        )
        assert found.dtype == np.int64
        expected = oracles.small_objects(labels, predictions, 4, share, hit, least)
        np.testing.assert_array_equal(found, expected)


def test_small_objects_by_hand() -> None:
    # Class 1: two pixels that touch at a corner, one of them found: a hit at 1/2.
    # Class 2: six pixels, of 40; void cuts them into an object of 2 and one of 3.
    labels = np.zeros((4, 10), int)
    labels[0, 0] = labels[1, 1] = 1
    labels[3, 4:10] = 2
    labels[3, 6] = VOID
    predictions = np.zeros_like(labels)
    predictions[0, 0] = 1
    predictions[3, 6:8] = 2
    count = bm.small_object_counts(labels, predictions, 3, VOID, max_share=0.1)
    np.testing.assert_array_equal(count, [[0, 0], [1, 1], [0, 2]])
    # 3 pixels are 7.5 % of 40: not below.
    count = bm.small_object_counts(labels, predictions, 3, VOID, max_share=0.075)
    np.testing.assert_array_equal(count, [[0, 0], [1, 1], [0, 1]])
    count = bm.small_object_counts(labels, predictions, 3, VOID, 0.1, 0.51)
    np.testing.assert_array_equal(count, [[0, 0], [0, 1], [0, 2]])
    count = bm.small_object_counts(labels, predictions, 3, VOID, 0.1, 1 / 3, 3)
    np.testing.assert_array_equal(count, [[0, 0], [0, 0], [1, 1]])


@pytest.mark.parametrize("hits", range(1, 101))
def test_a_share_of_pixels_is_held_exactly(hits: int) -> None:
    # As products, 0.07 · 100 is more than 7, and an object of 7 would be missed.
    labels = np.ones((10, 10), int)
    predictions = (np.arange(100) < hits).astype(int).reshape(10, 10)
    labels = np.pad(labels, ((0, 10), (0, 0)))
    predictions = np.pad(predictions, ((0, 10), (0, 0)))
    count = bm.small_object_counts(labels, predictions, 2, None, 0.6, hit=hits / 100)
    assert count[1].tolist() == [1, 1]


def test_averages_of_recalls() -> None:
    counts = [[1, 2], [0, 0], [3, 3]]
    np.testing.assert_array_equal(bm.small_object_recall(counts), [0.5, np.nan, 1])
    assert bm.mean_small_object_recall(counts) == 0.75
    assert bm.mean_small_object_recall(counts, "micro") == 4 / 5
    nothing = np.zeros((2, 2), int)
    assert np.isnan(bm.mean_small_object_recall(nothing))
    assert np.isnan(bm.mean_small_object_recall(nothing, "micro"))
    assert np.isnan(bm.mean_boundary_iou(nothing))


# --- What holds for all of them -------------------------------------------------------


@case
@quick
@given(seed=seeds)
def test_a_perfect_prediction_scores_one(
    function: Count, options: dict[str, Any], cls: Any, seed: int
) -> None:
    labels, anything = random_picture(seed)
    predictions = np.where(labels == VOID, anything, labels)
    counts = counts_of(function, options, labels, predictions)
    score = score_of(cls, counts)
    assert np.isnan(score) if counts.sum() == 0 else score == 1


@case
@quick
@given(seed=seeds, foreign=st.integers(-3, 300))
def test_predictions_on_void_change_nothing(
    function: Count, options: dict[str, Any], cls: Any, seed: int, foreign: int
) -> None:
    labels, predictions = random_picture(seed)
    expected = counts_of(function, options, labels, predictions)
    noisy = np.where(labels == VOID, foreign, predictions)
    np.testing.assert_array_equal(counts_of(function, options, labels, noisy), expected)


@case
@quick
@given(seed=seeds, order=st.permutations(range(4)))
def test_renamed_classes_rename_the_counts(
    function: Count, options: dict[str, Any], cls: Any, seed: int, order: list[int]
) -> None:
    labels, predictions = random_picture(seed)
    table = np.arange(256)
    table[:4] = order
    expected = counts_of(function, options, labels, predictions)
    found = counts_of(function, options, table[labels], table[predictions])
    renamed = found[np.ix_(order, order)] if cls is bm.TrimapIoU else found[order]
    np.testing.assert_array_equal(renamed, expected)


@case
@quick
@given(seed=seeds)
def test_flips_and_turns_change_nothing(
    function: Count, options: dict[str, Any], cls: Any, seed: int
) -> None:
    pair = random_picture(seed)
    expected = counts_of(function, options, *pair)
    for turned in (np.fliplr, np.flipud, np.transpose, np.rot90):
        found = counts_of(function, options, *map(turned, pair))
        np.testing.assert_array_equal(found, expected)


@case
def test_counts_of_a_batch_are_the_sum(
    function: Count, options: dict[str, Any], cls: Any
) -> None:
    labels, predictions = random_batch(0)
    parts = [
        counts_of(function, options, *pair)
        for pair in zip(labels, predictions, strict=True)
    ]
    assert all(part.sum() for part in parts)
    whole = counts_of(function, options, labels, predictions)
    np.testing.assert_array_equal(whole, sum(parts))
    nothing = counts_of(function, options, labels[:0], predictions[:0])
    np.testing.assert_array_equal(nothing, whole * 0)


@case
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_ids_of_any_type(
    function: Count, options: dict[str, Any], cls: Any, dtype: str
) -> None:
    labels, predictions = random_batch(1)
    found = counts_of(
        function, options, labels.astype(dtype), predictions.astype(dtype)
    )
    expected = counts_of(function, options, labels, predictions)
    np.testing.assert_array_equal(found, expected)
    before = labels.copy(), predictions.copy()
    counts_of(function, options, labels, predictions)
    np.testing.assert_array_equal((labels, predictions), before)


@case
@pytest.mark.parametrize(
    ("labels", "predictions", "message"),
    [
        ([[0, 7]], [[0, 0]], r"Expected labels in \[0, 4\).*Received: \[7\] in 1"),
        ([[0, 0.5]], [[0, 0]], r"Expected labels.*\[0.5\]"),
        ([[0, 0]], [[0, -1]], r"Expected predictions in \[0, 4\).*\[-1\] in 1"),
        ([[0, 0]], [[0, 255]], r"Expected predictions"),
        ([[0, 0]], [[0], [0]], r"one shape.*Received: \(1, 2\) and \(2, 1\)"),
        ([0, 0], [0, 0], r"\(H, W\) or \(B, H, W\).*Received: \(2,\)"),
    ],
)
def test_wrong_ids_and_shapes(
    function: Count,
    options: dict[str, Any],
    cls: Any,
    labels: Any,
    predictions: Any,
    message: str,
) -> None:
    with pytest.raises(ValueError, match=message):
        function(labels, predictions, 4, ignore_class=VOID, **options)


WRONG: list[tuple[Count, Any, dict[str, Any]]] = [
    *((bm.boundary_counts, bm.BoundaryIoU, {"ratio": r}) for r in (0, -1, math.nan)),
    *(
        (bm.trimap_confusions, bm.TrimapIoU, {"widths": [w]})
        for w in (0, -1, math.nan, 1025)
    ),
    (bm.trimap_confusions, bm.TrimapIoU, {"widths": [1], "boundaries": "edges"}),
    *(
        (bm.small_object_counts, bm.SmallObjectRecall, options)
        for options in (
            {"max_share": 0},
            {"max_share": 1.1},
            {"hit": 0},
            {"hit": math.nan},
            {"min_pixels": 0},
        )
    ),
]


@pytest.mark.parametrize(("function", "cls", "options"), WRONG)
def test_wrong_options(function: Count, cls: Any, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"Expected .*Received: "):
        function([[0]], [[0]], 4, ignore_class=VOID, **options)
    with pytest.raises(ValueError, match=r"Expected .*Received: "):
        made(cls, options)


def test_more_wrong_options() -> None:
    with pytest.raises(ValueError, match="Expected one or more widths"):
        bm.trimap_confusions([[0]], [[0]], 2, [])
    for make in (
        lambda: bm.trimap_confusions([[0]], [[0]], 2, [1], None, "void"),
        lambda: bm.TrimapIoU(2, boundaries="void"),
    ):
        with pytest.raises(ValueError, match="Expected an `ignore_class`"):
            make()
    for count in (0, 65535):
        for cls in (bm.BoundaryIoU, bm.TrimapIoU, bm.SmallObjectRecall):
            with pytest.raises(ValueError, match="Expected `num_classes`"):
                cls(count)
        with pytest.raises(ValueError, match="Expected `num_classes`"):
            bm.boundary_counts([[0]], [[0]], count)
    for average in (
        lambda: bm.mean_small_object_recall([[0, 1]], "mean"),
        lambda: bm.SmallObjectRecall(2, average="mean"),
    ):
        with pytest.raises(ValueError, match="Expected `average`"):
            average()
    for function in (bm.boundary_iou, bm.small_object_recall, bm.mean_boundary_iou):
        with pytest.raises(ValueError, match=r"Expected counts of shape \(C, 2\)"):
            function([[1, 2, 3]])


# --- Real labels ----------------------------------------------------------------------


def real_labels(folder: str, count: int) -> list[Any]:
    if "TF_LEVELSET_DATA" not in os.environ:
        pytest.skip("TF_LEVELSET_DATA names no folder with label maps")
    paths = sorted((pathlib.Path(os.environ["TF_LEVELSET_DATA"]) / folder).glob("*"))
    return [np.asarray(Image.open(path)) for path in paths[:count]]


def test_camvid_labels() -> None:
    before, labels = real_labels("camvid/valannot", 2)
    # The frame before as the prediction: real boundaries, and no void predicted.
    predictions = np.where(before == 11, 0, before)
    np.testing.assert_array_equal(
        bm.boundary_counts(labels, predictions, 11, 11),
        oracles.boundary_counts(labels, predictions, 11, 0.02, void=11),
    )
    np.testing.assert_array_equal(
        bm.small_object_counts(labels, predictions, 11, 11),
        oracles.small_objects(labels, predictions, 11, 0.005),
    )
    distances = np.full(labels.shape, np.inf)
    for index in range(11):
        inside = labels == index
        if inside.any():
            exact = scipy.ndimage.distance_transform_edt(inside)
            distances[inside] = exact[inside]
    found = bm.trimap_confusions(labels, predictions, 11, (1, 5, 10), 11)
    for width, matrix in zip((1, 5, 10), found, strict=True):
        near = np.where(distances <= width, labels, 11)
        expected = metrics.confusion_matrix(near, predictions, 11, 11)
        np.testing.assert_array_equal(matrix, expected)


def test_voc_labels_near_void() -> None:
    near_void = 0
    for labels in real_labels("voc_sample/SegmentationClass", 3):
        predictions = np.where(labels == VOID, 0, np.roll(labels, 4, axis=1) % 21)
        found = bm.trimap_confusions(labels, predictions, 21, [3], VOID, "void")
        exact = scipy.ndimage.distance_transform_edt(labels != VOID)
        near = np.where(exact <= 3, labels, VOID)
        near = near if (labels == VOID).any() else np.full_like(labels, VOID)
        expected = metrics.confusion_matrix(near, predictions, 21, VOID)
        np.testing.assert_array_equal(found[0], expected)
        near_void += found.sum()
    assert near_void > 0


# --- The metrics ----------------------------------------------------------------------


def in_graph(metric: Any, **options: Any) -> Any:
    """A function that updates and returns the result, as a training step does."""

    @tf.function(**options)
    def step(*args: Any) -> tf.Tensor:
        metric.update_state(*args)
        return metric.result()

    return step


def scores_for(predictions: Any) -> Any:
    """Logits whose argmax these are."""
    return np.eye(4, dtype="float32")[predictions]


@case
@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_metrics_equal_the_functions(
    function: Count, options: dict[str, Any], cls: Any, mode: str
) -> None:
    labels, predictions = random_batch(2, 5)
    metric = made(cls, options, sparse_y_pred=False, dtype="float64")
    spec = tf.TensorSpec([None, None, None], tf.int64)
    logits = tf.TensorSpec([None, None, None, 4], tf.float32)
    update = metric.update_state
    if mode == "graph":
        update = in_graph(metric, input_signature=[spec, logits])
    update(tf.constant(labels[:3]), tf.constant(scores_for(predictions[:3])))
    update(tf.constant(labels[3:]), tf.constant(scores_for(predictions[3:])))
    expected = counts_of(function, options, labels, predictions)
    np.testing.assert_array_equal(counted(metric), expected)
    assert float(metric.result()) == pytest.approx(score_of(cls, expected), rel=1e-14)
    assert 0 < float(metric.result()) < 1
    assert all(tf.as_dtype(v.dtype) == tf.int64 for v in metric.variables)
    metric.reset_state()
    assert counted(metric).sum() == 0
    assert float(metric.result()) == 0.0


@case
def test_metrics_take_what_mean_iou_takes(
    function: Count, options: dict[str, Any], cls: Any
) -> None:
    labels, predictions = random_batch(3)
    expected = counts_of(function, options, labels, predictions)
    one_hot = tf.one_hot(labels, 4)
    logits = scores_for(predictions)
    for more, pair in (
        ({}, (labels[..., None], predictions)),
        ({}, (labels[..., None], predictions[..., None])),
        ({}, (labels.astype("float16"), predictions.astype("uint8"))),
        ({"sparse_y_pred": False}, (labels, tf.cast(logits, tf.bfloat16))),
        (
            {"sparse_y_pred": False, "axis": 1, "dtype": "float16"},
            (labels, np.moveaxis(logits, -1, 1)),
        ),
        ({"sparse_y_true": False}, (one_hot, predictions)),
    ):
        metric = made(cls, options, **more)
        metric.update_state(*pair)
        np.testing.assert_array_equal(counted(metric), expected)
        assert metric.result().dtype == tf.float32


@case
def test_metrics_report_wrong_ids(
    function: Count, options: dict[str, Any], cls: Any
) -> None:
    labels, predictions = random_batch(4)
    for fault, message in (
        ((0, 7), r"labels in \[0, 4\) or ignore_class \(255\)\. Received: 1 pixels"),
        ((1, 7), r"predictions in \[0, 4\).* Received: 1 pixels"),
    ):
        pair = [labels.copy(), predictions.copy()]
        pair[0][0, 0, 0] = 0
        pair[fault[0]][0, 0, 0] = fault[1]
        metric = made(cls, options)
        metric.update_state(*pair)
        for read in (metric.result, metric.scores, metric.per_class):
            with pytest.raises(ValueError, match=message):
                read()
        step = in_graph(made(cls, options))
        with pytest.raises(tf.errors.InvalidArgumentError, match="pixels out of range"):
            step(*map(tf.constant, pair))


@case
@pytest.mark.parametrize("shape", [(), (3,), (3, 1), (3, 12, 14), (3, 12, 14, 1)])
def test_weights_of_zero_are_void(
    function: Count, options: dict[str, Any], cls: Any, shape: tuple[int, ...]
) -> None:
    labels, predictions = random_batch(5)
    mask = np.random.default_rng(1).random(shape) < 0.7 if shape else np.array(True)
    whole = mask.reshape(mask.shape + (1,) * (3 - mask.ndim)) if mask.ndim < 4 else mask
    whole = np.broadcast_to(whole[..., 0] if mask.ndim == 4 else whole, labels.shape)
    expected = counts_of(function, options, np.where(whole, labels, VOID), predictions)
    metric = made(cls, options)
    metric.update_state(labels, predictions, mask)
    np.testing.assert_array_equal(counted(metric), expected)
    fraction = np.full(3, 0.5)
    with pytest.raises(ValueError, match="Expected sample weights of 0 or 1"):
        metric.update_state(labels, predictions, fraction)
    with pytest.raises(ValueError, match="Expected a sample_weight"):
        metric.update_state(labels, predictions, np.ones((3, 14, 12)))


@case
def test_metrics_want_pictures(
    function: Count, options: dict[str, Any], cls: Any
) -> None:
    for shape in ((4,), (2, 3), (1, 2, 3, 4)):
        ids = tf.zeros(shape, tf.int32)
        for update in (made(cls, options).update_state, made(cls, options)):
            with pytest.raises(ValueError, match=r"Expected labels of pictures"):
                update(ids, ids)
    with pytest.raises(ValueError, match="Expected labels and predictions"):
        made(cls, options).update_state(tf.zeros((1, 2, 3)), tf.zeros((1, 3, 2)))


@case
def test_merged_parts_are_the_whole(
    function: Count, options: dict[str, Any], cls: Any
) -> None:
    labels, predictions = random_batch(6, 4)
    whole, merged, *parts = (made(cls, options) for _ in range(4))
    whole.update_state(labels, predictions)
    for part, at in zip(parts, (slice(1), slice(1, None)), strict=True):
        part.update_state(labels[at], predictions[at])
    merged.merge_state(parts)
    np.testing.assert_array_equal(counted(merged), counted(whole))
    assert merged.scores() == whole.scores()
    changed = {
        bm.BoundaryIoU: {"ratio": 0.2},
        bm.TrimapIoU: {"width": 2.5},
        bm.SmallObjectRecall: {"hit": 0.6},
    }[cls]
    for stranger in (
        cls(4, ignore_class=VOID, **changed),
        metrics.MeanIoU(4),
        keras.metrics.MeanIoU(4),
    ):
        with pytest.raises(ValueError, match=r"Expected \w+ (object )?metrics of 4"):
            merged.merge_state([parts[0], stranger])
        with pytest.raises(ValueError, match="Expected"):
            metrics.MeanIoU(4).merge_state([merged])
    np.testing.assert_array_equal(counted(merged), counted(whole))


@case
def test_xla_is_refused(function: Count, options: dict[str, Any], cls: Any) -> None:
    labels, predictions = map(tf.constant, random_batch(7))
    step = in_graph(made(cls, options), jit_compile=True)
    with pytest.raises(tf.errors.InvalidArgumentError, match="PyFunc"):
        step(labels, predictions)


def test_counts_beyond_float32() -> None:
    metric = bm.BoundaryIoU(1, dtype="float64")
    metric.variables[0].assign([[2**24, 2**24 + 1]])
    assert float(metric.result()) == 2**24 / (2**24 + 1) < 1


def test_scores_by_name_are_ready_for_json() -> None:
    labels = np.zeros((1, 10, 10), int)
    labels[0, 4:6, 4:6] = 1
    predictions = np.where(labels == 1, 2, 0)
    names = ["road", "car", "sign", "sky"]
    boundary = bm.BoundaryIoU(4, class_names=names)
    small = bm.SmallObjectRecall(4, class_names=names, max_share=0.05, average="micro")
    for metric in (boundary, small, bm.TrimapIoU(4, class_names=names)):
        assert set(metric.per_class().values()) == {None}
        metric.update_state(labels, predictions)
        assert json.loads(json.dumps(metric.scores(), allow_nan=False))
    assert boundary.per_class() == {"road": 1.0, "car": 0.0, "sign": 0.0, "sky": None}
    assert boundary.scores()["mean_boundary_iou"] == 1 / 3
    np.testing.assert_array_equal(boundary.counts()[1], [0, 4])
    assert small.scores() == {
        "macro_recall": 0.0,
        "micro_recall": 0.0,
        "class_recall": {"road": None, "car": 0.0, "sign": None, "sky": None},
        "objects": {"road": 0, "car": 1, "sign": 0, "sky": 0},
    }


@pytest.mark.parametrize("average", ["macro", "micro"])
def test_average_of_the_metric(average: str) -> None:
    metric = bm.SmallObjectRecall(3, average=average, dtype="float64")
    metric.variables[0].assign([[1, 2], [0, 0], [3, 3]])
    assert float(metric.result()) == {"macro": 3 / 4, "micro": 4 / 5}[average]


OPTIONS: dict[str, Any] = {
    "name": "named",
    "dtype": "float64",
    "ignore_class": 7,
    "sparse_y_true": False,
    "sparse_y_pred": False,
    "axis": 1,
    "class_names": ["a", "b"],
    "threshold": 0.25,
}
CONFIGS = [
    bm.BoundaryIoU(2, ratio=0.1, **OPTIONS),
    bm.TrimapIoU(2, width=2.5, boundaries="void", **OPTIONS),
    bm.SmallObjectRecall(
        2, max_share=0.1, hit=0.3, min_pixels=4, average="micro", **OPTIONS
    ),
]


@pytest.mark.parametrize("metric", CONFIGS, ids=lambda m: type(m).__name__)
def test_configuration_round_trip(metric: Any) -> None:
    written = json.dumps(keras.saving.serialize_keras_object(metric))
    restored = keras.saving.deserialize_keras_object(json.loads(written))
    assert type(restored) is type(metric)
    config = metric.get_config()
    assert restored.get_config() == config
    same = {k for k, v in type(metric)(2).get_config().items() if v == config[k]}
    assert same == {"num_classes"}  # the round trip carried every argument
    own = set(inspect.signature(type(metric)).parameters) - {"options"}
    assert config.keys() == own | OPTIONS.keys()


def metrics_of_training() -> list[Any]:
    return [
        made(cls, options, sparse_y_pred=False, name=f"metric_{i}")
        for i, (_, options, cls) in enumerate(CASES)
    ]


def tiny_model(jit_compile: bool = False) -> Any:
    weights = keras.initializers.GlorotUniform(seed=0)
    conv = keras.layers.Conv2D(
        4, 3, padding="same", kernel_initializer=weights, dtype="mixed_bfloat16"
    )
    model = keras.Sequential([keras.Input((None, None, 3)), conv])
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, ignore_class=VOID
    )
    metrics = metrics_of_training()
    model.compile("sgd", loss, metrics=metrics, jit_compile=jit_compile)
    return model


# Other people's: Keras 3 saves variables with NumPy 1's protocol.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_fit_evaluate_and_save_in_mixed_precision(tmp_path: pathlib.Path) -> None:
    labels, _ = random_batch(8, 6)
    images = np.random.default_rng(0).random((*labels.shape, 3), np.float32)
    images[..., 0] += labels == 1
    model = tiny_model()
    history = model.fit(images, labels, batch_size=4, epochs=2, verbose=0).history
    assert all(np.isfinite(history[f"metric_{i}"]).all() for i in range(len(CASES)))
    path = tmp_path / "model.keras"
    model.save(path)
    for evaluated in (model, keras.models.load_model(path)):
        logits = evaluated.predict(images, batch_size=4, verbose=0)
        predicted = logits.astype(np.float32).argmax(-1)
        # 4 and 2 images: the mean of the batches' scores would be another number.
        values = evaluated.evaluate(images, labels, batch_size=4, verbose=0)[1:]
        expected = [
            np.nan_to_num(score_of(cls, counts_of(f, options, labels, predicted)))
            for f, options, cls in CASES
        ]
        np.testing.assert_allclose(values, expected, rtol=1e-6)


def test_fit_under_xla_is_refused() -> None:
    labels, _ = random_batch(8, 1)
    model = tiny_model(jit_compile=True)
    with pytest.raises(tf.errors.InvalidArgumentError, match="PyFunc"):
        model.fit(np.zeros((*labels.shape, 3), np.float32), labels, verbose=0)


DISTRIBUTED = """
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras
from tf_levelset import metrics as bm
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert strategy.num_replicas_in_sync == 2
rng = np.random.default_rng(0)
images = rng.random((6, 8, 8, 3), np.float32)
labels = rng.integers(0, 4, (6, 4, 4)).repeat(2, 1).repeat(2, 2)
labels[0, 0, 0] = 255
def metrics():
    options = {"ignore_class": 255, "sparse_y_pred": False}
    return [bm.BoundaryIoU(4, **options), bm.TrimapIoU(4, width=1, **options),
            bm.SmallObjectRecall(4, max_share=0.2, **options)]
with strategy.scope():
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 1)])
    ours = metrics()
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, ignore_class=255)
    model.compile("sgd", loss, metrics=ours)
data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(4)
model.fit(data, epochs=2, verbose=0)
values = model.evaluate(data, verbose=0)[1:]
logits = model(images)
for metric, value, alone in zip(ours, values, metrics()):
    alone.update_state(labels, logits)
    count = [tf.convert_to_tensor(m.variables[0]).numpy() for m in (metric, alone)]
    np.testing.assert_array_equal(*count)
    assert count[0].sum() > 0
    np.testing.assert_allclose(value, float(alone.result()), rtol=1e-6)
"""


def test_two_replicas_count_as_one() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    # A process of its own: devices cannot be split once TensorFlow has started.
    done = subprocess.run(
        [sys.executable, "-c", DISTRIBUTED],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]


# --- Bad input ---


@case
@pytest.mark.parametrize("shape", [(0, 5, 6), (2, 0, 6), (2, 5, 0), (0, 4), (3, 0)])
def test_no_pixel_counts_nothing(
    function: Count, options: dict[str, Any], cls: Any, shape: tuple[int, ...]
) -> None:
    nothing = np.zeros(shape, int)
    counts = counts_of(function, options, nothing, nothing)
    np.testing.assert_array_equal(counts, 0)
    metric = made(cls, options)
    if len(shape) == 3:
        metric.update_state(nothing, nothing)
        np.testing.assert_array_equal(counted(metric), counts)
        assert float(metric.result()) == 0


@case
@pytest.mark.parametrize("options_", [{"num_classes": "4"}, {"ignore_class": 2.5}])
def test_options_of_other_types_raise(
    function: Count, options: dict[str, Any], cls: Any, options_: dict[str, Any]
) -> None:
    labels = np.zeros((3, 4), int)
    common = {"num_classes": 4, "ignore_class": VOID, **options, **options_}
    with pytest.raises(ValueError, match=r"Expected .*Received"):
        function(labels, labels, **common)


@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (bm.BoundaryIoU, {"ratio": "a"}),
        (bm.BoundaryIoU, {"ratio": None}),
        (bm.TrimapIoU, {"width": [1]}),
        (bm.TrimapIoU, {"width": "3"}),
        (bm.SmallObjectRecall, {"max_share": {}}),
        (bm.SmallObjectRecall, {"hit": 1j}),
        (bm.SmallObjectRecall, {"min_pixels": float("nan")}),
    ],
)
def test_options_that_are_no_numbers_raise(cls: Any, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"Expected .*Received"):
        cls(4, **options)


def test_widths_are_several() -> None:
    labels = np.zeros((3, 4), int)
    with pytest.raises(ValueError, match="Expected one or more widths"):
        bm.trimap_confusions(labels, labels, 2, 3)
