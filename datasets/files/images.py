"""Decoding of image files, safe against those that expand beyond all memory."""

from __future__ import annotations

from collections.abc import Iterable

import tensorflow as tf
from PIL import Image

MAX_PIXELS = 2**29 // 3
"""The largest image, in pixels: the limit of Pillow, and of TensorFlow for a JPEG.
Without it a PNG file of a few hundred kilobytes could fill any memory."""

PNG_START, PNG_HEADER = b"\x89PNG\r\n\x1a\n", b"\0\0\0\rIHDR"

_FORMATS = ("JPEG", "PNG", "BMP")


def read_image(path: tf.Tensor) -> tf.Tensor:
    """Reads the image file at a path, a scalar string, as `decode_image` does."""
    return decode_image(tf.io.read_file(path))


def decode_image(content: tf.Tensor) -> tf.Tensor:
    """Decodes an image, in a graph or eagerly.

    Args:
        content: The content of a JPEG, PNG or BMP file, a scalar string.

    Returns:
        uint8 (H, W, 3), RGB.

    Raises:
        tf.errors.InvalidArgumentError: For any other content, an animation, a damaged
            file, or an image of more than `MAX_PIXELS` pixels.
    """
    # Padded, since a file may be shorter.
    start = tf.strings.join([tf.strings.substr(content, 0, 24), "\0" * 24])
    is_png = tf.strings.substr(start, 0, 8) == PNG_START
    # A chunk before the header could state another size than the decoded one.
    has_header = tf.strings.substr(start, 8, 8) == PNG_HEADER
    size = tf.strings.substr(start, 16, 8)
    size = tf.io.decode_raw(size, tf.int32, little_endian=False)
    size = tf.cast(tf.bitcast(size, tf.uint32), tf.int64)
    pixels = tf.where(is_png, tf.reduce_prod(size), 0)
    # TensorFlow would decode all frames of an animation to return the first. It limits
    # the size of a JPEG itself, and a BMP file is as large as its image.
    is_still = tf.strings.substr(start, 0, 3) != b"GIF"
    limit = f"Expected an image of at most {MAX_PIXELS} pixels. Received:"
    formats = "Expected a JPEG, PNG or BMP file. Received:"
    checks = [
        *_check(pixels <= MAX_PIXELS, limit, pixels),
        *_check(is_still, formats, tf.constant("a GIF file")),
        *_check(~is_png | has_header, formats, tf.constant("a PNG without its header")),
    ]
    with tf.control_dependencies(checks):
        content = tf.identity(content)
    image = tf.io.decode_image(content, channels=3, expand_animations=False)
    return tf.ensure_shape(image, (None, None, 3))


def common_size(paths: Iterable[str]) -> tuple[int, int] | None:
    """Returns the (height, width) that all images share, or None; reads headers."""
    common: tuple[int, int] | None = None
    for path in paths:
        with Image.open(path, formats=_FORMATS) as image:
            size = (image.height, image.width)
        if common is not None and size != common:
            return None
        common = size
    return common


def _check(holds: tf.Tensor, expected: str, received: tf.Tensor) -> list[tf.Operation]:
    """Raises eagerly, or returns the assertion of a graph."""
    if not tf.executing_eagerly():
        return [tf.debugging.Assert(holds, [expected, received])]
    if not holds:
        text = received.numpy()
        text = text.decode() if isinstance(text, bytes) else text
        raise tf.errors.InvalidArgumentError(None, None, f"{expected} {text}")
    return []
