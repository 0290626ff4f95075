"""Asks a server for masks under load, with sound and malformed requests.

Two small nets with weights of their own are exported as versions 1 and 2, 3 and so on.
The real server (`python -m tf_levelset.server`) is started as a child process, and
clients ask it, each one request after the other, about pictures of many sizes: as
pixels, PNG, JPEG and TensorFlow Serving's JSON. Between them come requests that must be
refused. Meanwhile new versions are put into the model's folder, one of them damaged.

Every mask is compared with that of the net of the version which the server names,
called directly; every refusal must have its code and say what was expected. No request
may fail, no answer may come from an older version than one that was already answered,
and the server's memory must stay within bounds.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import http.client
import io
import json
import math
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.harness import environment
from reliability.serving_requests import (
    MAX_BYTES,
    MAX_PIXELS,
    MODEL,
    NAME,
    PREDICT,
    SIZES,
    Malformed,
    Sound,
    malformed_requests,
    small_net,
    sound_requests,
)
from reliability.workers import free_ports
from tf_levelset.files import read_json, write_json
from tf_levelset.inference.score_table import table

ROOT = Path(__file__).resolve().parent.parent

SHARES = {"small": 0.5, "medium": 0.35, "large": 0.14, "huge": 0.01}
MALFORMED_SHARE = 0.15

PATIENCE = 120.0
"""Seconds that the server may take to start, to answer, and to end."""

TAKE_UP_SECONDS = 30.0
"""After which a new version must answer."""

ENDED = (0, -signal.SIGTERM)
"""Codes that the server may end with: Uvicorn raises the signal again, once all that
was under way is answered."""

PEAK_MIB, GROWTH_MIB = 2048, 64
"""What the server's memory may come to, and how much more its median in the last third
of the trial may be than in the first."""

GROWTH_SAMPLES = 180
"""Of memory, one a second: in a shorter trial growth is the first large pictures'."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the trial's options to its parser."""
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--swaps", type=int, default=6, help="new versions")
    parser.add_argument("--seed", type=int, default=0, help="of what is asked")
    parser.add_argument("--out", type=Path, help="the JSON file")
    parser.add_argument(
        "--table", type=Path, metavar="FOLDER", help="only print what its files found"
    )
    parser.add_argument(
        "--scratch", type=Path, help="folder for the models, removed in the end"
    )


def run(options: argparse.Namespace) -> bool:
    """Runs the trial, writes what it found, and tells whether all held."""
    if options.table is not None:
        print(summary(options.table), end="")
        return True
    began, load = time.perf_counter(), os.getloadavg()
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        found = trial(Path(scratch), options)
    found = {
        "trial": "serving",
        "minutes": options.minutes,
        "clients": options.clients,
        "seed": options.seed,
        **found,
        "server": {name: metadata.version(name) for name in ("starlette", "uvicorn")},
        "environment": environment(),
        "processors_allowed": len(os.sched_getaffinity(0)),
        "load_average": {"before": load, "after": os.getloadavg()},
        "seconds": round(time.perf_counter() - began, 1),
    }
    print(json.dumps({k: v for k, v in found.items() if k != "milliseconds"}, indent=1))
    if options.out is not None:
        write_json(options.out, found)
    return not found["faults"]


def trial(scratch: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Serves, asks, exchanges versions, and judges what came of it."""
    models = exported(scratch / "models")
    folder, pipe = scratch / "served", scratch / "pipe.png"
    os.mkfifo(pipe)
    publish(folder, 1, models)
    sound = sound_requests([net for net, _ in models], options.seed)
    refused = malformed_requests(pipe)
    log = scratch / "server.log"
    with served(folder, log) as (process, address):
        clients = [
            Client(address, random.Random(f"{options.seed},{index}"), sound, refused)
            for index in range(options.clients)
        ]
        began = time.perf_counter()
        versions = Published(folder, models, options.swaps, began)
        with working(clients):
            memory = watch(process.pid, versions, 60 * options.minutes)
            wait_for_version(clients, max(versions.times))
        seconds = time.perf_counter() - began
        crashed, opened = process.poll() is not None, is_read(pipe)
        process.send_signal(signal.SIGTERM)
        code = process.wait(PATIENCE)
    answers = [answer for client in clients for answer in client.answers]
    text = log.read_text("utf-8", errors="replace")
    found = {
        **counts(answers, seconds),
        "versions": taken_up(answers, versions.times),
        "damaged_versions": len(versions.damaged),
        "memory_mib": in_thirds(memory),
        "tracebacks": text.count("Traceback"),
        "exit_code": code,
    }
    faults = [
        *faults_of(answers, versions.times),
        *late_versions(found["versions"]),
        *memory_faults(found["memory_mib"]),
        *(["the server ended"] if crashed else []),
        *(["the pipe of a request's path was opened"] if opened else []),
        *(["a traceback in the server's log"] if found["tracebacks"] else []),
        *([f"the server ended with code {code}"] if code not in ENDED else []),
    ]
    return {**found, "faults": faults[:100], "num_faults": len(faults)}


