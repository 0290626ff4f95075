"""Judging a model at the pictures' own size, one picture at a time."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_levelset.datasets.pipeline import Source, evaluation_dataset
from tf_levelset.energy.energy import level_set_energy, two_channels
from tf_levelset.export.saved_model import numbered_versions
from tf_levelset.inference.crf import DenseCRF, require_library
from tf_levelset.metrics.boundary_iou import boundary_counts, boundary_iou
from tf_levelset.metrics.confusion import confusion_matrix
from tf_levelset.metrics.iou import class_iou, scores
from tf_levelset.metrics.small_objects import small_object_counts, small_object_recall
from tf_levelset.metrics.trimap_iou import trimap_confusions
from tf_levelset.models.safe_loading import load_keras, load_saved_model

Predictor = Callable[[np.ndarray], np.ndarray]
"""From a picture, uint8 (H, W, 3), to probabilities, float32 (H, W, C)."""

TRIMAP_WIDTHS = (1, 3, 5, 10)
"""In pixels of the original picture."""

BOUNDARY_RATIO = 0.02
"""Width of a mask's boundary region, as a share of the picture's diagonal."""

SMALL_OBJECT_SHARE = 0.005
"""What counts as a small object: what share of the picture's pixels it stays below."""

SMALL_OBJECT_PIXELS = 10
"""And the least number of them: in CamVid one component in five is a single pixel."""


class KerasPredictor:
    """A Keras model with logits at the picture's size, as a predictor.

    One channel is a sigmoid's: it answers for background and foreground.
    """

    def __init__(self, model: keras.Model) -> None:
        def probabilities(image: tf.Tensor) -> tf.Tensor:
            logits = model(tf.cast(image, tf.float32)[tf.newaxis], training=False)
            if logits.shape[-1] == 1:
                logits = two_channels(logits, from_logits=True)
            return tf.nn.softmax(logits)[0]

        self._probabilities = tf.function(
            probabilities, input_signature=[tf.TensorSpec((None, None, 3), tf.uint8)]
        )

    @classmethod
    def load(cls, path: Path) -> KerasPredictor:
        """Loads a `.keras` file; see `safe_loading.load_keras`."""
        return cls(load_keras(path))

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Maps uint8 (H, W, 3) to float32 (H, W, C)."""
        return _checked(self._probabilities(image).numpy(), image)


class SavedModelPredictor:
    """The `uint8` endpoint of an exported model, as a predictor."""

    def __init__(self, path: Path) -> None:
        # Kept: the endpoint's variables live as long as the loaded object.
        self._loaded = load_saved_model(path)
        if "uint8" not in self._loaded.signatures:
            raise ValueError(
                f"Expected a SavedModel with an endpoint 'uint8'. Received: {path} "
                f"with {sorted(self._loaded.signatures)}"
            )
        self._endpoint = self._loaded.signatures["uint8"]

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Maps uint8 (H, W, 3) to float32 (H, W, C)."""
        outputs = self._endpoint(images=tf.constant(image[np.newaxis]))
        return _checked(outputs["probabilities"][0].numpy(), image)


def load_predictors(path: Path) -> dict[str, Predictor]:
    """Loads what a path holds; see `find_models`."""
    return {
        name: SavedModelPredictor(found)
        if found.is_dir()
        else KerasPredictor.load(found)
        for name, found in find_models(path).items()
    }


def find_models(path: Path) -> dict[str, Path]:
    """Returns the `.keras` files and SavedModels that a path holds.

    Args:
        path: a run folder (one model a loss), one loss's folder in it, a `.keras`
            file, a SavedModel, or a folder of its numbered versions (the newest).

    Returns:
        Paths by name; the name is empty where there is only one.

    Raises:
        FileNotFoundError: if there is nothing of these.
    """
    if path.suffix == ".keras" and path.is_file():
        return {"": path}
    if (path / "saved_model.pb").exists():
        return {"": path}
    if (path / "model.keras").exists():
        return {"": path / "model.keras"}
    versions = {
        number: folder
        for number, folder in numbered_versions(path).items()
        if (folder / "saved_model.pb").exists()
    }
    if versions:
        return {"": versions[max(versions)]}
    runs = sorted(path.glob("*/model.keras"))
    if runs and (path / "config.json").exists():
        return {p.parent.name: p for p in runs}
    raise FileNotFoundError(
        "Expected a run folder with a trained model, a .keras file or a SavedModel. "
        f"Received: {path}"
    )


def augmented(
    predictor: Predictor, *, flip: bool = False, scales: Sequence[float] = (1.0,)
) -> Predictor:
    """Averages probabilities over resized and mirrored copies of a picture.

    Args:
        predictor: what answers for one copy.
        flip: whether each copy is also mirrored left and right.
        scales: factors of the copies' sizes.

    Raises:
        ValueError: if there is no scale, or one is not positive.
    """
    if not scales or min(scales) <= 0:
        raise ValueError(f"Expected positive `scales`. Received: {scales!r}")
    if not flip and tuple(scales) == (1.0,):
        return predictor

    def average(image: np.ndarray) -> np.ndarray:
        total = np.float32(0)
        for scale in scales:
            copy = _resized(image, scale)
            probabilities = predictor(copy)
            if flip:
                mirrored = predictor(np.ascontiguousarray(copy[:, ::-1]))
                probabilities = (probabilities + mirrored[:, ::-1]) / 2
            if probabilities.shape[:2] != image.shape[:2]:
                size = image.shape[:2]
                probabilities = tf.image.resize(probabilities, size).numpy()
            total = total + probabilities
        return total / len(scales)

    return average


