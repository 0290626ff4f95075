"""Decoding of image files, turned upright and bounded in size."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps, ImageSequence

from tf_levelset.checks import expect
from tf_levelset.datasets.files.faults import message_of

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".bmp"),
    *(".gif", ".tif", ".tiff", ".webp"),
)
"""The suffixes of the files that `read_image` reads."""

MAX_PIXELS = 2**29 // 3
"""The largest image, in pixels: the limit of Pillow, and of TensorFlow for a JPEG.
Without it a PNG file of a few hundred kilobytes could fill any memory."""

MIN_BRIGHTEST = 2**14
"""What the brightest value of a 16-bit image must reach, unless it is 0: cameras and
scanners store 10, 12 or 14 bits in 16, and dividing these by 256 would darken them."""

PNG_START, PNG_HEADER = b"\x89PNG\r\n\x1a\n", b"\0\0\0\rIHDR"
_JPEG_START = b"\xff\xd8\xff"

_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP")
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
_DEEP = (
    f"an image of 16 bits to have a value of {MIN_BRIGHTEST} or more, and one of 10, "
    "12 or 14 bits to be converted to 8 bits"
)
_BITS_PER_SAMPLE, _SUBFILE_TYPE, _ORIENTATION = 258, 254, 274  # tags of TIFF and EXIF


def read_image(path: tf.Tensor) -> tf.Tensor:
    """Reads an image file, in a graph or eagerly.

    Args:
        path: The path, a scalar string, of a JPEG, PNG, BMP, GIF, TIFF or WebP file.

    Returns:
        uint8 (H, W, 3), RGB, turned upright as its EXIF orientation says. Values of 16
        bits are divided by 256 and rounded down.

    Raises:
        tf.errors.InvalidArgumentError: For any other content, an animation, several
            pages, a damaged file, an image of more than `MAX_PIXELS` pixels, or one of
            16 bits whose brightest value is positive and below `MIN_BRIGHTEST`. Eagerly
            a `ValueError` for files that are neither JPEG nor PNG.
    """
    content = tf.io.read_file(path)

    def by_pillow() -> tf.Tensor:
        # Not stateful, for the reason that `paired_files` gives.
        return tf.numpy_function(_read_by_pillow, [path], tf.uint8, stateful=False)

    # TensorFlow decodes these without Python's lock.
    is_common = _starts(content, _JPEG_START) | _starts(content, PNG_START)
    image = tf.cond(is_common, lambda: decode_image(content), by_pillow)
    return tf.ensure_shape(image, (None, None, 3))


def decode_image(content: tf.Tensor) -> tf.Tensor:
    """Decodes an image with TensorFlow alone, in a graph or eagerly.

    Args:
        content: The content of a JPEG or PNG file, or of a BMP file of 24 bits a pixel,
            a scalar string.

    Returns:
        As `read_image`.

    Raises:
        tf.errors.InvalidArgumentError: As `read_image`.
    """
    # Padded, since a file may be shorter.
    start = tf.strings.join([tf.strings.substr(content, 0, 34), "\0" * 34])
    is_png = _starts(content, PNG_START)
    # A chunk before the header could state another size than the decoded one.
    has_header = tf.strings.substr(start, 8, 8) == PNG_HEADER
    size = tf.strings.substr(start, 16, 8)
    size = tf.io.decode_raw(size, tf.int32, little_endian=False)
    size = tf.cast(tf.bitcast(size, tf.uint32), tf.int64)
    pixels = tf.where(is_png, tf.reduce_prod(size), 0)
    # TensorFlow would decode all frames of an animation to return the first, and take
    # the indices of a BMP file with a palette for grey values. It limits the size of a
    # JPEG itself, and other BMP files are as large as their images.
    is_indexed = _starts(content, b"BM") & (
        tf.strings.substr(start, 28, 2) == b"\x08\0"
    )
    limit = f"Expected an image of at most {MAX_PIXELS} pixels. Received:"
    formats = "Expected a JPEG, PNG or BMP file. Received:"
    checks = [
        *_check(pixels <= MAX_PIXELS, limit, pixels),
        *_check(~_starts(content, b"GIF"), formats, tf.constant("a GIF file")),
        *_check(~is_indexed, formats, tf.constant("a BMP file with a palette")),
        *_check(~is_png | has_header, formats, tf.constant("a PNG without its header")),
    ]
    with tf.control_dependencies(checks):
        content = tf.identity(content)
    is_deep = is_png & (tf.strings.substr(start, 24, 1) == b"\x10")
    image = tf.cond(is_deep, lambda: _deep_png(content), lambda: _shallow(content))
    mark = tf.where(is_png, b"eXIf", b"Exif\0\0")
    # A part before the mark of EXIF data, and one behind it if it occurs.
    parts = tf.raw_ops.StringSplitV2(input=[content], sep=mark, maxsplit=1).values
    has_exif = tf.size(parts) > 1
    image = tf.cond(has_exif, lambda: _upright(image, parts[1]), lambda: image)
    return tf.ensure_shape(image, (None, None, 3))


def _shallow(content: tf.Tensor) -> tf.Tensor:
    return tf.io.decode_image(content, channels=3, expand_animations=False)


def _deep_png(content: tf.Tensor) -> tf.Tensor:
    """Decodes a PNG file of 16 bits a channel."""
    values = tf.cast(tf.io.decode_png(content, 3, tf.uint16), tf.int32)
    brightest = tf.reduce_max(values)
    is_known = (brightest == 0) | (brightest >= MIN_BRIGHTEST)
    received = f"Expected {_DEEP}. Received:"
    with tf.control_dependencies(_check(is_known, received, brightest)):
        return tf.cast(values // 256, tf.uint8)


def _starts(content: tf.Tensor, start: bytes) -> tf.Tensor:
    return tf.strings.substr(content, 0, len(start)) == start


# --- Orientation ---


def _upright(image: tf.Tensor, exif: tf.Tensor) -> tf.Tensor:
    """Turns an image (H, W, 3) as its EXIF data, a scalar string, say."""
    orientation = _orientation(exif)
    image = tf.transpose(image, tf.where(orientation > 4, [1, 0, 2], [0, 1, 2]))
    # Of 1 to 4, and again of 5 to 8, the first mirrors nothing, the second the columns,
    # the third both, and the fourth the rows.
    mirrored = (orientation - 1) % 4
    rows = tf.where(mirrored >= 2, -1, 1)
    columns = tf.where((mirrored == 1) | (mirrored == 2), -1, 1)
    return image[::rows, ::columns]


def _orientation(exif: tf.Tensor) -> tf.Tensor:
    """Returns the orientation in EXIF data, 1 to 8.

    The data are a TIFF file, here in units of 2 bytes: a byte order; 42; the place of a
    directory (2 units); in it the number of entries, and each entry's tag, type, count
    (2 units) and value (2 units).
    """
    little, big = (
        tf.io.decode_raw(exif, tf.uint16, little_endian=order, fixed_length=2**17)
        for order in (True, False)
    )
    is_little = _starts(exif, b"II")
    units = tf.cast(tf.where(is_little, little, big), tf.int32)
    place = tf.where(is_little, units[2], units[3]) // 2
    end = place + 1 + 6 * tf.minimum(units[place], 1000)
    entries = tf.reshape(units[place + 1 : end], (-1, 6))
    is_sought = entries[:, 0] == _ORIENTATION
    found = tf.reduce_max(tf.where(is_sought, entries[:, 4], 0))
    return tf.where((found >= 1) & (found <= 8), found, 1)


# --- Pillow ---


@contextlib.contextmanager
def open_single(path: str, formats: tuple[str, ...]) -> Iterator[Image.Image]:
    """Opens a file that holds one image.

    Args:
        path: The file.
        formats: The accepted formats, by Pillow's names. By default Pillow would
            recognise a file by its first bytes, whatever its suffix, and run another
            program for PostScript.

    Raises:
        Exception: For a damaged file, of whatever type Pillow raises.
        ValueError: For an animation or several pages.
    """
    with Image.open(path, formats=formats) as image:
        others = f"an animation or several pages in {path}"
        expect(not _has_others(image), "a file of one image", others)
        yield image


def _has_others(image: Image.Image) -> bool:
    """Returns whether a file holds more than an image and smaller copies of it."""
    if image.format != "TIFF":
        return getattr(image, "is_animated", False)
    pages = islice(ImageSequence.Iterator(image), 1, None)
    others = any(not page.tag_v2.get(_SUBFILE_TYPE, 0) & 1 for page in pages)
    image.seek(0)
    return others


def as_rgb(image: Image.Image) -> np.ndarray:
    """Returns the colours of an image, uint8 (H, W, 3), whatever their opacity."""
    # Pillow would warn that it drops the opacity of a palette's colours.
    image.info.pop("transparency", None)
    return np.array(image.convert("RGB"))


def _read_by_pillow(path: bytes | np.ndarray) -> np.ndarray:
    """Reads an image file as `read_image` does."""
    # Eagerly, TensorFlow passes an array without axes.
    name = os.fsdecode(np.asarray(path).item())
    try:
        with open_single(name, _FORMATS) as image:
            bits = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (8,))
            return _pixels(ImageOps.exif_transpose(image), max(bits))
    # Pillow raises errors of many types for damaged files.
    except Exception as error:
        raise ValueError(f"{message_of(error, name)} in {name}") from error


def _pixels(image: Image.Image, bits: int) -> np.ndarray:
    """Returns uint8 (H, W, 3) of an image whose file has so many bits a channel."""
    if image.mode.startswith("I;16"):
        values = np.array(image)
        brightest = int(values.max())
        pixels = np.repeat((values >> 8).astype(np.uint8)[..., np.newaxis], 3, axis=2)
    else:
        expect(
            image.mode in _MODES, "grey values or colours of 8 or 16 bits", image.mode
        )
        # Pillow has divided colours of 16 bits by 256 already.
        pixels = as_rgb(image)
        brightest = 256 * int(pixels.max()) + 255
    is_known = bits <= 8 or brightest == 0 or brightest >= MIN_BRIGHTEST
    expect(is_known, _DEEP, brightest)
    return pixels


# --- Sizes ---


def common_size(paths: Iterable[str]) -> tuple[int, int] | None:
    """Returns the (height, width) that all upright images share, or None.

    Only the headers of JPEG and PNG files are read.
    """
    common: tuple[int, int] | None = None
    for path in paths:
        with Image.open(path, formats=_FORMATS) as image:
            size = _upright_size(image, path)
        if common is not None and size != common:
            return None
        common = size
    return common


def _upright_size(image: Image.Image, path: str) -> tuple[int, int]:
    if image.format not in ("JPEG", "MPO", "PNG"):
        image = ImageOps.exif_transpose(image)
        return image.height, image.width
    exif = Image.Exif()
    is_png = image.format == "PNG"
    # `Image.getexif` would decode a PNG file to see what follows its pixels.
    exif.load(_exif_chunk(path) if is_png else image.info.get("exif", b""))
    is_turned = exif.get(_ORIENTATION) in (5, 6, 7, 8)
    return image.size if is_turned else (image.height, image.width)


def _exif_chunk(path: str) -> bytes:
    """Returns the EXIF data of a PNG file."""
    with open(path, "rb", buffering=0) as stream:
        stream.seek(len(PNG_START))
        while len(header := stream.read(8)) == 8:
            length, kind = struct.unpack(">I4s", header)
            if kind == b"eXIf":
                return stream.read(length)
            stream.seek(length + 4, os.SEEK_CUR)
    return b""


def _check(holds: tf.Tensor, expected: str, received: tf.Tensor) -> list[tf.Operation]:
    """Raises eagerly, or returns the assertion of a graph."""
    if not tf.executing_eagerly():
        return [tf.debugging.Assert(holds, [expected, received])]
    if not holds:
        text = received.numpy()
        text = text.decode() if isinstance(text, bytes) else text
        raise tf.errors.InvalidArgumentError(None, None, f"{expected} {text}")
    return []
