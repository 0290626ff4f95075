"""Tests of what all metrics promise: state, configuration, and use in Keras."""

from __future__ import annotations

import doctest
import inspect
import json
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from metric_tester import (
    CASES,
    FUNCTIONS,
    VOID,
    Case,
    counted,
    each,
    in_graph,
    random_batch,
    random_image,
    scores_for,
    updated,
)

from tf_levelset import (
    BoundaryIoU,
    FrequencyWeightedIoU,
    LevelSetEnergy,
    MeanAccuracy,
    MeanIoU,
    PixelAccuracy,
    SmallObjectRecall,
    TrimapIoU,
)
from tf_levelset.metrics import (
    boundary_iou,
    confusion,
    iou,
    level_set_energy,
    small_objects,
    trimap_iou,
)

MODULES = (
    boundary_iou,
    confusion,
    iou,
    level_set_energy,
    small_objects,
    trimap_iou,
)
quick = settings(max_examples=25, deadline=None, database=None)
seeds = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("module", MODULES, ids=lambda m: m.__name__)
def test_docstring_examples(module: Any) -> None:
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0


# --- Counts ---------------------------------------------------------------------------


@each(CASES)
@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_metric_equals_its_function(case: Case, mode: str) -> None:
    labels, predictions = random_batch(2, 5)
    metric = case.make(sparse_y_pred=False, dtype="float64")
    spec = tf.TensorSpec([None, None, None], tf.int64)
    logits = tf.TensorSpec([None, None, None, 4], tf.float32)
    update = metric.update_state
    if mode == "graph":
        update = in_graph(metric, input_signature=[spec, logits])
    update(tf.constant(labels[:3]), tf.constant(scores_for(predictions[:3])))
    update(tf.constant(labels[3:]), tf.constant(scores_for(predictions[3:])))
    expected = case.counts(labels, predictions)
    np.testing.assert_array_equal(counted(metric), expected)
    assert float(metric.result()) == pytest.approx(case.score(expected), rel=1e-14)
    assert 0 < float(metric.result()) < 1
    assert all(tf.as_dtype(v.dtype) == tf.int64 for v in metric.variables)
    metric.reset_state()
    assert counted(metric).sum() == 0
    assert float(metric.result()) == 0.0


@each(CASES)
def test_metrics_accept_what_mean_iou_accepts(case: Case) -> None:
    labels, predictions = random_batch(3)
    expected = case.counts(labels, predictions)
    logits = scores_for(predictions)
    signed = np.where(labels == VOID, -1, labels)
    forms: list[tuple[dict[str, Any], tuple[Any, Any]]] = [
        ({}, (labels[..., None], predictions)),
        ({}, (labels[..., None], predictions[..., None])),
        ({}, (labels.astype("float16"), predictions.astype("uint8"))),
        *(
            ({}, (labels.astype(dtype), predictions.astype(dtype)))
            for dtype in ("uint8", "uint16", "int32", "float32")
        ),
        ({"ignore_class": -1}, (signed.astype("int8"), predictions)),
        ({"sparse_y_pred": False}, (labels, tf.cast(logits, tf.bfloat16))),
        (
            {"sparse_y_pred": False, "axis": 1, "dtype": "float16"},
            (labels, np.moveaxis(logits, -1, 1)),
        ),
        # tf.one_hot turns void labels into zeros.
        ({"sparse_y_true": False}, (tf.one_hot(labels, 4), predictions)),
    ]
    for more, pair in forms:
        metric = updated(case.make(**more), *pair)
        np.testing.assert_array_equal(counted(metric), expected)
        assert metric.result().dtype == tf.float32


@each(CASES)
def test_invalid_ids_are_reported(case: Case) -> None:
    for side, name in enumerate(("labels", "predictions")):
        pair = random_batch(4)
        pair[0][0, 0, 0] = 0
        pair[side][0, 0, 0] = 7
        metric = updated(case.make(), *pair)
        for read in (metric.result, metric.scores, metric.per_class):
            with pytest.raises(ValueError, match=rf"{name} to be in .*: 1 invalid"):
                read()
        step = in_graph(case.make())
        with pytest.raises(tf.errors.InvalidArgumentError, match="invalid pixels"):
            step(*map(tf.constant, pair))


