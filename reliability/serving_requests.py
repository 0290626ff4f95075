"""What the trial of serving asks for: small nets' masks, and what is malformed."""

from __future__ import annotations

import base64
import io
import json
import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
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
"""Heights and widths of the pictures that are asked about."""

MAX_BYTES, MAX_PIXELS = 2**24, 2**22
"""The server's bounds in the trial, which are its defaults."""

UNDECIDED = 1e-3
"""Two classes whose scores differ by less are both right. Scores deviate by 1; folding
constants into the graph changes their last digits."""


@dataclass(frozen=True)
class Sound:
    """A request that must be answered with a mask.

    Args:
        kind: how the picture is sent.
        size: a name of `SIZES`.
        content_type: of the body.
        body: what is sent.
        query: of the address.
        masks: of each net, uint8 (H, W).
        decided: where each net has one best class, bool (H, W).
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
        kind: what is wrong with it.
        content_type: of the body.
        body: what is sent; a tuple of pieces without saying how long it is.
        code: of the answer.
        path: that is asked.
        method: of HTTP.
    """

    kind: str
    content_type: str
    body: bytes | tuple[bytes, ...]
    code: int = 400
    path: str = PREDICT
    method: str = "POST"


def picture(chance: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Squares of random colours, uint8 (H, W, 3)."""
    shape = (-(-height // 16), -(-width // 16), 3)
    squares = chance.integers(0, 256, shape, np.uint8)
    return squares.repeat(16, axis=0).repeat(16, axis=1)[:height, :width]


def encoded(image: np.ndarray, kind: str) -> bytes:
    """The picture as a file."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind)
    return stream.getvalue()


def small_net(seed: int) -> Any:
    """A net, untrained and narrow, whose masks hold several classes."""
    import keras

    from tf_levelset.models import at_input_size, create_model

    keras.utils.set_random_seed(seed)
    at_stride = create_model(
        "deeplab_largefov", CLASSES, width=0.05, dilation=2, upsample=False
    )
    model = at_input_size(at_stride)
    # A fresh net says about the same of all pixels: spread its scores around 0.
    image = picture(np.random.default_rng(0), 65, 81)
    scores = np.asarray(model(image[np.newaxis].astype(np.float32), training=False))
    mean, deviation = scores.mean((0, 1, 2)), scores.std((0, 1, 2))
    last = at_stride.get_layer("fc8")
    kernel, bias = last.get_weights()
    last.set_weights([kernel / deviation, (bias - mean) / deviation])
    return model


def sound_requests(nets: Sequence[Any], seed: int) -> list[Sound]:
    """Pictures of every size, sent in every way, with the masks of the nets."""
    from tf_levelset.datasets.files.images import decode_image

    chance = np.random.default_rng(seed)
    requests = []
    for size, shapes in SIZES.items():
        for height, width in shapes:
            image = picture(chance, height, width)
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
    """The mask that a net gives when called, and where it is decided."""
    batch = image[np.newaxis].astype(np.float32)
    scores = np.asarray(net(batch, training=False))[0]
    best = np.sort(scores, axis=-1)
    return (
        scores.argmax(-1).astype(np.uint8),
        best[..., -1] - best[..., -2] > UNDECIDED,
    )


def tf_serving_json(*files: bytes) -> bytes:
    """TensorFlow Serving's form of a request to `encoded`."""
    values = [{"b64": base64.b64encode(content).decode()} for content in files]
    body = {"signature_name": "encoded", "inputs": {"encoded": values}}
    return json.dumps(body).encode()


def malformed_requests(pipe: Path) -> list[Malformed]:
    """Every kind of request that must be refused.

    Args:
        pipe: a named pipe, which whoever opened its path would be seen to read.
    """
    chance = np.random.default_rng(0)
    image = picture(chance, 120, 160)
    png, jpeg = encoded(image, "PNG"), encoded(image, "JPEG")
    of_paths = ("/etc/passwd", str(pipe), pipe.as_uri())
    return [
        Malformed("truncated PNG", "image/png", png[: len(png) // 2]),
        Malformed("truncated JPEG", "image/jpeg", jpeg[: len(jpeg) // 2]),
        Malformed("header of a JPEG alone", "image/jpeg", jpeg[:20]),
        Malformed("damaged PNG", "image/png", png[:60] + b"\0" * 9 + png[69:]),
        Malformed("PNG, header of 10¹⁰ pixels", "image/png", huge_png(png), 413),
        Malformed("JPEG, header of 4·10⁹ pixels", "image/jpeg", huge_jpeg(jpeg), 413),
        Malformed("PNG of too many pixels", "image/png", large_png(), 413),
        Malformed("PNG, another size before its header", "image/png", two_sizes(png)),
        Malformed("JPEG of 65 scans", "image/jpeg", many_scans(jpeg)),
        Malformed("GIF", "image/png", encoded(image, "GIF")),
        Malformed("BMP", "image/jpeg", encoded(image, "BMP")),
        Malformed("text", "image/png", b"no picture at all, but some text"),
        Malformed("random bytes", "image/jpeg", chance.bytes(5000)),
        Malformed("nothing", "image/png", b""),
        *(Malformed("path as a file", "image/png", p.encode()) for p in of_paths),
        *(
            Malformed("path in base64", "application/json", tf_serving_json(p.encode()))
            for p in of_paths
        ),
        *(
            Malformed("path in JSON", "application/json", json_of({"encoded": [p]}))
            for p in of_paths
        ),
        *pixel_requests(image),
        Malformed("too many bytes", "image/png", bytes(MAX_BYTES + 1), 413),
        Malformed(
            "too many bytes, no length", "image/png", (bytes(2**20),) * 17, code=413
        ),
        Malformed("JSON cut off", "application/json", b'{"signature_name": "enc'),
        Malformed("JSON nested deeply", "application/json", b"[" * 100_000),
        Malformed(
            "JSON of a million lists",
            "application/json",
            b"[" + b"[]," * 1_000_000 + b"[]]",
        ),
        Malformed("JSON of a number", "application/json", b"7"),
        Malformed("JSON without inputs", "application/json", b"{}"),
        Malformed("JSON, foreign inputs", "application/json", json_of({"x": [1]})),
        Malformed("JSON, no files", "application/json", json_of({"encoded": []})),
        Malformed(
            "JSON, no base64", "application/json", json_of({"encoded": [{"b64": "!"}]})
        ),
        Malformed(
            "JSON, files of two sizes",
            "application/json",
            tf_serving_json(png, encoded(image[:50], "PNG")),
        ),
        Malformed(
            "JSON, too many files",
            "application/json",
            tf_serving_json(*[png] * 17),
            413,
        ),
        Malformed("foreign content type", "text/plain", png, 415),
        Malformed("no content type", "", png, 415),
        Malformed("unknown model", "image/png", png, 404, "/v1/models/other:predict"),
        Malformed("path as the model", "image/png", png, 404, "/../../etc/passwd"),
        Malformed("other method", "image/png", b"", 405, method="GET"),
    ]


def json_of(inputs: Mapping[str, Any]) -> bytes:
    """A request to `encoded` of such inputs."""
    return json.dumps({"signature_name": "encoded", "inputs": inputs}).encode()


def pixel_requests(image: np.ndarray) -> list[Malformed]:
    """Pixels whose size is wrong, missing or no size."""
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
    """A PNG whose header, with its checksum, claims 100,000 by 100,000 pixels."""
    header = b"IHDR" + struct.pack(">II", 100_000, 100_000) + png[24:29]
    return png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:]


def two_sizes(png: bytes) -> bytes:
    """A PNG with a chunk before its header that is skipped, and claims 1 by 1."""
    other = b"abCd" + struct.pack(">II", 1, 1) + png[24:29]
    whole = struct.pack(">I", 13) + other + struct.pack(">I", zlib.crc32(other))
    return png[:8] + whole + png[8:]


def many_scans(jpeg: bytes) -> bytes:
    """A JPEG whose scan comes 65 times."""
    place = jpeg.index(b"\xff\xda")
    return jpeg[:place] + jpeg[place:-2] * 65 + jpeg[-2:]


def huge_jpeg(jpeg: bytes) -> bytes:
    """A JPEG whose header claims 65,500 by 65,500 pixels."""
    place = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:place] + struct.pack(">HH", 65_500, 65_500) + jpeg[place + 4 :]


def large_png() -> bytes:
    """A whole PNG, of few bytes, that has one row more than is allowed."""
    side = math.isqrt(MAX_PIXELS)
    return encoded(np.zeros((side + 1, side, 3), np.uint8), "PNG")
