"""The server: what it answers, what it refuses, and how versions follow each other."""

from __future__ import annotations

import contextlib
import http.client
import io
import itertools
import json
import logging
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from serving_client import mask_over_rest

from benchmarks.reliability import serving_requests as trial
from benchmarks.reliability.serving import exported, publish
from tf_levelset.export.versions import NewestVersion, Version
from tf_levelset.server import __main__ as command
from tf_levelset.server.requests import (
    JSON,
    PIXELS,
    SIDE,
    Limits,
    RefusedError,
    image_size,
    images_of,
)

LIMITS = Limits(num_bytes=2**18, pixels=30_000, files=3, seconds=1.0)
MODEL = "/v1/models/camvid"
IMAGE = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)


def file_of(image: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind, **options)
    return stream.getvalue()


Models = Sequence[tuple[keras.Model, Path]]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return exported(tmp_path_factory.mktemp("exported"))


@pytest.fixture
def folder(models: Models, tmp_path: Path) -> Path:
    (tmp_path / "served").mkdir()
    publish(tmp_path / "served", 1, models)
    return tmp_path / "served"


# --- Versions ---


def test_the_newest_version_is_current(folder: Path, models: Models) -> None:
    newest = NewestVersion(folder)
    first = newest.current
    newest.refresh()
    assert newest.current is first
    publish(folder, 12, models)
    newest.refresh()
    assert newest.current.number == 12
    shutil.rmtree(folder / "12")  # The way back to the version before.
    newest.refresh()
    assert newest.current.number == 1


@pytest.mark.parametrize("missing", [None, "assets.extra/SHA256SUMS", "saved_model.pb"])
def test_an_incomplete_version_is_skipped_until_it_is_complete(
    folder: Path, models: Models, missing: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    newest = NewestVersion(folder)
    publish(folder, 2, models, damage=missing is None)
    if missing is not None:
        (folder / "2" / missing).rename(folder / "missing")
    with caplog.at_level(logging.ERROR):
        newest.refresh()
        newest.refresh()
    assert newest.current.number == 1
    assert caplog.text.count("version 2 is skipped: Expected") == 1
    if missing is not None:
        (folder / "missing").rename(folder / "2" / missing)
        newest.retry_seconds = 0.0
        newest.refresh()
        assert newest.current.number == 2


def test_a_version_is_required(tmp_path: Path, models: Models) -> None:
    publish(tmp_path, 1, models, damage=True)
    (tmp_path / "2").write_text("no folder")
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ValueError, match=r"Expected .* to hold a version"):
            NewestVersion(path)


def test_watching_survives_an_unreadable_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    newest = NewestVersion(folder)
    errors = iter([PermissionError("no access"), KeyboardInterrupt()])

    def refresh() -> None:
        raise next(errors)

    monkeypatch.setattr(newest, "refresh", refresh)
    with pytest.raises(KeyboardInterrupt):
        newest.watch(0.0)
    assert "no access" in caplog.text


# --- Requests ---


def test_sizes_are_read_from_headers() -> None:
    png, jpeg = file_of(IMAGE), file_of(IMAGE, "JPEG")
    for content in (png, jpeg, file_of(IMAGE, "JPEG", progressive=True)):
        assert image_size(content) == (20, 30)
    # There are no images of these sizes to decode.
    assert image_size(trial.huge_png(png)) == (100_000, 100_000)
    assert image_size(trial.huge_jpeg(jpeg)) == (65_500, 65_500)


Body = tuple[bytes, str, dict[str, str]]


def pixels(height: int, width: int) -> Body:
    query = {"height": str(height), "width": str(width)}
    return bytes(3 * height * width), PIXELS, query


def files(count: int) -> Body:
    return trial.tf_serving_json(*[file_of(IMAGE)] * count), JSON, {}


