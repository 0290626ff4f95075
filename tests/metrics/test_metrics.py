"""Tests of the scores, of the Keras metrics, and of the traps they avoid."""

from __future__ import annotations

import doctest
import inspect
import json
import os
import pathlib
import subprocess
import sys
import types
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest
import sklearn.metrics
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import tf_levelset
from tf_levelset import xla
from tf_levelset.metrics import class_ids, confusion, iou, level_set_energy

metrics: Any = types.SimpleNamespace(
    **{name: getattr(tf_levelset, name) for name in tf_levelset.metrics.__all__},
    confusion_matrix=confusion.confusion_matrix,
    class_iou=iou.class_iou,
    mean_iou=iou.mean_iou,
    pixel_accuracy=iou.pixel_accuracy,
    mean_accuracy=iou.mean_accuracy,
    frequency_weighted_iou=iou.frequency_weighted_iou,
    scores=iou.scores,
)

# Other people's: Keras 3 saves variables with NumPy 1's protocol, and Keras 2 draws
# integer seeds from floats once another test has set its global seed.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:non-integer arguments:DeprecationWarning"),
]

ROOT = pathlib.Path(__file__).resolve().parents[2]
VOID = 255
METRICS = [
    metrics.MeanIoU,
    metrics.PixelAccuracy,
    metrics.MeanAccuracy,
    metrics.FrequencyWeightedIoU,
]
FUNCTIONS = [
    metrics.mean_iou,
    metrics.pixel_accuracy,
    metrics.mean_accuracy,
    metrics.frequency_weighted_iou,
]
# Truth has 4 pixels of class 0, 6 of class 1, none of 2 and 3; class 2 is predicted
# in two pixels, class 3 nowhere.
#
#              predicted 0  1  2  3 | truth
#     truth 0            3  0  1  0 | 4        IoU_0 = 3/(4+4−3) = 3/5
#     truth 1            1  4  1  0 | 6        IoU_1 = 4/(6+4−4) = 2/3
#     truth 2            0  0  0  0 | 0        IoU_2 = 0/2 = 0
#     truth 3            0  0  0  0 | 0        IoU_3 = 0/0
#     predicted          4  4  2  0 | 10
HAND = np.array([[3, 0, 1, 0], [1, 4, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]], np.int64)
HAND_SCORES = [
    (3 / 5 + 2 / 3 + 0) / 3,  # three classes have a union
    (3 + 4) / 10,
    (3 / 4 + 4 / 6) / 2,  # two classes have truth pixels
    4 / 10 * 3 / 5 + 6 / 10 * 2 / 3,
]

quick = settings(max_examples=25, deadline=None, database=None)
masks = st.tuples(st.integers(0, 2**32 - 1), st.integers(1, 6))


def random_masks(
    seed: int, num_classes: int, shape: tuple[int, ...] = (2, 5, 4), void: float = 0.2
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_classes, shape)
    predictions = rng.integers(0, num_classes, shape)
    return np.where(rng.random(shape) < void, VOID, labels), predictions


def pixels_of(matrix: npt.NDArray[np.int64]) -> tuple[list[int], list[int]]:
    """Labels and predictions that have this confusion matrix."""
    truth, predicted = np.indices(matrix.shape)
    labels = np.repeat(truth.ravel(), matrix.ravel())
    return labels.tolist(), np.repeat(predicted.ravel(), matrix.ravel()).tolist()


def sklearn_matrix(labels: Any, predictions: Any, num_classes: int) -> Any:
    valid = labels != VOID
    if not valid.any():
        return np.zeros((num_classes, num_classes), np.int64)
    return sklearn.metrics.confusion_matrix(
        labels[valid], predictions[valid], labels=range(num_classes)
    )


def updated(metric: Any, *args: Any) -> Any:
    metric.update_state(*args)
    return metric


def in_graph(metric: Any, jit_compile: bool = False) -> Any:
    """A function that updates and returns the result, as a training step does."""

    @tf.function(jit_compile=jit_compile)
    def step(*args: Any) -> tf.Tensor:
        metric.update_state(*args)
        return metric.result()

    return step


# --- The functions --------------------------------------------------------------------


def test_docstring_examples() -> None:
    for module in (confusion, iou, level_set_energy):
        found = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
        assert found.attempted > 0
        assert found.failed == 0


@pytest.mark.parametrize(
    ("function", "expected"), [*zip(FUNCTIONS, HAND_SCORES, strict=True)]
)
def test_hand_worked_matrix(function: Any, expected: float) -> None:
    assert function(HAND) == pytest.approx(expected, rel=1e-15)


def test_class_iou_of_the_hand_worked_matrix() -> None:
    np.testing.assert_array_equal(metrics.class_iou(HAND), [3 / 5, 2 / 3, 0, np.nan])


@pytest.mark.parametrize("function", FUNCTIONS)
def test_no_pixel_has_no_score(function: Any) -> None:
    assert np.isnan(function(np.zeros((3, 3), np.int64)))


@pytest.mark.parametrize("seed", range(5))
def test_random_masks_against_sklearn(seed: int) -> None:
    labels, predictions = random_masks(seed, 5, (3, 17, 13))
    matrix = metrics.confusion_matrix(labels, predictions, 5, VOID)
    assert matrix.dtype == np.int64
    np.testing.assert_array_equal(matrix, sklearn_matrix(labels, predictions, 5))
    valid = labels != VOID
    truth, predicted = labels[valid], predictions[valid]
    jaccard = sklearn.metrics.jaccard_score
    assert_close = np.testing.assert_allclose
    assert_close(metrics.class_iou(matrix), jaccard(truth, predicted, average=None))
    assert_close(
        [function(matrix) for function in FUNCTIONS],
        [
            jaccard(truth, predicted, average="macro"),
            sklearn.metrics.accuracy_score(truth, predicted),
            sklearn.metrics.balanced_accuracy_score(truth, predicted),
            jaccard(truth, predicted, average="weighted"),
        ],
    )


