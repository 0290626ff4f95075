"""The trial `serving`: a short form, and how it judges the answers of servers."""

from __future__ import annotations

import argparse
import http.client
import io
import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.reliability import serving, serving_clients, serving_requests
from benchmarks.reliability.serving_clients import Answer, Client
from benchmarks.reliability.serving_requests import Malformed, Sound

MASKS = np.zeros((2, 2, 3), np.uint8)
MASKS[1] = 1
DECIDED = np.ones((2, 2, 3), bool)
DECIDED[:, 0, 0] = False
ASKED = Sound("png", "small", "image/png", b"picture", "", tuple(MASKS), tuple(DECIDED))
AS_JSON = json.dumps({"outputs": {"mask": MASKS[:1].tolist()}}).encode()


def png(mask: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(mask).save(stream, "PNG")
    return stream.getvalue()


def headers(version: int, kind: str = "image/png") -> dict[str, str]:
    return {"model-version": str(version), "content-type": kind}


def test_the_short_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for library in ("starlette", "uvicorn"):
        pytest.importorskip(library, reason="without tf_levelset[server]")
    for module in (serving, serving_requests):
        sizes = {"small": ((48, 64), (1, 9)), "medium": ((129, 193),)}
        monkeypatch.setattr(module, "SIZES", sizes)
    monkeypatch.setattr(serving_clients, "SHARES", {"small": 0.7, "medium": 0.3})
    monkeypatch.setattr(serving_clients, "MALFORMED_SHARE", 0.4)
    parser = argparse.ArgumentParser()
    serving.add_options(parser)
    arguments = ["--minutes", "0.1", "--clients", "3", "--swaps", "1"]
    found = serving.measure(parser.parse_args(arguments), tmp_path)
    assert found["faults"] == []
    assert serving.holds(found)
    assert not serving.holds({"faults": ["png: 1 wrong pixels of version 1"]})
    assert found["failed_or_wrong"] == found["malformed_not_refused_well"] == 0
    assert found["masks_right"] == found["masks_asked_for"] > 20
    assert min(version["masks"] for version in found["versions"].values()) > 0
    assert set(found["by_kind"]) == {"pixels", "png", "jpeg", "json"}
    assert found["refused"]["path in JSON"].keys() == {"400"}
    assert found["damaged_versions"] == 1


# --- Clients ---


class Erring(BaseHTTPRequestHandler):
    """Gives the answers in turn."""

    answers: tuple[tuple[int, dict[str, str], bytes], ...] = ()
    asked = 0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        code, fields, body = self.answers[Erring.asked % len(self.answers)]
        Erring.asked += 1
        if code == 0:  # no answer
            return
        self.send_response(code)
        for name, value in fields.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def erring() -> Iterator[tuple[str, int]]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Erring)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield "127.0.0.1", server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


def test_wrong_answers_are_found(erring: tuple[str, int]) -> None:
    wrong = MASKS[0].copy()
    wrong[1, 2] = 5
    Erring.asked, Erring.answers = (
        0,
        (
            (200, headers(1), png(MASKS[0])),
            (200, headers(1), png(wrong)),
            (500, {}, b"Internal Server Error"),
            (0, {}, b""),
            (200, headers(2), png(MASKS[0])),
        ),
    )
    connection = http.client.HTTPConnection(*erring)
    answers = [serving_clients.ask_sound(connection, ASKED) for _ in Erring.answers]
    faults = [answer.fault for answer in answers]
    assert faults[:2] == ["", "png: 1 wrong pixels of version 1"]
    assert faults[2] == "png, small: 500 b'Internal Server Error'"
    assert faults[3].startswith("png: RemoteDisconnected")
    assert faults[4] == "png: 5 wrong pixels of version 2"
    found = serving.counts(answers, 2.0)
    assert (found["masks_asked_for"], found["masks_right"]) == (5, 1)
    assert found["failed_or_wrong"] == 4
    assert found["latency_ms"]["small"]["count"] == 1


def test_clients_go_on_after_any_error(monkeypatch: pytest.MonkeyPatch) -> None:
    stop = threading.Event()
    client = Client(("127.0.0.1", 1), Random(0), [ASKED], [])

    def ask(*_: Any) -> Answer:
        if len(client.answers) == 2:
            stop.set()
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(client, "ask", ask)
    client.work(stop)
    assert [a.fault for a in client.answers] == ["RuntimeError: unforeseen"] * 3


def test_every_malformed_request_has_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = [str(i) for i in range(5)]
    requests = [Malformed(kind, "", b"") for kind in kinds]
    monkeypatch.setattr(serving_clients, "MALFORMED_SHARE", 1.0)
    monkeypatch.setattr(serving_clients, "ask_malformed", lambda _, asked: asked.kind)
    monkeypatch.setattr(serving_clients, "hang_up", lambda *_: "hung up")
    client = Client(("127.0.0.1", 1), Random(0), [ASKED], requests)
    connection = http.client.HTTPConnection("127.0.0.1", 1)
    assert {client.ask(connection) for _ in range(6)} == {*kinds, "hung up"}


def test_masks_are_compared_with_the_net_of_their_version() -> None:
    for version in (1, 2, 3, 4):
        right, other = MASKS[(version - 1) % 2], MASKS[version % 2]
        found = serving_clients.judge(ASKED, 200, headers(version), png(right))
        assert found == {"version": version, "pixels": 6, "differing": 0, "fault": ""}
        found = serving_clients.judge(ASKED, 200, headers(version), png(other))
        assert found["differing"] == 6
        assert "5 wrong pixels" in found["fault"]
    undecided = MASKS[0].copy()
    undecided[0, 0] = 7
    found = serving_clients.judge(ASKED, 200, headers(1), png(undecided))
    assert (found["differing"], found["fault"]) == (1, "")


