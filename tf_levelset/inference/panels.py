"""Images of predictions for people: colours, overlays and panels of many images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from tf_levelset.datasets.pipeline import Source, arrays_of, evaluation_dataset, subset
from tf_levelset.files import write_bytes
from tf_levelset.inference.predictor import Predictor

_GAP = 4
_HEADER = 22
_VOID_COLOUR = (0, 0, 0)
_WORSE, _BETTER, _BOTH_WRONG = (214, 39, 40), (44, 160, 44), (90, 90, 90)


def colourize(
    labels: np.ndarray, palette: np.ndarray | Sequence[Sequence[int]]
) -> np.ndarray:
    """Colours a label map; void is black.

    Args:
        labels: Integers (H, W). Values outside [0, C) are void.
        palette: (C, 3), the colour of each class, RGB in [0, 255].

    Returns:
        uint8 (H, W, 3), RGB.
    """
    colours = np.array([*np.asarray(palette), _VOID_COLOUR], np.uint8)
    # With 256 classes the index of void does not fit into a byte.
    labels = labels.astype(np.int64)
    is_class = (labels >= 0) & (labels < len(colours) - 1)
    return colours[np.where(is_class, labels, len(colours) - 1)]


def overlay(
    image: np.ndarray,
    labels: np.ndarray,
    palette: np.ndarray | Sequence[Sequence[int]],
    opacity: float = 0.5,
) -> np.ndarray:
    """Blends an image with its class colours, and draws white contours between classes.

    Args:
        image: uint8 (H, W, 3), RGB.
        labels: Integers (H, W). Void pixels keep the image's colour.
        palette: (C, 3), the colour of each class, RGB in [0, 255].
        opacity: Opacity of the colours, in [0, 1].

    Returns:
        uint8 (H, W, 3), RGB.
    """
    colours = colourize(labels, palette)
    mixed = cv2.addWeighted(image, 1 - opacity, colours, opacity, 0)
    is_void = (labels < 0) | (labels >= len(palette))
    mixed[is_void] = image[is_void]
    mixed[boundaries(labels)] = 255
    return mixed


def boundaries(labels: np.ndarray) -> np.ndarray:
    """Marks pixels whose right or lower neighbour has another label, bool (H, W)."""
    found = np.zeros(labels.shape, bool)
    found[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    found[:-1] |= labels[:-1] != labels[1:]
    return found


def difference(
    labels: np.ndarray, first: np.ndarray, second: np.ndarray, ignore_class: int
) -> np.ndarray:
    """Shows where two predictions differ.

    Args:
        labels: The true labels, integers (H, W).
        first: The first prediction, integers (H, W).
        second: The second prediction, integers (H, W).
        ignore_class: The label of void.

    Returns:
        uint8 (H, W, 3), RGB. Pixels are green where only the second prediction is
        right, red where only the first is, grey where they differ and both are wrong,
        white where they agree, and black where the label is void.
    """
    image = np.full((*labels.shape, 3), 255, np.uint8)
    differ = first != second
    image[differ] = _BOTH_WRONG
    image[differ & (second == labels)] = _BETTER
    image[differ & (first == labels)] = _WORSE
    image[labels == ignore_class] = _VOID_COLOUR
    return image


def panel(
    source: Source,
    predictors: Mapping[str, Predictor],
    samples: int,
    width: int = 240,
) -> np.ndarray:
    """Draws images of a data set next to their labels and predictions.

    Args:
        source: A data set with labels.
        predictors: Predictors by the titles of their columns. If there are two, the
            last column shows where they differ; see `difference`.
        samples: Number of rows: of images, evenly spread over the data set.
        width: Width of a column in pixels.

    Returns:
        uint8 (height, width, 3), RGB.
    """
    rows = []
    chosen = spread(source, samples)
    for image, labels in arrays_of(evaluation_dataset(chosen), chosen):
        predictions = [p(image).argmax(-1) for p in predictors.values()]
        cells = [image, colourize(labels, source.palette)]
        cells += [colourize(p, source.palette) for p in predictions]
        if len(predictions) == 2:
            first, second = predictions
            cells.append(difference(labels, first, second, source.ignore_class))
        rows.append([fitted(cell, width) for cell in cells])
    titles = ["image", "truth", *predictors]
    if len(predictors) == 2:
        titles.append("green: 2nd right, red: 1st")
    return grid(rows, titles)


def spread(source: Source, samples: int) -> Source:
    """Returns a number of samples, evenly spread over a data set, or all it has."""
    wanted = np.linspace(0, source.num_samples - 1, min(samples, source.num_samples))
    return subset(source, wanted.round().astype(int).tolist())


def write_png(path: Path, image: np.ndarray) -> None:
    """Writes an image, uint8 (H, W, 3) RGB, to a PNG file."""
    write_bytes(path, png(image))


def png(image: np.ndarray) -> bytes:
    """Encodes an image, uint8 (H, W, 3) RGB, as PNG."""
    _, encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return encoded.tobytes()


def fitted(image: np.ndarray, width: int) -> np.ndarray:
    """Resizes an image to a width by nearest neighbour: colours are not mixed."""
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_NEAREST)


def grid(rows: Sequence[Sequence[np.ndarray]], titles: Sequence[str]) -> np.ndarray:
    """Arranges images in rows and columns under titles.

    Args:
        rows: Images, uint8 (h, width, 3), of one height in a row and one width in all.
        titles: Titles of the columns.

    Returns:
        uint8 (height, width, 3), RGB.
    """
    width = rows[0][0].shape[1]
    heights = [row[0].shape[0] for row in rows]
    size = (
        _HEADER + sum(heights) + _GAP * len(rows),
        len(titles) * (width + _GAP) - _GAP,
    )
    canvas = np.full((*size, 3), 255, np.uint8)
    top = _HEADER
    for row, height in zip(rows, heights, strict=True):
        for column, cell in enumerate(row):
            left = column * (width + _GAP)
            canvas[top : top + height, left : left + width] = cell
        top += height + _GAP
    for column, title in enumerate(titles):
        origin = (column * (width + _GAP) + 2, _HEADER - 7)
        font, scale, black, thickness = cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1
        # OpenCV has no other characters, and crashes on names that are not UTF-8.
        title = title.encode("ascii", "replace").decode()
        cv2.putText(canvas, title, origin, font, scale, black, thickness, cv2.LINE_AA)
    return canvas