def test_camvid_labels_against_sklearn() -> None:
    if "TF_LEVELSET_DATA" not in os.environ:
        pytest.skip("TF_LEVELSET_DATA names no folder with camvid/valannot")
    folder = pathlib.Path(os.environ["TF_LEVELSET_DATA"]) / "camvid" / "valannot"
    labels = np.stack(
        [np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))[:6]]
    )
    # The frame before as the prediction: real boundaries, and no void predicted.
    predictions = np.where(labels == 11, 0, labels)[[0, 0, 1, 2, 3, 4]]
    valid = labels != 11
    expected = sklearn.metrics.confusion_matrix(
        labels[valid], predictions[valid], labels=range(11)
    )
    metric = metrics.MeanIoU(11, ignore_class=11)
    for image, prediction in zip(labels, predictions, strict=True):
        metric.update_state(image[None], prediction[None])
    np.testing.assert_array_equal(metric.confusion(), expected)
    matrix = metrics.confusion_matrix(labels, predictions, 11, ignore_class=11)
    np.testing.assert_array_equal(matrix, expected)


@pytest.mark.parametrize(
    ("labels", "predictions", "message"),
    [
        ([0, 7, 9, 7], [0, 0, 0, 0], r"Expected labels in \[0, 3\).*\[7, 9\] in 3"),
        ([0, -1], [0, 0], r"labels .*\[-1\] in 1"),
        ([0.5, 1], [0, 0], r"labels .*\[0.5\]"),
        ([0, np.nan], [0, 0], r"labels .*\[nan\]"),
        ([0, 1], [0, 3], r"Expected predictions in \[0, 3\).*\[3\] in 1"),
        ([0, 1], [0, 1, 2], r"one shape. Received: \(2,\) and \(3,\)"),
    ],
)
def test_confusion_matrix_names_wrong_ids(
    labels: Any, predictions: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        metrics.confusion_matrix(labels, predictions, 3, ignore_class=VOID)


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 2, 2)])
def test_functions_want_a_square_matrix(shape: tuple[int, ...]) -> None:
    for function in (*FUNCTIONS, metrics.class_iou, metrics.scores):
        with pytest.raises(ValueError, match="Expected a confusion matrix"):
            function(np.ones(shape, np.int64))


def test_scores_are_ready_for_json() -> None:
    found = metrics.scores(HAND, ["sky", "road", "car", "sign"])
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert list(found.values())[:4] == pytest.approx(HAND_SCORES)
    assert found["class_iou"] == {"sky": 0.6, "road": 2 / 3, "car": 0.0, "sign": None}
    nothing = metrics.scores(np.zeros((2, 2), np.int64))
    assert nothing["mean_iou"] is None
    assert nothing["class_iou"] == {"0": None, "1": None}


# --- Properties -----------------------------------------------------------------------


@quick
@given(masks, st.integers(0, 40))
def test_merged_parts_are_the_whole(mask: tuple[int, int], cut: int) -> None:
    labels, predictions = (values.ravel() for values in random_masks(*mask))
    whole = updated(metrics.MeanIoU(6, ignore_class=VOID), labels, predictions)
    first, second = (metrics.PixelAccuracy(6, ignore_class=VOID) for _ in range(2))
    first.update_state(labels[:cut], predictions[:cut])
    second.update_state(labels[cut:], predictions[cut:])
    merged = metrics.MeanIoU(6, ignore_class=VOID)
    merged.merge_state([first, second])
    np.testing.assert_array_equal(merged.confusion(), whole.confusion())
    assert float(merged.result()) == float(whole.result())


@quick
@given(masks, st.randoms(use_true_random=False))
def test_scores_do_not_depend_on_the_order_of_classes(
    mask: tuple[int, int], random: Any
) -> None:
    labels, predictions = random_masks(*mask)
    order = list(range(6))
    random.shuffle(order)
    table = np.arange(256)
    table[:6] = order
    for cls in METRICS:
        metric = updated(cls(6, ignore_class=VOID), labels, predictions)
        renamed = updated(cls(6, ignore_class=VOID), table[labels], table[predictions])
        assert float(renamed.result()) == pytest.approx(float(metric.result()))
        np.testing.assert_array_equal(
            renamed.confusion()[np.ix_(order, order)], metric.confusion()
        )


@quick
@given(masks, st.integers(-3, 300))
def test_void_never_counts(mask: tuple[int, int], foreign: int) -> None:
    labels, predictions = random_masks(*mask)
    noisy = np.where(labels == VOID, foreign, predictions)
    metric = updated(metrics.MeanIoU(6, ignore_class=VOID), labels, noisy)
    expected = sklearn_matrix(labels, predictions, 6)
    np.testing.assert_array_equal(metric.confusion(), expected)
    metric.result()  # whatever was predicted on void is no fault
    matrix = metrics.confusion_matrix(labels, noisy, 6, VOID)
    np.testing.assert_array_equal(matrix, expected)


@quick
@given(masks)
def test_metrics_equal_the_functions(mask: tuple[int, int]) -> None:
    labels, predictions = random_masks(*mask)
    matrix = metrics.confusion_matrix(labels, predictions, 6, VOID)
    for cls, function in zip(METRICS, FUNCTIONS, strict=True):
        metric = cls(6, ignore_class=VOID, dtype="float64")
        updated(metric, labels, predictions)
        expected = np.nan_to_num(function(matrix))
        np.testing.assert_allclose(metric.result(), expected, rtol=1e-14)


