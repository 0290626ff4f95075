"""A window of a resized picture: the geometry of a training sample, in NumPy arrays.

Pictures are bytes all along, and each step is one call of a library that lets other
threads run meanwhile: so the samples of a batch are made side by side.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

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
        image: uint8 (H, W, 3).
        window: What to make.
        padded_size: The (height, width) to pad to at the bottom and the right, no
            smaller than the window.

    Returns:
        uint8 (*padded_size, 3), within 1 of the exact values. The padding is black;
        `as_float` brings the mean colour.
    """
    old, new = image.shape[:2], window.size
    if new[0] < old[0] or new[1] < old[1]:
        # OpenCV does not filter where it shrinks; Pillow does.
        part = _filtered_window(image, window)
    elif new == old:
        part = _cut(image, window)
    else:
        part = _cut(cv2.resize(image, new[::-1]), window)
    return _padded(part, padded_size, 0)


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
    return _padded(part, padded_size, VOID)


def as_float(images: np.ndarray, insides: np.ndarray) -> np.ndarray:
    """Returns windows of `image_window` as float32, the padding in the mean colour.

    Args:
        images: uint8 (B, height, width, 3).
        insides: Integers (B, 2), the (height, width) of each that is no padding.

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
    # Rounding must not carry the box out of the picture.
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
    # OpenCV mirrors bytes faster than NumPy, but does not know every dtype.
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
