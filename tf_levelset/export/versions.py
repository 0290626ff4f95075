"""Numbered versions of an exported model, and the newest of them, loaded."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import tensorflow as tf

from tf_levelset.models.safe_loading import SUMS_FILE, load_saved_model

logger = logging.getLogger(__name__)

WARMUP_SIZE = (129, 129)
"""Height and width of the image that a version predicts before its first request."""


def numbered_versions(folder: Path) -> dict[int, Path]:
    """Returns the folders of a model's versions by their numbers."""
    entries = folder.iterdir() if folder.is_dir() else ()
    return {int(path.name): path for path in entries if path.name.isdecimal()}


class Version:
    """A version of an exported model, loaded and warmed up.

    Args:
        folder: The version's folder, written by `export`.

    Raises:
        ValueError: If the folder is damaged or has no checksums, without which a
            version that is still being copied would be taken for complete.
    """

    def __init__(self, folder: Path) -> None:
        if not (folder / "assets.extra" / SUMS_FILE).is_file():
            raise ValueError(
                f"Expected {folder} to be a version that tf-levelset export wrote. "
                f"Received: a folder without assets.extra/{SUMS_FILE}"
            )
        self.number = int(folder.name)
        # The endpoints live only as long as the loaded object.
        self._model = load_saved_model(folder)
        black = np.zeros((1, *WARMUP_SIZE, 3), np.uint8)
        self.masks(black)
        self.masks([cv2.imencode(".png", black[0])[1].tobytes()])

    def masks(self, images: np.ndarray | Sequence[bytes]) -> np.ndarray:
        """Predicts masks.

        Args:
            images: uint8 (B, H, W, 3), or B JPEG or PNG files of one size.

        Returns:
            uint8 (B, H, W).

        Raises:
            tf.errors.InvalidArgumentError: If a file cannot be decoded, or the files
                differ in size.
        """
        endpoints = self._model.signatures
        if isinstance(images, np.ndarray):
            outputs = endpoints["uint8"](images=tf.constant(images))
        else:
            outputs = endpoints["encoded"](encoded=tf.constant(list(images)))
        return outputs["mask"].numpy()


class NewestVersion:
    """The newest version of a model that can be loaded, kept up to date.

    Args:
        folder: The model's folder, which holds a folder for each version.
        retry_seconds: Time after which a version that could not be loaded is tried
            again. It may have been incomplete.

    Raises:
        ValueError: If no version can be loaded.
    """

    def __init__(self, folder: Path, retry_seconds: float = 10.0) -> None:
        self.folder = folder
        self.retry_seconds = retry_seconds
        self._failed_at: dict[int, float] = {}
        found = self._newer_than(None)
        if found is None:
            raise ValueError(
                f"Expected {folder} to hold a version that tf-levelset export wrote, "
                "such as 1. Received: none that can be loaded"
            )
        self.current = found

    def refresh(self) -> None:
        """Replaces the current version if the newest one is another.

        The current version stays in place until the new one is warmed up, and in the
        hands of those who took it before.
        """
        found = self._newer_than(self.current)
        if found is not None:
            logger.warning("version %d is served", found.number)
            self.current = found
            gc.collect()  # Reference cycles would keep the old SavedModel in memory.

    def watch(self, seconds: float) -> None:
        """Calls `refresh` every so many seconds, forever."""
        while True:
            time.sleep(seconds)
            try:
                self.refresh()
            except OSError as error:  # The model's folder cannot be read.
                logger.error("%s", error)

    def _newer_than(self, current: Version | None) -> Version | None:
        """Loads the newest loadable version; None if it is the current one."""
        for number, path in sorted(numbered_versions(self.folder).items())[::-1]:
            if current is not None and current.number == number:
                return None
            failed_at = self._failed_at.get(number, -np.inf)
            if time.monotonic() < failed_at + self.retry_seconds:
                continue
            try:
                return Version(path)
            # Whatever is wrong with a version, the current one must keep answering.
            except Exception as error:
                logger.error("version %d is skipped: %s", number, error)
                self._failed_at[number] = time.monotonic()
        return None
