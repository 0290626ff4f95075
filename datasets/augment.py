"""Augmentation: small stateless functions of (image, labels, seed).

Pixel i of a row of n covers [i, i + 1), its centre at i + ½: images and labels are
resized by the same half-pixel-centre rule, so that both stay aligned. Images are
interpolated; labels are only ever picked, so that no new label appears.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import tensorflow as tf

from tf_levelset.checks import is_number, is_whole
from tf_levelset.constants import IMAGENET_MEAN_RGB
from tf_levelset.datasets.window import (
    VOID,
    Window,
    as_float,
    image_window,
    label_window,
)

# The ranges of the mild photometric jitter.
_BRIGHTNESS = 24.0  # added, of 255
_CONTRAST = (0.8, 1.2)
_SATURATION = (0.8, 1.2)
_HUE = 0.1  # radians in the plane of chrominance

_RGB_TO_YIQ = np.array(
    [
        [0.299, 0.587, 0.114],
        [0.59590059, -0.27455667, -0.32134392],
        [0.21153661, -0.52273617, 0.31119955],
    ]
)
_YIQ_TO_RGB = np.linalg.inv(_RGB_TO_YIQ)


@dataclass(frozen=True)
class Augmentation:
    """What happens to a training sample, in the order of the arguments.

    It is plain data: `Augmentation(**json.loads(json.dumps(asdict(a)))) == a`.

    Args:
        resize: The (height, width) every picture is first brought to.
        resize_scale: The factor it is first resized by; instead of `resize`.
        scale: The range (low, high) of a random factor on top of that, uniform. Both
            make one resampling: the picture is interpolated once.
        crop: The (height, width) of a random window. Where the picture is smaller, it
            is padded at the bottom and the right, with the mean colour and void labels.
        flip: Whether to mirror left and right, half of the time.
        photometric: Whether to vary brightness, contrast, saturation and hue mildly.
            The result is clipped to [0, 255]; padding keeps its colour.

    Raises:
        ValueError: If a value is out of range, or both resizes are given.
    """

    resize: tuple[int, int] | None = None
    resize_scale: float | None = None
    scale: tuple[float, float] | None = None
    crop: tuple[int, int] | None = None
    flip: bool = False
    photometric: bool = False

    def __post_init__(self) -> None:
        for field in fields(self):  # JSON gives lists for tuples
            value = getattr(self, field.name)
            if isinstance(value, list):
                object.__setattr__(self, field.name, tuple(value))
        if self.resize is not None and self.resize_scale is not None:
            raise ValueError(
                "Expected one of `resize` and `resize_scale`. "
                f"Received: {self.resize} and {self.resize_scale}"
            )
        for name, size in (("resize", self.resize), ("crop", self.crop)):
            if size is not None and not is_size(size):
                raise ValueError(
                    f"Expected `{name}` to be (height, width), integers of at least 1. "
                    f"Received: {size!r}"
                )
        if self.resize_scale is not None and not _is_factor(self.resize_scale):
            raise ValueError(
                "Expected `resize_scale` to be above 0. "
                f"Received: {self.resize_scale!r}"
            )
        if self.scale is not None and not (
            isinstance(self.scale, tuple)
            and len(self.scale) == 2
            and all(map(_is_factor, self.scale))
            and self.scale[0] <= self.scale[1]
        ):
            raise ValueError(
                "Expected `scale` to be (low, high) with 0 < low <= high. "
                f"Received: {self.scale!r}"
            )
        for name in ("flip", "photometric"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(
                    f"Expected `{name}` to be True or False. "
                    f"Received: {getattr(self, name)!r}"
                )


def output_size(
    augmentation: Augmentation, image_size: tuple[int, int] | None = None
) -> tuple[int, int] | None:
    """Returns the size of augmented pictures, or None where it is not one size.

    Args:
        augmentation: What happens to the pictures.
        image_size: Their (height, width) before, None where they differ.

    Returns:
        The (height, width) after, or None.
    """
    if augmentation.crop is not None:
        return augmentation.crop
    if augmentation.scale is not None:
        return None
    if augmentation.resize is not None or image_size is None:
        return augmentation.resize
    # In float32, as the graph computes it.
    factor = np.float32(augmentation.resize_scale or 1.0)
    scaled = factor * np.array(image_size, dtype=np.float32)
    height, width = np.maximum(np.rint(scaled), 1).astype(int).tolist()
    return height, width


def augment(
    image: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, augmentation: Augmentation
) -> tuple[tf.Tensor, tf.Tensor]:
    """Applies an augmentation to one sample.

    It does at once what `resize`, `random_crop`, `random_flip`, `random_photometric`
    and `pad` do one after the other. But resized pictures are bytes again, each within
    1 of what `resize` gives.

    Args:
        image: uint8 (H, W, 3), RGB.
        labels: (H, W), an integer dtype, void being 255.
        seed: int32 or int64 (2,): the same seed gives the same result.
        augmentation: What to do.

    Returns:
        The image, float32 (h, w, 3) in [0, 255], and the labels, (h, w) of their own
        dtype, without any label that was not there before, but void.

    Raises:
        ValueError: If the image is not uint8.
    """
    image, labels, inside = augment_compactly(image, labels, seed, augmentation)
    return to_float(image[tf.newaxis], inside[tf.newaxis])[0], labels


def augment_compactly(
    image: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, augmentation: Augmentation
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Does what `augment` does but for what `to_float` then does to a whole batch.

    Bytes are a quarter of what there would be to stack in batches.

    Args:
        image: As for `augment`.
        labels: As for `augment`.
        seed: As for `augment`.
        augmentation: What to do.

    Returns:
        The image (h, w, 3), float32 if the augmentation is photometric, uint8
        otherwise; the labels (h, w); and the int32 (2,) height and width that is not
        padding.

    Raises:
        ValueError: If the image is not uint8.
    """
    if image.dtype != tf.uint8:
        raise ValueError(f"Expected a uint8 image. Received: {image.dtype.name}")
    size, start, window, flip, color_seed = sample_window(
        tf.shape(labels), seed, augmentation
    )
    # Padding comes after the jitter: it keeps the colour that models turn into zero.
    crop = None if augmentation.photometric else augmentation.crop
    least_size = crop or (1, 1)
    image, labels = _cut_out(image, labels, size, start, window, flip, least_size)
    if augmentation.photometric:
        image = tf.cast(image, tf.float32)
        image, labels = random_photometric(image, labels, color_seed)
        if augmentation.crop is not None:
            image, labels = pad(image, labels, augmentation.crop)
    return image, labels, window


