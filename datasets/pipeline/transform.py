"""Augments one sample: a stateless function of (image, labels, seed).

Pixel i of a row covers [i, i + 1) and its centre lies at i + ½. Images and labels are
resized by the same rule for these centres, so that both stay aligned. Images are
interpolated; labels are only ever selected, so that no new label appears.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tf_levelset.checks import expect
from tf_levelset.constants import IGNORE_CLASS, IMAGENET_MEAN_RGB
from tf_levelset.datasets.augmentation import Augmentation
from tf_levelset.datasets.pipeline.window import (
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


def augment(
    image: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, augmentation: Augmentation
) -> tuple[tf.Tensor, tf.Tensor]:
    """Applies an augmentation to one sample.

    Args:
        image: uint8 (H, W, 3), RGB.
        labels: (H, W), an integer dtype, void being 255.
        seed: int32 or int64 (2,). The same seed gives the same result.
        augmentation: The augmentation to apply.

    Returns:
        The image, float32 (h, w, 3) in [0, 255], and the labels, (h, w) of their own
        dtype. Resized images are rounded to integers, each within 1 of the exact value.
        No label appears that was not there before, except void.

    Raises:
        ValueError: If the image is not uint8.
    """
    image, labels, inside = augment_compactly(image, labels, seed, augmentation)
    return to_float(image[tf.newaxis], inside[tf.newaxis])[0], labels


def augment_compactly(
    image: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, augmentation: Augmentation
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Does all of `augment` except what `to_float` does for a whole batch.

    Stacking uint8 images into batches moves a quarter of the bytes of float32 ones.

    Args and errors are those of `augment`.

    Returns:
        The image (h, w, 3), float32 if the augmentation is photometric and uint8
        otherwise; the labels (h, w); and the int32 (2,) height and width of the part
        that is not padding.
    """
    expect(image.dtype == tf.uint8, "a uint8 image", image.dtype.name)
    size, start, window, flip, color_seed = sample_window(
        tf.shape(labels), seed, augmentation
    )
    # Padding follows the jitter and keeps the colour that models subtract.
    crop = None if augmentation.photometric else augmentation.crop
    image, labels = _cut_out(image, labels, size, start, window, flip, crop or (1, 1))
    if augmentation.photometric:
        image = _jittered(tf.cast(image, tf.float32), color_seed)
        if augmentation.crop is not None:
            image, labels = _padded(image, labels, augmentation.crop)
    return image, labels, window


