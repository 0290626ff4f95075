"""A server for what `export` writes, where TensorFlow Serving is not to be had.

    pip install 'tf_levelset[server]'
    python -m tf_levelset.server served --name camvid --port 8501

It answers TensorFlow Serving's REST requests to the endpoint `encoded`, and, in fewer
bytes, pictures as they are. Starlette and Uvicorn do the work of HTTP, TensorFlow that
of the net; what is here bounds what they are given, and exchanges versions.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import binascii
import gc
import json
import logging
import re
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tensorflow as tf

from tf_levelset.datasets.files.images import PNG_HEADER, PNG_START
from tf_levelset.export.saved_model import numbered_versions
from tf_levelset.models.safe_loading import SUMS_FILE, load_saved_model

logger = logging.getLogger(__name__)

JSON, PIXELS = "application/json", "application/octet-stream"
FILES = ("image/jpeg", "image/png")
"""Types of a request's body."""

WARMUP_SIZE = (129, 129)
"""Height and width of the pictures that a version sees before its first request."""

RETRY_SECONDS = 10.0
"""After which a version that could not be loaded is tried again: it may have been
half copied."""

SCANS = 64
"""Of a JPEG file: each costs as much as all its pixels. Progressive files have ten."""

SIDE = 65_535
"""Pixels of a picture's longer side, as in JPEG; OpenCV writes no PNG of a million."""

LEAST_SIDE = 33
"""What a shorter side counts as: nets fill pictures up to their stride and 1."""

GRACE_SECONDS = 30
"""For requests under way when the server is told to stop."""

_DRAINED = 8
"""A body that is too large is read, and forgotten, up to so many times the bound: most
clients read no answer before they have sent it all."""


@dataclass(frozen=True)
class Limits:
    """What a request may ask for.

    Args:
        num_bytes: of its body.
        pixels: of its pictures, all together; sides below `LEAST_SIDE` count as that.
        files: of pictures.
        seconds: that its body may take to come.
    """

    num_bytes: int = 2**24
    pixels: int = 2**22
    files: int = 16
    seconds: float = 30.0


class RefusedError(ValueError):
    """What a request is refused with: a message, and HTTP's code for it."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


# --- Versions ---


class Version:
    """A version of a model, loaded and warm.

    Args:
        folder: of the version, as `export` wrote it.

    Raises:
        ValueError: for a folder that is damaged, or without the sums that `export`
            writes.
    """

    def __init__(self, folder: Path) -> None:
        # Without them a half copied one would pass for whole.
        if not (folder / "assets.extra" / SUMS_FILE).is_file():
            raise ValueError(
                f"Expected {folder} to be a version that tf-levelset export wrote. "
                f"Received: one without assets.extra/{SUMS_FILE}"
            )
        self.number = int(folder.name)
        # Kept, since its functions do not keep it.
        self._model = load_saved_model(folder)
        black = np.zeros((1, *WARMUP_SIZE, 3), np.uint8)
        self.masks(black)
        self.masks([cv2.imencode(".png", black[0])[1].tobytes()])

    def masks(self, pictures: np.ndarray | Sequence[bytes]) -> np.ndarray:
        """Returns uint8 (B, H, W).

        Args:
            pictures: uint8 (B, H, W, 3), or B JPEG or PNG files of one size.

        Raises:
            RefusedError: for files that cannot be decoded, or of several sizes.
        """
        signatures = self._model.signatures
        try:
            if isinstance(pictures, np.ndarray):
                answer = signatures["uint8"](images=tf.constant(pictures))
            else:
                answer = signatures["encoded"](encoded=tf.constant(list(pictures)))
        except tf.errors.InvalidArgumentError as error:
            reason = next(iter(error.message.splitlines()), "")
            raise RefusedError(
                400,
                "Expected whole JPEG or PNG files, those of a request of one size. "
                f"Received: {reason:.300}",
            ) from error
        return answer["mask"].numpy()


class Versions:
    """The newest version in a model's folder, and its successors.

    Args:
        folder: of the model, which holds a folder for each version.

    Raises:
        ValueError: if no version in it can be loaded.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.current: Version | None = None
        self._retry_at: dict[int, float] = {}
        self.refresh()
        if self.current is None:
            raise ValueError(
                f"Expected {folder} to hold a version that tf-levelset export wrote, "
                "such as 1. Received: none that can be loaded"
            )

    def refresh(self) -> None:
        """Takes up the newest version that can be loaded, if it is another.

        Requests are answered by the one before until the new one is warm; those that
        are under way keep theirs.
        """
        for number, path in sorted(numbered_versions(self.folder).items())[::-1]:
            if self.current is not None and self.current.number == number:
                return
            if time.monotonic() < self._retry_at.get(number, 0.0):
                continue
            try:
                new = Version(path)
            # Whatever is wrong with a folder, requests must go on being answered.
            except Exception as error:
                logger.error("version %d is passed over: %s", number, error)
                self._retry_at[number] = time.monotonic() + RETRY_SECONDS
                continue
            logger.warning("version %d is served", number)
            self.current = new
            gc.collect()  # SavedModels are in cycles with themselves
            return

    def watch(self, seconds: float) -> None:
        """Looks for versions for ever."""
        while True:
            time.sleep(seconds)
            try:
                self.refresh()
            except OSError as error:  # of the folder itself
                logger.error("%s", error)


