"""Requests of the trial `serving`: sound ones with their masks, and malformed ones."""

from __future__ import annotations

import base64
import io
import json
import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

NAME = "trial"
MODEL = f"/v1/models/{NAME}"
PREDICT = f"{MODEL}:predict"

CLASSES = 11

SIZES = {
    "small": ((48, 64), (65, 81), (31, 97), (1, 9)),
    "medium": ((129, 193), (160, 120), (240, 320)),
    "large": ((360, 480), (375, 500), (513, 513)),
    "huge": ((1024, 2048),),
}
"""Heights and widths of the images."""

MAX_BYTES, MAX_PIXELS = 2**24, 2**22
"""The bounds of the server in the trial, which are its defaults."""

UNDECIDED = 1e-3
"""If the scores of two classes differ by less, both are right. The standard deviation
of scores is 1; constants that are folded into the graph change their last digits."""


@dataclass(frozen=True)
class Sound:
    """A request that must be answered with a mask.

    Args:
        kind: How the image is sent.
        size: A name of `SIZES`.
        content_type: Of the body.
        body: What is sent.
        query: Of the address.
        masks: The mask of each net, uint8 (H, W).
        decided: Where each net has one best class, bool (H, W).
    """

    kind: str
    size: str
    content_type: str
    body: bytes
    query: str
    masks: tuple[np.ndarray, ...]
    decided: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Malformed:
    """A request that must be refused.

    Args:
        kind: What is wrong with it.
        content_type: Of the body.
        body: What is sent; a tuple of pieces is sent without its length.
        code: Of the answer.
        path: That is asked.
        method: Of HTTP.
    """

    kind: str
    content_type: str
    body: bytes | tuple[bytes, ...]
    code: int = 400
    path: str = PREDICT
    method: str = "POST"