def evaluate(
    predictor: Predictor,
    source: Source,
    *,
    flip: bool = False,
    scales: Sequence[float] = (1.0,),
    crf: DenseCRF | None = None,
) -> dict[str, Any]:
    """Judges a predictor on every sample of a source, at the original size.

    One picture is in memory at a time.

    Args:
        predictor: see `load_predictors`.
        source: labelled pictures.
        flip: average with the mirrored picture's prediction.
        scales: average over the picture resized by these factors.
        crf: refines the averaged answer, if given.

    Returns:
        JSON's types: `metrics.scores` (mean_iou, pixel_accuracy, mean_accuracy,
        frequency_weighted_iou, class_iou by name), mean_iou_without each class,
        level_set_energy (Eq. 4, the mean over images of the sum over pixels);
        boundary_iou and class_boundary_iou (`BOUNDARY_RATIO`), trimap_mean_iou by
        width (`TRIMAP_WIDTHS`), small_object_recall of all objects, its classes' and
        the number of small_objects (`SMALL_OBJECT_SHARE`, `SMALL_OBJECT_PIXELS`);
        seconds_per_image, the medians of the net and the CRF; and dataset, images,
        flip, scales, crf and the confusion matrix.

    Raises:
        ValueError: if the predictor has another number of classes.
        ImportError: for a CRF without its library, see `tf_levelset.inference.crf`.
    """
    predict = augmented(predictor, flip=flip, scales=scales)
    if crf is not None:
        require_library()
    totals = _Totals(source)
    for image, labels in evaluation_dataset(source).as_numpy_iterator():
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


class _Totals:
    """What is summed over the pictures of a source."""

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
        """Adds a picture: labels (H, W) and probabilities (H, W, C)."""
        classes, void = self.source.num_classes, self.source.ignore_class
        if probabilities.shape[-1] != classes:
            raise ValueError(
                f"Expected a model of {classes} classes, as {self.source.name} has. "
                f"Received: one of {probabilities.shape[-1]}"
            )
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
        """Returns JSON's types; see `evaluate`."""
        names = self.source.class_names
        boundary, recall = boundary_iou(self.boundary), small_object_recall(self.small)
        hits, objects = self.small.sum(axis=0).tolist()
        net, crf = np.median(self.seconds, axis=0).tolist()
        return {
            **scores(self.confusion, names),
            "mean_iou_without": _without_each(self.confusion, names),
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
    """The mean of those that are numbers, None where there is none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else None


def _by_name(values: np.ndarray, names: Sequence[str]) -> dict[str, float | None]:
    return {
        name: None if np.isnan(value) else float(value)
        for name, value in zip(names, values, strict=True)
    }


def report_rows(
    results: Mapping[str, Mapping[str, Any]],
    seconds: Mapping[str, float],
    titles: Mapping[str, str],
) -> Sequence[Sequence[str]]:
    """The report's table: a row a loss, after a row of headings."""

    def percent(value: float | None) -> str:
        return "–" if value is None else f"{100 * value:.2f}"

    rows: list[Sequence[str]] = [
        (
            "loss",
            "mIoU %",
            "pixel accuracy %",
            "boundary IoU %",
            "mIoU within 3 px %",
            "small objects %",
            "level set energy",
            "training s",
        )
    ]
    for name, result in results.items():
        rows.append(
            (
                titles.get(name, name),
                percent(result["mean_iou"]),
                percent(result["pixel_accuracy"]),
                percent(result["boundary_iou"]),
                percent(result["trimap_mean_iou"]["3"]),
                percent(result["small_object_recall"]),
                f"{result['level_set_energy']:.1f}",
                f"{seconds[name]:.0f}" if name in seconds else "–",
            )
        )
    return rows


def table(rows: Sequence[Sequence[str]]) -> str:
    """Formats rows, the first of headings, as a Markdown table."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) + " |"
        for r in rows
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]]) + "\n"


def _without_each(
    confusion: np.ndarray, class_names: Sequence[str]
) -> dict[str, float | None]:
    """MIoU with one class's IoU left out of the mean: a rare class can swing it."""
    iou = class_iou(confusion)
    result = {}
    for index, name in enumerate(class_names):
        result[name] = _mean(np.delete(iou, index))
    return result


def _resized(image: np.ndarray, scale: float) -> np.ndarray:
    if scale == 1:
        return image
    size = [max(1, round(scale * n)) for n in image.shape[:2]]
    resized = tf.image.resize(image, size, antialias=True)
    return tf.cast(tf.round(resized), tf.uint8).numpy()


def _checked(probabilities: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Returns the probabilities, or raises unless they are the picture's, and finite.

    The class of a pixel without numbers would be the first.
    """
    if probabilities.shape[:2] != image.shape[:2]:
        raise ValueError(
            f"Expected outputs of the picture's size {image.shape[:2]}. Received: "
            f"{probabilities.shape[:2]}. A net made with upsample=False is brought to "
            "it by tf_levelset.models.at_input_size."
        )
    # One NaN makes the sum NaN; to ask each number takes longer.
    if not np.isfinite(probabilities.sum()):
        raise ValueError("Expected finite probabilities of the model. Received: NaN")
    return probabilities