# --- Requests ---


def pictures_of(
    body: bytes, kind: str, query: Mapping[str, str], limits: Limits
) -> np.ndarray | list[bytes]:
    """Returns what a request asks about, its size known but nothing decoded yet.

    Args:
        body: of the request.
        kind: its content type, without parameters.
        query: of its address.
        limits: what is refused.

    Returns:
        uint8 (1, H, W, 3), or JPEG or PNG files.

    Raises:
        RefusedError: for anything else.
    """
    if kind == PIXELS:
        return _pixels(body, query, limits)
    if kind == JSON:
        files = _json_files(body)
    elif kind in FILES:
        files = [body]
    else:
        kinds = ", ".join((*FILES, PIXELS, JSON))
        raise RefusedError(
            415, f"Expected a content type of {kinds}. Received: {kind!r:.100}"
        )
    if len(files) > limits.files:
        raise RefusedError(
            413, f"Expected at most {limits.files} files. Received: {len(files)}"
        )
    _bound([picture_size(content) for content in files], limits)
    return files


def picture_size(content: bytes) -> tuple[int, int]:
    """Reads height and width from the header of a JPEG or PNG file.

    Raises:
        RefusedError: for anything else.
    """
    # Other chunks before the header could tell another size than what is decoded.
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
                400, "Expected a JPEG file. Received: one without a whole header"
            ) from error
        return height, width
    raise RefusedError(
        400,
        "Expected a JPEG or PNG file. Received: "
        + (f"bytes that begin {content[:16]!r}" if content else "no bytes"),
    )


def _bound(sizes: Sequence[tuple[int, int]], limits: Limits) -> None:
    """Refuses pictures, by their heights and widths, that are too large together."""
    longest = max(max(size) for size in sizes)
    if longest > SIDE:
        raise RefusedError(
            413,
            f"Expected pictures of at most {SIDE} pixels a side. Received: {longest}",
        )
    pixels = sum(max(h, LEAST_SIDE) * max(w, LEAST_SIDE) for h, w in sizes)
    if pixels > limits.pixels:
        raise RefusedError(
            413,
            f"Expected pictures of at most {limits.pixels} pixels in a request. "
            f"Received: {pixels}",
        )


def _pixels(body: bytes, query: Mapping[str, str], limits: Limits) -> np.ndarray:
    """A picture as the bytes of its RGB pixels, row by row."""
    sizes = [query.get(name, "") for name in ("height", "width")]
    # At most nine digits: Python takes minutes for numbers of millions.
    if not all(re.fullmatch(r"[1-9][0-9]{0,8}", size, re.ASCII) for size in sizes):
        raise RefusedError(
            400,
            "Expected ?height=…&width=…, positive numbers. Received: "
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
    """The files of a request in TensorFlow Serving's form, to `encoded`."""
    try:
        request = json.loads(body)
    # Of what is nested too deeply.
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, ValueError) else "deep nesting"
        raise RefusedError(400, f"Expected JSON. Received: {reason:.200}") from error
    try:
        if request["signature_name"] != "encoded":
            raise ValueError(f"signature_name {request['signature_name']!r:.50}")
        values = request["inputs"]["encoded"]
        if not isinstance(values, list) or not values:
            raise ValueError(f"{type(values).__name__} as encoded")
        return [base64.b64decode(value["b64"], validate=True) for value in values]
    except (ValueError, TypeError, KeyError, binascii.Error) as error:
        raise RefusedError(
            400,
            'Expected {"signature_name": "encoded", "inputs": {"encoded": '
            '[{"b64": FILE}, …]}} with files in base64. Received: '
            f"{type(error).__name__}, {error!s:.100}",
        ) from error


# --- HTTP ---


