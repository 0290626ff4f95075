"""What chosen runs make of a few pictures, kept small: Figures 3, 6 and 7.

A run writes label maps and a class's probability as PNG files; the panels are drawn
from these files, the pictures and their truth.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from tf_levelset.datasets.pipeline import Source, evaluation_dataset, subset
from tf_levelset.inference.panels import colourize, fitted, grid
from tf_levelset.inference.predictor import Predictor

SAMPLES = ("0016E5_07965", "0016E5_08061", "0016E5_08151")
"""Of CamVid's val: its beginning, middle and end."""

CLASS = "pedestrian"
"""Whose probability is shown."""

WIDTH = 240
"""Of a column of a panel, in pixels."""


def chosen(source: Source) -> Source:
    """The source's pictures of `SAMPLES`, as far as it has them, at least its first."""
    indices = [i for i, name in enumerate(source.sample_names) if name in SAMPLES]
    return subset(source, indices or [0])


def write_pictures(predictor: Predictor, source: Source, folder: Path) -> None:
    """Writes SAMPLE.png, labels as grey values, and SAMPLE-probability.png.

    Args:
        predictor: from a picture to probabilities.
        source: what `SAMPLES` are taken from.
        folder: made if missing.
    """
    source = chosen(source)
    index = source.class_names.index(CLASS) if CLASS in source.class_names else 0
    folder.mkdir(parents=True, exist_ok=True)
    samples = evaluation_dataset(source).as_numpy_iterator()
    for name, (image, _) in zip(source.sample_names, samples, strict=True):
        probabilities = predictor(image)
        labels = probabilities.argmax(-1).astype(np.uint8)
        cv2.imwrite(str(folder / f"{name}.png"), labels)
        grey = np.round(255 * probabilities[..., index]).astype(np.uint8)
        cv2.imwrite(str(folder / f"{name}-probability.png"), grey)


def label_panel(source: Source, runs: Mapping[str, Path]) -> np.ndarray:
    """Pictures, truth and what each run says: `write_pictures`' folders, by title."""
    return _panel(source, runs, probabilities=False)


def probability_panel(source: Source, runs: Mapping[str, Path]) -> np.ndarray:
    """Pictures, truth and the probability of `CLASS`, as grey values."""
    return _panel(source, runs, probabilities=True)


def write_panels(source: Source, runs: Mapping[str, Path], folder: Path) -> None:
    """Writes both panels as small PNG files.

    Args:
        source: of the pictures and their truth.
        runs: folders of `write_pictures`, by title.
        folder: made if missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, panel in {
        "labels": label_panel(source, runs),
        "probabilities": probability_panel(source, runs),
    }.items():
        # 256 colours: photographs take a third of the space.
        few = Image.fromarray(panel).quantize(256)
        few.save(folder / f"camvids_own_split-{name}.png", optimize=True)


def _panel(
    source: Source, runs: Mapping[str, Path], *, probabilities: bool
) -> np.ndarray:
    source = chosen(source)
    rows = []
    samples = evaluation_dataset(source).as_numpy_iterator()
    for name, (image, labels) in zip(source.sample_names, samples, strict=True):
        cells = [image, colourize(labels, source.palette)]
        for folder in runs.values():
            if probabilities:
                grey = _read(folder / f"{name}-probability.png")
                cells.append(np.repeat(grey[..., np.newaxis], 3, axis=-1))
            else:
                cells.append(colourize(_read(folder / f"{name}.png"), source.palette))
        rows.append([fitted(cell, WIDTH) for cell in cells])
    return grid(rows, ["picture", "truth", *runs])


def _read(path: Path) -> np.ndarray:
    """Reads grey values.

    Raises:
        FileNotFoundError: if there is no such file.
    """
    grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if grey is None:
        raise FileNotFoundError(f"Expected what a run wrote at {path}. Received: none")
    return grey
