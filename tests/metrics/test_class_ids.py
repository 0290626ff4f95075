"""Tests of the ids that metrics read from labels, predictions and sample weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from metric_tester import (
    VOID,
    in_graph,
    random_masks,
    scores_for,
    sklearn_matrix,
    updated,
)

from tf_levelset import MeanIoU, xla

SCORES: dict[str, Any] = {"sparse_y_pred": False}


def test_uint8_label_255_is_not_void_minus_one() -> None:
    metric = updated(MeanIoU(2, ignore_class=-1), np.array([0, 255], np.uint8), [0, 0])
    with pytest.raises(ValueError, match=r"`mask > 0`, .*=255`\. Received: 1 invalid"):
        metric.result()


def test_wide_labels_do_not_wrap_into_classes() -> None:
    metric = updated(MeanIoU(2), np.array([2**32, 2**40 + 1]), np.array([0, 1]))
    assert metric.confusion().sum() == 0
    with pytest.raises(ValueError, match="2 invalid pixels"):
        metric.result()


def test_volumes_and_channels_first() -> None:
    labels, predictions = random_masks(4, 6, (2, 3, 4, 5))
    expected = sklearn_matrix(labels, predictions, 6)
    scores = scores_for(predictions, 6)
    for axis in (-1, 1):
        metric = MeanIoU(6, ignore_class=VOID, sparse_y_pred=False, axis=axis)
        updated(metric, labels, np.moveaxis(scores, -1, axis))
        np.testing.assert_array_equal(metric.confusion(), expected)


def test_one_hot_labels_with_a_channel_of_void() -> None:
    metric = MeanIoU(2, sparse_y_true=False, ignore_class=2)
    # The fourth vector is zeros, which are void as well.
    metric.update_state(tf.one_hot([0, 1, 2, 3], 3), [0, 1, 1, 0])
    np.testing.assert_array_equal(metric.confusion(), np.eye(2, dtype=np.int64))
    assert float(metric.result()) == 1.0


@pytest.mark.parametrize(
    ("threshold", "expected"), [(0.5, [[0, 0], [1, 1]]), (0.0, [[0, 0], [0, 2]])]
)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_threshold_of_one_channel(
    threshold: float, expected: list[list[int]], dtype: str
) -> None:
    metric = MeanIoU(2, sparse_y_pred=False, threshold=threshold)
    metric.update_state(np.array([[[1], [1]]]), np.array([[[0.7], [0.3]]], dtype))
    np.testing.assert_array_equal(metric.confusion(), expected)


def test_one_hot_labels_whose_classes_come_first() -> None:
    masks = np.eye(3)[:, :, np.newaxis].repeat(2, axis=2)[np.newaxis]
    options: dict[str, Any] = {"sparse_y_true": False, "sparse_y_pred": False}
    with pytest.raises(ValueError, match=r"(?s)`axis` to be that of the 3.*`axis=1`"):
        MeanIoU(3, **options).update_state(masks, masks)
    metric = updated(MeanIoU(3, axis=1, **options), masks, masks)
    np.testing.assert_array_equal(metric.confusion(), 2 * np.eye(3))


def test_masks_of_one_channel_that_comes_first() -> None:
    metric = MeanIoU(2, sparse_y_pred=False, threshold=0.5, axis=1)
    masks = np.arange(24).reshape(2, 1, 3, 4) % 2
    metric.update_state(masks, masks.astype(np.float32))
    np.testing.assert_array_equal(metric.confusion(), [[12, 0], [0, 12]])


@pytest.mark.parametrize(
    ("options", "labels", "predictions", "weight", "message"),
    [
        # As many pixels, and Keras flattens; then what would broadcast.
        ({}, (2, 4, 3), (2, 3, 4), (), "labels and predictions"),
        ({}, (2, 4, 3), (2, 4, 4), (), "labels and predictions"),
        ({}, (2, 4, 3, 2), (2, 4, 3), (), "One-hot labels need sparse_y_true=False"),
        (SCORES, (2, 4, 3, 2), (2, 4, 3, 2), (), "sparse_y_true=False"),
        ({}, (2, 4, 3), (2, 4, 3, 2), (), "scores need sparse_y_pred=False"),
        (SCORES, (1, 2, 2), (1, 2, 2, 3), (), "`num_classes` to be 3, the channels"),
        (SCORES, (1, 2, 2), (1, 2, 2, 1), (), "`threshold` for one channel"),
        (
            {**SCORES, "threshold": 0.5},
            *((1, 2, 2), (1, 2, 2, 2), (), "to have one channel"),
        ),
        ({**SCORES, "axis": 4}, (1, 2, 2), (1, 2, 2, 2), (), "`axis`"),
        ({}, (2, 5, 4), (2, 5, 4), (3,), "`sample_weight` .*`class_weight` of `fit`"),
        ({}, (2, 5, 4), (2, 5, 4), (2, 5, 4, 2), "`sample_weight`"),
        ({}, (2, 5, 4), (2, 5, 4), (1, 2, 5, 4), "`sample_weight`"),
    ],
)
def test_shapes_that_differ(
    options: dict[str, Any],
    labels: tuple[int, ...],
    predictions: tuple[int, ...],
    weight: tuple[int, ...],
    message: str,
) -> None:
    metric = MeanIoU(2, **options)
    args = tf.zeros(labels), tf.zeros(predictions), tf.ones(weight)
    for update in (metric.update_state, in_graph(metric).get_concrete_function):
        with pytest.raises(ValueError, match=f"Expected .*{message}"):
            update(*args)


def test_shapes_known_only_at_run_time() -> None:
    metric = MeanIoU(6, ignore_class=VOID)
    spec = tf.TensorSpec([None, None, None], tf.int64)
    update = in_graph(metric, input_signature=[spec, spec])
    labels, predictions = random_masks(6, 6)
    update(labels, predictions)
    expected = sklearn_matrix(labels, predictions, 6)
    np.testing.assert_array_equal(metric.confusion(), expected)
    for other in (labels[:1], labels.swapaxes(1, 2)):
        with pytest.raises(tf.errors.InvalidArgumentError, match="same shape"):
            update(other, predictions)
    np.testing.assert_array_equal(metric.confusion(), expected)


# --- Invalid pixels -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "predictions", "message"),
    [
        (
            [0, 9, -1],
            [0, 0, 0],
            r"labels to be in \[0, 3\) or `ignore_class` \(255\)\."
            r" Received: 2 invalid pixels$",
        ),
        ([9, 1, 1], [0, 1, -1], r"labels.*Received: 1 .*predictions.*Received: 1"),
        ([0.5, 1.0, np.nan], [0, 1, 1], r"labels.*Received: 2"),
        ([0, 1, 1], [0.7, 1.0, np.inf], r"predictions.*sparse_y_pred=False.*: 2"),
    ],
)
def test_invalid_ids_raise(labels: Any, predictions: Any, message: str) -> None:
    metric = updated(MeanIoU(3, ignore_class=VOID), labels, predictions)
    for read in (metric.result, metric.scores, metric.per_class):
        with pytest.raises(ValueError, match=message):
            read()
    tensors = tf.constant(labels), tf.constant(predictions)
    compiled = in_graph(MeanIoU(3, ignore_class=VOID), jit_compile=True)
    assert np.isnan(compiled(*tensors))
    metric.reset_state()
    assert float(metric.result()) == 0.0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("channels", [1, 3])
def test_scores_that_are_not_finite_are_invalid(value: float, channels: int) -> None:
    metric = MeanIoU(
        2 if channels == 1 else 3,
        ignore_class=VOID,
        sparse_y_pred=False,
        threshold=0.5 if channels == 1 else None,
    )
    scores = np.zeros((3, channels), np.float32)
    scores[:2, -1] = value
    metric.update_state([0, VOID, 0], scores)
    assert metric.confusion().sum() == 1
    assert np.isnan(metric.result())
    for read in (metric.scores, metric.per_class):
        with pytest.raises(ValueError, match=r"without NaN, .* Received: 1 invalid"):
            read()
    for jit_compile in (False, True):
        metric.reset_state()
        step = in_graph(metric, jit_compile=jit_compile)
        assert np.isnan(step(tf.constant([0, VOID, 0]), tf.constant(scores)))
    metric.reset_state()
    metric.update_state([VOID, VOID, 0], scores)  # on void, they change nothing
    assert metric.scores()["pixel_accuracy"] == 1


def test_scores_with_a_channel_of_void() -> None:
    options: dict[str, Any] = {**SCORES, "ignore_class": 2}
    found = updated(MeanIoU(2, **options), [0, 1, 2], np.eye(3))
    np.testing.assert_array_equal(found.confusion(), np.eye(2))
    assert float(found.result()) == 1.0
    found.update_state([1], [[0, 0, 1]])
    with pytest.raises(ValueError, match=r"predictions.*Received: 1 invalid"):
        found.scores()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("axis", [-1, 1])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_compiled_argmax_is_the_argmax(
    dtype: str, axis: int, jit_compile: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels, _ = random_masks(3, 6, (2, 20, 30))
    # Few values, hence many ties, and scores of each type that are not finite.
    rng = np.random.default_rng(0)
    scores = rng.integers(-2, 3, (2, 20, 30, 6)).astype(dtype)
    for value in (np.nan, np.inf, -np.inf):
        scores[rng.random(scores.shape) < 0.01] = value
    moved = np.moveaxis(scores, -1, axis)
    options: dict[str, Any] = {"ignore_class": VOID, "sparse_y_pred": False}
    plain = updated(MeanIoU(6, axis=axis, **options), labels, moved)
    monkeypatch.setattr(xla, "on_cpu", lambda: True)
    monkeypatch.setattr(xla, "MANY_PIXELS", 1)
    metric = MeanIoU(6, axis=axis, **options)
    shapes = [tf.TensorSpec([None, *a.shape[1:]], a.dtype) for a in (labels, moved)]

    @tf.function(input_signature=shapes, jit_compile=jit_compile, autograph=False)
    def update(labels: tf.Tensor, scores: tf.Tensor) -> None:
        metric.update_state(labels, scores)

    # The compiled function is called from the graph, and TensorFlow's argmax is not.
    graph = update.get_concrete_function().graph.as_graph_def(add_shapes=False)
    operations = {node.op for node in graph.node}
    assert "ArgMax" not in operations
    assert operations & {"PartitionedCall", "StatefulPartitionedCall"}
    for i in range(2):
        update(labels[i : i + 1], moved[i : i + 1])
    for ours, expected in zip(metric.variables, plain.variables, strict=True):
        np.testing.assert_array_equal(ours, expected)
    valid = (labels != VOID) & np.isfinite(scores).all(-1)
    np.testing.assert_array_equal(
        metric.confusion(),
        sklearn_matrix(np.where(valid, labels, VOID), scores.argmax(-1), 6),
    )
    assert 0 < valid.sum() < (labels != VOID).sum()


# --- Sample weights -------------------------------------------------------------------


def test_a_batch_as_wide_as_large_is_masked_by_image() -> None:
    # (B,) against (B, B, B): aligned from the right it would mask columns.
    labels = np.zeros((2, 2, 2), int)
    labels[1] = 1
    metric = updated(MeanIoU(2), labels, labels, np.array([1, 0]))
    np.testing.assert_array_equal(metric.confusion(), [[4, 0], [0, 0]])


@pytest.mark.parametrize("weight", [0.5, 2, -1, np.nan])
def test_fractional_weights_are_refused(weight: float) -> None:
    args = np.array([[0, 1]]), np.array([[0, 1]]), np.array([[1, weight]])
    metric = MeanIoU(2)
    with pytest.raises(ValueError, match=r"weights to be 0 or 1.*`weighted_metrics`"):
        metric.update_state(*args)
    assert metric.confusion().sum() == 0
    tensors = [tf.constant(arg) for arg in args]
    with pytest.raises(tf.errors.InvalidArgumentError, match="weights to be 0 or 1"):
        in_graph(metric)(*tensors)
    assert np.isnan(in_graph(metric, jit_compile=True)(*tensors))