def sample_window(
    size: tf.Tensor, seed: tf.Tensor, augmentation: Augmentation
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Draws where a sample is cut out, from the image's size alone.

    Args:
        size: int32 (2,), the image's height and width.
        seed: As for `augment`.
        augmentation: As for `augment`.

    Returns:
        The size that the whole image is resized to, the first row and column of the
        window in the resized image, and the window's height and width, all int32 (2,);
        whether it is mirrored, bool (); and the int32 (2,) seed of the jitter.
    """
    scale_seed, crop_seed, flip_seed, color_seed = tf.unstack(
        tf.random.experimental.stateless_split(seed, 4)
    )
    size = _resized_size(size, scale_seed, augmentation)
    start, window = tf.zeros_like(size), size
    if augmentation.crop is not None:
        window = tf.minimum(size, tf.constant(augmentation.crop, tf.int32))
        # 53 random bits for at most a few thousand places: practically uniform.
        uniform = tf.random.stateless_uniform([2], crop_seed, dtype=tf.float64)
        places = tf.cast(size - window + 1, tf.float64)
        start = tf.cast(tf.floor(uniform * places), tf.int32)
    flip = tf.constant(False)
    if augmentation.flip:
        flip = tf.random.stateless_uniform([], flip_seed) < 0.5
    return size, start, window, flip, color_seed


def to_float(images: tf.Tensor, insides: tf.Tensor) -> tf.Tensor:
    """Converts a batch of images from `augment_compactly` to float32.

    Args:
        images: uint8 or float32 (B, h, w, 3).
        insides: int32 (B, 2), the height and width of what is not padding.

    Returns:
        float32 (B, h, w, 3) in [0, 255]; padding has ImageNet's mean colour.
    """
    if images.dtype == tf.float32:
        return images
    floats = tf.numpy_function(as_float, [images, insides], tf.float32, stateful=False)
    return tf.ensure_shape(floats, images.shape)


def _resized_size(
    size: tf.Tensor, seed: tf.Tensor, augmentation: Augmentation
) -> tf.Tensor:
    """Returns the int32 (2,) size after `resize`, `resize_scale` and `scale`."""
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


def _cut_out(
    image: tf.Tensor,
    labels: tf.Tensor,
    size: tf.Tensor,
    start: tf.Tensor,
    window: tf.Tensor,
    flip: tf.Tensor,
    least_size: tuple[int, int],
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the padded window of the resized pair, in one call of NumPy code."""

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

    new_image, new_labels = tf.numpy_function(
        cut_out,
        [image, labels, tf.stack([size, start, window]), flip],
        [tf.uint8, labels.dtype],
        stateful=False,
    )
    return (
        tf.ensure_shape(new_image, (None, None, 3)),
        tf.ensure_shape(new_labels, (None, None)),
    )


def _padded(
    image: tf.Tensor, labels: tf.Tensor, size: tuple[int, int]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Pads a float32 image with the mean colour, and its labels with void."""
    missing = tf.maximum(tf.constant(size, tf.int32) - tf.shape(labels), 0)
    paddings = tf.stack([tf.zeros_like(missing), missing], axis=1)
    inside = tf.pad(tf.ones_like(labels, tf.bool), paddings)
    image = tf.pad(image, tf.pad(paddings, [[0, 1], [0, 0]]))
    mean = tf.constant(IMAGENET_MEAN_RGB, tf.float32)
    image = tf.where(inside[..., tf.newaxis], image, mean)
    void = tf.cast(IGNORE_CLASS, labels.dtype)
    return image, tf.pad(labels, paddings, constant_values=void)


def _jittered(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Varies brightness, contrast, saturation and hue mildly.

    Hue rotates and saturation stretches the chrominance of YIQ, which is linear in RGB
    and, unlike HSV, has no jumps. Contrast stretches around the image's mean colour.

    Args:
        image: float32 (H, W, 3), RGB in [0, 255].
        seed: int32 (2,).

    Returns:
        The image, clipped to [0, 255].
    """
    low = tf.constant([-_BRIGHTNESS, _CONTRAST[0], _SATURATION[0], -_HUE])
    high = tf.constant([_BRIGHTNESS, _CONTRAST[1], _SATURATION[1], _HUE])
    uniform = tf.random.stateless_uniform([4], seed)
    brightness, contrast, saturation, hue = tf.unstack(low + uniform * (high - low))

    image = tf.tensordot(image, _chrominance_matrix(saturation, hue), 1)
    mean = tf.reduce_mean(image, axis=(0, 1))
    image = (image - mean) * contrast + mean + brightness
    return tf.clip_by_value(image, 0.0, 255.0)


def _chrominance_matrix(saturation: tf.Tensor, hue: tf.Tensor) -> tf.Tensor:
    """Returns the (3, 3) matrix to multiply RGB rows by, from the right."""
    cosine, sine = saturation * tf.cos(hue), saturation * tf.sin(hue)
    one, zero = tf.ones_like(cosine), tf.zeros_like(cosine)
    turn = tf.stack([[one, zero, zero], [zero, cosine, -sine], [zero, sine, cosine]])
    to_yiq = tf.constant(_RGB_TO_YIQ.T, tf.float32)
    to_rgb = tf.constant(_YIQ_TO_RGB.T, tf.float32)
    return to_yiq @ tf.transpose(turn) @ to_rgb
