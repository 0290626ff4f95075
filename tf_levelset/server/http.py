"""The server as an ASGI application, which any ASGI server can run."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import anyio
import numpy as np
import tensorflow as tf
from PIL import Image
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tf_levelset.checks import reason
from tf_levelset.datasets.files.images import decode_image
from tf_levelset.export.versions import NewestVersion, predict_bytes

JSON, PIXELS = "application/json", "application/octet-stream"
FILES = ("image/jpeg", "image/png")

MAX_SCANS = 64
"""Of a JPEG file, each of which takes as long to decode as a whole baseline file."""

MIN_SIDE, MAX_SIDE = 33, 65_535
"""Shorter sides count as 33 pixels, since networks pad small images."""


@dataclass(frozen=True)
class Limits:
    """Upper bounds of a request; its body must arrive within `seconds`."""

    num_bytes: int = 2**24
    pixels: int = 2**22
    files: int = 16
    seconds: float = 30.0


def application(
    newest: NewestVersion, name: str, limits: Limits | None = None, threads: int = 2
) -> Starlette:
    """Returns the application: `threads` requests are answered at the same time."""
    bounds, pool = limits or Limits(), ThreadPoolExecutor(threads)
    url = f"/v1/models/{name}"

    async def predict(request: Request) -> Response:
        body, received = bytearray(), 0
        with anyio.move_on_after(bounds.seconds) as timer:
            async for piece in request.stream():
                received += len(piece)
                # Most clients send all of a body before they read the refusal.
                if received <= bounds.num_bytes:
                    body += piece
        if timer.cancelled_caught:
            raise refused(408, f"the body within {bounds.seconds:g} s", "a part")
        if received > bounds.num_bytes:
            raise refused(413, f"at most {bounds.num_bytes} bytes", received)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(pool, answer, request, bytes(body))

    def answer(request: Request, body: bytes) -> Response:
        header = request.headers.get("content-type", "")
        content_type = header.partition(";")[0].strip().lower()
        images = images_of(body, content_type, request.query_params, bounds)
        number, model = newest.current
        try:
            outputs = predict_bytes(model, images)
        except (tf.errors.InvalidArgumentError, TypeError, ValueError) as error:
            raise refused(400, "images that fit the model", reason(error)) from error
        headers = {"Model-Version": str(number)}
        if content_type == JSON:
            content = {"outputs": {"mask": outputs["mask"].numpy().tolist()}}
            return JSONResponse(content, headers=headers)
        png = tf.io.encode_png(outputs["mask"][0, :, :, tf.newaxis])
        return Response(png.numpy(), media_type="image/png", headers=headers)

    async def status(request: Request) -> Response:
        found = {"version": str(newest.current[0]), "state": "AVAILABLE"}
        return JSONResponse({"model_version_status": [found]})

    async def failure(request: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            error = refused(503, "enough free memory", "too little")
        elif error.status_code in (404, 405):
            received = f"{request.method} {request.url.path}"
            expected = f"POST {url}:predict or GET {url}"
            error = refused(error.status_code, expected, received)
        # The rest of a late body would block the connection for the next request.
        headers = {"Connection": "close"} if error.status_code == 408 else None
        return JSONResponse({"error": error.detail}, error.status_code, headers)

    routes = [
        Route(f"{url}:predict", predict, methods=["POST"]),
        Route(url, status, methods=["GET"]),
    ]
    memory = (MemoryError, tf.errors.ResourceExhaustedError)
    # Nobody reads the answer after a ClientDisconnect.
    errors = (HTTPException, ClientDisconnect, *memory)
    return Starlette(routes=routes, exception_handlers=dict.fromkeys(errors, failure))


def refused(code: int, expected: str, received: object) -> HTTPException:
    """Returns the error that refuses a request."""
    return HTTPException(code, f"Expected {expected}. Received: {received!s:.200}")


def images_of(
    body: bytes, content_type: str, query: Mapping[str, str], limits: Limits
) -> np.ndarray:
    """Decodes a request's images, uint8 (B, H, W, 3), if they are within the bounds."""
    if content_type == PIXELS:
        sides = [query.get(name, "") for name in ("height", "width")]
        if not all(re.fullmatch("[1-9][0-9]{0,8}", side) for side in sides):
            raise refused(400, "?height=…&width=… with positive integers", sides)
        height, width = map(int, sides)
        _check_sizes([(height, width)], limits)
        if len(body) != height * width * 3:
            raise refused(400, f"{height}·{width}·3 bytes, uint8 RGB", len(body))
        return np.frombuffer(body, np.uint8).reshape(1, height, width, 3)
    if content_type != JSON and content_type not in FILES:
        types = ", ".join((*FILES, PIXELS, JSON))
        raise refused(415, f"a content type of {types}", repr(content_type))
    files = _files_in_json(body) if content_type == JSON else [body]
    if len(files) > limits.files:
        raise refused(413, f"at most {limits.files} files", len(files))
    _check_sizes([_size(content) for content in files], limits)
    try:
        return np.stack([decode_image(content).numpy() for content in files])
    # Images of different sizes cause a ValueError.
    except (tf.errors.InvalidArgumentError, ValueError) as error:
        expected = "complete JPEG or PNG files, all of one size"
        raise refused(400, expected, reason(error)) from error


def _check_sizes(sizes: list[tuple[int, int]], limits: Limits) -> None:
    pixels = sum(max(h, MIN_SIDE) * max(w, MIN_SIDE) for h, w in sizes)
    if pixels > limits.pixels or max(map(max, sizes)) > MAX_SIDE:
        expected = f"at most {limits.pixels} pixels, and {MAX_SIDE} a side"
        raise refused(413, expected, f"{pixels} pixels, {sizes}")


def _size(content: bytes) -> tuple[int, int]:
    """Reads height and width from the header of a JPEG or PNG file."""
    scans = content.count(b"\xff\xda") if content.startswith(b"\xff\xd8") else 0
    if scans > MAX_SCANS:
        raise refused(400, f"a JPEG file of at most {MAX_SCANS} scans", scans)
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG", "PNG")) as image:
            return image.height, image.width
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise refused(413, "an image of fewer pixels", error) from error
    # Pillow raises errors of many types for damaged headers.
    except Exception as error:
        raise refused(400, "a JPEG or PNG file", content[:16]) from error


def _files_in_json(body: bytes) -> list[bytes]:
    try:
        request = json.loads(body)
        endpoint, values = request["signature_name"], request["inputs"]["encoded"]
        if endpoint == "encoded" and values:
            return [base64.b64decode(value["b64"], validate=True) for value in values]
        received = f"endpoint {endpoint!r:.50} and {len(values)} files"
    # Errors of JSON and base64 are ValueErrors; deep nesting is a RecursionError.
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        received = f"other JSON, or another text ({type(error).__name__}: {error})"
    expected = "TensorFlow Serving's request to `encoded`, with files"
    raise refused(400, expected, received)