@each(CASES)
@pytest.mark.parametrize(
    "shape",
    [(), (3,), (3, 1), (3, 12), (3, 1, 1), (3, 12, 14), (3, 12, 14, 1)],
)
def test_pixels_of_weight_zero_are_void(case: Case, shape: tuple[int, ...]) -> None:
    labels, predictions = random_batch(5)
    mask = np.random.default_rng(1).random(shape) < 0.7 if shape else np.array(True)
    whole = mask.reshape(mask.shape + (1,) * (3 - mask.ndim)) if mask.ndim < 4 else mask
    whole = np.broadcast_to(whole[..., 0] if mask.ndim == 4 else whole, labels.shape)
    expected = case.counts(np.where(whole, labels, VOID), predictions)
    for dtype in (bool, np.int32, np.float16):
        metric = updated(case.make(), labels, predictions, mask.astype(dtype))
        np.testing.assert_array_equal(counted(metric), expected)


@each(CASES)
def test_nothing_counted_is_zero_and_none(case: Case) -> None:
    metric = case.make()
    labels = np.full((1, 2, 3), VOID)
    for _ in range(2):
        assert float(metric.result()) == 0.0
        assert set(metric.per_class().values()) == {None}
        metric.update_state(labels, labels * 0)
    assert np.isnan(case.score(counted(metric)))


def test_scores_beyond_float32() -> None:
    metric = PixelAccuracy(2, dtype="float64")
    metric.variables[0].assign([[2**24 + 1, 0], [1, 2**40]])
    expected = (2**24 + 1 + 2**40) / (2**24 + 2 + 2**40)
    assert float(metric.result()) == expected < 1


@each(CASES)
def test_merged_parts_are_the_whole(case: Case) -> None:
    labels, predictions = random_batch(6, 4)
    whole, merged, *parts = (case.make() for _ in range(4))
    whole.update_state(labels, predictions)
    for part, at in zip(parts, (slice(1), slice(1, None)), strict=True):
        part.update_state(labels[at], predictions[at])
    merged.merge_state(parts)
    np.testing.assert_array_equal(counted(merged), counted(whole))
    assert merged.scores() == whole.scores()
    strangers = [case.metric(5), keras.metrics.MeanIoU(4), LevelSetEnergy()]
    for option, value in {"ratio": 0.2, "width": 2.5, "hit": 0.6}.items():
        if option in whole.get_config():
            strangers += [case.make(**{option: value}), MeanIoU(4)]
    for stranger in strangers:
        for one, other in ((merged, stranger), (stranger, merged)):
            if not isinstance(one, keras.metrics.MeanIoU):
                with pytest.raises(ValueError, match=r"Expected metrics of .*Received"):
                    one.merge_state([one, other])
    np.testing.assert_array_equal(counted(merged), counted(whole))


@each(CASES)
@quick
@given(seed=seeds, invalid=st.integers(-3, 300))
def test_predictions_on_void_change_nothing(
    case: Case, seed: int, invalid: int
) -> None:
    labels, predictions = random_image(seed)
    expected = case.counts(labels, predictions)
    noisy = np.where(labels == VOID, invalid, predictions)
    np.testing.assert_array_equal(case.counts(labels, noisy), expected)
    metric = updated(case.make(), labels[None], noisy[None])
    np.testing.assert_array_equal(counted(metric), expected)
    metric.result()  # does not raise


@each(FUNCTIONS)
@pytest.mark.parametrize("dtype", ["uint8", "int8", "float32"])
def test_number_of_classes_from_numpy(case: Case, dtype: str) -> None:
    labels, predictions = np.random.default_rng(0).integers(0, 21, (2, 1, 9, 9))
    # 21² and the code of void are beyond eight bits.
    number = np.array(21, dtype)
    options: dict[str, Any] = {"ignore_class": np.int8(-1), **dict(case.options)}
    if dtype == "float32":
        with pytest.raises(ValueError, match=r"`num_classes` .*Received: 21.0"):
            case.count(labels, predictions, number, **options)
        return
    expected = case.count(labels, predictions, 21, **options)
    for classes in (number, number[()]):
        counts = case.count(labels, predictions, classes, **options)
        np.testing.assert_array_equal(counts, expected)
    if "widths" in options:
        expected, options["width"] = expected[0], np.uint8(options.pop("widths")[0])
    metric = updated(case.metric(number, **options), labels, predictions)
    np.testing.assert_array_equal(counted(metric), expected)


@pytest.fixture
def checked_numerics() -> Iterator[None]:
    """Switches on TensorFlow's search for NaN and infinity."""
    tf.debugging.enable_check_numerics()
    yield
    tf.debugging.disable_check_numerics()