# --- Nets and versions ---


def exported(folder: Path) -> list[tuple[Any, Path]]:
    """Two nets with other weights, and a version folder of each."""
    from tf_levelset.export.saved_model import export

    nets = [small_net(seed) for seed in (1, 2)]
    return [(net, export(net, folder)) for net in nets]


def publish(
    folder: Path, number: int, models: Sequence[tuple[Any, Path]], damage: bool = False
) -> None:
    """Puts a version into the model's folder in one step, as `export` does."""
    partial = folder / f".partial-{number}"
    shutil.copytree(models[(number - 1) % len(models)][1], partial)
    if damage:
        path = partial / "saved_model.pb"
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    partial.rename(folder / str(number))


@dataclass
class Published:
    """The versions that are put into the model's folder while the trial goes on.

    Args:
        folder: of the served model.
        models: whose versions are put there by turns.
        swaps: how many.
        began: when version 1 was there.
    """

    folder: Path
    models: Sequence[tuple[Any, Path]]
    swaps: int
    began: float
    damaged: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.times = {1: self.began}

    def update(self, share: float) -> None:
        """Puts there what is due once such a share of the trial has gone by."""
        if share * (self.swaps + 1) < len(self.times):
            return
        number = len(self.times) + 1
        if number > self.swaps + 1:
            return
        # A damaged one, of a higher number, once: it must not hold up the next.
        if not self.damaged:
            self.damaged.append(1000)
            publish(self.folder, 1000, self.models, damage=True)
        publish(self.folder, number, self.models)
        self.times[number] = time.perf_counter()


# --- The server ---


@contextlib.contextmanager
def served(
    folder: Path, log: Path
) -> Iterator[tuple[subprocess.Popen[bytes], tuple[str, int]]]:
    """The server, ready, and its address; it is killed if it is there in the end."""
    host, (port,) = "127.0.0.1", free_ports(1)
    command = [sys.executable, "-m", "tf_levelset.server", str(folder)]
    command += ["--name", NAME, "--host", host, "--port", str(port)]
    command += ["--max-bytes", str(MAX_BYTES), "--max-pixels", str(MAX_PIXELS)]
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env={"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ},
        )
    try:
        wait_until_ready(process, (host, port), log)
        yield process, (host, port)
    finally:
        process.kill()
        process.wait()


def wait_until_ready(
    process: subprocess.Popen[bytes], address: tuple[str, int], log: Path
) -> None:
    """Waits until the server answers."""
    began = time.perf_counter()
    while True:
        connection = http.client.HTTPConnection(*address)
        with (
            contextlib.suppress(ConnectionRefusedError),
            contextlib.closing(connection),
        ):
            if ask(connection, "GET", MODEL)[0] == 200:
                return
        ended = process.poll() is not None
        if ended or time.perf_counter() - began > PATIENCE:
            text = log.read_text("utf-8", errors="replace")[-2000:]
            raise RuntimeError(f"Expected the server to start. Received: {text}")
        time.sleep(0.1)


def watch(pid: int, versions: Published, seconds: float) -> list[float]:
    """The server's memory in MiB, once a second, while versions are exchanged."""
    began, found = time.perf_counter(), []
    while (gone := time.perf_counter() - began) < seconds:
        versions.update(gone / seconds)
        with contextlib.suppress(FileNotFoundError):
            found.append(resident_mib(pid))
        time.sleep(min(1.0, seconds / 60))
    return found


