"""The metrics: confusion counts beside Keras', and the measures of boundaries.

The update is that of mean IoU on logits with void, by `tf_levelset.MeanIoU` and by
`keras.metrics.MeanIoU`, both with `ignore_class` and `sparse_y_pred=False`: in graph
mode, which `fit` takes on a CPU, compiled by XLA, and called eagerly. Both must have
counted the same. What no update can do without, to read the logits once, is timed
beside them as the sum of all logits; it is the limit.

The measures of boundaries and small objects are timed on as many pictures as CamVid's
validation set has, of its size and with its number of classes: made-up truth, and the
same pushed aside by some pixels as the prediction.
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
MODES: dict[str, dict[str, Any] | None] = {
    "graph": {},
    "XLA": {"jit_compile": True},
    "eager": None,
}
COMPARED: tuple[str, ...] = ("graph", "XLA")
UPDATE_BOUND = 5.0
CAMVID = {"pictures": 101, "height": 360, "width": 480, "classes": 11}
WIDTHS = (1, 3, 5, 10)
PATCHES = (8, 40, 120)
"""Widths of what the made-up pictures show, in pixels."""
SECONDS_BOUND = 10.0

Ids = npt.NDArray[np.int32]


def measure(quick: bool) -> dict[str, Any]:
    """Measures the update on logits and the evaluation of CamVid's validation set."""
    update = update_of_counts((1, 65, 65, 21) if quick else (4, 321, 321, 21), quick)
    camvid = {**CAMVID, **({"pictures": 3} if quick else {})}
    boundaries = boundary_measures(camvid, rounds=2 if quick else 5)
    return {
        "sizes": {"logits": update["logits"], "camvid": camvid},
        "cases": {**update["cases"], **boundaries["cases"]},
        "targets": [*update["targets"], boundaries["target"]],
        "notes": update["notes"],
    }


# --- Confusion counts ---


def update_of_counts(shape: tuple[int, ...], quick: bool) -> dict[str, Any]:
    """Times the update of both metrics in every mode, and a read of the logits."""
    labels, logits = batch(shape)
    metrics: dict[str, Any] = {}
    cases: dict[str, Callable[[], None]] = {}
    for name, kind in (
        ("ours", tf_levelset.MeanIoU),
        ("Keras", keras.metrics.MeanIoU),
    ):
        for mode, options in MODES.items():
            metric = kind(shape[-1], ignore_class=VOID, sparse_y_pred=False)
            metrics[f"{name}, {mode}"] = metric
            cases[f"{name}, {mode}"] = updating(metric, labels, logits, options)
    cases["reading the logits"] = reading(logits)
    check_counts(metrics, cases)
    samples = harness.alternate(cases, rounds=5 if quick else 30)
    return {
        "logits": list(shape),
        "cases": harness.described(samples),
        "targets": update_targets(samples),
        "notes": {"share_of_the_limit": share_of_the_limit(samples)},
    }


def batch(shape: tuple[int, ...]) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns labels with some void, int32 (B, H, W), and logits (B, H, W, C)."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, shape[-1], shape[:-1], np.int32)
    labels[rng.random(shape[:-1]) < 0.05] = VOID
    return tf.constant(labels), tf.constant(rng.normal(size=shape).astype(np.float32))


def updating(
    metric: Any, labels: tf.Tensor, logits: tf.Tensor, options: dict[str, Any] | None
) -> Callable[[], None]:
    """Returns a function that updates a metric and waits for its counts."""

    def update(labels: tf.Tensor, logits: tf.Tensor) -> None:
        metric.update_state(labels, logits)

    run = update if options is None else tf.function(update, **options)

    def work() -> None:
        run(labels, logits)
        np.asarray(metric.variables[0])

    return work


def reading(logits: tf.Tensor) -> Callable[[], None]:
    """Returns a function that reads all logits once, in TensorFlow's fastest way."""
    total = tf.function(tf.reduce_sum, jit_compile=True)

    def work() -> None:
        total(logits).numpy()

    return work


