"""Trained models as functions from an image to class probabilities."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tf_levelset.export.versions import numbered_versions
from tf_levelset.models.safe_loading import load_keras, load_saved_model
from tf_levelset.scores import two_channels

Predictor = Callable[[np.ndarray], np.ndarray]
"""Maps an image, uint8 (H, W, 3), to class probabilities, float32 (H, W, C)."""


class KerasPredictor:
    """A Keras model as a predictor.

    Args:
        model: Maps a batch of images in [0, 255] to logits of the images' size. A model
            with a single output channel is taken for a binary one: its sigmoid is the
            probability of the foreground, class 1.
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
        """Loads a `.keras` file; see `tf_levelset.models.safe_loading.load_keras`."""
        return cls(load_keras(path))

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Maps uint8 (H, W, 3) to float32 (H, W, C)."""
        return _checked(self._probabilities(image).numpy(), image)


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
        self._endpoint = self._loaded.signatures["uint8"]

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Maps uint8 (H, W, 3) to float32 (H, W, C)."""
        outputs = self._endpoint(images=tf.constant(image[np.newaxis]))
        return _checked(outputs["probabilities"][0].numpy(), image)


def load_predictors(path: Path) -> dict[str, Predictor]:
    """Loads every model that `find_models` finds at a path, by name."""
    return {
        name: SavedModelPredictor(found)
        if found.is_dir()
        else KerasPredictor.load(found)
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
            f"{probabilities.shape[:2]}. Apply tf_levelset.models.at_input_size to a "
            "network that was created with upsample=False."
        )
    # One NaN makes the sum NaN, and testing the sum is faster than testing each value.
    if not np.isfinite(probabilities.sum()):
        raise ValueError(
            "Expected the model's probabilities to be finite. Received: NaN"
        )
    return probabilities