def resident_mib(pid: int) -> float:
    """What a process has in memory (Linux)."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)


def is_read(pipe: Path) -> bool:
    """Whether somebody has a named pipe open to read."""
    try:
        os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
    except OSError as error:
        if error.errno == errno.ENXIO:
            return False
        raise
    return True


# --- Clients ---


@dataclass(frozen=True)
class Answer:
    """What came of a request.

    Args:
        kind: of the request.
        size: a name of `SIZES`; None of a malformed request.
        began: when it was sent, in seconds.
        ended: when it was answered.
        code: of HTTP; 0 if there was no answer.
        version: that the server named; 0 if none.
        pixels: of the mask.
        differing: pixels whose class is another than the net's, decided or not.
        fault: what is wrong with it, or nothing.
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
        address: of the server.
        chance: what is sent.
        sound: requests to answer.
        malformed: requests to refuse.
    """

    address: tuple[str, int]
    chance: random.Random
    sound: Sequence[Sound]
    malformed: Sequence[Malformed]
    answers: list[Answer] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.turn = self.chance.randrange(len(self.malformed) + 1)

    def work(self, stop: threading.Event) -> None:
        """Asks until it is to stop."""
        connection = http.client.HTTPConnection(*self.address, timeout=PATIENCE)
        while not stop.is_set():
            try:
                answer = self._ask(connection)
            # Whatever an answer is, the client goes on, and tells it.
            except Exception as error:
                fault = f"{type(error).__name__}: {error}"
                now = time.perf_counter()
                answer = Answer("client", None, now, now, 0, fault=fault)
            self.answers.append(answer)
            if answer.fault:
                time.sleep(0.1)
        connection.close()

    def _ask(self, connection: http.client.HTTPConnection) -> Answer:
        if self.chance.random() >= MALFORMED_SHARE:
            return self._ask_sound(connection)
        # The server closes connections that rest for some seconds, as these may take.
        connection.close()
        # One kind after the other, so that each has its turn.
        self.turn += 1
        place = self.turn % (len(self.malformed) + 1)
        if place == len(self.malformed):
            return hang_up(self.address, self.chance.choice(self.sound))
        return ask_malformed(self.address, self.malformed[place])

    def _ask_sound(self, connection: http.client.HTTPConnection) -> Answer:
        size = self.chance.choices(list(SHARES), list(SHARES.values()))[0]
        request = self.chance.choice([r for r in self.sound if r.size == size])
        began = time.perf_counter()
        try:
            code, headers, body = ask(
                connection,
                "POST",
                PREDICT + request.query,
                request.body,
                request.content_type,
            )
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            fault = f"{request.kind}: {type(error).__name__} {error}"
            return Answer(
                request.kind, size, began, time.perf_counter(), 0, fault=fault
            )
        ended = time.perf_counter()
        judged = judge(request, code, headers, body)
        return Answer(request.kind, size, began, ended, code, **judged)


@contextlib.contextmanager
def working(clients: Sequence[Client]) -> Iterator[None]:
    """Has clients ask, each in a thread, for a while."""
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


def wait_for_version(clients: Sequence[Client], number: int) -> None:
    """Waits until a version has answered, or for as long as it may take."""
    began = time.perf_counter()
    while time.perf_counter() - began < TAKE_UP_SECONDS:
        if any(a.version == number for client in clients for a in list(client.answers)):
            return
        time.sleep(0.1)


def ask(
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


def judge(
    request: Sound, code: int, headers: Mapping[str, str], body: bytes
) -> dict[str, Any]:
    """Compares an answer with the net's, called directly."""
    if code != 200:
        return {"fault": f"{request.kind}, {request.size}: {code} {body[:200]!r}"}
    version = int(headers.get("model-version", 0))
    if version < 1:
        return {"fault": f"{request.kind}: no version"}
    try:
        mask = mask_of(body, headers)
    # What is no mask may be anything.
    except Exception as error:
        return {"fault": f"{request.kind}: no mask, {type(error).__name__} {error}"}
    expected, decided = (
        values[(version - 1) % len(values)]
        for values in (request.masks, request.decided)
    )
    judged = {"version": version, "pixels": expected.size}
    if mask.shape != expected.shape:
        return {**judged, "fault": f"{request.kind}: a mask of shape {mask.shape}"}
    differs = mask != expected
    wrong = int((differs & decided).sum())
    fault = f"{request.kind}: {wrong} wrong pixels of version {version}"
    return {
        **judged,
        "differing": int(differs.sum()),
        "fault": fault if wrong else "",
    }