def check_counts(metrics: dict[str, Any], cases: dict[str, Callable[[], None]]) -> None:
    """Raises where two metrics do not count the same."""
    counts = {}
    for name, metric in metrics.items():
        cases[name]()
        counts[name] = np.asarray(metric.variables[0], np.int64)
        metric.reset_state()
    expected = next(iter(counts.values()))
    for name, found in counts.items():
        if not np.array_equal(found, expected):
            raise ValueError(f"Expected equal counts. Received: others of {name!r}")


def update_targets(samples: harness.Samples) -> list[dict[str, Any]]:
    """States how often ours is done while Keras' is once: best modes, and by mode."""
    name = "update of confusion counts, Keras' time over ours"
    pairs = {f"{name}, best of graph and XLA": COMPARED}
    pairs |= {f"{name}, both {mode}": (mode,) for mode in MODES}
    targets = []
    for title, modes in pairs.items():
        keras_cases, our_cases = (
            [f"{who}, {mode}" for mode in modes] for who in ("Keras", "ours")
        )
        found = harness.ratio(samples, keras_cases, our_cases)
        targets.append(
            harness.target(title, found["median"], UPDATE_BOUND, "at least", **found)
        )
    return targets


def share_of_the_limit(samples: harness.Samples) -> dict[str, float]:
    """Returns each update's time in units of one read of the logits."""
    limit = ["reading the logits"]
    return {
        name: harness.ratio(samples, [name], limit)["median"]
        for name in samples
        if name not in limit
    }


# --- Boundaries and small objects ---


def boundary_measures(sizes: dict[str, int], rounds: int) -> dict[str, Any]:
    """Times the three measures over a validation set."""
    pairs = list(pictures(**sizes))
    classes = sizes["classes"]
    measures: dict[str, Callable[[Ids, Ids], Any]] = {
        "boundary IoU": partial(boundary_counts, num_classes=classes),
        f"trimap mIoU at {WIDTHS} px": partial(
            trimap_confusions, num_classes=classes, widths=WIDTHS
        ),
        "recall of small objects": partial(small_object_counts, num_classes=classes),
    }
    samples = harness.alternate(
        {name: partial(over_all, pairs, count) for name, count in measures.items()},
        rounds,
        warmups=1,
    )
    together = [sum(seconds) for seconds in zip(*samples.values(), strict=True)]
    samples["all three"] = together
    return {
        "cases": {
            f"CamVid val, {name}": {"seconds": seconds, **harness.summary(seconds)}
            for name, seconds in samples.items()
        },
        "target": harness.target(
            "seconds for boundary IoU, trimap mIoU and small objects on CamVid val",
            float(np.median(together)),
            SECONDS_BOUND,
            "at most",
        ),
    }


def over_all(
    pairs: list[tuple[Ids, Ids]], count: Callable[..., npt.NDArray[np.int64]]
) -> None:
    """Counts every picture."""
    for labels, predictions in pairs:
        count(labels, predictions, ignore_class=VOID)


def pictures(
    pictures: int, height: int, width: int, classes: int
) -> list[tuple[Ids, Ids]]:
    """Makes up truths, in patches of all sizes, and predictions: the truths, pushed."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(pictures):
        scores = sum(patches(rng, (height, width, classes), size) for size in PATCHES)
        labels = np.argmax(scores, axis=-1).astype(np.int32)
        predictions = np.roll(labels, (2, -3), axis=(0, 1))
        labels[rng.random(labels.shape) < 0.01] = VOID
        found.append((labels, predictions))
    return found


def patches(
    rng: np.random.Generator, shape: tuple[int, int, int], size: int
) -> npt.NDArray[np.float32]:
    """Returns smooth noise (H, W, C) that varies over so many pixels."""
    height, width, classes = shape
    coarse = rng.normal(size=(height // size + 2, width // size + 2, classes))
    whole = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(whole, np.float32)
