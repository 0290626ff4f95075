"""The metrics: updates of mean IoU over Keras', and the boundary metrics.

The update is that of mean IoU on logits with void, by `tf_levelset.MeanIoU` and by
`keras.metrics.MeanIoU`, in graph mode and under XLA; both must count the same. The
boundary metrics are timed on images of the number and size of CamVid's validation set.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import cv2
import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

import tf_levelset
from benchmarks import harness
from tf_levelset.metrics.boundary_iou import boundary_counts
from tf_levelset.metrics.small_objects import small_object_counts
from tf_levelset.metrics.trimap_iou import trimap_confusions

VOID = 255
MODES: dict[str, dict[str, Any]] = {"graph": {}, "XLA": {"jit_compile": True}}
CAMVID = {"images": 101, "height": 360, "width": 480, "classes": 11}
WIDTHS = (1, 3, 5, 10)
PATCHES = (8, 40, 120)
"""Widths of the regions in the synthetic labels, in pixels."""

Ids = npt.NDArray[np.int32]


def measure(quick: bool) -> dict[str, Any]:
    """Measures the update on logits and the evaluation of CamVid's validation set.

    Args:
        quick: Whether small sizes will do, to see that it runs.

    Returns:
        `sizes`, `cases` and `targets`, see `benchmarks`.
    """
    shape = (1, 65, 65, 21) if quick else (4, 321, 321, 21)
    camvid = {**CAMVID, **({"images": 3} if quick else {})}
    update = mean_iou_updates(shape, rounds=5 if quick else 30)
    boundaries = boundary_metrics(camvid, rounds=2 if quick else 5)
    return {
        "sizes": {"logits": list(shape), "camvid": camvid},
        "cases": harness.described({**update, **boundaries}),
        "targets": [
            harness.ratio_target(
                "Update of MeanIoU over Keras', best of graph and XLA",
                harness.ratio(update, cases("ours"), cases("Keras")),
                0.2,
            ),
            harness.target(
                "Seconds of the three boundary metrics on CamVid's val",
                float(np.median(boundaries["all three"])),
                10.0,
            ),
        ],
    }


def cases(name: str) -> list[str]:
    """Returns the names of a metric's compiled cases."""
    return [f"{name}, {mode}" for mode in MODES]


def mean_iou_updates(shape: tuple[int, ...], rounds: int) -> harness.Samples:
    """Times the update of both metrics in every mode.

    Raises:
        ValueError: If the metrics do not count the same.
    """
    labels, logits = batch(shape)
    functions: dict[str, Callable[[], None]] = {}
    counts = []
    for name, cls in (
        ("ours", tf_levelset.MeanIoU),
        ("Keras", keras.metrics.MeanIoU),
    ):
        for mode, options in MODES.items():
            metric = cls(shape[-1], ignore_class=VOID, sparse_y_pred=False)
            function = updating(metric, labels, logits, options)
            function()
            counts.append(np.asarray(metric.variables[0], np.int64))
            metric.reset_state()
            functions[f"{name}, {mode}"] = function
    if not all(np.array_equal(found, counts[0]) for found in counts):
        raise ValueError("Expected equal counts of all metrics. Received: different")
    return harness.alternate(functions, rounds)


def batch(shape: tuple[int, ...]) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns labels with some void, int32 (B, H, W), and logits (B, H, W, C)."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, shape[-1], shape[:-1], np.int32)
    labels[rng.random(shape[:-1]) < 0.05] = VOID
    return tf.constant(labels), tf.constant(rng.normal(size=shape).astype(np.float32))


def updating(
    metric: Any, labels: tf.Tensor, logits: tf.Tensor, options: dict[str, Any]
) -> Callable[[], None]:
    """Returns a function that updates a metric and waits for its counts."""

    @tf.function(**options)
    def run(labels: tf.Tensor, logits: tf.Tensor) -> None:
        metric.update_state(labels, logits)

    def work() -> None:
        run(labels, logits)
        np.asarray(metric.variables[0])

    return work


def boundary_metrics(sizes: dict[str, int], rounds: int) -> harness.Samples:
    """Times the three boundary metrics over a validation set, and their sum."""
    pairs = label_pairs(**sizes)
    classes = sizes["classes"]
    metrics: dict[str, Callable[[Ids, Ids], Any]] = {
        "boundary IoU": partial(boundary_counts, num_classes=classes),
        f"trimap mIoU at {WIDTHS} px": partial(
            trimap_confusions, num_classes=classes, widths=WIDTHS
        ),
        "recall of small objects": partial(small_object_counts, num_classes=classes),
    }

    def over_all(count: Callable[..., Any]) -> None:
        for labels, predictions in pairs:
            count(labels, predictions, ignore_class=VOID)

    samples = harness.alternate(
        {name: partial(over_all, count) for name, count in metrics.items()},
        rounds,
        warmups=1,
    )
    samples["all three"] = [sum(s) for s in zip(*samples.values(), strict=True)]
    return samples


def label_pairs(
    images: int, height: int, width: int, classes: int
) -> list[tuple[Ids, Ids]]:
    """Returns labels in patches of all sizes, and the same shifted as predictions."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(images):
        scores = sum(patches(rng, (height, width, classes), size) for size in PATCHES)
        labels = np.argmax(scores, axis=-1).astype(np.int32)
        predictions = np.roll(labels, (2, -3), axis=(0, 1))
        labels[rng.random(labels.shape) < 0.01] = VOID
        found.append((labels, predictions))
    return found


def patches(
    rng: np.random.Generator, shape: tuple[int, int, int], size: int
) -> npt.NDArray[np.float32]:
    """Returns smooth noise (H, W, C) whose regions are about `size` pixels wide."""
    height, width, classes = shape
    coarse = rng.normal(size=(height // size + 2, width // size + 2, classes))
    whole = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(whole, np.float32)
