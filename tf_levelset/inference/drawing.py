"""Label maps in colour, side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from tf_levelset.datasets.pipeline import Source, evaluation_dataset, subset
from tf_levelset.files import write_bytes

_GAP = 4
_HEADER = 22
_VOID_COLOUR = (0, 0, 0)
_WORSE, _BETTER, _BOTH_WRONG = (214, 39, 40), (44, 160, 44), (90, 90, 90)


def colourize(
    labels: np.ndarray, palette: np.ndarray | Sequence[Sequence[int]]
) -> np.ndarray:
    """Maps labels (H, W) to their colours, uint8 (H, W, 3) RGB; void is black.

    Args:
        labels: integers; those outside [0, C) are void.
        palette: (C, 3), RGB in 0–255.
    """
    colours = np.array([*np.asarray(palette), _VOID_COLOUR], np.uint8)
    # As int64: bytes do not hold void's place after 256 colours.
    labels = labels.astype(np.int64)
    is_class = (labels >= 0) & (labels < len(colours) - 1)
    return colours[np.where(is_class, labels, len(colours) - 1)]


def overlay(
    image: np.ndarray,
    labels: np.ndarray,
    palette: np.ndarray | Sequence[Sequence[int]],
    opacity: float = 0.5,
) -> np.ndarray:
    """Lays classes' colours over a picture, and white contours between classes.

    Args:
        image: uint8 (H, W, 3) RGB.
        labels: integers (H, W); void leaves the picture as it is.
        palette: (C, 3), RGB in 0–255.
        opacity: of the colours, in [0, 1].

    Returns:
        uint8 (H, W, 3) RGB.
    """
    colours = colourize(labels, palette)
    mixed = cv2.addWeighted(image, 1 - opacity, colours, opacity, 0)
    is_void = (labels < 0) | (labels >= len(palette))
    mixed[is_void] = image[is_void]
    mixed[boundaries(labels)] = 255
    return mixed


def boundaries(labels: np.ndarray) -> np.ndarray:
    """Where the right or the lower neighbour is of another class, bool (H, W)."""
    found = np.zeros(labels.shape, bool)
    found[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    found[:-1] |= labels[:-1] != labels[1:]
    return found


def difference(
    labels: np.ndarray, first: np.ndarray, second: np.ndarray, ignore_class: int
) -> np.ndarray:
    """Shows where two predictions differ, uint8 (H, W, 3).

    Green: only the second is right; red: only the first is; grey: they differ and both
    are wrong; white: they agree; black: void.
    """
    picture = np.full((*labels.shape, 3), 255, np.uint8)
    differ = first != second
    picture[differ] = _BOTH_WRONG
    picture[differ & (second == labels)] = _BETTER
    picture[differ & (first == labels)] = _WORSE
    picture[labels == ignore_class] = _VOID_COLOUR
    return picture


def panel(
    source: Source,
    predictors: Mapping[str, Callable[[np.ndarray], np.ndarray]],
    samples: int,
    width: int = 240,
) -> np.ndarray:
    """Draws pictures of a source beside their truth and predictions.

    Args:
        source: labelled pictures; `samples` of them are taken, evenly spread.
        predictors: from uint8 (H, W, 3) to probabilities (H, W, C), by title. Of two,
            a last column shows where they differ (see `difference`).
        samples: number of rows.
        width: of a column, in pixels.

    Returns:
        uint8 (height, width, 3) RGB.
    """
    rows = []
    chosen = spread(source, samples)
    for image, labels in evaluation_dataset(chosen).as_numpy_iterator():
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
    """Takes so many samples of a source, or all it has, evenly spread."""
    wanted = np.linspace(0, source.num_samples - 1, min(samples, source.num_samples))
    return subset(source, wanted.round().astype(int).tolist())


def write_png(path: Path, picture: np.ndarray) -> None:
    """Writes uint8 (H, W, 3) RGB as a PNG file."""
    write_bytes(path, png(picture))


def png(picture: np.ndarray) -> bytes:
    """Encodes uint8 (H, W, 3) RGB as PNG."""
    _, encoded = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    return encoded.tobytes()


def fitted(picture: np.ndarray, width: int) -> np.ndarray:
    """Resizes to a width; label colours are never mixed when enlarged or shrunk."""
    height = max(1, round(picture.shape[0] * width / picture.shape[1]))
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_NEAREST)


def grid(rows: Sequence[Sequence[np.ndarray]], titles: Sequence[str]) -> np.ndarray:
    """Draws pictures in rows and columns under titles.

    Args:
        rows: uint8 (h, width, 3) each, of one height within a row and one width in all.
        titles: of the columns.

    Returns:
        uint8 (height, width, 3) RGB.
    """
    width = rows[0][0].shape[1]
    columns = len(titles)
    heights = [row[0].shape[0] for row in rows]
    canvas = np.full(
        (
            _HEADER + sum(heights) + _GAP * len(rows),
            columns * (width + _GAP) - _GAP,
            3,
        ),
        255,
        np.uint8,
    )
    top = _HEADER
    for row, height in zip(rows, heights, strict=True):
        for column, cell in enumerate(row):
            left = column * (width + _GAP)
            canvas[top : top + height, left : left + width] = cell
        top += height + _GAP
    for column, title in enumerate(titles):
        origin = (column * (width + _GAP) + 2, _HEADER - 7)
        cv2.putText(
            canvas,
            title,
            origin,
            cv2.FONT_HERSHEY_SIMPLEX,
            0.45,
            (0, 0, 0),
            1,
            cv2.LINE_AA,
        )
    return canvas
