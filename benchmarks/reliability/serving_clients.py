"""Clients of the trial `serving`: they ask, one request after the other, and judge."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import random
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.reliability.serving_requests import PREDICT, Malformed, Sound

SHARES = {"small": 0.5, "medium": 0.35, "large": 0.14, "huge": 0.01}
MALFORMED_SHARE = 0.15
PATIENCE = 120.0
"""Seconds that the server may take to start, to answer and to end."""


@dataclass(frozen=True)
class Answer:
    """The answer to a request.

    Args:
        kind: Of the request.
        size: A name of `SIZES`; None for a malformed request.
        began: When the request was sent, in seconds.
        ended: When it was answered.
        code: Of HTTP; 0 if there was no answer.
        version: Of the model, as the server named it; 0 if it named none.
        pixels: Of the mask.
        differing: Pixels whose class is not the net's, decided or not.
        fault: What is wrong, or an empty text.
    """

    kind: str
    size: str | None
    began: float
    ended: float
    code: int
    version: int = 0
    pixels: int = 0
    differing: int = 0
    fault: str = ""


@dataclass
class Client:
    """Sends one request after the other.

    Args:
        address: Of the server.
        chance: Decides what is sent.
        sound: Requests that must be answered.
        malformed: Requests that must be refused.
    """

    address: tuple[str, int]
    chance: random.Random
    sound: Sequence[Sound]
    malformed: Sequence[Malformed]
    answers: list[Answer] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.turn = self.chance.randrange(len(self.malformed))

    def work(self, stop: threading.Event) -> None:
        """Asks until `stop` is set."""
        connection = http.client.HTTPConnection(*self.address, timeout=PATIENCE)
        while not stop.is_set():
            try:
                answer = self.ask(connection)
            # Whatever an answer is, the client goes on and reports it.
            except Exception as error:
                fault = f"{type(error).__name__}: {error}"
                now = time.perf_counter()
                answer = Answer("client", None, now, now, 0, fault=fault)
            self.answers.append(answer)
            if answer.fault:
                time.sleep(0.1)
        connection.close()

    def ask(self, connection: http.client.HTTPConnection) -> Answer:
        """Sends one request, sound or malformed."""
        if self.chance.random() >= MALFORMED_SHARE:
            size = self.chance.choices(list(SHARES), list(SHARES.values()))[0]
            request = self.chance.choice([r for r in self.sound if r.size == size])
            return ask_sound(connection, request)
        # The server closes connections that are idle for some seconds.
        connection.close()
        # Each kind has its turn.
        self.turn = (self.turn + 1) % len(self.malformed)
        return ask_malformed(self.address, self.malformed[self.turn])


@contextlib.contextmanager
def working(clients: Sequence[Client]) -> Iterator[None]:
    """Lets clients ask, each in a thread, during the context."""
    stop = threading.Event()
    threads = [threading.Thread(target=c.work, args=(stop,)) for c in clients]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def request(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes | tuple[bytes, ...] = b"",
    content_type: str = "",
) -> tuple[int, Mapping[str, str], bytes]:
    """Sends a request; returns code, headers and body of the answer."""
    headers = {"Content-Type": content_type} if content_type else {}
    connection.request(method, path, body, headers)
    with connection.getresponse() as response:
        found = {name.lower(): value for name, value in response.headers.items()}
        return response.status, found, response.read()


def ask_sound(connection: http.client.HTTPConnection, asked: Sound) -> Answer:
    """Asks for a mask and compares it."""
    path = PREDICT + asked.query
    code, judged = 0, {}
    began = time.perf_counter()
    try:
        code, headers, body = request(
            connection, "POST", path, asked.body, asked.content_type
        )
        ended = time.perf_counter()
        judged = judge(asked, code, headers, body)
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        ended = time.perf_counter()
        judged = {"fault": f"{asked.kind}: {type(error).__name__} {error}"}
    return Answer(asked.kind, asked.size, began, ended, code, **judged)


def judge(
    asked: Sound, code: int, headers: Mapping[str, str], body: bytes
) -> dict[str, Any]:
    """Compares an answer with the mask of the net, called directly."""
    if code != 200:
        return {"fault": f"{asked.kind}, {asked.size}: {code} {body[:200]!r}"}
    version = int(headers.get("model-version", 0))
    if version < 1:
        return {"fault": f"{asked.kind}: no version"}
    try:
        mask = mask_of(body, headers)
    # What is not a mask may be anything.
    except Exception as error:
        return {"fault": f"{asked.kind}: no mask, {type(error).__name__} {error}"}
    net = (version - 1) % len(asked.masks)
    expected, decided = asked.masks[net], asked.decided[net]
    judged = {"version": version, "pixels": expected.size}
    if mask.shape != expected.shape:
        return {**judged, "fault": f"{asked.kind}: a mask of shape {mask.shape}"}
    differs = mask != expected
    wrong = int((differs & decided).sum())
    fault = f"{asked.kind}: {wrong} wrong pixels of version {version}" if wrong else ""
    return {**judged, "differing": int(differs.sum()), "fault": fault}


def mask_of(body: bytes, headers: Mapping[str, str]) -> np.ndarray:
    """Returns the mask in an answer."""
    if headers["content-type"] == "image/png":
        return np.array(Image.open(io.BytesIO(body)))
    return np.array(json.loads(body)["outputs"]["mask"][0], np.uint8)


def ask_malformed(address: tuple[str, int], asked: Malformed) -> Answer:
    """Sends a malformed request over a connection of its own."""
    connection = http.client.HTTPConnection(*address, timeout=PATIENCE)
    began = time.perf_counter()
    try:
        code, _, body = request(
            connection, asked.method, asked.path, asked.body, asked.content_type
        )
        fault = judge_refusal(asked, code, body)
    except (OSError, http.client.HTTPException) as error:
        code, fault = 0, f"{asked.kind}: {type(error).__name__} {error}"
    finally:
        connection.close()
    return Answer(asked.kind, None, began, time.perf_counter(), code, fault=fault)


def judge_refusal(asked: Malformed, code: int, body: bytes) -> str:
    """Returns what is wrong with a refusal, or an empty text."""
    try:
        message = str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        message = ""
    explained = message.startswith("Expected ") and " Received: " in message
    if code == asked.code and explained:
        return ""
    return f"{asked.kind}: {code} instead of {asked.code}, {body[:200]!r}"
