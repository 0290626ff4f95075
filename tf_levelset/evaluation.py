"""Judging a model at the pictures' own size, one picture at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_levelset.datasets.pipeline import Source, evaluation_dataset
from tf_levelset.energy import level_set_energy
from tf_levelset.export import numbered_versions
from tf_levelset.metrics import class_iou, confusion_matrix, scores

Predictor = Callable[[np.ndarray], np.ndarray]
"""From a picture, uint8 (H, W, 3), to probabilities, float32 (H, W, C)."""


class KerasPredictor:
    """A Keras model with logits at the picture's size, as a predictor."""

    def __init__(self, model: keras.Model) -> None:
        def probabilities(image: tf.Tensor) -> tf.Tensor:
            logits = model(tf.cast(image, tf.float32)[tf.newaxis], training=False)
            return tf.nn.softmax(logits)[0]

        self._probabilities = tf.function(
            probabilities, input_signature=[tf.TensorSpec((None, None, 3), tf.uint8)]
        )

    @classmethod
    def load(cls, path: Path) -> KerasPredictor:
        """Loads a `.keras` file."""
        return cls(keras.models.load_model(path, compile=False))

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Maps uint8 (H, W, 3) to float32 (H, W, C)."""
        return _of_the_pictures_size(self._probabilities(image).numpy(), image)


class SavedModelPredictor:
    """The `uint8` endpoint of an exported model, as a predictor."""

    def __init__(self, path: Path) -> None:
        # Kept: the endpoint's variables live as long as the loaded object.
        self._loaded = tf.saved_model.load(str(path))
        if "uint8" not in self._loaded.signatures:
            raise ValueError(
                f"Expected a SavedModel with an endpoint 'uint8'. Received: {path} "
                f"with {sorted(self._loaded.signatures)}"
            )
        self._endpoint = self._loaded.signatures["uint8"]

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Maps uint8 (H, W, 3) to float32 (H, W, C)."""
        outputs = self._endpoint(images=tf.constant(image[np.newaxis]))
        return _of_the_pictures_size(outputs["probabilities"][0].numpy(), image)


def load_predictors(path: Path) -> dict[str, Predictor]:
    """Loads what a path holds.

    Args:
        path: a run folder (one predictor a loss), one loss's folder in it, a `.keras`
            file, a SavedModel, or a folder of its numbered versions (the newest).

    Returns:
        Predictors by name; the name is empty where there is only one.

    Raises:
        FileNotFoundError: if there is nothing of these.
    """
    if path.suffix == ".keras" and path.is_file():
        return {"": KerasPredictor.load(path)}
    if (path / "saved_model.pb").exists():
        return {"": SavedModelPredictor(path)}
    if (path / "model.keras").exists():
        return {"": KerasPredictor.load(path / "model.keras")}
    versions = {
        number: folder
        for number, folder in numbered_versions(path).items()
        if (folder / "saved_model.pb").exists()
    }
    if versions:
        return {"": SavedModelPredictor(versions[max(versions)])}
    runs = sorted(path.glob("*/model.keras"))
    if runs and (path / "config.json").exists():
        return {p.parent.name: KerasPredictor.load(p) for p in runs}
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
) -> dict[str, Any]:
    """Judges a predictor on every sample of a source, at the original size.

    One picture is in memory at a time.

    Args:
        predictor: see `load_predictors`.
        source: labelled pictures.
        flip: average with the mirrored picture's prediction.
        scales: average over the picture resized by these factors.

    Returns:
        JSON's types: `metrics.scores` (mean_iou, pixel_accuracy, mean_accuracy,
        frequency_weighted_iou, class_iou by name), mean_iou_without each class,
        level_set_energy (Eq. 4, the mean over images of the sum over pixels), and
        dataset, images, flip, scales and the confusion matrix.

    Raises:
        ValueError: if the predictor has another number of classes.
    """
    predict = augmented(predictor, flip=flip, scales=scales)
    classes = source.num_classes
    confusion = np.zeros((classes, classes), np.int64)
    energy = 0.0
    for image, labels in evaluation_dataset(source).as_numpy_iterator():
        probabilities = predict(image)
        if probabilities.shape[-1] != classes:
            raise ValueError(
                f"Expected a model of {classes} classes, as {source.name} has. "
                f"Received: one of {probabilities.shape[-1]}"
            )
        confusion += confusion_matrix(
            labels, probabilities.argmax(-1), classes, source.ignore_class
        )
        energy += float(
            level_set_energy(
                labels[np.newaxis],
                probabilities[np.newaxis],
                ignore_class=source.ignore_class,
            )[0]
        )
    return {
        "dataset": source.name,
        "images": source.num_samples,
        "flip": flip,
        "scales": list(scales),
        **scores(confusion, source.class_names),
        "mean_iou_without": _without_each(confusion, source.class_names),
        "level_set_energy": energy / source.num_samples,
        "confusion": confusion.tolist(),
    }


def report_rows(
    results: Mapping[str, Mapping[str, Any]],
    seconds: Mapping[str, float],
    titles: Mapping[str, str],
) -> Sequence[Sequence[str]]:
    """The report's table: a row a loss, after a row of headings."""

    def percent(value: float | None) -> str:
        return "–" if value is None else f"{100 * value:.2f}"

    rows = [("loss", "mIoU %", "pixel accuracy %", "level set energy", "training s")]
    for name, result in results.items():
        rows.append(
            (
                titles.get(name, name),
                percent(result["mean_iou"]),
                percent(result["pixel_accuracy"]),
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
        rest = np.delete(iou, index)
        rest = rest[~np.isnan(rest)]
        result[name] = float(rest.mean()) if rest.size else None
    return result


def _resized(image: np.ndarray, scale: float) -> np.ndarray:
    if scale == 1:
        return image
    size = [max(1, round(scale * n)) for n in image.shape[:2]]
    resized = tf.image.resize(image, size, antialias=True)
    return tf.cast(tf.round(resized), tf.uint8).numpy()


def _of_the_pictures_size(probabilities: np.ndarray, image: np.ndarray) -> np.ndarray:
    if probabilities.shape[:2] != image.shape[:2]:
        raise ValueError(
            f"Expected outputs of the picture's size {image.shape[:2]}. Received: "
            f"{probabilities.shape[:2]}. A net made with upsample=False is brought to "
            "it by tf_levelset.models.at_input_size."
        )
    return probabilities