# --- What the metrics accept ----------------------------------------------------------


@pytest.mark.parametrize(("cls", "expected"), [*zip(METRICS, HAND_SCORES, strict=True)])
def test_hand_worked_metric(cls: Any, expected: float) -> None:
    metric = updated(cls(4), *pixels_of(HAND))
    assert float(metric.result()) == pytest.approx(expected, rel=1e-6)
    np.testing.assert_array_equal(metric.confusion(), HAND)


@pytest.mark.parametrize("cls", METRICS)
@pytest.mark.parametrize("jit_compile", [False, True])
def test_graph_and_xla_equal_eager(cls: Any, jit_compile: bool) -> None:
    labels, predictions = random_masks(3, 6)
    step = in_graph(cls(6, ignore_class=VOID), jit_compile)
    metric = updated(cls(6, ignore_class=VOID), labels, predictions)
    value = step(tf.constant(labels), tf.constant(predictions))
    assert float(value) == float(metric.result())


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int32", "int64", "float16", "float32"]
)
@pytest.mark.parametrize("last_axis", [False, True])
def test_labels_of_any_dtype_with_or_without_a_last_axis(
    dtype: str, last_axis: bool
) -> None:
    void = 255 if dtype != "int8" else -1
    labels, predictions = random_masks(1, 6)
    expected = sklearn_matrix(labels, predictions, 6)
    given_labels = np.where(labels == VOID, void, labels).astype(dtype)
    scores = np.eye(6, dtype="float32")[predictions]
    metric = metrics.MeanIoU(6, ignore_class=void, sparse_y_pred=False)
    metric.update_state(given_labels[..., None] if last_axis else given_labels, scores)
    np.testing.assert_array_equal(metric.confusion(), expected)


def test_uint8_label_255_is_not_void_minus_one() -> None:
    metric = metrics.MeanIoU(2, ignore_class=-1)
    metric.update_state(np.array([0, 255], np.uint8), [0, 0])
    with pytest.raises(ValueError, match="1 pixels out of range"):
        metric.result()


def test_void_beyond_the_labels_type() -> None:
    metric = metrics.MeanIoU(2, ignore_class=2**40)
    metric.update_state(np.array([0, 1], np.int32), [0, 1])
    metric.update_state(np.array([0, 2**40], np.int64), [0, 1])
    np.testing.assert_array_equal(metric.confusion(), [[2, 0], [0, 1]])


def test_wide_labels_do_not_wrap_into_classes() -> None:
    metric = metrics.MeanIoU(2)
    metric.update_state(np.array([2**32, 2**40 + 1]), np.array([0, 1]))
    assert metric.confusion().sum() == 0
    with pytest.raises(ValueError, match="2 pixels out of range"):
        metric.result()


def test_more_classes_than_bfloat16_holds() -> None:
    # In bfloat16, 459 becomes 460 and 257 becomes 256.
    ids = np.arange(460, dtype="float32")
    metric = updated(metrics.MeanIoU(460), ids, ids)
    np.testing.assert_array_equal(metric.confusion(), np.eye(460, dtype=np.int64))


def test_bounds_that_bfloat16_does_not_hold() -> None:
    # In bfloat16, 257 equals 256 and 459 equals 460.
    metric = metrics.MeanIoU(257, ignore_class=459)
    metric.update_state(tf.constant([256, 460], tf.bfloat16), [256, 0])
    assert metric.confusion()[256, 256] == 1
    with pytest.raises(ValueError, match=r"labels.* 1 pixels out of range"):
        metric.result()


def test_half_precision_scores_and_dtype() -> None:
    labels, predictions = random_masks(2, 6)
    scores = tf.cast(np.eye(6)[predictions], tf.bfloat16)
    metric = metrics.MeanIoU(6, ignore_class=VOID, sparse_y_pred=False, dtype="float16")
    metric.update_state(labels, scores)
    assert metric.result().dtype == tf.float32
    np.testing.assert_array_equal(
        metric.confusion(), sklearn_matrix(labels, predictions, 6)
    )


def test_volumes_and_channels_first() -> None:
    labels, predictions = random_masks(4, 6, (2, 3, 4, 5))
    expected = sklearn_matrix(labels, predictions, 6)
    scores = np.eye(6)[predictions]
    last = metrics.MeanIoU(6, ignore_class=VOID, sparse_y_pred=False)
    np.testing.assert_array_equal(updated(last, labels, scores).confusion(), expected)
    first = metrics.MeanIoU(6, ignore_class=VOID, sparse_y_pred=False, axis=1)
    updated(first, labels, np.moveaxis(scores, -1, 1))
    np.testing.assert_array_equal(first.confusion(), expected)


def test_one_hot_labels_where_zeros_are_void() -> None:
    labels, predictions = random_masks(5, 6)
    metric = metrics.MeanIoU(6, sparse_y_true=False)
    metric.update_state(tf.one_hot(labels, 6), predictions)
    np.testing.assert_array_equal(
        metric.confusion(), sklearn_matrix(labels, predictions, 6)
    )


@pytest.mark.parametrize("void", [-2, -1, 255])
def test_one_hot_labels_that_are_no_number_are_not_void(void: int) -> None:
    labels = np.array([[[1, 0], [np.nan, 0]]], np.float32)
    metric = metrics.MeanIoU(2, ignore_class=void, sparse_y_true=False)
    metric.update_state(labels, np.array([[0, 0]]))
    with pytest.raises(ValueError, match="labels"):
        metric.result()


