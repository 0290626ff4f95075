"""The server: what it answers, what it refuses, and how versions follow each other."""

from __future__ import annotations

import contextlib
import http.client
import importlib
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
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageFile
from serving_client import mask_over_rest

from benchmarks.reliability import serving_clients
from benchmarks.reliability import serving_requests as trial
from benchmarks.reliability.serving import exported, publish
from benchmarks.reliability.serving_requests import encoded
from tf_levelset.export.versions import NewestVersion
from tf_levelset.server import __main__ as command

MAX_BYTES = 2**18
BOUNDS = {"num_bytes": MAX_BYTES, "pixels": 30_000, "files": 3, "seconds": 1.0}
JSON, PIXELS = "application/json", "application/octet-stream"
IMAGE = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)

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
    assert newest.current[0] == 12
    shutil.rmtree(folder / "12")  # The way back to the version before.
    newest.refresh()
    assert newest.current[0] == 1


@pytest.mark.parametrize("missing", [None, "assets.extra/SHA256SUMS", "saved_model.pb"])
def test_an_incomplete_version_is_skipped_until_it_is_complete(
    folder: Path,
    models: Models,
    missing: str | None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    newest = NewestVersion(folder)
    publish(folder, 2, models, damage=missing is None)
    if missing is not None:
        (folder / "2" / missing).rename(folder / "missing")
    with caplog.at_level(logging.ERROR):
        newest.refresh()
        newest.refresh()
    assert newest.current[0] == 1
    assert caplog.text.count("version 2 is skipped: Expected") == 1
    if missing is not None:
        (folder / "missing").rename(folder / "2" / missing)
        now += newest.retry_seconds
        newest.refresh()
        assert newest.current[0] == 2


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


@pytest.fixture
def server() -> ModuleType:
    """The server's module, or a skipped test where Starlette is not installed."""
    pytest.importorskip("uvicorn", reason="without starlette and uvicorn")
    return importlib.import_module("tf_levelset.server.http")


Body = tuple[bytes, str, dict[str, str]]


def pixels(height: int, width: int) -> Body:
    query = {"height": str(height), "width": str(width)}
    return bytes(3 * height * width), PIXELS, query


def files(count: int) -> Body:
    return trial.tf_serving_json(*[encoded(IMAGE, "PNG")] * count), JSON, {}


def refusal(server: ModuleType, body: Body, **bounds: int) -> tuple[int, str]:
    """Returns the code and the message with which images are refused."""
    with pytest.raises(server.HTTPException) as error:
        server.images_of(*body, server.Limits(**bounds))
    return error.value.status_code, error.value.detail


@pytest.mark.parametrize(
    ("body", "bound", "value"),
    [
        # Sides below 33 pixels count as 33.
        (files(3), "pixels", 3 * 33 * 33),
        (files(4), "files", 4),
        (pixels(1, 40), "pixels", 33 * 40),
        (pixels(33, 40), "pixels", 33 * 40),
        ((encoded(IMAGE, "JPEG"), "image/jpeg", {}), "pixels", 33 * 33),
    ],
)
def test_images_are_bounded_before_they_are_decoded(
    server: ModuleType, monkeypatch: Any, body: Body, bound: str, value: int
) -> None:
    images = server.images_of(*body, server.Limits(**{bound: value}))
    assert images.dtype == np.uint8
    monkeypatch.setattr(server, "decode_image", None)
    monkeypatch.setattr(ImageFile.ImageFile, "load", None)
    code, message = refusal(server, body, **{bound: value - 1})
    assert code == 413
    assert message.startswith(f"Expected at most {value - 1} {bound}")
    assert f"Received: {value}" in message


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_files_are_turned_upright(server: ModuleType, format: str) -> None:
    exif, stream = Image.Exif(), io.BytesIO()
    exif[274] = 6
    Image.fromarray(IMAGE).save(stream, format=format, exif=exif)
    files = (stream.getvalue(), encoded(IMAGE, format))
    images, plain = (
        server.images_of(body, f"image/{format.lower()}", {}, server.Limits())
        for body in files
    )
    np.testing.assert_array_equal(images[0], np.rot90(plain[0], -1))


def test_sides_are_bounded(server: ModuleType) -> None:
    limits = server.Limits(pixels=2**40)
    assert len(server.images_of(*pixels(1, server.MAX_SIDE), limits)) == 1
    code, message = refusal(server, pixels(server.MAX_SIDE + 1, 1), pixels=2**40)
    assert (code, "65535 a side" in message) == (413, True)


def test_a_second_header_cannot_hide_the_size(server: ModuleType) -> None:
    png, huge = encoded(IMAGE, "PNG"), trial.large_png()
    # The decoder refuses two headers, whichever of them the size is read from.
    for body in (huge[:33] + png[8:], png[:33] + huge[8:]):
        assert refusal(server, (body, "image/png", {}))[0] in (400, 413)


# --- HTTP ---


@pytest.fixture
def address(server: ModuleType, folder: Path) -> Iterator[tuple[str, int]]:
    """The address of a server with `BOUNDS`, which runs in a thread."""
    import uvicorn

    limits = server.Limits(**BOUNDS)
    app = server.application(NewestVersion(folder), trial.NAME, limits)
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
    address: tuple[str, int], query: str, body: Any, content_type: str
) -> tuple[int, Mapping[str, str], bytes]:
    connection = http.client.HTTPConnection(*address, timeout=60)
    with contextlib.closing(connection):
        path = trial.PREDICT + query
        return serving_clients.request(connection, "POST", path, body, content_type)


