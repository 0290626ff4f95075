"""Image and video files whose predictions are wanted."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import tensorflow as tf

from tf_levelset.datasets.files.faults import message_of
from tf_levelset.datasets.files.images import IMAGE_SUFFIXES, read_image
from tf_levelset.files import files_below

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm")

SETTINGS_FILE = "predict.json"
PREDICTIONS = ("masks", "overlays", "probabilities")
"""The file and the folders that `predict` writes."""

FIGURES = ("-level_sets.png", "-zooms.png")
"""Ends of the names of the two files that `figures` writes for an image."""


class UnreadableError(ValueError):
    """An image or video that cannot be read."""


@dataclass(frozen=True)
class Input:
    """An image or video file.

    Attributes:
        name: Name of its outputs, without a suffix. For a file below a given folder,
            the path relative to that folder.
        path: The file.
    """

    name: str
    path: Path

    @property
    def is_video(self) -> bool:
        """Whether the file's suffix is that of a video."""
        return self.path.suffix.lower() in VIDEO_SUFFIXES

    @property
    def frame_rate(self) -> float:
        """Frames per second of a video, 25 if the file does not say."""
        with _opened(self.path) as capture:
            return capture.get(cv2.CAP_PROP_FPS) or 25.0

    @property
    def num_images(self) -> int:
        """Number of images: 1, or a video's frames according to its header."""
        if not self.is_video:
            return 1
        with _opened(self.path) as capture:
            return max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))

    def images(self) -> Iterator[tuple[str, Callable[[], np.ndarray]]]:
        """Yields the name of each image and a function that reads it.

        The function returns uint8 (H, W, 3), RGB, and must be called before the next
        image is asked for. A video's frames are named NAME/000000, NAME/000001, ….

        Raises:
            UnreadableError: Here or by the function, if the file cannot be read.
        """
        if not self.is_video:
            yield self.name, partial(_read, self.path)
            return
        with _opened(self.path) as capture:
            index = 0
            while True:
                success, frame = capture.read()
                if not success:
                    break
                yield f"{self.name}/{index:06}", partial(_rgb, frame)
                index += 1
        if index == 0:
            raise UnreadableError(
                "Expected a video, at a path that is UTF-8 text. Received: a file "
                "without a readable frame"
            )


def find_inputs(paths: Sequence[Path]) -> list[Input]:
    """Finds the images and videos at paths; folders are searched at any depth.

    In folders, hidden files, `other_files` and what commands of this package wrote
    there are skipped, so that a prediction is not predicted in turn.

    Raises:
        FileNotFoundError: If a path does not exist, or a folder has no image or video.
        ValueError: If a file is of another type, or two files have the same name.
    """
    inputs: list[Input] = []
    for path in paths:
        if path.is_dir():
            inputs += _in_folder(path)
        elif not path.is_file():
            raise FileNotFoundError(
                "Expected an image, a video or a folder of them. Received: the path "
                f"{path}, which does not exist"
            )
        elif _is_input(path):
            inputs.append(Input(path.stem, path))
        else:
            raise ValueError(
                f"Expected files of {', '.join((*IMAGE_SUFFIXES, *VIDEO_SUFFIXES))}. "
                f"Received: {path}"
            )
    by_name: dict[str, Path] = {}
    for item in inputs:
        other = by_name.setdefault(item.name, item.path)
        if other != item.path:
            raise ValueError(
                f"Expected inputs of different names. Received: {other} and "
                f"{item.path}, whose outputs would both be named {item.name}"
            )
    return inputs


def other_files(paths: Sequence[Path]) -> list[Path]:
    """Returns the files in folders that are neither images nor videos by their names.

    Hidden files and what `predict` wrote are left out.
    """
    files = [file for path in paths if path.is_dir() for file in files_below(path)]
    files = [file for file in files if not _is_input(file) and not _is_output(file)]
    return [file for file in files if file.name != SETTINGS_FILE]


def _is_input(path: Path) -> bool:
    return path.suffix.lower() in (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)


def _is_output(path: Path) -> bool:
    """Returns whether `predict`, `evaluate`, `train` or `figures` wrote an image."""
    name, beside = path.name, []
    if name.startswith("panel"):
        result = name.replace("panel", "evaluation", 1).replace(".png", ".json")
        beside = [result, "report.json"]
    for kind, other in (FIGURES, FIGURES[::-1]):
        if name.endswith(kind):
            beside = [name.replace(kind, other)]
    return any(path.with_name(other).exists() for other in beside) or any(
        folder.name in PREDICTIONS and folder.with_name(SETTINGS_FILE).exists()
        for folder in path.parents
    )


def _in_folder(folder: Path) -> list[Input]:
    found = []
    for path in files_below(folder):
        if not _is_input(path) or _is_output(path):
            continue
        if not path.is_file():
            raise FileNotFoundError(
                f"Expected an image or a video at {path}. Received: a link that leads "
                "to no file"
            )
        found.append(Input(path.relative_to(folder).with_suffix("").as_posix(), path))
    if not found:
        raise FileNotFoundError(
            f"Expected images or videos in {folder}. Received: none"
        )
    return found


def for_opencv(path: Path) -> str:
    """Returns a path as text; bytes that OpenCV crashes on, not UTF-8, are escaped."""
    return str(path).encode(errors="backslashreplace").decode()


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[cv2.VideoCapture]:
    capture = cv2.VideoCapture(for_opencv(path))
    try:
        yield capture
    finally:
        capture.release()


def _read(path: Path) -> np.ndarray:
    try:
        return read_image(tf.constant(os.fsencode(path))).numpy()
    except (tf.errors.OpError, ValueError) as error:
        raise UnreadableError(message_of(error, str(path))) from error


def _rgb(frame: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
