"""Tests of what all measures that count image by image promise."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import oracles
import pytest
import tensorflow as tf
from metric_tester import (
    IMAGE_CASES,
    VOID,
    Case,
    each,
    in_graph,
    random_batch,
)

from tf_levelset import BoundaryIoU, SmallObjectRecall, TrimapIoU
from tf_levelset.metrics.boundary_iou import boundary_counts
from tf_levelset.metrics.small_objects import small_object_counts
from tf_levelset.metrics.trimap_iou import trimap_confusions


@pytest.mark.parametrize("num_classes", [1, 254, 255, 300, 65534])
def test_any_number_of_classes(num_classes: int) -> None:
    rng = np.random.default_rng(0)
    ids = np.array([0, num_classes - 1, num_classes // 2])
    labels, predictions = ids[rng.integers(0, 3, (2, 9, 9)).repeat(2, 1).repeat(2, 2)]
    labels[3:6, 3:6] = -1
    present = np.unique(ids)
    # The same with the ids renamed to 0, 1, 2.
    small = np.searchsorted(present, labels), np.searchsorted(present, predictions)
    renamed = np.where(labels == -1, VOID, small[0]), small[1]
    for found, expected in (
        (
            boundary_counts(labels, predictions, num_classes, -1),
            oracles.boundary_counts(*renamed, len(present), 0.02),
        ),
        (
            small_object_counts(labels, predictions, num_classes, -1, 0.3),
            oracles.small_objects(*renamed, len(present), 0.3),
        ),
    ):
        np.testing.assert_array_equal(found[present], expected)
        assert found.sum() == expected.sum()


@each(IMAGE_CASES)
def test_metrics_require_images(case: Case) -> None:
    for shape in ((4,), (2, 3), (1, 2, 3, 4)):
        ids = tf.zeros(shape, tf.int32)
        for update in (case.make().update_state, case.make()):
            with pytest.raises(ValueError, match="to be labels of images"):
                update(ids, ids)
    with pytest.raises(ValueError, match="Expected labels and predictions"):
        case.make().update_state(tf.zeros((1, 2, 3)), tf.zeros((1, 3, 2)))


@each(IMAGE_CASES)
def test_xla_is_refused(case: Case) -> None:
    labels, predictions = map(tf.constant, random_batch(7))
    step = in_graph(case.make(), jit_compile=True)
    with pytest.raises(tf.errors.InvalidArgumentError, match="PyFunc"):
        step(labels, predictions)


def test_scores_by_name_are_ready_for_json() -> None:
    labels = np.zeros((1, 10, 10), int)
    labels[0, 4:6, 4:6] = 1
    predictions = np.where(labels == 1, 2, 0)
    names = ["road", "car", "sign", "sky"]
    boundary = BoundaryIoU(4, class_names=names)
    small = SmallObjectRecall(4, class_names=names, max_share=0.05, average="micro")
    for metric in (boundary, small, TrimapIoU(4, class_names=names)):
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


# --- Arguments ------------------------------------------------------------------------


@each(IMAGE_CASES)
def test_images_and_their_classes_are_bounded(case: Case) -> None:
    with pytest.raises(ValueError, match=r"\(H, W\) or \(B, H, W\).*Received: \(2,\)"):
        case.counts([0, 0], [0, 0])
    options = {**dict(case.options), "ignore_class": VOID}
    for call in (
        lambda: case.count([[0]], [[0]], num_classes=65535, **options),
        lambda: case.metric(65535),
    ):
        with pytest.raises(ValueError, match=r"Expected .*Received"):
            call()


NOT_POSITIVE: tuple[Any, ...] = (0, -1, math.nan, "a", None, 1j, {})
INVALID = [
    *((boundary_counts, BoundaryIoU, "ratio", v) for v in (*NOT_POSITIVE, math.inf)),
    *(
        (small_object_counts, SmallObjectRecall, name, v)
        for name in ("max_share", "hit", "min_pixels")
        for v in NOT_POSITIVE
    ),
    (small_object_counts, SmallObjectRecall, "max_share", 1.1),
    (small_object_counts, SmallObjectRecall, "hit", 1.1),
    (trimap_confusions, TrimapIoU, "boundaries", "edges"),
    (None, SmallObjectRecall, "average", "mean"),
    *((None, TrimapIoU, "width", v) for v in (*NOT_POSITIVE, 1025, [1])),
    *(
        (trimap_confusions, None, "widths", v)
        for v in ([], 3, None, *([width] for width in (*NOT_POSITIVE, 1025)))
    ),
]


@pytest.mark.parametrize(("function", "cls", "name", "value"), INVALID)
def test_invalid_options(function: Any, cls: Any, name: str, value: Any) -> None:
    options = {name: value}
    if cls is not None:
        with pytest.raises(ValueError, match=rf"Expected `{name}s?`.*Received: "):
            cls(4, ignore_class=VOID, **options)
    if function is not None:
        if function is trimap_confusions:
            options = {"widths": [1], **options}
        with pytest.raises(ValueError, match=rf"Expected `{name}`.*Received: "):
            function([[0]], [[0]], 4, ignore_class=VOID, **options)