def sample_window(
    size: tf.Tensor, seed: tf.Tensor, augmentation: Augmentation
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Draws where a sample is cut out, without looking at the picture.

    Args:
        size: int32 (2,), the picture's height and width.
        seed: As for `augment`.
        augmentation: As for `augment`.

    Returns:
        The size that the whole picture is resized to, the window's first row and
        column in that and its height and width, all int32 (2,); whether it is mirrored,
        bool (); and the int32 (2,) seed of what is done with its colours.
    """
    scale_seed, crop_seed, flip_seed, color_seed = tf.unstack(
        tf.random.experimental.stateless_split(seed, 4)
    )
    size = _resized_size(size, scale_seed, augmentation)
    start, window = tf.zeros_like(size), size
    if augmentation.crop is not None:
        start, window = _random_place(size, crop_seed, augmentation.crop)
    flip = _coin(flip_seed) if augmentation.flip else tf.constant(False)
    return size, start, window, flip, color_seed


def to_float(images: tf.Tensor, insides: tf.Tensor) -> tf.Tensor:
    """Finishes a batch of `augment_compactly`.

    Args:
        images: uint8 or float32 (B, h, w, 3).
        insides: int32 (B, 2).

    Returns:
        float32 (B, h, w, 3) in [0, 255]; what is padding has the mean colour.
    """
    if images.dtype == tf.float32:
        return images
    floats = tf.numpy_function(as_float, [images, insides], tf.float32, stateful=False)
    return tf.ensure_shape(floats, images.shape)


def resize(
    image: tf.Tensor, labels: tf.Tensor, size: tf.Tensor | tuple[int, int]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Resizes the image by interpolation and its labels by picking the nearest.

    Args:
        image: (H, W, 3), any numeric dtype.
        labels: (H, W), any dtype.
        size: The new (height, width).

    Returns:
        The float32 image and the labels, of that size.
    """
    return resize_image(image, size), resize_labels(labels, size)


def resize_image(image: tf.Tensor, size: tf.Tensor | tuple[int, int]) -> tf.Tensor:
    """Resizes an image bilinearly, antialiased when shrinking.

    Args:
        image: (H, W, 3) in [0, 255], any numeric dtype.
        size: The new (height, width).

    Returns:
        float32 (height, width, 3) in [0, 255].
    """
    image = tf.image.resize(image, size, method="bilinear", antialias=True)
    return tf.clip_by_value(image, 0.0, 255.0)  # the weights' sum is 1 but for rounding


def resize_labels(labels: tf.Tensor, size: tf.Tensor | tuple[int, int]) -> tf.Tensor:
    """Resizes labels: each new pixel takes the label that its centre falls on.

    Args:
        labels: (H, W), any dtype.
        size: The new (height, width).

    Returns:
        (height, width), of the dtype of `labels`.
    """
    old, new = tf.shape(labels), tf.convert_to_tensor(size, tf.int32)
    rows, columns = (_nearest(new[axis], old[axis]) for axis in (0, 1))
    return tf.gather(tf.gather(labels, rows), columns, axis=1)


def random_crop(
    image: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, size: tuple[int, int]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Cuts a window at a random place, each place equally likely.

    Args:
        image: (H, W, 3).
        labels: (H, W).
        seed: int32 or int64 (2,).
        size: The window's (height, width).

    Returns:
        Image and labels of that window: (min(H, height), min(W, width)).
    """
    start, window = _random_place(tf.shape(labels), seed, size)
    stop = start + window
    return (
        image[start[0] : stop[0], start[1] : stop[1]],
        labels[start[0] : stop[0], start[1] : stop[1]],
    )


def pad(
    image: tf.Tensor, labels: tf.Tensor, size: tuple[int, int]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Pads at the bottom and the right, where the picture is smaller than `size`.

    Args:
        image: float32 (H, W, 3); padded with the mean colour.
        labels: (H, W), an integer dtype; padded with void, 255.
        size: (height, width), at least.

    Returns:
        Image and labels of shape (max(H, height), max(W, width)).
    """
    missing = tf.maximum(tf.constant(size, tf.int32) - tf.shape(labels), 0)
    paddings = tf.stack([tf.zeros_like(missing), missing], axis=1)
    mean = tf.constant(IMAGENET_MEAN_RGB, tf.float32)
    inside = tf.pad(tf.ones_like(labels, tf.bool), paddings)
    image = tf.pad(image, tf.pad(paddings, [[0, 1], [0, 0]]))
    image = tf.where(inside[..., tf.newaxis], image, mean)
    void = tf.cast(VOID, labels.dtype)
    return image, tf.pad(labels, paddings, constant_values=void)


def random_flip(
    image: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Mirrors image and labels left and right, half of the time.

    Args:
        image: (H, W, 3).
        labels: (H, W).
        seed: int32 or int64 (2,).

    Returns:
        Image and labels, of the same shapes.
    """
    return tf.cond(
        _coin(seed),
        lambda: (image[:, ::-1], labels[:, ::-1]),
        lambda: (image, labels),
    )


def random_photometric(
    image: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Varies brightness, contrast, saturation and hue mildly; labels stay.

    Hue turns and saturation stretches the chrominance of YIQ, which is linear in RGB:
    unlike HSV, it has no jumps. Contrast stretches around the image's mean colour.

    Args:
        image: float32 (H, W, 3), RGB in [0, 255].
        labels: (H, W).
        seed: int32 or int64 (2,).

    Returns:
        The image, clipped to [0, 255] so that it stays a picture, and the labels.
    """
    low = tf.constant([-_BRIGHTNESS, _CONTRAST[0], _SATURATION[0], -_HUE])
    high = tf.constant([_BRIGHTNESS, _CONTRAST[1], _SATURATION[1], _HUE])
    uniform = tf.random.stateless_uniform([4], seed)
    brightness, contrast, saturation, hue = tf.unstack(low + uniform * (high - low))

    image = tf.tensordot(image, _chrominance_matrix(saturation, hue), 1)
    mean = tf.reduce_mean(image, axis=(0, 1))
    image = (image - mean) * contrast + mean + brightness
    return tf.clip_by_value(image, 0.0, 255.0), labels


def _chrominance_matrix(saturation: tf.Tensor, hue: tf.Tensor) -> tf.Tensor:
    """Returns the (3, 3) matrix to multiply RGB rows by, from the right."""
    cosine, sine = saturation * tf.cos(hue), saturation * tf.sin(hue)
    one, zero = tf.ones_like(cosine), tf.zeros_like(cosine)
    turn = tf.stack([[one, zero, zero], [zero, cosine, -sine], [zero, sine, cosine]])
    to_yiq = tf.constant(_RGB_TO_YIQ.T, tf.float32)
    to_rgb = tf.constant(_YIQ_TO_RGB.T, tf.float32)
    return to_yiq @ tf.transpose(turn) @ to_rgb


def _cut_out(
    image: tf.Tensor,
    labels: tf.Tensor,
    size: tf.Tensor,
    start: tf.Tensor,
    window: tf.Tensor,
    flip: tf.Tensor,
    least_size: tuple[int, int],
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the padded window of the resized pair, by one call out of TensorFlow."""

    def cut_out(
        image: np.ndarray, labels: np.ndarray, places: np.ndarray, flip: np.bool_
    ) -> tuple[np.ndarray, np.ndarray]:
        size, start, shape = (tuple(place) for place in places.tolist())
        window = Window(size, start, shape, bool(flip))
        padded_size = (max(shape[0], least_size[0]), max(shape[1], least_size[1]))
        return (
            image_window(image, window, padded_size),
            label_window(labels, window, padded_size),
        )

    places = tf.stack([size, start, window])
    new_image, new_labels = tf.numpy_function(
        cut_out,
        [image, labels, places, flip],
        [tf.uint8, labels.dtype],
        stateful=False,
    )
    return (
        tf.ensure_shape(new_image, (None, None, 3)),
        tf.ensure_shape(new_labels, (None, None)),
    )


def _random_place(
    size: tf.Tensor, seed: tf.Tensor, crop: tuple[int, int]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns where a random crop starts in a picture, and its size, no larger."""
    window = tf.minimum(size, tf.constant(crop, tf.int32))
    free = size - window + 1
    # 53 random bits against at most a few thousand places: uniform for our purpose.
    uniform = tf.random.stateless_uniform([2], seed, dtype=tf.float64)
    start = tf.cast(tf.floor(uniform * tf.cast(free, tf.float64)), tf.int32)
    return start, window


def _coin(seed: tf.Tensor) -> tf.Tensor:
    return tf.random.stateless_uniform([], seed) < 0.5


def _resized_size(
    size: tf.Tensor, seed: tf.Tensor, augmentation: Augmentation
) -> tf.Tensor:
    """Returns the int32 (2,) size that `resize`, `resize_scale` and `scale` lead to."""
    if augmentation.resize is not None:
        size = tf.constant(augmentation.resize, tf.int32)
        if augmentation.scale is None:
            return size
    factor = tf.constant(augmentation.resize_scale or 1.0, tf.float32)
    if augmentation.scale is not None:
        low, high = augmentation.scale
        factor *= low + (high - low) * tf.random.stateless_uniform([], seed)
    scaled = tf.round(tf.cast(size, tf.float32) * factor)
    return tf.maximum(tf.cast(scaled, tf.int32), 1)


def _nearest(new: tf.Tensor, old: tf.Tensor) -> tf.Tensor:
    """Returns ⌊(i + ½)·old/new⌋ for i < new, in integers: no rounding can creep in."""
    return (2 * tf.range(new) + 1) * old // (2 * new)


def is_size(value: Any) -> bool:
    """Whether a value is a (height, width)."""
    is_pair = isinstance(value, tuple | list) and len(value) == 2
    return is_pair and all(is_whole(n) and n >= 1 for n in value)


def _is_factor(value: Any) -> bool:
    return is_number(value) and 0 < value < math.inf
