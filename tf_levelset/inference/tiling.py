"""Prediction in overlapping tiles, for images too large to be predicted at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tf_levelset.checks import plain_options
from tf_levelset.inference.predictor import Predictor


@plain_options
@dataclass(frozen=True)
class Tiling:
    """How an image is cut into tiles.

    A pixel's probabilities are the weighted mean over the tiles that contain it. The
    weight grows linearly with the distance to the tile's edge, up to the overlap.

    Args:
        height: Height of a tile in pixels.
        width: Width of a tile in pixels.
        overlap: Smallest overlap of neighbouring tiles in pixels. Tiles overlap by
            more where they do not divide the image.

    Raises:
        ValueError: If a size is not positive, or `overlap` is negative or larger than
            half a tile.
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
                "Expected `overlap` to be between 0 and half a tile's side. "
                f"Received: {self.overlap} for {self.height}×{self.width}"
            )


def bands(
    predictor: Predictor, image: np.ndarray, tiling: Tiling | None
) -> Iterator[tuple[int, np.ndarray]]:
    """Predicts an image in horizontal bands, from top to bottom.

    About one row of tiles is in memory at a time: height · W · C values instead of
    H · W · C.

    Args:
        predictor: Predicts a tile; the tiles of a smaller image are smaller.
        image: uint8 (H, W, 3).
        tiling: How the image is cut; None predicts it at once.

    Yields:
        The index of a band's first row, and the band's probabilities, float32
        (h, W, C). The bands follow each other without gap or overlap.
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
    kept: np.ndarray | None = (
        None  # the part of the last row that the next one overlaps
    )
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
    """Predicts a row of tiles: weighted sums and, last, weights, (h, W, C + 1)."""
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
    """Returns where tiles start along an axis: evenly spaced, the last one at the end.

    Args:
        size: Length of the image.
        tile: Length of a tile, at most `size`.
        overlap: Smallest overlap of neighbours, less than `tile`.
    """
    if tile == size:  # In a small image the overlap may be the whole tile.
        return [0]
    count = 1 + -(-(size - tile) // (tile - overlap))
    return np.linspace(0, size - tile, count).round().astype(int).tolist()


def ramp(length: int, overlap: int) -> np.ndarray:
    """Returns a tile's weights along an axis, in (0, 1], rising over the overlap."""
    distance = np.minimum(np.arange(length), np.arange(length)[::-1]) + 1
    return np.minimum(distance / (overlap + 1), 1.0)