@pytest.mark.parametrize(
    ("body", "bound", "value", "message"),
    [
        # Sides below 33 pixels count as 33.
        (files(3), "pixels", 3267, "3266 pixels.* 3267"),
        (files(4), "files", 4, "at most 3 files. Received: 4"),
        (pixels(1, 40), "pixels", 1320, "1319 .*: 1320"),
        (pixels(33, 40), "pixels", 1320, "1319 .*: 1320"),
    ],
)
def test_images_are_bounded_together(
    body: Body, bound: str, value: int, message: str
) -> None:
    assert len(images_of(*body, Limits(**{bound: value}))) >= 1
    with pytest.raises(RefusedError, match=message) as error:
        images_of(*body, Limits(**{bound: value - 1}))
    assert error.value.code == 413


def test_sides_are_bounded() -> None:
    limits = Limits(pixels=2**40)
    assert len(images_of(*pixels(1, SIDE), limits)) == 1
    with pytest.raises(RefusedError, match="sides of at most 65535 pixels") as error:
        images_of(*pixels(SIDE + 1, 1), limits)
    assert error.value.code == 413


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_nothing_is_decoded_before_its_size_is_known(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode(*_: Any, **__: Any) -> None:
        raise AssertionError

    for name in ("decode_image", "decode_png", "decode_jpeg", "read_file"):
        monkeypatch.setattr(tf.io, name, decode)
    with pytest.raises(RefusedError, match="at most 900 pixels"):
        images_of(file_of(IMAGE, kind), "image/png", {}, Limits(pixels=900))


# --- HTTP ---


@pytest.fixture
def address(folder: Path) -> Iterator[tuple[str, int]]:
    """The address of a server with `LIMITS`, which runs in a thread."""
    uvicorn = pytest.importorskip("uvicorn", reason="without tf_levelset[server]")
    from tf_levelset.server.http import application

    app = application(NewestVersion(folder), "camvid", LIMITS)
    running = uvicorn.Server(
        uvicorn.Config(app, port=0, log_level="error", lifespan="off", ws="none")
    )
    thread = threading.Thread(target=running.run)
    thread.start()
    while not running.started and thread.is_alive():
        time.sleep(0.01)
    yield running.servers[0].sockets[0].getsockname()
    running.should_exit = True
    thread.join()


def ask(
    address: tuple[str, int],
    path: str,
    body: Any = None,
    content_type: str = "",
    method: str = "POST",
) -> tuple[int, dict[str, str], bytes]:
    headers = {"Content-Type": content_type} if content_type else {}
    with contextlib.closing(
        http.client.HTTPConnection(*address, timeout=60)
    ) as connection:
        connection.request(method, f"/v1/models/{path}", body, headers)
        with connection.getresponse() as response:
            return response.status, dict(response.headers), response.read()


def test_images_are_answered_with_masks(
    address: tuple[str, int], models: Models
) -> None:
    expected, _ = trial.direct(models[0][0], IMAGE)
    assert len(np.unique(expected)) > 1
    for path, body, content_type in [
        ("camvid:predict", file_of(IMAGE), "Image/PNG; name=x"),
        ("camvid:predict?height=20&width=30", IMAGE.tobytes(), PIXELS),
    ]:
        code, headers, answer = ask(address, path, body, content_type)
        assert (code, headers["content-type"]) == (200, "image/png")
        assert headers["model-version"] == "1"
        mask = np.array(Image.open(io.BytesIO(answer)))
        np.testing.assert_array_equal(mask, expected)


def test_the_client_of_tensorflow_serving_is_answered(
    address: tuple[str, int], models: Models, tmp_path: Path
) -> None:
    rest, url = (f"http://{address[0]}:{address[1]}{p}" for p in ("", MODEL))
    content, (expected, _) = file_of(IMAGE), trial.direct(models[0][0], IMAGE)
    np.testing.assert_array_equal(mask_over_rest(url, content), expected)
    with pytest.raises(ValueError, match=r"400, .*Expected a JPEG or PNG file"):
        mask_over_rest(url, b"no image")
    (status,) = json.loads(ask(address, "camvid", method="GET")[2]).values()
    assert (status[0]["version"], status[0]["state"]) == ("1", "AVAILABLE")
    # As a program.
    image, mask = tmp_path / "image.png", tmp_path / "mask.png"
    image.write_bytes(content)
    program = Path(__file__).parent.parent / "docs/examples/serving_client.py"
    command = [sys.executable, program, image, mask, "--rest", rest]
    subprocess.run(list(map(str, command)), check=True)
    np.testing.assert_array_equal(np.array(Image.open(mask)), expected)


def test_malformed_requests_are_refused(
    address: tuple[str, int], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tried = 0
    for request in trial.malformed_requests(tmp_path / "no pipe"):
        if len(request.body) >= LIMITS.num_bytes or isinstance(request.body, tuple):
            continue  # Those that need the trial's larger bounds.
        path = request.path.replace("models/trial", "models/camvid")
        path = path.removeprefix("/v1/models/")
        code, _, body = ask(
            address, path, request.body, request.content_type, request.method
        )
        error = json.loads(body)["error"]
        assert error.startswith("Expected "), request
        assert " Received: " in error, request
        assert code == request.code, (request, error)
        tried += 1
    assert tried > 40
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("pieces", [1, 50])
def test_bodies_are_bounded(address: tuple[str, int], pieces: int) -> None:
    body: Any = bytes(LIMITS.num_bytes + 1)
    if pieces > 1:  # Without a length in the header.
        body = iter([body[i::pieces] for i in range(pieces)])
    code, headers, answer = ask(address, "camvid:predict", body, "image/png")
    assert (code, headers["connection"]) == (413, "close")
    message = f"Expected at most {LIMITS.num_bytes} bytes. Received: more"
    assert json.loads(answer)["error"] == message


def test_an_endless_body_is_cut_off(address: tuple[str, int]) -> None:
    with pytest.raises(ConnectionError):
        ask(address, "camvid:predict", itertools.repeat(bytes(2**16)), "image/png")


def test_a_body_must_arrive_in_time(address: tuple[str, int]) -> None:
    head = "POST /v1/models/camvid:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100"
    with socket.create_connection(address, timeout=30) as connection:
        connection.sendall(f"{head}\r\n\r\na part".encode())
        answer = connection.recv(2**16)
        assert answer.startswith(b"HTTP/1.1 408")
        # The rest of the body must not keep the connection open.
        with contextlib.suppress(ConnectionError):
            connection.sendall(b"more")
            while piece := connection.recv(2**16):
                answer += piece
    assert b"Expected the body within 1 s" in answer


def test_a_lack_of_memory_is_reported(
    address: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def masks(*_: Any) -> None:
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating")

    monkeypatch.setattr(Version, "masks", masks)
    code, _, answer = ask(address, "camvid:predict", file_of(IMAGE), "image/png")
    assert code == 503
    assert b"Expected enough free memory" in answer


# --- The command ---


@pytest.mark.parametrize(
    ("missing", "arguments", "message"),
    [
        ("uvicorn", [], "pip install 'tf_levelset[server]'"),
        ("starlette.applications", [], "pip install 'tf_levelset[server]'"),
        (None, ["--name", "a/b"], "Expected `--name` to consist of"),
        (None, [], "to hold a version"),
    ],
)
def test_the_command_reports_errors(
    tmp_path: Path,
    missing: str | None,
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("uvicorn", reason="without tf_levelset[server]")
    if missing is not None:
        monkeypatch.delitem(sys.modules, "tf_levelset.server.http", raising=False)
        monkeypatch.setitem(sys.modules, missing, None)
    assert command.main([str(tmp_path), *arguments]) == 1
    assert message in capsys.readouterr().err


def test_connections_and_the_time_to_stop_are_bounded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uvicorn = pytest.importorskip("uvicorn", reason="without tf_levelset[server]")
    found: dict[str, Any] = {}
    monkeypatch.setattr(uvicorn, "run", lambda _, **options: found.update(options))
    assert command.main([str(folder), "--max-clients", "5"]) == 0
    assert found["limit_concurrency"] == 6
    assert found["timeout_graceful_shutdown"] == command.GRACE_SECONDS
    # The trial of serving counts on the default bounds.
    bounds = (Limits().num_bytes, Limits().pixels)
    assert bounds == (trial.MAX_BYTES, trial.MAX_PIXELS)
