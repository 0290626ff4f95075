"""Numbered versions of an exported model, and the newest of them, loaded."""

from __future__ import annotations

import gc
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tf_levelset.checks import expect
from tf_levelset.models.safe_loading import SUMS_FILE, load_saved_model


def numbered_versions(folder: Path) -> dict[int, Path]:
    """Returns the folders of a model's versions by their numbers."""
    entries = folder.iterdir() if folder.is_dir() else ()
    return {int(path.name): path for path in entries if path.name.isdecimal()}


def load_version(folder: Path) -> Any:
    """Loads a version and predicts one image, since the first prediction is slow."""
    # Without checksums a version that is being copied would be taken for complete.
    if not (folder / "assets.extra" / SUMS_FILE).is_file():
        raise ValueError(f"Expected {folder} to have checksums. Received: none")
    model = load_saved_model(folder)
    size = [side or 129 for side in image_size(model)]
    model.signatures["uint8"](images=tf.zeros((1, *size, 3), tf.uint8))
    return model


def image_size(model: Any) -> tuple[int | None, ...]:
    """Returns the height and width that a SavedModel takes, None for any."""
    _, inputs = model.signatures["uint8"].structured_input_signature
    return tuple(inputs["images"].shape[1:3])


def predict_bytes(model: Any, images: np.ndarray) -> dict[str, tf.Tensor]:
    """Calls the endpoint `uint8` of a SavedModel.

    Args:
        model: The loaded SavedModel.
        images: uint8 (B, H, W, 3).

    Raises:
        ValueError: If the model was exported for images of another size.
    """
    size, received = image_size(model), images.shape[1:3]
    fits = size in ((None, None), received)
    expect(fits, f"images of the size {size} that was exported", received)
    return model.signatures["uint8"](images=tf.constant(images))


def load_portable(folder: Path) -> Any:
    """Loads a version to convert it to the format of another runtime.

    Raises:
        ValueError: If it was exported without `portable=True` and has an operation
            that only TensorFlow has.
    """
    model = load_saved_model(folder)
    graph = model.signatures["uint8"].graph.as_graph_def()
    bodies = [graph.node, *(function.node_def for function in graph.library.function)]
    if any(node.op == "ScaleAndTranslate" for nodes in bodies for node in nodes):
        raise ValueError(f"Expected an export with `portable=True`. Received: {folder}")
    return model


class NewestVersion:
    """The newest version of a model that can be loaded, kept up to date in `current`.

    Args:
        folder: The model's folder, which holds a folder for each version.
        retry_seconds: Time until a version that could not be loaded is tried again.

    Raises:
        ValueError: If no version can be loaded.
    """

    def __init__(self, folder: Path, retry_seconds: float = 10.0) -> None:
        self.folder = folder
        self.retry_seconds = retry_seconds
        self.current: tuple[int, Any] = (-1, None)  # number and SavedModel
        self._retry_at: dict[int, float] = {}
        self.refresh()
        if self.current[1] is None:
            raise ValueError(f"Expected {folder} to hold a version. Received: none")

    def refresh(self) -> None:
        """Replaces the current version by the newest one, once that is loaded."""
        for number, path in sorted(numbered_versions(self.folder).items())[::-1]:
            if number == self.current[0]:
                break
            if time.monotonic() < self._retry_at.get(number, 0.0):
                continue
            try:
                self.current = number, load_version(path)
            # Whatever is wrong with a version, the current one must keep answering.
            except Exception as error:
                logging.error("version %d is skipped: %s", number, error)
                self._retry_at[number] = time.monotonic() + self.retry_seconds
            else:
                logging.warning("version %d is served", number)
                gc.collect()  # Reference cycles would keep the old SavedModel.
                break

    def watch(self, seconds: float) -> None:
        """Calls `refresh` every so many seconds, forever."""
        while True:
            time.sleep(seconds)
            try:
                self.refresh()
            except OSError as error:  # The model's folder cannot be read.
                logging.error("%s", error)