def test_one_hot_labels_with_a_channel_of_void() -> None:
    metric = metrics.MeanIoU(2, sparse_y_true=False, ignore_class=2)
    metric.update_state(tf.one_hot([0, 1, 2], 3), [0, 1, 1])
    np.testing.assert_array_equal(metric.confusion(), np.eye(2, dtype=np.int64))
    assert float(metric.result()) == 1.0


@pytest.mark.parametrize(("threshold", "expected"), [(0.5, [1, 0]), (0.0, [1, 1])])
def test_threshold_of_one_channel(threshold: float, expected: list[int]) -> None:
    metric = metrics.MeanIoU(2, sparse_y_pred=False, threshold=threshold)
    scores = np.array([[[0.7], [0.3]]], np.float32)
    metric.update_state(np.array([[[1], [1]]]), scores)
    np.testing.assert_array_equal(
        metric.confusion(),
        np.bincount([3 if e else 2 for e in expected], minlength=4).reshape(2, 2),
    )


def test_one_channel_without_a_threshold_is_an_error() -> None:
    metric = metrics.MeanIoU(2, sparse_y_pred=False)
    with pytest.raises(ValueError, match="`threshold` for one channel"):
        metric.update_state(np.zeros((1, 2, 2)), np.zeros((1, 2, 2, 1)))


def test_threshold_with_more_channels_is_an_error() -> None:
    metric = metrics.MeanIoU(2, sparse_y_pred=False, threshold=0.5)
    with pytest.raises(ValueError, match="Expected one channel"):
        metric.update_state(np.zeros((1, 2, 2)), np.zeros((1, 2, 2, 2)))


@pytest.mark.parametrize(
    "arguments",
    [
        {"num_classes": 0},
        {"num_classes": 2, "class_names": ["one"]},
        {"num_classes": 2, "class_names": ["twice", "twice"]},
        {"num_classes": 3, "sparse_y_pred": False, "threshold": 0.5},
        {"num_classes": 2, "threshold": 0.5},
    ],
)
def test_wrong_arguments(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"Expected .* Received"):
        metrics.MeanIoU(**arguments)


@pytest.mark.parametrize(
    ("labels", "predictions"),
    [
        ((2, 4, 3), (2, 3, 4)),  # as many pixels, and Keras flattens
        ((2, 4, 3), (2, 4, 4)),
        ((1, 4, 3), (2, 4, 3)),  # would broadcast
        ((2, 4, 3, 2), (2, 4, 3)),
    ],
)
def test_shapes_that_differ(
    labels: tuple[int, ...], predictions: tuple[int, ...]
) -> None:
    metric = metrics.MeanIoU(2)
    args = tf.zeros(labels), tf.zeros(predictions)
    message = r"Expected labels and predictions.*Received: "
    with pytest.raises(ValueError, match=message):
        metric.update_state(*args)
    with pytest.raises(ValueError, match=message):
        in_graph(metric).get_concrete_function(*args)


def test_shapes_known_only_when_run() -> None:
    metric = metrics.MeanIoU(6, ignore_class=VOID)
    spec = tf.TensorSpec([None, None, None], tf.int64)

    @tf.function(input_signature=[spec, spec])
    def update(labels: tf.Tensor, predictions: tf.Tensor) -> None:
        metric.update_state(labels, predictions)

    labels, predictions = random_masks(6, 6)
    update(labels, predictions)
    expected = sklearn_matrix(labels, predictions, 6)
    np.testing.assert_array_equal(metric.confusion(), expected)
    with pytest.raises(tf.errors.InvalidArgumentError, match="one shape"):
        update(labels[:1], predictions)
    with pytest.raises(tf.errors.InvalidArgumentError, match="one shape"):
        update(labels.swapaxes(1, 2), predictions)
    np.testing.assert_array_equal(metric.confusion(), expected)


# --- Pixels that must not be dropped silently -----------------------------------------


def test_keras_drops_what_ours_reports() -> None:
    # A palette read without its void class: 255 stands for a third of the picture.
    labels, predictions = np.array([0, 1, 255]), np.array([0, 1, 0])
    metric = updated(metrics.MeanIoU(2), labels, predictions)
    with pytest.raises(
        ValueError,
        match=r"Expected labels in \[0, 2\) or ignore_class. Received: 1 pixels out",
    ):
        metric.result()
    theirs = keras.metrics.MeanIoU(2)
    try:
        theirs.update_state(labels, predictions)
    except tf.errors.InvalidArgumentError:
        # Keras 2 refuses them on a CPU, as long as nothing is compiled by XLA.
        return
    assert float(theirs.result()) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("labels", "predictions", "message"),
    [
        (
            [0, 9, -1],
            [0, 0, 0],
            r"labels in \[0, 3\) or ignore_class \(255\)\."
            r" Received: 2 pixels out of range$",
        ),
        ([0, 1, 1], [3, 255, 1], r"^Expected predictions in \[0, 3\).*Received: 2"),
        ([9, 1, 1], [0, 1, -1], r"labels.*Received: 1 .*predictions.*Received: 1"),
        ([0.5, 1.0, np.nan], [0, 1, 1], r"labels.*Received: 2"),
        ([0, 1, 1], [0.7, 1.0, np.inf], r"predictions.*Received: 2"),
    ],
)
def test_wrong_ids_raise(labels: Any, predictions: Any, message: str) -> None:
    metric = metrics.MeanIoU(3, ignore_class=VOID)
    metric.update_state(labels, predictions)
    for read in (metric.result, metric.scores, metric.per_class):
        with pytest.raises(ValueError, match=message):
            read()
    graph = in_graph(metrics.MeanIoU(3, ignore_class=VOID))
    with pytest.raises(tf.errors.InvalidArgumentError, match="pixels out of range"):
        graph(tf.constant(labels), tf.constant(predictions))
    compiled = in_graph(metrics.MeanIoU(3, ignore_class=VOID), jit_compile=True)
    assert np.isnan(compiled(tf.constant(labels), tf.constant(predictions)))
    metric.reset_state()
    assert float(metric.result()) == 0.0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("channels", [1, 3])
