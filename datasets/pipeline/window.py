"""The geometry of a training sample in NumPy: a window of a resized image.

Images stay uint8 throughout, and each step is one call of a library that releases
Python's lock, so that the samples of a batch are made in parallel.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from tf_levelset.constants import IGNORE_CLASS, IMAGENET_MEAN_RGB

Size = tuple[int, int]

# TensorFlow adopts an array whose address is a multiple of this, and copies others.
_ALIGNMENT = 64


class Window(NamedTuple):
    """A window of a resized image."""

    size: Size
    """The (height, width) of the whole resized image."""
    start: Size
    """The first (row, column) of the window in it."""
    shape: Size
    """The (height, width) of the window."""
    flip: bool
    """Whether it is mirrored left and right."""


def image_window(image: np.ndarray, window: Window, padded_size: Size) -> np.ndarray:
    """Returns a window of an image that is resized bilinearly, with antialiasing.

    Args:
        image: uint8 (H, W, 3).
        window: The window to cut out.
        padded_size: The (height, width) to pad to at the bottom and the right, no
            smaller than the window.

    Returns:
        uint8 (*padded_size, 3), within 1 of the exact values. The padding is black;
        `as_float` gives it the mean colour.
    """
    old, new = image.shape[:2], window.size
    if new[0] < old[0] or new[1] < old[1]:
        # OpenCV shrinks without a filter, Pillow with one.
        part = _filtered_window(image, window)
    elif new == old:
        part = _cut(image, window)
    else:
        part = _cut(cv2.resize(image, new[::-1]), window)
    return _padded(part, padded_size, 0)


def label_window(labels: np.ndarray, window: Window, padded_size: Size) -> np.ndarray:
    """Returns a window of resized labels: each pixel has the label under its centre.

    Args:
        labels: (H, W), any dtype.
        window: The window to cut out.
        padded_size: As for `image_window`; the padding is void, 255.

    Returns:
        Labels of shape `padded_size`, of the dtype of `labels`.
    """
    if window.size == labels.shape:
        part = _cut(labels, window)
    else:
        rows, columns = (
            (2 * np.arange(first, first + count) + 1) * old // (2 * new)
            for old, new, first, count in zip(labels.shape, *window[:3], strict=True)
        )
        part = labels.take(rows, 0).take(columns[::-1] if window.flip else columns, 1)
    return _padded(part, padded_size, IGNORE_CLASS)


def as_float(images: np.ndarray, insides: np.ndarray) -> np.ndarray:
    """Converts images of `image_window` to float32, with padding in the mean colour.

    Args:
        images: uint8 (B, height, width, 3).
        insides: Integers (B, 2), the height and width of what is not padding.

    Returns:
        float32 (B, height, width, 3) in [0, 255].
    """
    mean = np.array(IMAGENET_MEAN_RGB, np.float32)
    result = _aligned_empty(images.shape)
    np.copyto(result, images)
    for image, (height, width) in zip(result, insides.tolist(), strict=True):
        image[height:] = mean
        image[:height, width:] = mean
    return result


def _filtered_window(image: np.ndarray, window: Window) -> np.ndarray:
    rows, columns = (
        old / new for old, new in zip(image.shape[:2], window.size, strict=True)
    )
    (top, left), (height, width) = window.start, window.shape
    # Rounding must not carry the box out of the image.
    box = (
        left * columns,
        top * rows,
        min((left + width) * columns, image.shape[1]),
        min((top + height) * rows, image.shape[0]),
    )
    resized = Image.fromarray(image).resize(
        (width, height), Image.Resampling.BILINEAR, box=box
    )
    return _mirrored(np.asarray(resized), window.flip)


def _cut(values: np.ndarray, window: Window) -> np.ndarray:
    (top, left), (height, width) = window.start, window.shape
    return _mirrored(values[top : top + height, left : left + width], window.flip)


def _mirrored(values: np.ndarray, flip: bool) -> np.ndarray:
    if not flip:
        return values
    # OpenCV mirrors uint8 faster than NumPy, but does not support every dtype.
    return cv2.flip(values, 1) if values.dtype == np.uint8 else values[:, ::-1]


def _padded(values: np.ndarray, size: Size, fill: int) -> np.ndarray:
    height, width = values.shape[:2]
    if (height, width) == size:
        return values
    result = np.full((*size, *values.shape[2:]), fill, values.dtype)
    result[:height, :width] = values
    return result


def _aligned_empty(shape: tuple[int, ...]) -> np.ndarray:
    """Returns an empty float32 array that begins at a multiple of `_ALIGNMENT`."""
    size = 4 * int(np.prod(shape))
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    begin = -memory.ctypes.data % _ALIGNMENT
    return memory[begin : begin + size].view(np.float32).reshape(shape)
