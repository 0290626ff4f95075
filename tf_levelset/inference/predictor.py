"""Trained models as functions from an image to class probabilities."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tf_levelset.export.versions import numbered_versions, predict_bytes
from tf_levelset.models.any_size import FAILURES, AnySize
from tf_levelset.models.safe_loading import load_keras, load_saved_model

Predictor = Callable[[np.ndarray], np.ndarray]
"""Maps an image, uint8 (H, W, 3), to class probabilities, float32 (H, W, C)."""


class KerasPredictor:
    """A Keras model as a predictor.

    Args:
        model: Maps a batch of RGB images in [0, 255] to logits or probabilities; see
            `AnySize`.
        outputs: "logits", "softmax", "sigmoid", or "auto" to read it from the model.
    """

    def __init__(self, model: keras.Model, outputs: str = "auto") -> None:
        self._net = AnySize(model, outputs)
        self._is_adapted = False
        self._trace()

    def _trace(self) -> None:
        # TensorFlow would take one method of several objects for one retraced function.
        self._scores = tf.function(
            lambda image: self._eager_scores(image),
            input_signature=[tf.TensorSpec((None, None, 3), tf.uint8)],
        )

    def _eager_scores(self, image: tf.Tensor) -> tf.Tensor:
        return self._net.scores(tf.cast(image, tf.float32)[tf.newaxis])

    @property
    def num_classes(self) -> int:
        """The number of classes C."""
        return self._net.num_classes

    @classmethod
    def load(cls, path: Path, outputs: str = "auto") -> KerasPredictor:
        """Loads a `.keras` file; see `tf_levelset.models.safe_loading.load_keras`."""
        return cls(load_keras(path), outputs)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Maps uint8 (H, W, 3) to float32 (H, W, C)."""
        try:
            scores = self._checked_scores(image)
        except FAILURES:
            if self._is_adapted:
                raise
            scores = self._adapted_scores(image)
        self._net.announce(image.shape[:2])
        probabilities = self._net.probabilities(scores, image[np.newaxis])
        return _checked(probabilities[0].numpy(), image)

    def _adapted_scores(self, image: np.ndarray) -> tf.Tensor:
        """After a failure, finds what the net needs, and returns its outputs."""
        self._net.probe()
        self._is_adapted = True
        self._trace()
        try:
            return self._checked_scores(image)
        except FAILURES:  # Some layers need to know the size when they are traced.
            self._scores = self._eager_scores
            return self._checked_scores(image)

    def _checked_scores(self, image: np.ndarray) -> tf.Tensor:
        scores = self._scores(image)
        self._net.check_size(scores, image[np.newaxis])
        return scores


class SavedModelPredictor:
    """The `uint8` endpoint of an exported model as a predictor.

    Args:
        path: Folder of one version of the exported model.

    Raises:
        ValueError: If the SavedModel has no endpoint `uint8`.
    """

    def __init__(self, path: Path) -> None:
        # The endpoint's variables live only as long as the loaded object.
        self._loaded = load_saved_model(path)
        if "uint8" not in self._loaded.signatures:
            raise ValueError(
                f"Expected a SavedModel with an endpoint 'uint8'. Received: {path} "
                f"with the endpoints {sorted(self._loaded.signatures)}"
            )

    @property
    def num_classes(self) -> int:
        """The number of classes C."""
        endpoint = self._loaded.signatures["uint8"]
        return int(endpoint.structured_outputs["probabilities"].shape[-1])

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Maps uint8 (H, W, 3) to float32 (H, W, C)."""
        outputs = predict_bytes(self._loaded, image[np.newaxis])
        return _checked(outputs["probabilities"][0].numpy(), image)


def load_predictors(
    path: Path, outputs: str = "auto"
) -> dict[str, KerasPredictor | SavedModelPredictor]:
    """Loads every model that `find_models` finds at a path, by name.

    Args:
        path: See `find_models`.
        outputs: What the outputs of `.keras` files are; see `KerasPredictor`. A
            SavedModel returns probabilities.
    """
    return {
        name: SavedModelPredictor(found)
        if found.is_dir()
        else KerasPredictor.load(found, outputs)
        for name, found in find_models(path).items()
    }


def find_models(path: Path) -> dict[str, Path]:
    """Finds the `.keras` files and SavedModels at a path.

    Args:
        path: A run folder (which holds one model for each loss), the folder of one
            loss in it, a `.keras` file, a SavedModel, or a folder of numbered
            versions, of which the newest is taken.

    Returns:
        The models' paths by the names of their losses. The name is empty where the
        path stands for a single model.

    Raises:
        FileNotFoundError: If there is no model at the path.
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
        return {model.parent.name: model for model in runs}
    raise FileNotFoundError(
        "Expected a run folder with a trained model, a .keras file or a SavedModel. "
        f"Received: {path}"
    )


def _checked(probabilities: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Returns the probabilities, or raises unless they are finite and fit the image.

    Without the check, `argmax` would silently turn NaN into class 0.
    """
    if probabilities.shape[:2] != image.shape[:2]:
        raise ValueError(
            f"Expected outputs of the image's size {image.shape[:2]}. Received: "
            f"{probabilities.shape[:2]}"
        )
    # One NaN makes the sum NaN, and testing the sum is faster than testing each value.
    if not np.isfinite(probabilities.sum()):
        raise ValueError(
            "Expected the model's probabilities to be finite. Received: NaN, for an "
            f"image of {image.shape[0]}×{image.shape[1]} pixels. If training diverged, "
            "train again with a lower learning rate."
        )
    return probabilities