def test_non_finite_scores_are_no_class(value: float, channels: int) -> None:
    threshold = 0.5 if channels == 1 else None
    classes = 2 if channels == 1 else 3
    metric = metrics.MeanIoU(
        classes, ignore_class=VOID, sparse_y_pred=False, threshold=threshold
    )
    scores = np.zeros((3, channels), np.float32)
    scores[:2, -1] = value
    metric.update_state([0, VOID, 0], scores)
    assert metric.confusion().sum() == 1
    with pytest.raises(ValueError, match=r"finite scores. Received: 1 pixels"):
        metric.result()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("axis", [-1, 1])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_compiled_argmax_is_the_argmax(
    dtype: str, axis: int, jit_compile: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels, _ = random_masks(3, 6, (2, 20, 30))
    # Few values, hence many ties; and scores that are no numbers, of each kind.
    rng = np.random.default_rng(0)
    scores = rng.integers(-2, 3, (2, 20, 30, 6)).astype(dtype)
    for value in (np.nan, np.inf, -np.inf):
        scores[rng.random(scores.shape) < 0.01] = value
    moved = np.moveaxis(scores, -1, axis)
    options: dict[str, Any] = {"ignore_class": VOID, "sparse_y_pred": False}
    plain = updated(metrics.MeanIoU(6, axis=axis, **options), labels, moved)
    monkeypatch.setattr(xla, "on_cpu", lambda: True)
    monkeypatch.setattr(xla, "MANY_PIXELS", 1)
    calls: list[int] = []
    compiled = class_ids._one_pass_argmax

    def noted(scores: tf.Tensor, axis: int) -> tf.Tensor:
        calls.append(axis)
        return compiled(scores, axis)

    monkeypatch.setattr(class_ids, "_one_pass_argmax", noted)
    metric = metrics.MeanIoU(6, axis=axis, **options)
    shapes = [tf.TensorSpec([None, *a.shape[1:]], a.dtype) for a in (labels, moved)]

    @tf.function(input_signature=shapes, jit_compile=jit_compile, autograph=False)
    def update(labels: tf.Tensor, scores: tf.Tensor) -> None:
        metric.update_state(labels, scores)

    for i in range(2):
        update(labels[i : i + 1], moved[i : i + 1])
    assert calls
    for ours, expected in zip(metric.variables, plain.variables, strict=True):
        np.testing.assert_array_equal(ours, expected)
    valid = (labels != VOID) & np.isfinite(scores).all(-1)
    np.testing.assert_array_equal(
        metric.confusion(),
        sklearn_matrix(np.where(valid, labels, VOID), scores.argmax(-1), 6),
    )
    assert 0 < valid.sum() < (labels != VOID).sum()


def test_scores_of_more_classes_than_there_are() -> None:
    metric = metrics.MeanIoU(2, sparse_y_pred=False)
    metric.update_state([0, 1], [[1, 0, 0], [0, 0, 1]])
    with pytest.raises(ValueError, match=r"predictions.*Received: 1 pixels"):
        metric.result()


# --- Sample weights -------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape", [(), (2,), (2, 1), (2, 5), (2, 5, 4), (2, 5, 4, 1), (2, 1, 1)]
)
@pytest.mark.parametrize("dtype", ["bool", "int32", "float32", "float16"])
def test_masks_align_from_the_batch_axis_on(shape: tuple[int, ...], dtype: str) -> None:
    labels, predictions = random_masks(7, 6)
    mask = np.random.default_rng(0).integers(0, 2, shape) if shape else np.array(1)
    rest = 3 - len(shape)
    whole = np.broadcast_to(
        mask.reshape(shape + (1,) * rest if rest >= 0 else shape[:-1]), labels.shape
    )
    expected = sklearn_matrix(np.where(whole == 1, labels, VOID), predictions, 6)
    metric = metrics.MeanIoU(6, ignore_class=VOID)
    metric.update_state(labels, predictions, mask.astype(dtype))
    np.testing.assert_array_equal(metric.confusion(), expected)


def test_a_batch_as_wide_as_large_is_masked_by_image() -> None:
    # (B,) against (B, B, B): aligned from the right it would mask columns.
    labels = np.zeros((2, 2, 2), int)
    labels[1] = 1
    metric = metrics.MeanIoU(2)
    metric.update_state(labels, labels, np.array([1, 0]))
    np.testing.assert_array_equal(metric.confusion(), [[4, 0], [0, 0]])


@pytest.mark.parametrize("weight", [0.5, 2, -1, np.nan])
def test_fractional_weights_are_refused(weight: float) -> None:
    args = np.array([[0, 1]]), np.array([[0, 1]]), np.array([[1, weight]])
    metric = metrics.MeanIoU(2)
    with pytest.raises(ValueError, match="Expected sample weights of 0 or 1"):
        metric.update_state(*args)
    assert metric.confusion().sum() == 0
    tensors = [tf.constant(arg) for arg in args]
    with pytest.raises(tf.errors.InvalidArgumentError, match="weights of 0 or 1"):
        in_graph(metric)(*tensors)
    assert np.isnan(in_graph(metric, jit_compile=True)(*tensors))


