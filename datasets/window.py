"""A window of a resized picture, computed alone: what lies outside is never made.

Resizing is separable and linear. So a window's rows are a sparse matrix times the
picture, with a few taps a row, and its columns another one times the transposed
result; mirroring reverses the rows of the second.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from scipy.sparse import csr_array

from tf_levelset.constants import IMAGENET_MEAN_RGB

Size = tuple[int, int]

VOID = 255

# TensorFlow takes over an array that begins at such an address, and copies others.
_ALIGNMENT = 64


class Window(NamedTuple):
    """A window of a resized picture.

    Args:
        size: The (height, width) that the whole picture would have.
        start: The window's first (row, column) in that.
        shape: Its (height, width).
        flip: Whether it is mirrored left and right.
    """

    size: Size
    start: Size
    shape: Size
    flip: bool


def image_window(image: np.ndarray, window: Window, padded_size: Size) -> np.ndarray:
    """Returns a window of an image that is resized bilinearly, antialiased.

    Args:
        image: (H, W, 3) in [0, 255], any numeric dtype.
        window: What to make.
        padded_size: The (height, width) to pad to at the bottom and the right, no
            smaller than the window; padded with the mean colour.

    Returns:
        float32 (*padded_size, 3) in [0, 255].
    """
    height, width = window.shape
    result = _aligned_empty((*padded_size, 3))
    _fill_around(result, window.shape, np.array(IMAGENET_MEAN_RGB, np.float32))
    inside = result[:height, :width]
    if window.size == image.shape[:2]:
        inside[...] = _cut(image, window)
        return result
    (old_height, old_width), (top, left) = image.shape[:2], window.start
    rows, top, bottom = taps(old_height, window.size[0], top, height)
    columns, left, right = taps(old_width, window.size[1], left, width, window.flip)
    part = image[top:bottom, left:right].astype(np.float32)
    lines = rows @ part.reshape(bottom - top, -1)
    # OpenCV transposes faster than NumPy.
    turned = cv2.transpose(lines.reshape(height, right - left, 3))
    turned = columns @ turned.reshape(right - left, -1)
    cv2.transpose(turned.reshape(width, height, 3), dst=inside)
    return result


def label_window(labels: np.ndarray, window: Window, padded_size: Size) -> np.ndarray:
    """Returns a window of labels that are resized: those that new centres fall on.

    Args:
        labels: (H, W), any dtype.
        window: What to make.
        padded_size: As for `image_window`; padded with void, 255.

    Returns:
        (*padded_size), of the dtype of `labels`.
    """
    if window.size == labels.shape:
        part = _cut(labels, window)
    else:
        rows, columns = (
            (2 * np.arange(first, first + count) + 1) * old // (2 * new)
            for old, new, first, count in zip(labels.shape, *window[:3], strict=True)
        )
        part = labels.take(rows, 0).take(columns[::-1] if window.flip else columns, 1)
    if window.shape == padded_size:
        return part
    result = np.empty(padded_size, labels.dtype)
    _fill_around(result, window.shape, VOID)
    result[: window.shape[0], : window.shape[1]] = part
    return result


def taps(
    old: int, new: int, start: int, count: int, flip: bool = False
) -> tuple[csr_array, int, int]:
    """Returns the matrix that makes some pixels of a resized row from the old ones.

    New pixel i has its centre at c = (i + ½)·old/new in the old row, and takes the old
    pixels around it by a triangle of half-width max(1, old/new): linear interpolation,
    which widens to an average when shrinking. At the ends, what lies outside is left
    out and the weights are brought to the sum of 1 again.

    Args:
        old: The number of pixels that there are.
        new: The number that the whole row would get.
        start: The first new pixel to make.
        count: How many.
        flip: Whether to give them from the last to the first.

    Returns:
        float32 (count, stop − first), and the first and stop of the old pixels used.
    """
    half_width = max(1.0, old / new)
    centres = (np.arange(start, start + count)[:, np.newaxis] + 0.5) * (old / new)
    offsets = np.arange(np.ceil(2 * half_width))
    pixels = np.floor(centres - (half_width - 0.5)) + offsets
    weights = half_width - np.abs(pixels + 0.5 - centres)
    weights[(weights < 0) | (pixels < 0) | (pixels >= old)] = 0
    # The sum is 1, but for what keeps rounding from carrying any sum beyond 255.
    margin = 1 - (len(offsets) + 3) * 2.0**-24
    weights *= margin / weights.sum(axis=1, keepdims=True)
    first, stop = max(int(pixels[0, 0]), 0), min(int(pixels[-1, -1]) + 1, old)
    pixels = np.clip(pixels, first, stop - 1) - first
    if flip:
        pixels, weights = pixels[::-1], weights[::-1]
    ends = np.arange(0, weights.size + 1, len(offsets), dtype=np.int32)
    entries = (
        weights.ravel().astype(np.float32),
        pixels.ravel().astype(np.int32),
        ends,
    )
    return csr_array(entries, shape=(count, stop - first)), first, stop


def _cut(values: np.ndarray, window: Window) -> np.ndarray:
    (top, left), (height, width) = window.start, window.shape
    part = values[top : top + height, left : left + width]
    if window.flip:
        # OpenCV mirrors bytes faster than NumPy, but does not know every dtype.
        return cv2.flip(part, 1) if part.dtype == np.uint8 else part[:, ::-1]
    return part


def _fill_around(values: np.ndarray, inner: Size, fill: np.ndarray | int) -> None:
    """Fills what lies below and to the right of the inner (height, width)."""
    if inner == values.shape[:2]:
        return
    # A row at a time: NumPy repeats single colours slowly.
    row = np.empty(values.shape[1:], values.dtype)
    row[:] = fill
    values[inner[0] :] = row
    values[: inner[0], inner[1] :] = row[inner[1] :]


def _aligned_empty(shape: tuple[int, ...]) -> np.ndarray:
    """Returns an empty float32 array that begins at a multiple of `_ALIGNMENT`."""
    size = 4 * int(np.prod(shape))
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    begin = -memory.ctypes.data % _ALIGNMENT
    return memory[begin : begin + size].view(np.float32).reshape(shape)
