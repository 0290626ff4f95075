"""Requests for masks: their images, whose size is bounded before they are decoded."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tf_levelset.datasets.files.images import PNG_HEADER, PNG_START

JSON, PIXELS = "application/json", "application/octet-stream"
FILES = ("image/jpeg", "image/png")

SCANS = 64
"""Largest number of scans in a JPEG file: decoding each scan takes as long as decoding
a whole baseline file. Progressive files have about ten."""

SIDE = 65_535
"""Largest height and width, as in JPEG."""

LEAST_SIDE = 33
"""Shorter sides count as this many pixels, since networks pad small images."""


@dataclass(frozen=True)
class Limits:
    """Upper bounds of a request.

    Args:
        num_bytes: Bytes of the body.
        pixels: Pixels of all its images; sides below `LEAST_SIDE` count as that.
        files: Number of images.
        seconds: Time in which the body must arrive.
    """

    num_bytes: int = 2**24
    pixels: int = 2**22
    files: int = 16
    seconds: float = 30.0


class RefusedError(ValueError):
    """A request that is refused, with an HTTP status code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def images_of(
    body: bytes, content_type: str, query: Mapping[str, str], limits: Limits
) -> np.ndarray | list[bytes]:
    """Returns the images of a request without decoding them.

    Args:
        body: The request's body.
        content_type: Its content type, without parameters.
        query: The query parameters of its URL.
        limits: The bounds.

    Returns:
        Pixels, uint8 (1, H, W, 3), or JPEG and PNG files.

    Raises:
        RefusedError: If the request is malformed or exceeds a bound.
    """
    if content_type == PIXELS:
        return _pixels(body, query, limits)
    if content_type == JSON:
        files = _json_files(body)
    elif content_type in FILES:
        files = [body]
    else:
        types = ", ".join((*FILES, PIXELS, JSON))
        raise RefusedError(
            415, f"Expected a content type of {types}. Received: {content_type!r:.100}"
        )
    if len(files) > limits.files:
        raise RefusedError(
            413, f"Expected at most {limits.files} files. Received: {len(files)}"
        )
    _bound([image_size(content) for content in files], limits)
    return files


def image_size(content: bytes) -> tuple[int, int]:
    """Reads height and width from the header of a JPEG or PNG file.

    Raises:
        RefusedError: If it is neither, or a JPEG file of too many scans.
    """
    # The header must be the first chunk: another chunk before it could feign a size.
    if content.startswith(PNG_START + PNG_HEADER) and len(content) >= 24:
        width, height = (int.from_bytes(content[i : i + 4], "big") for i in (16, 20))
        return height, width
    if content.startswith(b"\xff\xd8\xff"):
        scans = content.count(b"\xff\xda")
        if scans > SCANS:
            raise RefusedError(
                400, f"Expected a JPEG file of at most {SCANS} scans. Received: {scans}"
            )
        try:
            height, width, _ = tf.io.extract_jpeg_shape(content).numpy().tolist()
        except tf.errors.InvalidArgumentError as error:
            raise RefusedError(
                400, "Expected a JPEG file. Received: one without a complete header"
            ) from error
        return height, width
    start = f"bytes that start with {content[:16]!r}" if content else "no bytes"
    raise RefusedError(400, f"Expected a JPEG or PNG file. Received: {start}")


def _bound(sizes: Sequence[tuple[int, int]], limits: Limits) -> None:
    """Raises if images of these heights and widths are too large together."""
    longest = max(max(size) for size in sizes)
    if longest > SIDE:
        raise RefusedError(
            413, f"Expected sides of at most {SIDE} pixels. Received: {longest}"
        )
    pixels = sum(max(h, LEAST_SIDE) * max(w, LEAST_SIDE) for h, w in sizes)
    if pixels > limits.pixels:
        raise RefusedError(
            413,
            f"Expected at most {limits.pixels} pixels in a request. Received: {pixels}",
        )


def _pixels(body: bytes, query: Mapping[str, str], limits: Limits) -> np.ndarray:
    """Returns one image whose body is its RGB values, row by row."""
    sizes = [query.get(name, "") for name in ("height", "width")]
    # At most nine digits: converting millions of digits would take minutes.
    if not all(re.fullmatch(r"[1-9][0-9]{0,8}", size, re.ASCII) for size in sizes):
        raise RefusedError(
            400,
            "Expected ?height=…&width=… with positive integers. Received: "
            f"{sizes[0]!r:.20} and {sizes[1]!r:.20}",
        )
    height, width = map(int, sizes)
    _bound([(height, width)], limits)
    if len(body) != height * width * 3:
        raise RefusedError(
            400,
            f"Expected {height}·{width}·3 bytes, uint8 RGB. Received: {len(body)}",
        )
    return np.frombuffer(body, np.uint8).reshape(1, height, width, 3)


def _json_files(body: bytes) -> list[bytes]:
    """Returns the files of TensorFlow Serving's request to the endpoint `encoded`."""
    try:
        request = json.loads(body)
        if request["signature_name"] != "encoded":
            raise ValueError(f"signature_name {request['signature_name']!r:.50}")
        values = request["inputs"]["encoded"]
        if not isinstance(values, list) or not values:
            raise ValueError(f"encoded of type {type(values).__name__}")
        return [base64.b64decode(value["b64"], validate=True) for value in values]
    # Errors of JSON and base64 are ValueErrors; deep nesting is a RecursionError.
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise RefusedError(
            400,
            'Expected {"signature_name": "encoded", "inputs": {"encoded": '
            '[{"b64": FILE}, …]}} with files in base64. Received: '
            f"{type(error).__name__}, {error!s:.100}",
        ) from error
