"""Evaluation of a predictor on a data set, at the images' original size."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from tf_levelset.checks import plain_options
from tf_levelset.datasets.pipeline import Source, arrays_of, evaluation_dataset
from tf_levelset.energy import level_set_energy
from tf_levelset.inference.augmented import augmented
from tf_levelset.inference.crf import DenseCRF, require_library
from tf_levelset.inference.predictor import Predictor
from tf_levelset.metrics.boundary_iou import boundary_counts, boundary_iou
from tf_levelset.metrics.confusion import confusion_matrix
from tf_levelset.metrics.iou import class_iou, scores
from tf_levelset.metrics.small_objects import small_object_counts, small_object_recall
from tf_levelset.metrics.trimap_iou import trimap_confusions

TRIMAP_WIDTHS = (1, 3, 5, 10)
"""Widths of the evaluated bands around label boundaries, in pixels of the image."""

BOUNDARY_RATIO = 0.02
"""Width of the boundary IoU's region, as a fraction of the image's diagonal."""

SMALL_OBJECT_SHARE = 0.005
"""A small object covers less than this fraction of the image's pixels."""

SMALL_OBJECT_PIXELS = 10
"""A small object has at least so many pixels: a fifth of CamVid's connected components
are single pixels."""


@plain_options
def evaluate(
    predictor: Predictor,
    source: Source,
    *,
    flip: bool = False,
    scales: Sequence[float] = (1.0,),
    crf: DenseCRF | None = None,
) -> dict[str, Any]:
    """Evaluates a predictor on every sample of a data set.

    One image is in memory at a time.

    Args:
        predictor: See `tf_levelset.inference.predictor.load_predictors`.
        source: A data set with labels.
        flip: Whether to average with the prediction of the mirrored image.
        scales: Factors of the image sizes to average over; see `augmented`.
        crf: Refines the averaged probabilities, if given.

    Returns:
        A dictionary that `json` can write:

        - `tf_levelset.metrics.iou.scores`: `mean_iou`, `pixel_accuracy`,
          `mean_accuracy`, `frequency_weighted_iou`, and `class_iou` by class name;
        - `mean_iou_without`: by class name, the mean IoU of the other classes;
        - `level_set_energy`: Eq. 4, summed over pixels, averaged over images;
        - `boundary_iou` and `class_boundary_iou`, see `BOUNDARY_RATIO`;
        - `trimap_mean_iou` by width, see `TRIMAP_WIDTHS`;
        - `small_object_recall`, `class_small_object_recall` and the number of
          `small_objects`, see `SMALL_OBJECT_SHARE` and `SMALL_OBJECT_PIXELS`;
        - `seconds_per_image`: medians for the network (`net`) and the CRF (`crf`);
        - `confusion`, the matrix with a row for each true class;
        - `dataset`, `images`, `flip`, `scales` and `crf`: what was evaluated.

        A score without any pixel to compute it from is None.

    Raises:
        ValueError: If the predictor and the data set differ in the number of classes.
        ImportError: If `crf` is given and `pydensecrf2` is not installed.
    """
    predict = augmented(predictor, flip=flip, scales=scales)
    if crf is not None:
        require_library()
    totals = _Totals(source)
    for image, labels in arrays_of(evaluation_dataset(source), source):
        began = time.perf_counter()
        probabilities = predict(image)
        predicted = refined = time.perf_counter()
        if crf is not None:
            probabilities = crf(image, probabilities)
            refined = time.perf_counter()
        totals.add(labels, probabilities)
        totals.seconds.append((predicted - began, refined - predicted))
    return {
        "dataset": source.name,
        "images": source.num_samples,
        "flip": flip,
        "scales": list(scales),
        "crf": None if crf is None else dataclasses.asdict(crf),
        **totals.scores(),
    }


def check_classes(probabilities: np.ndarray, source: Source) -> None:
    """Raises `ValueError` unless (H, W, C) are of as many classes as a data set has."""
    if probabilities.shape[-1] != source.num_classes:
        raise ValueError(
            f"Expected a model of {source.num_classes} classes, as {source.name} has. "
            f"Received: one of {probabilities.shape[-1]}"
        )


class _Totals:
    """Sums over the images of a data set, from which the scores are computed."""

    def __init__(self, source: Source) -> None:
        classes = source.num_classes
        self.source = source
        self.confusion = np.zeros((classes, classes), np.int64)
        self.energy = 0.0
        self.boundary = np.zeros((classes, 2), np.int64)
        self.trimap = np.zeros((len(TRIMAP_WIDTHS), classes, classes), np.int64)
        self.small = np.zeros((classes, 2), np.int64)
        self.seconds: list[tuple[float, float]] = []

    def add(self, labels: np.ndarray, probabilities: np.ndarray) -> None:
        """Adds an image: its labels (H, W) and predicted probabilities (H, W, C)."""
        classes, void = self.source.num_classes, self.source.ignore_class
        check_classes(probabilities, self.source)
        masks = probabilities.argmax(-1)
        self.confusion += confusion_matrix(labels, masks, classes, void)
        self.boundary += boundary_counts(labels, masks, classes, void, BOUNDARY_RATIO)
        self.trimap += trimap_confusions(labels, masks, classes, TRIMAP_WIDTHS, void)
        self.small += small_object_counts(
            labels,
            masks,
            classes,
            void,
            SMALL_OBJECT_SHARE,
            min_pixels=SMALL_OBJECT_PIXELS,
        )
        energy = level_set_energy(
            labels[np.newaxis], probabilities[np.newaxis], ignore_class=void
        )
        self.energy += float(energy[0])

    def scores(self) -> dict[str, Any]:
        """Returns the scores; see `evaluate`."""
        names = self.source.class_names
        iou = class_iou(self.confusion)
        boundary, recall = boundary_iou(self.boundary), small_object_recall(self.small)
        hits, objects = self.small.sum(axis=0).tolist()
        net, crf = np.median(self.seconds, axis=0).tolist()
        return {
            **scores(self.confusion, names),
            # One rare class can dominate the mean: report it without each class.
            "mean_iou_without": {
                name: _mean(np.delete(iou, index)) for index, name in enumerate(names)
            },
            "level_set_energy": self.energy / self.source.num_samples,
            "boundary_iou": _mean(boundary),
            "class_boundary_iou": _by_name(boundary, names),
            "trimap_mean_iou": {
                str(width): _mean(class_iou(confusion))
                for width, confusion in zip(TRIMAP_WIDTHS, self.trimap, strict=True)
            },
            "small_object_recall": hits / objects if objects else None,
            "class_small_object_recall": _by_name(recall, names),
            "small_objects": objects,
            "seconds_per_image": {"net": net, "crf": crf},
            "confusion": self.confusion.tolist(),
        }


def _mean(values: np.ndarray) -> float | None:
    """Returns the mean of the values that are not NaN, None if all are."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else None


def _by_name(values: np.ndarray, names: Sequence[str]) -> dict[str, float | None]:
    return {
        name: None if np.isnan(value) else float(value)
        for name, value in zip(names, values, strict=True)
    }
