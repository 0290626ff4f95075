"""Conversion of an exported model to TensorFlow Lite, in floats or in 8 bits."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tf_levelset.export.versions import image_size, load_portable, predict_bytes
from tf_levelset.files import write_bytes


def export_tflite(
    saved_model: Path,
    path: Path,
    images: Iterable[np.ndarray],
    *,
    calibration: Iterable[np.ndarray] = (),
    min_agreement: float = 0.99,
) -> tuple[float, float]:
    """Converts an exported model, and checks the file before it is written.

    The input of the file is `images`, uint8 (1, H, W, 3), RGB; its outputs are `mask`,
    uint8 (1, H, W), and `probabilities`, float32 (1, H, W, C).

    Args:
        saved_model: Folder of a version, written by
            `export(…, portable=True, size=(H, W))`.
        path: The TFLite file.
        images: Images to check the file on, uint8 (h, w, 3), at least one. They are
            resized to (H, W), as those of `calibration` are.
        calibration: Images such as those that will be predicted, some 100. If there are
            any, weights and features are quantized to 8 bits, features to the ranges
            that they have for these images.
        min_agreement: The least share of pixels of `images` for which the file must
            predict the class that the SavedModel predicts.

    Returns:
        The share of the pixels of `images` for which the file predicts the same class,
        and the largest difference of a probability.

    Raises:
        ValueError: If the model was exported without `size` or `portable=True`, or the
            file agrees on fewer pixels.
    """
    model = load_portable(saved_model)
    size = image_size(model)
    if None in size:
        raise ValueError(
            "Expected an export for images of one size, `size` of `export` (--size). "
            f"Received: {saved_model}, for images of any size"
        )
    calibrating = [_resized(image, size) for image in calibration]
    content = _converted(model, size, calibrating)
    checked = [_resized(image, size) for image in images]
    share, difference = _agreement(content, model, checked)
    if share < min_agreement:
        raise ValueError(
            f"Expected {path} to predict the network's class for at least "
            f"{min_agreement:.2%} of the pixels. Received: {share:.2%}. "
            "Calibrate with images like those that will be predicted, or lower "
            "`min_agreement` (--min-agreement)."
        )
    write_bytes(path, content)
    return share, difference


def _resized(image: np.ndarray, size: Sequence[int | None]) -> np.ndarray:
    """Maps uint8 (h, w, 3) to uint8 (1, H, W, 3)."""
    resized = tf.image.resize(image[np.newaxis], size, antialias=True)
    return tf.cast(tf.round(resized), tf.uint8).numpy()


def _converted(
    model: Any, size: Sequence[int | None], calibration: Sequence[np.ndarray]
) -> bytes:
    """Returns the content of the file, in 8 bits if there are images to calibrate."""
    # In 8 bits, the converter itself turns an input of floats into one of bytes.
    name, dtype = (
        ("serving_default", tf.float32) if calibration else ("uint8", tf.uint8)
    )
    endpoint = model.signatures[name]

    @tf.function(input_signature=[tf.TensorSpec((1, *size, 3), dtype, "images")])
    def serving(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return dict(endpoint(images=images))

    def examples() -> Iterator[list[np.ndarray]]:
        for image in calibration:
            example = image.astype(np.float32)
            # Bytes need no scaling if the calibrated range of the input is theirs.
            example[0, 0, 0], example[0, -1, -1] = 0, 255
            yield [example]

    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [serving.get_concrete_function()], model
    )
    if calibration:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = examples
        converter.inference_input_type = tf.uint8
    return converter.convert()


def _agreement(
    content: bytes, model: Any, images: Sequence[np.ndarray]
) -> tuple[float, float]:
    """Compares a file with the SavedModel that it was converted from."""
    with warnings.catch_warnings():
        # TensorFlow names a package of the same interpreter that is to replace it.
        warnings.simplefilter("ignore", UserWarning)
        interpreter = tf.lite.Interpreter(model_content=content)
    run = interpreter.get_signature_runner()
    same, differences = [], []
    for image in images:
        expected, found = predict_bytes(model, image), run(images=image)
        same.append(np.mean(found["mask"] == expected["mask"]))
        difference = found["probabilities"] - expected["probabilities"]
        differences.append(np.abs(difference).max())
    return float(np.mean(same)), float(np.max(differences))