def application(
    versions: Versions, name: str, limits: Limits | None = None, threads: int = 2
) -> Any:
    """Returns the server as an ASGI application, which any ASGI server runs.

    Args:
        versions: of the model.
        name: of the model, in addresses.
        limits: what is refused.
        threads: that decode and predict at the same time.

    Raises:
        ImportError: without Starlette.
    """
    try:
        from starlette.applications import Starlette
        from starlette.exceptions import HTTPException
        from starlette.requests import ClientDisconnect, Request
        from starlette.responses import JSONResponse, Response
        from starlette.routing import Route
    except ImportError as error:
        raise ImportError(_MISSING) from error
    bounds = limits or Limits()
    pool = ThreadPoolExecutor(threads)

    def answer(body: bytes, kind: str, query: Mapping[str, str]) -> Response:
        version = versions.current
        assert version is not None
        pictures = pictures_of(body, kind, query, bounds)
        masks = version.masks(pictures)
        headers = {"Model-Version": str(version.number)}
        if kind == JSON:
            return JSONResponse({"outputs": {"mask": masks.tolist()}}, headers=headers)
        content = cv2.imencode(".png", masks[0])[1].tobytes()
        return Response(content, media_type="image/png", headers=headers)

    async def predict(request: Request) -> Response:
        try:
            body = await asyncio.wait_for(_read(request, bounds), bounds.seconds)
            kind = request.headers.get("content-type", "").partition(";")[0]
            return await asyncio.get_running_loop().run_in_executor(
                pool, answer, body, kind.strip().lower(), request.query_params
            )
        except RefusedError as error:
            return refusal(error.code, str(error))
        except asyncio.TimeoutError:
            return refusal(
                408,
                f"Expected the body within {bounds.seconds:g} s. Received: a part",
            )
        except ClientDisconnect:
            return Response(status_code=400)  # which nobody reads
        except (tf.errors.ResourceExhaustedError, MemoryError):
            return refusal(503, "Expected enough memory. Received: none for this")

    async def state(request: Request) -> Response:
        assert versions.current is not None
        found = {
            "version": str(versions.current.number),
            "state": "AVAILABLE",
            "status": {"error_code": "OK", "error_message": ""},
        }
        return JSONResponse({"model_version_status": [found]})

    def refusal(code: int, message: str) -> Response:
        # What is left of a body would keep the connection, and its place, for ever.
        headers = {"Connection": "close"} if code in (408, 413) else None
        return JSONResponse({"error": message}, code, headers)

    async def unknown(request: Request, error: Exception) -> Response:
        code = error.status_code if isinstance(error, HTTPException) else 500
        return refusal(
            code,
            f"Expected POST {model}:predict or GET {model}. Received: "
            f"{request.method:.10} {request.url.path:.100}",
        )

    model = f"/v1/models/{name}"
    routes = [
        Route(f"{model}:predict", predict, methods=["POST"]),
        Route(model, state, methods=["GET"]),
    ]
    return Starlette(routes=routes, exception_handlers={HTTPException: unknown})


async def _read(request: Any, limits: Limits) -> bytes:
    """A request's body, of which no more than the bound is ever held."""
    pieces: list[bytes] = []
    total = 0
    async for piece in request.stream():
        total += len(piece)
        if total <= limits.num_bytes:
            pieces.append(piece)
        else:
            pieces.clear()
        if total > _DRAINED * limits.num_bytes:
            break
    if total > limits.num_bytes:
        raise RefusedError(
            413, f"Expected at most {limits.num_bytes} bytes. Received: more"
        )
    return b"".join(pieces)


_MISSING = (
    "Expected Starlette and Uvicorn, which pip install 'tf_levelset[server]' brings. "
    "Received: no such modules"
)


def serve(options: argparse.Namespace) -> None:
    """Serves a model until it is told to stop (SIGTERM, Ctrl-C).

    Raises:
        ImportError: without Starlette and Uvicorn.
        ValueError: if there is no version to serve, or for a name that is no word.
    """
    try:
        import uvicorn
    except ImportError as error:
        raise ImportError(_MISSING) from error
    if not re.fullmatch(r"[\w.-]+", options.name):
        raise ValueError(
            "Expected a name of letters, digits, '_', '.' and '-'. "
            f"Received: {options.name!r}"
        )
    versions = Versions(options.folder)
    watch = threading.Thread(
        target=versions.watch, args=(options.poll_seconds,), daemon=True
    )
    watch.start()
    limits = Limits(options.max_bytes, options.max_pixels, options.max_files)
    uvicorn.run(
        application(versions, options.name, limits, options.threads),
        host=options.host,
        port=options.port,
        limit_concurrency=options.max_clients + 1,  # Uvicorn refuses the last one
        timeout_graceful_shutdown=GRACE_SECONDS,
        log_level="warning",
        lifespan="off",
        ws="none",
    )


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    limits = Limits()
    command = argparse.ArgumentParser(
        prog="python -m tf_levelset.server",
        description="Serves the newest version of an exported model.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = command.add_argument
    add("folder", type=Path, help="what tf-levelset export wrote versions to")
    add("--name", default="model", help="of the model, in addresses")
    add("--host", default="127.0.0.1", help="0.0.0.0 for all that can reach it")
    add("--port", type=int, default=8501)
    add("--max-bytes", type=int, default=limits.num_bytes, help="of a request")
    add("--max-pixels", type=int, default=limits.pixels, help="of a request")
    add("--max-files", type=int, default=limits.files, help="of a request")
    add("--max-clients", type=int, default=32, help="at a time; others get code 503")
    add("--threads", type=int, default=2, help="that predict at the same time")
    add("--poll-seconds", type=float, default=1.0, help="between looks for versions")
    return command


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves; returns 1 after an error that is the caller's to mend."""
    options = parser().parse_args(arguments)
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.WARNING)
    try:
        serve(options)
    except (ValueError, OSError, ImportError) as error:
        print(f"tf_levelset.server: error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