def test_images_are_answered_with_masks(
    address: tuple[str, int], models: Models
) -> None:
    expected, _ = trial.direct(models[0][0], IMAGE)
    assert len(np.unique(expected)) > 1
    for query, body, content_type in [
        ("", encoded(IMAGE, "PNG"), "Image/PNG; name=x"),
        ("?height=20&width=30", IMAGE.tobytes(), PIXELS),
    ]:
        code, headers, answer = ask(address, query, body, content_type)
        assert (code, headers["content-type"]) == (200, "image/png")
        assert headers["model-version"] == "1"
        mask = np.array(Image.open(io.BytesIO(answer)))
        np.testing.assert_array_equal(mask, expected)


def test_the_client_of_tensorflow_serving_is_answered(
    address: tuple[str, int], models: Models, tmp_path: Path
) -> None:
    rest, url = (f"http://{address[0]}:{address[1]}{p}" for p in ("", trial.MODEL))
    content, (expected, _) = encoded(IMAGE, "PNG"), trial.direct(models[0][0], IMAGE)
    np.testing.assert_array_equal(mask_over_rest(url, content), expected)
    with pytest.raises(ValueError, match=r"400, .*Expected a JPEG or PNG file"):
        mask_over_rest(url, b"no image")
    with urllib.request.urlopen(url) as response:
        (status,) = json.load(response).values()
    assert (status[0]["version"], status[0]["state"]) == ("1", "AVAILABLE")
    # As a program.
    image, mask = tmp_path / "image.png", tmp_path / "mask.png"
    image.write_bytes(content)
    program = Path(__file__).parent.parent / "docs/examples/serving_client.py"
    command = [sys.executable, program, image, mask, "--rest", rest]
    command += ["--model", trial.NAME]
    subprocess.run(list(map(str, command)), check=True)
    np.testing.assert_array_equal(np.array(Image.open(mask)), expected)


def test_malformed_requests_are_refused(address: Any, caplog: Any) -> None:
    tried = 0
    for asked in trial.malformed_requests():
        # The others need the trial's larger bounds.
        if isinstance(asked.body, bytes) and len(asked.body) < MAX_BYTES:
            assert serving_clients.ask_malformed(address, asked).fault == ""
            tried += 1
    assert tried > 40
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("pieces", [1, 50])
def test_bodies_are_bounded(address: tuple[str, int], pieces: int) -> None:
    body: Any = bytes(MAX_BYTES + 1)
    if pieces > 1:  # Without a length in the header.
        body = iter([body[i::pieces] for i in range(pieces)])
    code, _, answer = ask(address, "", body, "image/png")
    assert code == 413
    message = f"Expected at most {MAX_BYTES} bytes. Received: {MAX_BYTES + 1}"
    assert json.loads(answer)["error"] == message


def test_an_endless_body_is_cut_off(address: tuple[str, int]) -> None:
    with pytest.raises(ConnectionError):
        ask(address, "", itertools.repeat(bytes(2**16)), "image/png")


def test_a_body_must_arrive_in_time(address: tuple[str, int]) -> None:
    head = f"POST {trial.PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: 100"
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


def test_images_that_the_model_cannot_take_are_refused(
    server: ModuleType, address: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    images = np.zeros((1, 20, 30, 4), np.uint8)
    monkeypatch.setattr(server, "images_of", lambda *_: images)
    code, _, answer = ask(address, "", encoded(IMAGE, "PNG"), "image/png")
    assert code == 400
    said = json.loads(answer)["error"]
    assert said.startswith("Expected images that fit the model. Received: ")
    assert "{{" not in said
    damaged = encoded(IMAGE, "PNG")[:-40]
    monkeypatch.undo()
    code, message = refusal(server, (damaged, "image/png", {}))
    assert (code, "{{" in message, "[Op:" in message) == (400, False, False)


def test_a_lack_of_memory_is_reported(
    server: ModuleType, address: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode(_: Any) -> None:
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating")

    monkeypatch.setattr(server, "decode_image", decode)
    code, _, answer = ask(address, "", encoded(IMAGE, "PNG"), "image/png")
    assert code == 503
    assert b"Expected enough free memory" in answer


# --- The command ---


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("uvicorn", "pip install starlette uvicorn"),
        (None, "to hold a version"),
    ],
)
def test_the_command_reports_errors(
    tmp_path: Path,
    missing: str | None,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("uvicorn", reason="without starlette and uvicorn")
    if missing is not None:
        monkeypatch.delitem(sys.modules, "tf_levelset.server.http", raising=False)
        monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(SystemExit) as end:
        command.main([str(tmp_path)])
    assert end.value.code == 1
    assert message in capsys.readouterr().err


def test_connections_and_the_time_to_stop_are_bounded(
    server: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: dict[str, Any] = {}
    monkeypatch.setattr("uvicorn.run", lambda _, **options: found.update(options))
    command.main([str(folder), "--max-clients", "5"])
    assert found["limit_concurrency"] == 6
    assert found["timeout_graceful_shutdown"] == 30
    # An idle connection stays open for longer than clients keep theirs.
    assert found["timeout_keep_alive"] > 60
