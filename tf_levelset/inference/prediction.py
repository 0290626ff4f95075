"""Predictions of files, folders and videos: masks, overlays and probabilities."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tensorflow as tf

from tf_levelset.datasets.faults import Fault
from tf_levelset.datasets.folder import palette_png, read_image, read_index_labels
from tf_levelset.datasets.image_masks import IMAGE_SUFFIXES
from tf_levelset.files import (
    check_links,
    partial_path,
    read_json,
    write_bytes,
    write_json,
)
from tf_levelset.inference.drawing import overlay
from tf_levelset.inference.evaluation import Predictor
from tf_levelset.inference.tiling import Tiling, bands

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm")
SETTINGS_FILE = "predict.json"

Progress = Callable[[int, int], None]
"""Told how many pictures are done, and of how many."""


@dataclass(frozen=True)
class Input:
    """A picture's or a video's file.

    Attributes:
        name: what its outputs are called, without suffix; a path where it lies deeper
            in the folder that was given.
        path: of it.
    """

    name: str
    path: Path

    @property
    def is_video(self) -> bool:
        """Whether it is a video, by its suffix."""
        return self.path.suffix.lower() in VIDEO_SUFFIXES


@dataclass(frozen=True)
class Outputs:
    """What is written, and where.

    Attributes:
        folder: gets masks/NAME.png and what else is asked for.
        palette: uint8 (C, 3): the classes' colours.
        overlays: whether to write overlays/NAME.jpg, and NAME.mp4 of a video.
        probabilities: whether to write probabilities/NAME.npy, float32 (H, W, C).
    """

    folder: Path
    palette: np.ndarray
    overlays: bool = True
    probabilities: bool = False

    def mask(self, name: str) -> Path:
        """A palette PNG of classes."""
        return self.folder / "masks" / f"{name}.png"

    def overlay(self, name: str, suffix: str = ".jpg") -> Path:
        """The picture with its classes' colours and contours."""
        return self.folder / "overlays" / f"{name}{suffix}"

    def probability(self, name: str) -> Path:
        """An array of NumPy."""
        return self.folder / "probabilities" / f"{name}.npy"

    def of_picture(self, name: str) -> list[Path]:
        """All files of one picture."""
        paths = [self.mask(name)]
        paths += [self.overlay(name)] * self.overlays
        return paths + [self.probability(name)] * self.probabilities


# --- Inputs ---


def find_inputs(paths: Sequence[Path]) -> list[Input]:
    """Returns the pictures and videos at paths, those of folders at any depth.

    Raises:
        FileNotFoundError: for a path that is not there, or a folder without any.
        ValueError: for a file of another kind, or two that would be written to one
            name.
    """
    inputs: list[Input] = []
    for path in paths:
        if path.is_dir():
            found = [_in_folder(path, file) for file in sorted(path.rglob("*"))]
            of_folder = [item for item in found if item is not None]
            if not of_folder:
                raise FileNotFoundError(
                    f"Expected pictures or videos in {path}. Received: none"
                )
            inputs += of_folder
        elif not path.is_file():
            raise FileNotFoundError(
                f"Expected a picture, a video or a folder of them. Received: {path}, "
                "where nothing is"
            )
        elif _is_input(path):
            inputs.append(Input(path.stem, path))
        else:
            raise ValueError(
                f"Expected files of {', '.join((*IMAGE_SUFFIXES, *VIDEO_SUFFIXES))}. "
                f"Received: {path}"
            )
    _check_names(inputs)
    return inputs


def _is_input(path: Path) -> bool:
    return path.suffix.lower() in (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)


def _in_folder(folder: Path, path: Path) -> Input | None:
    """A file of a folder; hidden ones, and those of other kinds, are passed over."""
    inside = path.relative_to(folder)
    hidden = any(part.startswith(".") for part in inside.parts)
    if hidden or not path.is_file() or not _is_input(path):
        return None
    return Input(inside.with_suffix("").as_posix(), path)