def mask_of(body: bytes, headers: Mapping[str, str]) -> np.ndarray:
    """The mask in an answer."""
    if headers["content-type"] == "image/png":
        return np.array(Image.open(io.BytesIO(body)))
    return np.array(json.loads(body)["outputs"]["mask"][0], np.uint8)


def ask_malformed(address: tuple[str, int], request: Malformed) -> Answer:
    """Sends a malformed request, over a connection of its own."""
    connection = http.client.HTTPConnection(*address, timeout=PATIENCE)
    began = time.perf_counter()
    try:
        code, _, body = ask(
            connection, request.method, request.path, request.body, request.content_type
        )
        fault = judge_refusal(request, code, body)
    except (OSError, http.client.HTTPException) as error:
        code, fault = 0, f"{request.kind}: {type(error).__name__} {error}"
    finally:
        connection.close()
    return Answer(request.kind, None, began, time.perf_counter(), code, fault=fault)


def judge_refusal(request: Malformed, code: int, body: bytes) -> str:
    """What is wrong with a refusal, or nothing."""
    try:
        message = str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        message = ""
    told = message.startswith("Expected ") and " Received: " in message
    if code == request.code and told:
        return ""
    return f"{request.kind}: {code} instead of {request.code}, {body[:200]!r}"


HUNG_UP = "client hangs up"