@pytest.mark.usefixtures("checked_numerics")
@each([*CASES, Case(LevelSetEnergy, float)])
def test_no_nan_is_made_of_healthy_batches(case: Case) -> None:
    # Classes 2 and 3 are absent, and so are small objects.
    labels = np.zeros((1, 8, 8), int)
    labels[0, 3:, 4:], labels[0, 0] = 1, VOID
    scores = tf.constant(scores_for(np.roll(np.where(labels == 1, 1, 0), 1)))
    for step in ("eager", "graph"):
        if case.metric is LevelSetEnergy:
            metric = LevelSetEnergy(from_logits=True, ignore_class=VOID)
        else:
            metric = case.make(sparse_y_pred=False)
        assert float(metric.result()) == 0.0
        update = in_graph(metric) if step == "graph" else metric.update_state
        update(tf.constant(labels), scores)
        assert np.isfinite(metric.result())


# --- Arguments ------------------------------------------------------------------------

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


def every_metric() -> list[Any]:
    """Returns each metric, with no argument at its default."""
    return [
        *(
            cls(2, **OPTIONS)
            for cls in (MeanIoU, PixelAccuracy, MeanAccuracy, FrequencyWeightedIoU)
        ),
        BoundaryIoU(2, ratio=0.1, **OPTIONS),
        TrimapIoU(2, width=2.5, boundaries="void", **OPTIONS),
        SmallObjectRecall(
            2, max_share=0.1, hit=0.3, min_pixels=4, average="micro", **OPTIONS
        ),
        LevelSetEnergy(
            True, "ahf", 0.1, 7, [1.0, 2.0], "mean", True, "named", "float64"
        ),
    ]


@pytest.mark.parametrize("metric", every_metric(), ids=lambda m: type(m).__name__)
def test_configuration_round_trip(metric: Any) -> None:
    written = json.dumps(keras.saving.serialize_keras_object(metric))
    restored = keras.saving.deserialize_keras_object(json.loads(written))
    assert type(restored) is type(metric)
    config = metric.get_config()
    assert restored.get_config() == config
    arguments = set(inspect.signature(type(metric)).parameters)
    if "options" in arguments:
        arguments = arguments - {"options"} | OPTIONS.keys()
    assert config.keys() == arguments
    defaults = type(metric)(*[2] * ("num_classes" in config)).get_config()
    same = {key for key, value in defaults.items() if value == config[key]}
    assert same <= {"num_classes"}  # the round trip carried every argument


@pytest.mark.parametrize(
    "options",
    [
        {"num_classes": 0},
        {"num_classes": 1.5},
        {"ignore_class": "255"},
        {"class_names": 3},
        {"class_names": ["one"]},
        {"class_names": ["twice", "twice"], "num_classes": 2},
        {"axis": "last"},
        {"threshold": 0.5, "sparse_y_pred": False},
        {"threshold": "a", "num_classes": 2, "sparse_y_pred": False},
        {"threshold": float("nan"), "num_classes": 2, "sparse_y_pred": False},
    ],
)
@each(FUNCTIONS)
def test_invalid_options_raise(case: Case, options: dict[str, Any]) -> None:
    options = {"num_classes": 3, **options}
    with pytest.raises(ValueError, match=r"Expected .*Received"):
        case.metric(**options)
    if options.keys() <= {"num_classes", "ignore_class"}:
        options = {"ignore_class": VOID, **dict(case.options), **options}
        with pytest.raises(ValueError, match=r"Expected .*Received"):
            case.count([[0]], [[0]], **options)


@each(FUNCTIONS)
@pytest.mark.parametrize(
    ("labels", "predictions", "message"),
    [
        ([0, 7, 9, 7], [0, 0, 0, 0], r"`labels` to be in \[0, 4\).*\[7, 9\] in 3"),
        ([0.5, 1], [0, 0], r"`labels` .*\[0.5\]"),
        ([0, np.nan], [0, 0], r"`labels` .*\[nan\]"),
        ([0, 0], [0, 4], r"`predictions` to be in \[0, 4\).*\[4\] in 1"),
        ([0, 0], [0, VOID], r"Expected `predictions`"),
        ([0, 1], [0, 1, 2], r"same shape.*Received: \(1, 2\) and \(1, 3\)"),
        (["a", "b"], [0, 1], r"`labels` to hold real numbers"),
    ],
)
def test_invalid_ids_are_named(
    case: Case, labels: Any, predictions: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        case.counts([labels], [predictions])


@pytest.mark.parametrize("in_a_graph", [False, True])
def test_values_that_are_no_numbers_raise(in_a_graph: bool) -> None:
    zeros = np.zeros((1, 2, 2))
    for labels, predictions, weight in (
        (np.full((1, 2, 2), "a"), zeros, None),
        (zeros, zeros.astype(complex), None),
        (zeros, zeros, "heavy"),
    ):
        metric = MeanIoU(4, ignore_class=VOID)
        update = in_graph(metric) if in_a_graph else metric.update_state
        with pytest.raises(ValueError, match="to hold real numbers"):
            update(tf.constant(labels), tf.constant(predictions), weight)