def _check_names(inputs: Sequence[Input]) -> None:
    by_name: dict[str, Path] = {}
    for item in inputs:
        other = by_name.setdefault(item.name, item.path)
        if other != item.path:
            raise ValueError(
                f"Expected inputs of different names. Received: {other} and "
                f"{item.path}, both to be written as {item.name}"
            )


# --- Prediction ---


def predict(
    predictor: Predictor,
    inputs: Sequence[Input],
    outputs: Outputs,
    tiling: Tiling | None = None,
    progress: Progress = lambda done, total: None,
) -> list[Fault]:
    """Predicts pictures and videos. What is written already is left as it is.

    Args:
        predictor: from a picture to probabilities.
        inputs: of `find_inputs`.
        outputs: what is written.
        tiling: how pictures are cut; None to see each at once.
        progress: called after every picture; a video counts its frames.

    Returns:
        What is wrong with inputs that could not be read; the others are done.
    """
    total = sum(map(_length, inputs))
    faults, done = [], 0
    for item in inputs:
        pictures = frames_of(item) if item.is_video else _picture_of(item)
        try:
            for name, image in pictures:
                predict_picture(predictor, name, image, outputs, tiling)
                done += 1
                progress(done, total)
        except UnreadableError as error:
            faults.append(Fault(str(item.path), str(error)))
            continue
        if item.is_video and outputs.overlays:
            write_video(item, outputs)
    return faults


class UnreadableError(ValueError):
    """A picture or video that cannot be read."""


def predict_picture(
    predictor: Predictor,
    name: str,
    image: np.ndarray | Callable[[], np.ndarray],
    outputs: Outputs,
    tiling: Tiling | None,
) -> None:
    """Writes what is missing of one picture's outputs, the mask last.

    Args:
        predictor: from a picture to probabilities.
        name: of the outputs.
        image: uint8 (H, W, 3), or what reads it.
        outputs: what is written.
        tiling: how it is cut.

    Raises:
        ValueError: unless there is a colour for each class.
    """
    if all(path.exists() for path in outputs.of_picture(name)):
        return
    pixels = image() if callable(image) else image
    classes = np.zeros(pixels.shape[:2], np.uint8)
    probabilities = None
    if outputs.probabilities:
        probabilities = _PartialArray(outputs.probability(name))
    for top, band in bands(predictor, pixels, tiling):
        _check_classes(band, outputs.palette)
        classes[top : top + len(band)] = band.argmax(-1)
        if probabilities is not None:
            probabilities.write(top, band, pixels.shape[0])
    if probabilities is not None:
        probabilities.finish()
    if outputs.overlays:
        drawn = overlay(pixels, classes, outputs.palette)
        write_bytes(outputs.overlay(name), _jpeg(drawn))
    write_bytes(outputs.mask(name), palette_png(classes, outputs.palette))


def _check_classes(band: np.ndarray, palette: np.ndarray) -> None:
    if band.shape[-1] != len(palette):
        raise ValueError(
            f"Expected a colour for each of the model's {band.shape[-1]} classes. "
            f"Received: {len(palette)} colours"
        )