@pytest.mark.parametrize("shape", [(3,), (2, 4), (2, 5, 4, 2), (1, 2, 5, 4)])
def test_weights_of_another_shape(shape: tuple[int, ...]) -> None:
    labels, predictions = random_masks(8, 6)
    with pytest.raises(ValueError, match="Expected a sample_weight"):
        metrics.MeanIoU(6, ignore_class=VOID).update_state(
            labels, predictions, np.ones(shape)
        )


# --- State ----------------------------------------------------------------------------


def test_counts_beyond_float32() -> None:
    # One pixel more than float32 can count, in one cell.
    full = np.zeros((1, 2**12, 2**12), np.uint8)
    metric = metrics.MeanIoU(2)
    metric.update_state(full, full)
    metric.update_state(full[0, 0, :1], full[0, 0, :1])
    assert metric.confusion()[0, 0] == 2**24 + 1
    assert all(tf.as_dtype(v.dtype) == tf.int64 for v in metric.variables)


def test_scores_beyond_float32() -> None:
    metric = metrics.PixelAccuracy(2, dtype="float64")
    counts = np.array([[2**24 + 1, 0], [1, 2**40]])
    metric.variables[0].assign(counts)
    assert float(metric.result()) == metrics.pixel_accuracy(counts) < 1


@pytest.mark.parametrize("cls", METRICS)
def test_nothing_counted_is_zero_and_none(cls: Any) -> None:
    metric = cls(2, ignore_class=VOID)
    assert float(metric.result()) == 0.0
    metric.update_state([VOID], [0])
    assert float(metric.result()) == 0.0
    assert float(in_graph(metric, jit_compile=True)([VOID], [0])) == 0.0
    assert metric.per_class() == {"0": None, "1": None}


def test_names_and_scores() -> None:
    names = ["sky", "road", "car", "sign"]
    metric = updated(metrics.MeanIoU(4, class_names=names), *pixels_of(HAND))
    assert metric.per_class() == {"sky": 0.6, "road": 2 / 3, "car": 0.0, "sign": None}
    assert metric.scores() == metrics.scores(HAND, names)


def test_reset() -> None:
    metric = updated(metrics.MeanIoU(4), *pixels_of(HAND))
    metric.reset_state()
    np.testing.assert_array_equal(metric.confusion(), np.zeros((4, 4)))


def test_merge_keeps_faults_and_refuses_strangers() -> None:
    faulty = updated(metrics.MeanIoU(4), [7], [0])
    metric = metrics.MeanIoU(4)
    for stranger in (metrics.MeanIoU(5), keras.metrics.MeanIoU(4)):
        with pytest.raises(ValueError, match="Expected confusion metrics of 4"):
            metric.merge_state([faulty, stranger])
    assert float(metric.result()) == 0.0
    metric.merge_state([faulty])
    with pytest.raises(ValueError, match="1 pixels out of range"):
        metric.result()


def test_equals_keras_where_all_classes_are_present() -> None:
    labels, predictions = random_masks(9, 5, (2, 20, 20), void=0.1)
    scores = np.eye(5, dtype="float32")[predictions]
    arguments: dict[str, Any] = {
        "num_classes": 5,
        "ignore_class": VOID,
        "sparse_y_pred": False,
    }
    ours, theirs = metrics.MeanIoU(**arguments), keras.metrics.MeanIoU(**arguments)
    assert ours.name.startswith("mean_io_u")
    for metric in (ours, theirs):
        metric.update_state(labels, scores)
    assert float(ours.result()) == pytest.approx(float(theirs.result()), rel=1e-6)
    # Every argument of Keras' own, by position.
    metric = metrics.MeanIoU(5, "iou", "float32", VOID, True, False, -1)
    assert float(metric(labels, scores)) == float(ours.result())


# --- Keras ----------------------------------------------------------------------------

CONFIGS: list[Any] = [
    *(
        cls(
            2,
            name="named",
            dtype="float64",
            ignore_class=7,
            sparse_y_true=False,
            sparse_y_pred=False,
            axis=1,
            class_names=["a", "b"],
            threshold=0.25,
        )
        for cls in METRICS
    ),
    metrics.LevelSetEnergy(
        True, "ahf", 0.1, 7, [1.0, 2.0], "mean", True, "named", "float64"
    ),
]


@pytest.mark.parametrize("metric", CONFIGS, ids=lambda m: type(m).__name__)
def test_configuration_round_trip(metric: Any) -> None:
    written = json.dumps(keras.saving.serialize_keras_object(metric))
    restored = keras.saving.deserialize_keras_object(json.loads(written))
    assert type(restored) is type(metric)
    assert restored.get_config() == metric.get_config()
    assert set(metric.get_config()) == set(inspect.signature(type(metric)).parameters)
    defaults = type(metric)(*([2] if hasattr(metric, "num_classes") else []))
    changed = metric.get_config()
    same = [
        key for key, value in defaults.get_config().items() if value == changed[key]
    ]
    assert set(same) <= {"num_classes"}  # the round trip carried every argument


def tiny_layers() -> Any:
    weights = keras.initializers.GlorotUniform(seed=0)
    conv = keras.layers.Conv2D(4, 3, padding="same", kernel_initializer=weights)
    return keras.Sequential([keras.Input((None, None, 3)), conv])


def tiny_model() -> Any:
    model = tiny_layers()
    model.compile(
        optimizer="sgd",
        loss=keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, ignore_class=VOID
        ),
        metrics=[
            *(cls(4, ignore_class=VOID, sparse_y_pred=False) for cls in METRICS),
            metrics.LevelSetEnergy(from_logits=True, ignore_class=VOID),
        ],
    )
    return model