def hang_up(address: tuple[str, int], request: Sound) -> Answer:
    """Sends half of a body and goes away."""
    began = time.perf_counter()
    head = (
        f"POST {PREDICT}{request.query} HTTP/1.1\r\nHost: {address[0]}\r\n"
        f"Content-Type: {request.content_type}\r\n"
        f"Content-Length: {len(request.body)}\r\n\r\n"
    )
    with socket.create_connection(address, PATIENCE) as stream:
        stream.sendall(head.encode() + request.body[: len(request.body) // 2])
    return Answer(HUNG_UP, None, began, time.perf_counter(), 0)


# --- What came of it ---


def counts(answers: Sequence[Answer], seconds: float) -> dict[str, Any]:
    """Numbers of requests, and how long they took, as JSON's types."""
    sound = [answer for answer in answers if answer.size is not None]
    right = [answer for answer in sound if not answer.fault]
    malformed = [answer for answer in answers if answer.size is None]
    refused: dict[str, Counter[str]] = {}
    for answer in malformed:
        refused.setdefault(answer.kind, Counter())[str(answer.code)] += 1
    latencies = {
        size: Counter(
            math.ceil(1000 * (answer.ended - answer.began))
            for answer in right
            if answer.size == size
        )
        for size in SIZES
    }
    return {
        "requests": len(answers),
        "masks_asked_for": len(sound),
        "masks_right": len(right),
        "failed_or_wrong": len(sound) - len(right),
        "malformed": len(malformed),
        "malformed_not_refused_well": sum(bool(answer.fault) for answer in malformed),
        "by_kind": dict(Counter(answer.kind for answer in sound)),
        "pixels": sum(answer.pixels for answer in right),
        "undecided_pixels_that_differ": sum(answer.differing for answer in right),
        "masks_a_second": round(len(right) / seconds, 2),
        "megapixels_a_second": round(
            sum(answer.pixels for answer in right) / seconds / 1e6, 3
        ),
        "latency_ms": {size: percentiles(times) for size, times in latencies.items()},
        "refused": {kind: dict(codes) for kind, codes in sorted(refused.items())},
        "milliseconds": {
            size: {str(time): times[time] for time in sorted(times)}
            for size, times in latencies.items()
        },
    }


def percentiles(times: Mapping[int, int]) -> dict[str, int]:
    """The number of times, and those that a half, 95 % and 99 % are not above."""
    every = np.repeat(list(times), list(times.values())).astype(int)
    if not every.size:
        return {"count": 0}
    shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
    return {
        "count": int(every.size),
        **{
            k: int(np.quantile(every, q, method="inverted_cdf"))
            for k, q in shares.items()
        },
    }


def faults_of(answers: Sequence[Answer], published: Mapping[int, float]) -> list[str]:
    """What is wrong with answers, each by itself and in their order in time."""
    faults = [answer.fault for answer in answers if answer.fault]
    named = [answer for answer in answers if answer.version]
    faults += [
        f"version {answer.version} before it was there"
        for answer in named
        if answer.ended < published.get(answer.version, math.inf)
    ]
    # By turns: an answer that ended before another was asked for is older than it.
    newest, by_end = 0, iter(sorted(named, key=lambda answer: answer.ended))
    before = next(by_end, None)
    for answer in sorted(named, key=lambda answer: answer.began):
        while before is not None and before.ended < answer.began:
            newest = max(newest, before.version)
            before = next(by_end, None)
        if answer.version < newest:
            faults.append(f"version {answer.version} after version {newest}")
    return faults


def taken_up(
    answers: Sequence[Answer], published: Mapping[int, float]
) -> dict[str, dict[str, Any]]:
    """For each version, its masks, and the seconds to its first from when it came."""
    found = {}
    for number, at in published.items():
        ends = [answer.ended for answer in answers if answer.version == number]
        first = round(min(ends) - at, 2) if ends else None
        found[str(number)] = {"masks": len(ends), "first_after_seconds": first}
    return found


def late_versions(versions: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Versions that never answered, or late."""
    return [
        f"version {number} first answered after {found['first_after_seconds']} s"
        for number, found in versions.items()
        if found["first_after_seconds"] is None
        or found["first_after_seconds"] > TAKE_UP_SECONDS
    ]


def in_thirds(memory: Sequence[float]) -> dict[str, Any]:
    """The median of each third of a trial, the peak, and the growth."""
    thirds = [round(float(np.median(part)), 1) for part in np.array_split(memory, 3)]
    return {
        "samples": len(memory),
        "thirds": thirds,
        "growth": round(thirds[2] - thirds[0], 1),
        "peak": max(memory),
        "growth_bound": GROWTH_MIB if len(memory) >= GROWTH_SAMPLES else None,
        "peak_bound": PEAK_MIB,
    }


def memory_faults(memory: Mapping[str, Any]) -> list[str]:
    """Bounds of the server's memory that did not hold."""
    bounds = {name: memory[f"{name}_bound"] for name in ("growth", "peak")}
    return [
        f"memory: {name} of {memory[name]} MiB"
        for name, bound in bounds.items()
        if bound is not None and memory[name] > bound
    ]


def summary(folder: Path) -> str:
    """What the JSON files of a folder found, as Markdown tables."""
    results = [read_json(path) for path in sorted(folder.glob("*.json"))]
    return "\n".join(text for result in results for text in tables(result))


def tables(found: Mapping[str, Any]) -> list[str]:
    """A trial's findings, its latencies, and what it was refused."""
    waits = [v["first_after_seconds"] for v in found["versions"].values()][1:]
    known = [wait for wait in waits if wait is not None]
    memory, thirds = found["memory_mib"], found["memory_mib"]["thirds"]
    rows = {
        "": f"{found['minutes']:g} minutes, {found['clients']} clients",
        "masks asked for": f"{found['masks_asked_for']:,}",
        "failed or wrong": found["failed_or_wrong"],
        "pixels compared": f"{found['pixels']:,}",
        "of them between two classes, and the other one": (
            f"{found['undecided_pixels_that_differ']:,}"
        ),
        "malformed requests": f"{found['malformed']:,}",
        "not refused as they should be": found["malformed_not_refused_well"],
        "new versions under load": len(waits),
        "of them answered": len(known),
        "after seconds, at most": max(known, default="none"),
        "damaged versions passed over": found["damaged_versions"],
        "masks a second": f"{found['masks_a_second']:g}",
        "megapixels a second": f"{found['megapixels_a_second']:g}",
        "memory, MiB: first, second, last third": " / ".join(
            f"{m:.0f}" for m in thirds
        ),
        "growth, bound": f"{memory['growth']:.0f}, {memory['growth_bound'] or 'none'}",
        "peak, bound": f"{memory['peak']:.0f}, {memory['peak_bound']}",
        "faults": found["num_faults"],
    }
    names = ("p50", "p95", "p99", "max")
    latencies = [
        [size, f"{times['count']:,}", *(str(times.get(name, "")) for name in names)]
        for size, times in found["latency_ms"].items()
    ]
    refused = [
        [
            kind,
            f"{sum(codes.values()):,}",
            ", ".join("none" if code == "0" else code for code in codes),
        ]
        for kind, codes in found["refused"].items()
    ]
    return [
        table([[name, str(value)] for name, value in rows.items()]),
        table([["pictures", "masks", *(f"{name}, ms" for name in names)], *latencies]),
        table([["refused", "requests", "code"], *refused]),
    ]
