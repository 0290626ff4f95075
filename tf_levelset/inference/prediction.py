"""Predictions as files: masks, overlays and probabilities of images and videos."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from tf_levelset.datasets.files.faults import Fault
from tf_levelset.datasets.files.labels import palette_png, read_index_labels
from tf_levelset.files import (
    check_links,
    partial_path,
    read_json,
    write_bytes,
    write_json,
)
from tf_levelset.inference.inputs import (
    PREDICTIONS,
    SETTINGS_FILE,
    Input,
    UnreadableError,
    for_opencv,
)
from tf_levelset.inference.panels import overlay
from tf_levelset.inference.predictor import Predictor
from tf_levelset.inference.tiling import Tiling, bands

Progress = Callable[[int, int], None]
"""Called with the number of images that are done, and the number of all images."""


@dataclass(frozen=True)
class Outputs:
    """Where the outputs of images go, and which are written.

    Attributes:
        folder: The output folder. A mask is written as masks/NAME.png.
        palette: uint8 (C, 3), the colour of each class, RGB.
        overlays: Whether to write overlays/NAME.jpg, and NAME.mp4 for a video.
        probabilities: Whether to write probabilities/NAME.npy, float32 (H, W, C).
    """

    folder: Path
    palette: np.ndarray
    overlays: bool = True
    probabilities: bool = False

    def mask(self, name: str) -> Path:
        """Returns the path of the mask, a palette PNG of class indices."""
        return self.folder / "masks" / f"{name}.png"

    def overlay(self, name: str, suffix: str = ".jpg") -> Path:
        """Returns the path of the image under its class colours and contours."""
        return self.folder / "overlays" / f"{name}{suffix}"

    def probability(self, name: str) -> Path:
        """Returns the path of the array of probabilities."""
        return self.folder / "probabilities" / f"{name}.npy"

    def are_complete(self, name: str) -> bool:
        """Returns whether all outputs of an image exist."""
        return (
            self.mask(name).exists()
            and (not self.overlays or self.overlay(name).exists())
            and (not self.probabilities or self.probability(name).exists())
        )


def predict(
    predictor: Predictor,
    inputs: Sequence[Input],
    outputs: Outputs,
    tiling: Tiling | None = None,
    progress: Progress = lambda done, total: None,
) -> list[Fault]:
    """Predicts images and videos, and writes what is missing of their outputs.

    Args:
        predictor: Maps an image to probabilities.
        inputs: From `find_inputs`.
        outputs: The files to write, and where.
        tiling: How images are cut into tiles; None predicts each image at once.
        progress: Called after every image; each frame of a video counts as one.

    Returns:
        A fault for each input that could not be read; the other inputs are predicted.

    Raises:
        ValueError: If the palette and the predictor differ in the number of classes.
    """
    total = sum(item.num_images for item in inputs)
    faults, done = [], 0
    for item in inputs:
        try:
            for name, read in item.images():
                if not outputs.are_complete(name):
                    _predict_image(predictor, name, read(), outputs, tiling)
                done += 1
                progress(done, total)
        except UnreadableError as error:
            faults.append(Fault(str(item.path), str(error)))
            continue
        if item.is_video and outputs.overlays:
            write_video(item, outputs)
    return faults


def _predict_image(
    predictor: Predictor,
    name: str,
    image: np.ndarray,
    outputs: Outputs,
    tiling: Tiling | None,
) -> None:
    """Writes the outputs of one image, uint8 (H, W, 3); the mask comes last."""
    classes = np.zeros(image.shape[:2], np.uint8)
    path = outputs.probability(name)
    array: np.memmap | None = None
    for top, band in bands(predictor, image, tiling):
        if band.shape[-1] != len(outputs.palette):
            raise ValueError(
                f"Expected a colour for each of the model's {band.shape[-1]} classes. "
                f"Received: {len(outputs.palette)} colours"
            )
        classes[top : top + len(band)] = band.argmax(-1)
        if outputs.probabilities and array is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            shape = (*classes.shape, band.shape[-1])
            array = np.lib.format.open_memmap(
                partial_path(path), "w+", band.dtype, shape
            )
        if array is not None:
            array[top : top + len(band)] = band
    if array is not None:
        array.flush()
        del array
        partial_path(path).replace(path)
    if outputs.overlays:
        drawn = overlay(image, classes, outputs.palette)
        _, encoded = cv2.imencode(".jpg", cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))
        write_bytes(outputs.overlay(name), encoded.tobytes())
    write_bytes(outputs.mask(name), palette_png(classes, outputs.palette))


def write_video(item: Input, outputs: Outputs) -> Path:
    """Writes a video's overlays as overlays/NAME.mp4, from the masks of its frames.

    Raises:
        OSError: If OpenCV cannot encode MPEG-4.
    """
    path = outputs.overlay(item.name, ".mp4")
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{os.getpid()}.partial.{path.name}")
    writer = None
    for name, read in item.images():
        classes = read_index_labels(str(outputs.mask(name)))
        drawn = overlay(read(), classes, outputs.palette)
        if writer is None:
            size = drawn.shape[1], drawn.shape[0]
            code = cv2.VideoWriter.fourcc(*"mp4v")
            writer = cv2.VideoWriter(for_opencv(partial), code, item.frame_rate, size)
            if not writer.isOpened():
                raise OSError(
                    "Expected OpenCV to be able to encode MPEG-4. Received: an error "
                    f"for {path}"
                )
        writer.write(cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))
    assert writer is not None
    writer.release()
    Path(for_opencv(partial)).replace(path)
    return path


def claim(
    folder: Path, settings: Mapping[str, object], inputs: Sequence[Input] = ()
) -> None:
    """Records in an output folder which inputs and settings its predictions are of.

    A later call with the same settings may add inputs.

    Args:
        folder: The output folder.
        settings: Values that `json` can write.
        inputs: The inputs to predict.

    Raises:
        ValueError: If the folder holds predictions with other settings, of other files
            of the same names or of files that have changed, which would be mistaken
            for the ones that are asked for; if it holds masks of another origin; or if
            a link in it leads outside.
    """
    check_links(folder)
    path = folder / SETTINGS_FILE
    files = {item.name: stamp(item.path) for item in inputs}
    earlier: dict[str, object] = {}
    taken = [name for name in PREDICTIONS if (folder / name).exists()]
    if taken and not path.exists():
        raise ValueError(
            f"Expected an output folder without files of others in {', '.join(taken)}, "
            f"which would be replaced. Received: {folder}. Choose another --output."
        )
    if path.exists():
        recorded = read_json(path)
        known = recorded if isinstance(recorded, dict) else {}
        if isinstance(known.get("inputs"), dict):
            earlier = known["inputs"]
        differ = [key for key in settings if known.get(key) != settings[key]]
        changed = [n for n in files if earlier.get(n, files[n]) != files[n]]
        differ += [f"file {files[name][0]}" for name in changed[:3]]
        if differ:
            raise ValueError(
                f"Expected the inputs and settings that {folder} was started with. "
                f"Received: another {', '.join(differ)}. Choose a new folder, or "
                "remove this one."
            )
    write_json(path, {**settings, "inputs": {**earlier, **files}})


def stamp(path: Path) -> list[str | int]:
    """Returns what identifies the state of a file or folder.

    Returns:
        The real path, the size in bytes and the time of the last change in
        nanoseconds. For a folder, the sum of the sizes and the latest of the times.
    """
    files = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
    found = [file.stat() for file in files]
    size, time = sum(f.st_size for f in found), max(f.st_mtime_ns for f in found)
    return [os.path.realpath(path), size, time]