def test_fit_evaluate_and_save(tmp_path: pathlib.Path) -> None:
    images = np.random.default_rng(0).random((6, 8, 8, 3), np.float32)
    labels, _ = random_masks(0, 4, (6, 8, 8))
    model = tiny_model()
    history = model.fit(images, labels, batch_size=4, epochs=2, verbose=0).history
    assert all(np.isfinite(history["level_set_energy"]))
    predicted = model.predict(images, verbose=0).argmax(-1)
    expected = [f(sklearn_matrix(labels, predicted, 4)) for f in FUNCTIONS]
    path = tmp_path / "model.keras"
    model.save(path)
    for evaluated in (model, keras.models.load_model(path)):
        # 4 and 2 images: the mean of the IoUs of the batches would be another number.
        values = evaluated.evaluate(images, labels, batch_size=4, verbose=0)
        np.testing.assert_allclose(values[1:5], expected, rtol=1e-6)
        energies = [
            literal_energy(label, probability)
            for label, probability in zip(
                labels, softmax(model.predict(images, verbose=0)), strict=True
            )
        ]
        assert values[5] == pytest.approx(np.mean(energies), rel=1e-4)


def test_fit_stops_at_a_foreign_label() -> None:
    images, labels = np.zeros((2, 8, 8, 3), np.float32), np.zeros((2, 8, 8), int)
    labels[0, 0, 0] = 9
    model = tiny_layers()
    metric = metrics.MeanIoU(4, ignore_class=VOID, sparse_y_pred=False)
    model.compile("sgd", "mse", metrics=[metric], jit_compile=False)
    labels = labels[..., None]
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"Expected labels in"):
        model.fit(images, labels, verbose=0)


