"""Prediction in overlapping tiles, for pictures too large to be seen at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tf_levelset.inference.evaluation import Predictor


@dataclass(frozen=True)
class Tiling:
    """How a picture is cut.

    Args:
        height: of a tile, in pixels.
        width: of a tile, in pixels.
        overlap: of neighbours, in pixels: at least this much, and more where the
            tiles do not divide the picture. A pixel's probabilities are the mean of its
            tiles', each weighted by how far, up to the overlap, the pixel is from the
            tile's edge.

    Raises:
        ValueError: unless sizes are positive, and the overlap in [0, half a tile].
    """

    height: int
    width: int
    overlap: int = 64

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 1:
            raise ValueError(
                "Expected tiles of at least one pixel. "
                f"Received: {self.height}×{self.width}"
            )
        if not 0 <= 2 * self.overlap <= min(self.height, self.width):
            raise ValueError(
                "Expected an `overlap` of zero or more, at most half a tile's side. "
                f"Received: {self.overlap} for {self.height}×{self.width}"
            )


def bands(
    predictor: Predictor, image: np.ndarray, tiling: Tiling | None
) -> Iterator[tuple[int, np.ndarray]]:
    """Predicts a picture from top to bottom.

    What is held is about a row of tiles: height · W · C numbers, not H · W · C.

    Args:
        predictor: for pictures of a tile's size, or less where the picture is smaller.
        image: uint8 (H, W, 3).
        tiling: None to see the picture at once.

    Yields:
        A first row, and the probabilities, float32 (h, W, C), of the rows from there
        on; together, all rows in order.
    """
    if tiling is None:
        yield 0, predictor(image)
        return
    size = image.shape[:2]
    tile = min(tiling.height, size[0]), min(tiling.width, size[1])
    tops, lefts = (
        starts(*both, tiling.overlap) for both in zip(size, tile, strict=True)
    )
    weights = np.outer(*(ramp(length, tiling.overlap) for length in tile))
    weights = weights[..., np.newaxis].astype(np.float32)
    kept: np.ndarray | None = None  # the last row of tiles' lower part, with weights
    for top, below in zip(tops, [*tops[1:], size[0]], strict=True):
        totals = _row(predictor, image[top : top + tile[0]], lefts, weights)
        if kept is not None:
            totals[: len(kept)] += kept
        done = below - top
        kept = totals[done:]
        yield top, totals[:done, :, :-1] / totals[:done, :, -1:]


def _row(
    predictor: Predictor, image: np.ndarray, lefts: list[int], weights: np.ndarray
) -> np.ndarray:
    """A row of tiles, (h, W, C + 1): weighted sums and, last, the weights."""
    totals: np.ndarray | None = None
    width = weights.shape[1]
    for left in lefts:
        probabilities = predictor(image[:, left : left + width])
        if totals is None:
            shape = (*image.shape[:2], probabilities.shape[-1] + 1)
            totals = np.zeros(shape, np.float32)
        part = totals[:, left : left + width]
        part[..., :-1] += weights * probabilities
        part[..., -1:] += weights
    assert totals is not None
    return totals


def starts(size: int, tile: int, overlap: int) -> list[int]:
    """Where tiles begin along an axis: evenly, the last ending with the picture.

    Args:
        size: of the picture.
        tile: of a tile, at most `size`.
        overlap: that neighbours have at least; less than `tile`.
    """
    if tile == size:  # the overlap may be as much, where a picture is small
        return [0]
    count = 1 + -(-(size - tile) // (tile - overlap))
    return np.linspace(0, size - tile, count).round().astype(int).tolist()


def ramp(length: int, overlap: int) -> np.ndarray:
    """Weights of a tile's pixels along an axis: in (0, 1], rising over the overlap."""
    distance = np.minimum(np.arange(length), np.arange(length)[::-1]) + 1
    return np.minimum(distance / (overlap + 1), 1.0)