@pytest.mark.parametrize(
    ("code", "fields", "body", "fault"),
    [
        (200, headers(1, "application/json"), AS_JSON, ""),
        (503, {}, b"Service Unavailable", "503"),
        (200, {}, b"", "no version"),
        (200, headers(1), png(MASKS[0].T), "shape"),
        (200, headers(1), b"no PNG", "no mask"),
        (200, headers(1, "application/json"), b"{}", "no mask"),
        (200, {"model-version": "1"}, png(MASKS[0]), "no mask"),
    ],
)
def test_what_is_no_mask_is_a_fault(
    code: int, fields: dict[str, str], body: bytes, fault: str
) -> None:
    found = serving_clients.judge(ASKED, code, fields, body)["fault"]
    assert fault in found
    assert bool(fault) is bool(found)


def test_a_refusal_has_its_code_and_a_message() -> None:
    asked = Malformed("text", "image/png", b"text")
    good = json.dumps({"error": "Expected an image. Received: none"}).encode()
    assert serving_clients.judge_refusal(asked, 400, good) == ""
    bad = [(500, good), (400, b'{"error": "wrong"}'), (400, b"[]"), (200, b"no JSON")]
    for code, body in bad:
        assert serving_clients.judge_refusal(asked, code, body)


# --- Findings ---


def answers_of(*times: tuple[float, float, int]) -> list[Answer]:
    return [Answer("png", "small", began, ended, 200, v) for began, ended, v in times]


def test_versions_only_go_forward() -> None:
    published = {1: 0.0, 2: 10.0}
    # A request that began before the new version first answered may get the old one.
    sound = answers_of((1, 2, 1), (10, 14, 1), (11, 13, 2), (14.5, 15, 2))
    assert serving.faults_of(sound, published) == []
    back = serving.faults_of([*sound, *answers_of((13.5, 14, 1))], published)
    assert back == ["version 1 after version 2"]
    for version in (2, 1000):  # too early, and the damaged one
        early = serving.faults_of(answers_of((8, 9, version)), published)
        assert early == [f"version {version} before it was there"]


def test_new_versions_must_answer_soon() -> None:
    published = {1: 0.0, 2: 10.0, 3: 20.0, 4: 30.0}
    answers = answers_of((1, 2, 1), (11, 12.5, 2), (60, 61, 3), (62, 63, 3))
    found = serving.taken_up(answers, published)
    assert found["2"] == {"masks": 1, "first_after_seconds": 2.5}
    assert found["3"] == {"masks": 2, "first_after_seconds": 41.0}
    assert found["4"] == {"masks": 0, "first_after_seconds": None}
    assert len(serving.late_versions(found)) == 2


def test_memory_is_bounded() -> None:
    level, grows = [1000.0] * 300, [1000.0 + i / 2 for i in range(600)]
    for memory, faults in (
        (level, []),
        ([*level, 1500.0, *level], []),  # a peak is not growth
        (grows, ["memory: growth of 200.0 MiB"]),
        ([*level, 3000.0], ["memory: peak of 3000.0 MiB"]),
        (grows[:60], []),  # a short trial
    ):
        assert serving.memory_faults(serving.in_thirds(memory)) == faults


def test_percentiles_are_measured_times() -> None:
    found = serving.percentiles([10] * 90 + [20] * 8 + [500] * 2)
    assert found == {"count": 100, "p50": 10, "p95": 20, "p99": 500, "max": 500}
    assert serving.percentiles([]) == {"count": 0}


def test_a_pipe_that_is_opened_is_noticed(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert not serving.is_read(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert serving.is_read(pipe)
    finally:
        os.close(reader)


def test_versions_take_turns_and_one_is_damaged(tmp_path: Path) -> None:
    folder, models = tmp_path / "served", []
    folder.mkdir()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "saved_model.pb").write_text(name * 9)
        models.append((None, tmp_path / name))
    published = serving.Published(folder, models, swaps=3, began=0.0)
    for share in np.arange(0, 1, 0.05):
        published.update(float(share))
    assert list(published.times) == [1, 2, 3, 4]
    held = {n: (folder / str(n) / "saved_model.pb").read_text() for n in (2, 3, 4)}
    assert held == {2: "b" * 9, 3: "a" * 9, 4: "b" * 9}
    assert (folder / "1000" / "saved_model.pb").read_bytes() != b"b" * 9
    assert not list(folder.glob(".partial*"))


def test_a_server_that_does_not_start_ends_the_trial(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder of models")
    with (
        pytest.raises(RuntimeError, match="Expected the server to start"),
        serving.served(tmp_path / "file", tmp_path / "log"),
    ):
        pass


# --- Requests ---


def test_nets_can_be_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {k: v for k, v in serving_requests.SIZES.items() if k != "huge"}
    monkeypatch.setattr(serving_requests, "SIZES", sizes)
    requests = serving_requests.sound_requests(
        [serving_requests.small_net(seed) for seed in (1, 2)], seed=0
    )
    assert {request.size for request in requests} == set(sizes)
    for request in requests:
        first, second = request.masks
        if first.size > 100:
            assert (first != second).mean() > 0.1
            assert len(np.unique(first)) > 2
            assert np.mean(request.decided) > 0.99


def test_malformed_requests_are_of_many_kinds() -> None:
    requests = serving_requests.malformed_requests(Path("/scratch/pipe.png"))
    assert len({request.kind for request in requests}) == 42
    bodies = [r.body for r in requests if isinstance(r.body, bytes)]
    assert any(b"file:///scratch/pipe.png" in body for body in bodies)
    assert max(map(len, bodies)) == serving_requests.MAX_BYTES + 1