def test_weighted_metrics_take_masks() -> None:
    images = np.zeros((4, 8, 8, 3), np.float32)
    labels, _ = random_masks(0, 4, (4, 8, 8))
    keep = np.array([1.0, 0.0, 1.0, 1.0], np.float32)
    model = tiny_layers()
    metric = metrics.MeanIoU(4, ignore_class=VOID, sparse_y_pred=False)
    energy = metrics.LevelSetEnergy(from_logits=True, ignore_class=VOID)

    def loss(y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(y_pred, [1, 2, 3])

    model.compile("sgd", loss, weighted_metrics=[metric, energy])
    model.evaluate(images, labels, sample_weight=keep, verbose=0)
    valid = (labels != VOID) & (keep == 1)[:, None, None]
    assert metric.confusion().sum() == valid.sum()
    energies = [
        literal_energy(label, probability)
        for label, probability in zip(
            labels, softmax(model.predict(images, verbose=0)), strict=True
        )
    ]
    expected = np.average(energies, weights=keep)
    assert float(energy.result()) == pytest.approx(expected, rel=1e-4)


DISTRIBUTED = """
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras
from tf_levelset import metrics
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert strategy.num_replicas_in_sync == 2
rng = np.random.default_rng(0)
images = rng.random((6, 4, 4, 3), np.float32)
labels = rng.integers(0, 4, (6, 4, 4))
labels[0, 0, 0] = 255
with strategy.scope():
    model = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Conv2D(4, 1)])
    metric = metrics.MeanIoU(4, ignore_class=255, sparse_y_pred=False)
    energy = metrics.LevelSetEnergy(from_logits=True, ignore_class=255)
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, ignore_class=255)
    model.compile("sgd", loss, metrics=[metric, energy])
data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(4)
model.fit(data, epochs=2, verbose=0)
value = model.evaluate(data, verbose=0)[1:]
logits = model(images)
alone = metrics.MeanIoU(4, ignore_class=255, sparse_y_pred=False)
alone.update_state(labels, logits)
alone_energy = metrics.LevelSetEnergy(from_logits=True, ignore_class=255)
alone_energy.update_state(labels, logits)
np.testing.assert_array_equal(metric.confusion(), alone.confusion())
assert metric.confusion().sum() == 6 * 16 - 1
expected = [float(alone.result()), float(alone_energy.result())]
np.testing.assert_allclose(value, expected, rtol=1e-5)
model.reset_metrics()
assert metric.confusion().sum() == 0
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


# --- The level set energy -------------------------------------------------------------


def softmax(logits: Any) -> Any:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def literal_energy(labels: Any, probabilities: Any, epsilon: float = 1 / 20) -> float:
    """Eq. 4 to 6 as they are written, in float64, for one image."""
    valid = labels != VOID
    energy = 0.0
    for index in np.unique(labels[valid]):
        truth = (labels[valid] == index).astype(np.float64)
        phi = probabilities[valid][:, index].astype(np.float64) - 0.5
        inside = 0.5 * (1 + np.tanh(phi / epsilon))
        c1 = (truth * inside).sum() / inside.sum()
        c2 = (truth * (1 - inside)).sum() / (1 - inside).sum()
        energy += ((truth - c1) ** 2 * inside).sum()
        energy += ((truth - c2) ** 2 * (1 - inside)).sum()
    return energy


def energy_batch() -> tuple[Any, Any, list[float]]:
    labels, _ = random_masks(11, 4, (5, 6, 7))
    logits = np.random.default_rng(1).normal(size=(5, 6, 7, 4)).astype(np.float32)
    pairs = zip(labels, softmax(logits.astype(np.float64)), strict=True)
    return labels, logits, [literal_energy(*pair) for pair in pairs]


@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
def test_energy_is_the_mean_over_images_of_the_literal_formula(mode: str) -> None:
    labels, logits, energies = energy_batch()
    metric = metrics.LevelSetEnergy(from_logits=True, ignore_class=VOID)
    step = metric if mode == "eager" else in_graph(metric, mode == "xla")
    step(tf.constant(labels[:3]), tf.constant(logits[:3]))
    value = step(tf.constant(labels[3:]), tf.constant(logits[3:]))
    # 3 and 2 images: the mean of the batches' means would be another number.
    assert float(value) == pytest.approx(np.mean(energies), rel=1e-5)


def test_energy_of_probabilities_and_options() -> None:
    labels, logits, energies = energy_batch()
    metric = metrics.LevelSetEnergy(ignore_class=VOID, epsilon=0.2)
    metric.update_state(labels[..., None], softmax(logits))
    expected = [
        literal_energy(label, probability, 0.2)
        for label, probability in zip(labels, softmax(logits), strict=True)
    ]
    assert float(metric.result()) == pytest.approx(np.mean(expected), rel=1e-5)
    assert np.mean(expected) != pytest.approx(np.mean(energies), rel=1e-2)


@pytest.mark.parametrize("shape", [(5,), (5, 1)])
def test_energy_weighs_images(shape: tuple[int, ...]) -> None:
    labels, logits, energies = energy_batch()
    weights = np.array([0, 1, 2.5, 0.5, 1])
    metric = metrics.LevelSetEnergy(from_logits=True, ignore_class=VOID)
    metric.update_state(labels, logits, weights.reshape(shape))
    expected = np.average(energies, weights=weights)
    assert float(metric.result()) == pytest.approx(expected, rel=1e-5)
    metric.reset_state()
    assert float(metric.result()) == 0.0
    metric.update_state(labels, logits, 0.5)
    assert float(metric.result()) == pytest.approx(np.mean(energies), rel=1e-5)


@pytest.mark.parametrize("shape", [(1,), (4,), (5, 6, 7)])
def test_energy_refuses_weights_that_are_not_of_images(shape: tuple[int, ...]) -> None:
    labels, logits, _ = energy_batch()
    metric = metrics.LevelSetEnergy(from_logits=True, ignore_class=VOID)
    with pytest.raises(ValueError, match="Expected a sample_weight"):
        metric.update_state(labels, logits, np.ones(shape))


def test_energy_merges() -> None:
    labels, logits, energies = energy_batch()
    parts = [metrics.LevelSetEnergy(True, ignore_class=VOID) for _ in range(3)]
    parts[1].update_state(labels[:2], logits[:2])
    parts[2].update_state(labels[2:], logits[2:])
    parts[0].merge_state(parts[1:])
    assert float(parts[0].result()) == pytest.approx(np.mean(energies), rel=1e-5)
    with pytest.raises(ValueError, match="Expected LevelSetEnergy"):
        parts[0].merge_state([metrics.MeanIoU(2)])


def test_energy_of_a_long_run_keeps_its_digits() -> None:
    labels, logits, energies = energy_batch()
    metric = metrics.LevelSetEnergy(True, ignore_class=VOID, dtype="float64")
    metric.variables[0].assign(2.0**40)  # where a float32 total moves in steps of 2**17
    metric.update_state(labels, logits)
    count = float(tf.convert_to_tensor(metric.variables[1]))
    added = float(metric.result()) * count - 2.0**40
    assert added == pytest.approx(np.sum(energies), rel=1e-3)


@pytest.mark.parametrize(
    "arguments",
    [{"heaviside": "none"}, {"epsilon": 0}, {"normalization": "none"}],
)
def test_energy_checks_its_options_at_once(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"Expected .*Received"):
        metrics.LevelSetEnergy(**arguments)


# --- Bad input ---


@pytest.mark.parametrize(
    "options",
    [
        {"num_classes": "3"},
        {"num_classes": 1.5},
        {"ignore_class": "255"},
        {"ignore_class": 1.5},
        {"class_names": 3},
        {"axis": "last"},
        {"threshold": "a", "num_classes": 2, "sparse_y_pred": False},
        {"threshold": float("nan"), "num_classes": 2, "sparse_y_pred": False},
    ],
)
def test_options_of_other_types_raise(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"Expected .*Received"):
        metrics.MeanIoU(**{"num_classes": 3, **options})


@pytest.mark.parametrize("in_a_graph", [False, True])
@pytest.mark.parametrize(
    ("labels", "predictions", "weight"),
    [
        (np.full((1, 2), "a"), np.zeros((1, 2)), None),
        (np.zeros((1, 2)), np.zeros((1, 2), complex), None),
        (np.zeros((1, 2)), np.zeros((1, 2)), "heavy"),
    ],
)
def test_what_holds_no_numbers_raises(
    labels: Any, predictions: Any, weight: Any, in_a_graph: bool
) -> None:
    for metric in (metrics.MeanIoU(2), metrics.LevelSetEnergy()):
        if isinstance(metric, metrics.LevelSetEnergy):
            predictions = np.stack([predictions, predictions], -1)
        update = in_graph(metric) if in_a_graph else metric.update_state
        with pytest.raises(ValueError, match="to hold real numbers"):
            update(tf.constant(labels), tf.constant(predictions), weight)


def test_an_axis_that_is_not_there_raises() -> None:
    metric = metrics.MeanIoU(2, sparse_y_pred=False, axis=3)
    with pytest.raises(ValueError, match="Expected an axis 3 of the classes"):
        metric.update_state(np.zeros((1, 4)), np.zeros((1, 4, 2)))


@pytest.mark.parametrize(
    ("labels", "options"),
    [
        (["a", "b"], {}),
        ([1j, 0], {}),
        ([0, 1], {"num_classes": "2"}),
        ([0, 1], {"num_classes": 0}),
        ([0, 1], {"ignore_class": "255"}),
    ],
)
def test_confusion_matrix_of_other_types_raises(
    labels: Any, options: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=r"Expected .*Received"):
        metrics.confusion_matrix(labels, [0, 1], **{"num_classes": 2, **options})