def random_image(chance: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Returns squares of random colours, uint8 (H, W, 3)."""
    shape = (-(-height // 16), -(-width // 16), 3)
    squares = chance.integers(0, 256, shape, np.uint8)
    return squares.repeat(16, axis=0).repeat(16, axis=1)[:height, :width]


def encoded(image: np.ndarray, kind: str) -> bytes:
    """Returns the image as a file."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind)
    return stream.getvalue()


def small_net(seed: int) -> Any:
    """Returns an untrained, narrow net whose masks hold several classes."""
    import keras

    from tf_levelset.models import at_input_size, create_model

    keras.utils.set_random_seed(seed)
    at_stride = create_model(
        "deeplab_largefov", CLASSES, width=0.05, dilation=2, upsample=False
    )
    model = at_input_size(at_stride)
    # A new net scores all pixels about the same: spread its scores around 0.
    image = random_image(np.random.default_rng(0), 65, 81)
    scores = np.asarray(model(image[np.newaxis].astype(np.float32), training=False))
    mean, deviation = scores.mean((0, 1, 2)), scores.std((0, 1, 2))
    last = at_stride.get_layer("fc8")
    kernel, bias = last.get_weights()
    last.set_weights([kernel / deviation, (bias - mean) / deviation])
    return model


def sound_requests(nets: Sequence[Any], seed: int) -> list[Sound]:
    """Returns images of every size, sent in every way, with the masks of the nets."""
    from tf_levelset.datasets.files.images import decode_image

    chance = np.random.default_rng(seed)
    requests = []
    for size, shapes in SIZES.items():
        for height, width in shapes:
            image = random_image(chance, height, width)
            png, jpeg = encoded(image, "PNG"), encoded(image, "JPEG")
            of_jpeg = decode_image(jpeg).numpy()
            query = f"?height={height}&width={width}"
            exact, lossy = (
                tuple(zip(*(direct(net, seen) for net in nets), strict=True))
                for seen in (image, of_jpeg)
            )
            ways = [
                ("pixels", "application/octet-stream", image.tobytes(), query, exact),
                ("png", "image/png", png, "", exact),
                ("jpeg", "image/jpeg", jpeg, "", lossy),
                ("json", "application/json", tf_serving_json(jpeg), "", lossy),
            ]
            requests += [
                Sound(kind, size, content_type, body, query, *expected)
                for kind, content_type, body, query, expected in ways
            ]
    return requests


def direct(net: Any, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mask of a net that is called directly, and where it is decided."""
    batch = image[np.newaxis].astype(np.float32)
    scores = np.asarray(net(batch, training=False))[0]
    best = np.sort(scores, axis=-1)
    return (
        scores.argmax(-1).astype(np.uint8),
        best[..., -1] - best[..., -2] > UNDECIDED,
    )


def tf_serving_json(*files: bytes) -> bytes:
    """Returns a request to `encoded` in the form of TensorFlow Serving."""
    return json_of(encoded=[{"b64": base64.b64encode(f).decode()} for f in files])


def malformed_requests() -> list[Malformed]:
    """Returns every kind of request that must be refused."""
    chance = np.random.default_rng(0)
    image = random_image(chance, 120, 160)
    png, jpeg = encoded(image, "PNG"), encoded(image, "JPEG")
    paths = [b"/etc/passwd", b"file:///etc/passwd"]
    other_size = encoded(image[:50], "PNG")
    images = [
        ("truncated PNG", "png", png[: len(png) // 2], 400),
        ("truncated JPEG", "jpeg", jpeg[: len(jpeg) // 2], 400),
        ("header of a JPEG alone", "jpeg", jpeg[:20], 400),
        ("damaged PNG", "png", png[:60] + b"\0" * 9 + png[69:], 400),
        ("PNG, header of 10¹⁰ pixels", "png", huge_png(png), 413),
        ("JPEG, header of 4·10⁹ pixels", "jpeg", huge_jpeg(jpeg), 413),
        ("PNG of too many pixels", "png", large_png(), 413),
        ("PNG, another size before its header", "png", two_sizes(png), 400),
        ("JPEG of 65 scans", "jpeg", many_scans(jpeg), 400),
        ("GIF", "png", encoded(image, "GIF"), 400),
        ("BMP", "jpeg", encoded(image, "BMP"), 400),
        ("text", "png", b"no image at all, but some text", 400),
        ("random bytes", "jpeg", chance.bytes(5000), 400),
        ("nothing", "png", b"", 400),
        *(("path as a file", "png", path, 400) for path in paths),
        ("too many bytes", "png", bytes(MAX_BYTES + 1), 413),
    ]
    of_json = [
        *(("path in base64", tf_serving_json(path), 400) for path in paths),
        *(("path in JSON", json_of(encoded=[p.decode()]), 400) for p in paths),
        ("JSON cut off", b'{"signature_name": "enc', 400),
        ("JSON nested deeply", b"[" * 100_000, 400),
        ("JSON of a million lists", b"[" + b"[]," * 1_000_000 + b"[]]", 400),
        ("JSON of a number", b"7", 400),
        ("JSON without inputs", b"{}", 400),
        ("JSON, foreign inputs", json_of(x=[1]), 400),
        ("JSON, no files", json_of(encoded=[]), 400),
        ("JSON, no base64", json_of(encoded=[{"b64": "!"}]), 400),
        ("JSON, files of two sizes", tf_serving_json(png, other_size), 400),
        ("JSON, too many files", tf_serving_json(*[png] * 17), 413),
    ]
    pieces = (bytes(2**20),) * 17
    return [
        *(Malformed(k, f"image/{type}", body, code) for k, type, body, code in images),
        *(Malformed(k, "application/json", body, code) for k, body, code in of_json),
        *pixel_requests(image),
        Malformed("too many bytes, no length", "image/png", pieces, 413),
        Malformed("foreign content type", "text/plain", png, 415),
        Malformed("no content type", "", png, 415),
        Malformed("unknown model", "image/png", png, 404, "/v1/models/other:predict"),
        Malformed("path as the model", "image/png", png, 404, "/../../etc/passwd"),
        Malformed("other method", "image/png", b"", 405, method="GET"),
    ]


def json_of(**inputs: Any) -> bytes:
    """Returns a request to the endpoint `encoded` with these inputs."""
    return json.dumps({"signature_name": "encoded", "inputs": inputs}).encode()


def pixel_requests(image: np.ndarray) -> list[Malformed]:
    """Returns pixels whose size is wrong, missing or no size."""
    body = image.tobytes()
    queries = {
        "pixels, a byte short": ("?height=120&width=160", body[:-1], 400),
        "pixels of another size": ("?height=121&width=160", body, 400),
        "pixels without a size": ("", body, 400),
        "pixels, negative size": ("?height=-120&width=-160", body, 400),
        "pixels, no number": ("?height=1e9&width=nan", body, 400),
        "pixels, no height": ("?height=0&width=160", b"", 400),
        "pixels, very thin": ("?height=1&width=130000", bytes(390_000), 413),
        "pixels, enormous size": ("?height=99999999&width=99999999", body, 413),
    }
    return [
        Malformed(kind, "application/octet-stream", content, code, PREDICT + query)
        for kind, (query, content, code) in queries.items()
    ]


def huge_png(png: bytes) -> bytes:
    """Returns a PNG whose header, checksum included, claims 100,000² pixels."""
    header = b"IHDR" + struct.pack(">II", 100_000, 100_000) + png[24:29]
    return png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:]


def two_sizes(png: bytes) -> bytes:
    """Returns a PNG with an unknown chunk before its header that claims 1 × 1."""
    other = b"abCd" + struct.pack(">II", 1, 1) + png[24:29]
    whole = struct.pack(">I", 13) + other + struct.pack(">I", zlib.crc32(other))
    return png[:8] + whole + png[8:]


def many_scans(jpeg: bytes) -> bytes:
    """Returns a JPEG whose scan comes 65 times."""
    place = jpeg.index(b"\xff\xda")
    return jpeg[:place] + jpeg[place:-2] * 65 + jpeg[-2:]


def huge_jpeg(jpeg: bytes) -> bytes:
    """Returns a JPEG whose header claims 65,500² pixels."""
    place = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:place] + struct.pack(">HH", 65_500, 65_500) + jpeg[place + 4 :]


def large_png() -> bytes:
    """Returns a whole PNG of few bytes that has one row more than is allowed."""
    side = math.isqrt(MAX_PIXELS)
    return encoded(np.zeros((side + 1, side, 3), np.uint8), "PNG")
