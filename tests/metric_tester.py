"""What the tests of the metrics share: masks, and each metric with its function."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import sklearn.metrics
import tensorflow as tf
from PIL import Image

import tf_levelset
from tf_levelset.metrics.boundary_iou import boundary_counts, boundary_iou
from tf_levelset.metrics.confusion import confusion_matrix
from tf_levelset.metrics.iou import (
    frequency_weighted_iou,
    mean_accuracy,
    mean_iou,
    pixel_accuracy,
)
from tf_levelset.metrics.small_objects import small_object_counts, small_object_recall
from tf_levelset.metrics.trimap_iou import trimap_confusions

Ids = npt.NDArray[np.int64]

CLASSES = 4
VOID = 255
BOUNDARIES = ("all", "class", "void")


def mean_of_ratios(ratios: Callable[[Any], Any]) -> Callable[[Any], float]:
    """Returns the mean of the ratios that are numbers, NaN if none is."""

    def mean(counts: Any) -> float:
        values = ratios(counts)
        defined = values[np.isfinite(values)]
        return float(np.mean(defined)) if defined.size else float("nan")

    return mean


@dataclass(frozen=True)
class Case:
    """A metric, and the functions that count and score the same on NumPy arrays."""

    metric: Any
    score: Callable[[Any], float]
    count: Callable[..., Any] = confusion_matrix
    options: tuple[tuple[str, Any], ...] = ()

    def make(self, **more: Any) -> Any:
        """Returns the metric, for `CLASSES` classes and `VOID`."""
        options = dict(self.options)
        if "widths" in options:
            options["width"] = options.pop("widths")[0]
        return self.metric(CLASSES, **{"ignore_class": VOID, **options, **more})

    def counts(self, labels: Any, predictions: Any) -> Any:
        """Returns the counts of the function, in the shape of the metric's."""
        options = dict(self.options)
        counts = self.count(labels, predictions, CLASSES, ignore_class=VOID, **options)
        return counts[0] if "widths" in options else counts


CONFUSION_CASES = [
    Case(tf_levelset.MeanIoU, mean_iou),
    Case(tf_levelset.PixelAccuracy, pixel_accuracy),
    Case(tf_levelset.MeanAccuracy, mean_accuracy),
    Case(tf_levelset.FrequencyWeightedIoU, frequency_weighted_iou),
]
IMAGE_CASES = [
    Case(
        tf_levelset.BoundaryIoU,
        mean_of_ratios(boundary_iou),
        boundary_counts,
        (("ratio", 0.1),),
    ),
    *(
        Case(
            tf_levelset.TrimapIoU,
            mean_iou,
            trimap_confusions,
            (("widths", (2,)), ("boundaries", boundaries)),
        )
        for boundaries in BOUNDARIES
    ),
    Case(
        tf_levelset.SmallObjectRecall,
        mean_of_ratios(small_object_recall),
        small_object_counts,
        (("max_share", 0.1), ("min_pixels", 2)),
    ),
]
CASES = [*CONFUSION_CASES, *IMAGE_CASES]
FUNCTIONS = [CONFUSION_CASES[0], *IMAGE_CASES]
"""One case for each function that counts."""


def each(cases: list[Case]) -> Any:
    """Parametrizes a test with its argument `case`."""
    return pytest.mark.parametrize("case", cases, ids=lambda c: c.metric.__name__)


def random_masks(
    seed: int, num_classes: int, shape: tuple[int, ...] = (2, 5, 4), void: float = 0.2
) -> tuple[Ids, Ids]:
    """Returns labels with void pixels, and predictions, of independent pixels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_classes, shape)
    predictions = rng.integers(0, num_classes, shape)
    return np.where(rng.random(shape) < void, VOID, labels), predictions


def random_image(seed: int) -> tuple[Ids, Ids]:
    """Returns labels with void, and predictions, of blocks with specks on them."""
    rng = np.random.default_rng(seed)
    height, width, block = rng.integers(1, 15, 3)
    images = []
    for speck in rng.choice([0, 0.05, 0.3], 2):
        blocks = rng.integers(0, CLASSES, (15, 15))
        ids = np.kron(blocks, np.ones((block, block), int))[:height, :width]
        specks = rng.random(ids.shape) < speck
        images.append(np.where(specks, rng.integers(0, CLASSES, ids.shape), ids))
    labels, predictions = images
    predictions = np.where(rng.random(labels.shape) < 0.3, predictions, labels)
    top, left, size = rng.integers(0, 10, 3)
    labels[top : top + size // 2, left : left + size] = VOID
    labels[rng.random(labels.shape) < rng.choice([0, 0.1])] = VOID
    return labels, predictions


def random_batch(seed: int, count: int = 3) -> tuple[Ids, Ids]:
    """Returns labels with void pixels, and predictions, of shape (count, 12, 14)."""
    rng = np.random.default_rng(seed)
    labels = np.kron(rng.integers(0, CLASSES, (count, 3, 4)), np.ones((1, 4, 4), int))
    labels = labels[:, :, :14]
    moved = np.roll(labels, 1, axis=2)
    predictions = np.where(rng.random(labels.shape) < 0.1, 0, moved)
    labels[rng.random(labels.shape) < 0.05] = VOID
    return labels, predictions


def camvid_pair() -> tuple[np.ndarray, np.ndarray]:
    """Returns labels of CamVid, 11 is void, and the frame before as the prediction."""
    if "TF_LEVELSET_DATA" not in os.environ:
        pytest.skip("TF_LEVELSET_DATA names no folder with label maps")
    folder = pathlib.Path(os.environ["TF_LEVELSET_DATA"]) / "camvid/valannot"
    before, labels = (np.asarray(Image.open(p)) for p in sorted(folder.glob("*"))[:2])
    return labels, np.where(before == 11, 0, before)


def sklearn_matrix(labels: Any, predictions: Any, num_classes: int) -> Any:
    """Returns the confusion matrix of scikit-learn, without void pixels."""
    valid = labels != VOID
    if not valid.any():
        return np.zeros((num_classes, num_classes), np.int64)
    return sklearn.metrics.confusion_matrix(
        labels[valid], predictions[valid], labels=range(num_classes)
    )


def scores_for(predictions: Any, num_classes: int = CLASSES) -> Any:
    """Returns logits whose argmax these predictions are."""
    return np.eye(num_classes, dtype="float32")[predictions]


def updated(metric: Any, *args: Any) -> Any:
    """Returns a metric after one batch."""
    metric.update_state(*args)
    return metric


def counted(metric: Any) -> Any:
    """Returns the counts of a metric as an array."""
    return tf.convert_to_tensor(metric.variables[0]).numpy()


def in_graph(metric: Any, **options: Any) -> Any:
    """Returns a function that updates and returns the result, as a training step."""

    @tf.function(**options)
    def step(*args: Any) -> tf.Tensor:
        metric.update_state(*args)
        return metric.result()

    return step