class _PartialArray:
    """A file of an array, filled from top to bottom, that gets its name in the end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.partial = partial_path(path)
        self.array: np.memmap | None = None

    def write(self, top: int, band: np.ndarray, height: int) -> None:
        if self.array is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.array = np.lib.format.open_memmap(
                self.partial, "w+", band.dtype, (height, *band.shape[1:])
            )
        self.array[top : top + len(band)] = band

    def finish(self) -> None:
        assert self.array is not None
        self.array.flush()
        self.array = None
        self.partial.replace(self.path)


# --- Reading ---


def _length(item: Input) -> int:
    """How many pictures an input has, as far as its header says."""
    if not item.is_video:
        return 1
    capture = cv2.VideoCapture(str(item.path))
    try:
        return max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
    finally:
        capture.release()


def _picture_of(item: Input) -> Iterator[tuple[str, Callable[[], np.ndarray]]]:
    def read() -> np.ndarray:
        try:
            return read_image(tf.constant(str(item.path))).numpy()
        except tf.errors.OpError as error:
            reason = str(error.message).splitlines()[0]
            if not reason.startswith("Expected"):
                reason = f"Expected a picture. Received: {reason}"
            raise UnreadableError(reason) from error

    yield item.name, read


def frames_of(item: Input) -> Iterator[tuple[str, np.ndarray]]:
    """Yields a video's frames, uint8 (H, W, 3) RGB, named VIDEO/000000 and so on.

    Raises:
        UnreadableError: if there is none.
    """
    capture = cv2.VideoCapture(str(item.path))
    try:
        index = 0
        while True:
            there, frame = capture.read()
            if not there:
                break
            yield f"{item.name}/{index:06}", cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
            index += 1
        if index == 0:
            raise UnreadableError("Expected a video. Received: no frame of one")
    finally:
        capture.release()


# --- Writing ---


def write_video(item: Input, outputs: Outputs) -> Path:
    """Writes a video's overlays as overlays/NAME.mp4, from the masks of its frames.

    Raises:
        OSError: if OpenCV has no encoder for it.
    """
    path = outputs.overlay(item.name, ".mp4")
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{os.getpid()}.partial.{path.name}")
    writer = None
    for name, frame in frames_of(item):
        classes = read_index_labels(str(outputs.mask(name)))
        drawn = overlay(frame, classes, outputs.palette)
        if writer is None:
            size = drawn.shape[1], drawn.shape[0]
            code = cv2.VideoWriter.fourcc(*"mp4v")
            writer = cv2.VideoWriter(str(partial), code, _rate(item), size)
            if not writer.isOpened():
                raise OSError(f"Expected OpenCV to write MPEG-4. Received: no {path}")
        writer.write(cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))
    assert writer is not None
    writer.release()
    partial.replace(path)
    return path


def _rate(item: Input) -> float:
    """A video's frames a second; 25 where it does not say."""
    capture = cv2.VideoCapture(str(item.path))
    try:
        return capture.get(cv2.CAP_PROP_FPS) or 25.0
    finally:
        capture.release()


def _jpeg(picture: np.ndarray) -> bytes:
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    return encoded.tobytes()


def claim(
    folder: Path, settings: Mapping[str, object], inputs: Sequence[Input] = ()
) -> None:
    """Notes in a folder what its predictions are made of, and with.

    Args:
        folder: of the outputs.
        settings: of JSON's types.
        inputs: of the predictions. Others may come to those of an earlier time.

    Raises:
        ValueError: if it holds predictions made otherwise, or of other files by the
            same names, or of files that have changed: they would be taken for these;
            or a link that leads outside.
    """
    check_links(folder)
    path = folder / SETTINGS_FILE
    files = {item.name: stamp(item.path) for item in inputs}
    earlier: dict[str, object] = {}
    if path.exists():
        found = read_json(path)
        known = found if isinstance(found, dict) else {}
        noted = known.get("inputs")
        earlier = noted if isinstance(noted, dict) else {}
        differ = [key for key in settings if known.get(key) != settings[key]]
        differ += [
            f"file {files[name][0]}"
            for name in files
            if earlier.get(name, files[name]) != files[name]
        ][:3]
        if differ:
            raise ValueError(
                f"Expected what {folder} was begun with, to go on with it. Received: "
                f"another {', '.join(differ)}. Name a new folder, or remove that one."
            )
    write_json(path, {**settings, "inputs": {**earlier, **files}})


def stamp(path: Path) -> list[str | int]:
    """What tells a file, or all that is in a folder, from another: path, size, time.

    Of a folder, the sum of the sizes in bytes, and the latest time, in nanoseconds.
    """
    files = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
    found = [file.stat() for file in files]
    size, time = sum(f.st_size for f in found), max(f.st_mtime_ns for f in found)
    return [os.path.realpath(path), size, time]
