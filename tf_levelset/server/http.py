"""The server as an ASGI application, which any ASGI server can run."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import cv2
import tensorflow as tf
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tf_levelset.export.versions import NewestVersion
from tf_levelset.server.requests import JSON, Limits, RefusedError, images_of

DRAINED = 8
"""A body that exceeds its bound is received, and discarded, up to so many times the
bound: most clients read no answer before they have sent all of it."""


def application(
    newest: NewestVersion, name: str, limits: Limits | None = None, threads: int = 2
) -> Starlette:
    """Returns the ASGI application.

    Args:
        newest: The model.
        name: The model's name in URLs.
        limits: Bounds of a request.
        threads: Number of requests that are decoded and predicted at the same time.
    """
    bounds = limits or Limits()
    pool = ThreadPoolExecutor(threads)
    url = f"/v1/models/{name}"

    async def predict(request: Request) -> Response:
        try:
            body = await asyncio.wait_for(_read(request, bounds), bounds.seconds)
            return await asyncio.get_running_loop().run_in_executor(
                pool, answer, request, body
            )
        except RefusedError as error:
            return _refusal(error.code, str(error))
        except asyncio.TimeoutError:
            return _refusal(
                408, f"Expected the body within {bounds.seconds:g} s. Received: a part"
            )
        except ClientDisconnect:
            return Response(status_code=400)  # Nobody reads it.
        except (tf.errors.ResourceExhaustedError, MemoryError):
            return _refusal(503, "Expected enough free memory. Received: too little")

    def answer(request: Request, body: bytes) -> Response:
        header = request.headers.get("content-type", "")
        content_type = header.partition(";")[0].strip().lower()
        images = images_of(body, content_type, request.query_params, bounds)
        version = newest.current
        try:
            masks = version.masks(images)
        except tf.errors.InvalidArgumentError as error:
            reason = next(iter(error.message.splitlines()), "")
            raise RefusedError(
                400,
                "Expected complete JPEG or PNG files, all of one size. "
                f"Received: {reason:.300}",
            ) from error
        headers = {"Model-Version": str(version.number)}
        if content_type == JSON:
            return JSONResponse({"outputs": {"mask": masks.tolist()}}, headers=headers)
        content = cv2.imencode(".png", masks[0])[1].tobytes()
        return Response(content, media_type="image/png", headers=headers)

    async def status(request: Request) -> Response:
        found = {
            "version": str(newest.current.number),
            "state": "AVAILABLE",
            "status": {"error_code": "OK", "error_message": ""},
        }
        return JSONResponse({"model_version_status": [found]})

    async def unknown(request: Request, error: Exception) -> Response:
        return _refusal(
            error.status_code if isinstance(error, HTTPException) else 500,
            f"Expected POST {url}:predict or GET {url}. Received: "
            f"{request.method:.10} {request.url.path:.100}",
        )

    routes = [
        Route(f"{url}:predict", predict, methods=["POST"]),
        Route(url, status, methods=["GET"]),
    ]
    return Starlette(routes=routes, exception_handlers={HTTPException: unknown})


async def _read(request: Request, limits: Limits) -> bytes:
    """Receives a request's body; never more than the bound is in memory."""
    pieces: list[bytes] = []
    total = 0
    async for piece in request.stream():
        total += len(piece)
        if total <= limits.num_bytes:
            pieces.append(piece)
        else:
            pieces.clear()
        if total > DRAINED * limits.num_bytes:
            break
    if total > limits.num_bytes:
        raise RefusedError(
            413, f"Expected at most {limits.num_bytes} bytes. Received: more"
        )
    return b"".join(pieces)


def _refusal(code: int, message: str) -> Response:
    # The rest of a body would block the connection for the next request.
    headers = {"Connection": "close"} if code in (408, 413) else None
    return JSONResponse({"error": message}, code, headers)
