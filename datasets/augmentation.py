"""The options of the augmentation, as plain data."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from tf_levelset.checks import expect, is_number, is_whole, plain_options


@plain_options
@dataclass(frozen=True)
class Augmentation:
    """Describes what is done to each training sample, in the order of the arguments.

    It is plain data: `Augmentation(**json.loads(json.dumps(asdict(a)))) == a`.

    Args:
        resize: The (height, width) that every image is first resized to.
        resize_scale: The factor by which every image is first resized, instead of
            `resize`.
        scale: The range (low, high) of a uniformly random factor on top of that. Both
            are done in one resampling: the image is interpolated once.
        crop: The (height, width) of a random crop. A smaller image is padded at the
            bottom and the right, with ImageNet's mean colour and with void labels.
        flip: Whether to mirror left and right, with probability ½.
        photometric: Whether to vary brightness, contrast, saturation and hue mildly.
            The result is clipped to [0, 255]; padding keeps its colour.

    Raises:
        ValueError: If a value is out of range, or both `resize` and `resize_scale` are
            given.

    Example:
        >>> Augmentation(scale=(0.5, 1.5), crop=(321, 321), flip=True)
    """

    resize: tuple[int, int] | None = None
    resize_scale: float | None = None
    scale: tuple[float, float] | None = None
    crop: tuple[int, int] | None = None
    flip: bool = False
    photometric: bool = False

    def __post_init__(self) -> None:
        for field in fields(self):  # JSON has lists instead of tuples
            value = getattr(self, field.name)
            if isinstance(value, list):
                object.__setattr__(self, field.name, tuple(value))
        both = (self.resize, self.resize_scale)
        expect(None in both, "one of `resize` and `resize_scale`", both)
        for name in ("resize", "crop"):
            size = getattr(self, name)
            expected = f"`{name}` to be (height, width), integers of at least 1"
            expect(size is None or is_size(size), expected, size)
        factor = self.resize_scale
        holds = factor is None or _is_factor(factor)
        expect(holds, "`resize_scale` to be above 0", factor)
        holds = self.scale is None or _is_range(self.scale)
        expect(holds, "`scale` to be (low, high) with 0 < low <= high", self.scale)


def output_size(
    augmentation: Augmentation, image_size: tuple[int, int] | None = None
) -> tuple[int, int] | None:
    """Returns the size that all augmented images have.

    Args:
        augmentation: The augmentation of the images.
        image_size: Their common (height, width) before, or None where they differ.

    Returns:
        The (height, width) after the augmentation, or None where the sizes differ.
    """
    if augmentation.crop is not None:
        return augmentation.crop
    if augmentation.scale is not None:
        return None
    if augmentation.resize is not None or image_size is None:
        return augmentation.resize
    # In float32, as the TensorFlow graph computes it.
    factor = np.float32(augmentation.resize_scale or 1.0)
    scaled = factor * np.array(image_size, dtype=np.float32)
    height, width = np.maximum(np.rint(scaled), 1).astype(int).tolist()
    return height, width


def is_size(value: Any) -> bool:
    """Returns whether a value is a (height, width) of integers of at least 1."""
    is_pair = isinstance(value, tuple | list) and len(value) == 2
    return is_pair and all(is_whole(n) and n >= 1 for n in value)


def _is_range(value: Any) -> bool:
    is_pair = isinstance(value, tuple) and len(value) == 2
    return is_pair and all(map(_is_factor, value)) and value[0] <= value[1]


def _is_factor(value: Any) -> bool:
    return is_number(value) and 0 < value < math.inf
