"""Asks a server for masks under load, with sound and malformed requests.

Two small nets with different weights are exported as the versions 1 and 2, 3 and so on.
The real server (`python -m tf_levelset.server`) is started as a child process. Clients
ask it for masks of images of many sizes, each one request after the other: as pixels,
PNG, JPEG and TensorFlow Serving's JSON. Among these are requests that must be refused.
Meanwhile new versions are put into the model's folder, one of them damaged.

Every mask is compared with that of the net of the version which the server names,
called directly; every refusal must have its code and state what was expected. No
request may fail, no answer may come from an older version than an earlier answer, and
the server's memory must stay within bounds.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import http.client
import math
import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.reliability.processes import Process, free_ports, started, text_of
from benchmarks.reliability.serving_clients import (
    PATIENCE,
    Answer,
    Client,
    request,
    working,
)
from benchmarks.reliability.serving_requests import (
    MAX_BYTES,
    MAX_PIXELS,
    MODEL,
    NAME,
    SIZES,
    malformed_requests,
    small_net,
    sound_requests,
)

TAKE_UP_SECONDS = 30.0
"""After which a new version must answer."""

ENDED = (0, -signal.SIGTERM)
"""Codes that the server may end with: Uvicorn raises the signal again when all requests
have been answered."""

PEAK_MIB, GROWTH_MIB = 2048, 64
"""Bounds of the server's memory, and of how much larger its median may be in the last
third of the trial than in the first."""

GROWTH_SAMPLES = 180
"""Of memory, one a second. In a shorter trial the first large images make it grow."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this trial."""
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--swaps", type=int, default=6, help="new versions")
    parser.add_argument("--seed", type=int, default=0, help="of the requests")


def measure(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Serves, asks and replaces versions; returns the findings."""
    before = os.getloadavg()
    return {
        "minutes": options.minutes,
        "clients": options.clients,
        "seed": options.seed,
        **trial(scratch, options),
        "server": {name: metadata.version(name) for name in ("starlette", "uvicorn")},
        "processors_allowed": len(os.sched_getaffinity(0)),
        "load_average": {"before": before, "after": os.getloadavg()},
    }


def holds(found: Mapping[str, Any]) -> bool:
    """Tells whether there were no faults."""
    return not found["faults"]


def trial(scratch: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Runs the trial; returns what was counted and the faults."""
    models = exported(scratch / "models")
    folder, pipe, log = scratch / "served", scratch / "pipe.png", scratch / "log"
    os.mkfifo(pipe)
    publish(folder, 1, models)
    sound = sound_requests([net for net, _ in models], options.seed)
    refused = malformed_requests(pipe)
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
    tracebacks = text_of(log).count("Traceback")
    taken, used = taken_up(answers, versions.times), in_thirds(memory)
    others = {
        "the server ended": crashed,
        "the pipe of a request's path was opened": opened,
        "a traceback in the server's log": tracebacks,
        f"the server ended with code {code}": code not in ENDED,
    }
    faults = faults_of(answers, versions.times) + late_versions(taken)
    faults += memory_faults(used) + [text for text, is_so in others.items() if is_so]
    return {
        **counts(answers, seconds),
        "versions": taken,
        "damaged_versions": len(versions.damaged),
        "memory_mib": used,
        "tracebacks": tracebacks,
        "exit_code": code,
        "faults": faults[:100],
        "num_faults": len(faults),
    }


# --- Nets and versions ---


def exported(folder: Path) -> list[tuple[Any, Path]]:
    """Returns two nets with different weights, and a version folder of each."""
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
    """The versions that are put into the model's folder during the trial.

    Args:
        folder: Of the served model.
        models: Take turns.
        swaps: The number of new versions.
        began: When version 1 was there.
    """

    folder: Path
    models: Sequence[tuple[Any, Path]]
    swaps: int
    began: float
    damaged: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.times = {1: self.began}

    def update(self, share: float) -> None:
        """Publishes the next version if it is due after this share of the trial."""
        number = len(self.times) + 1
        due = share * (self.swaps + 1) >= len(self.times)
        if not due or number > self.swaps + 1:
            return
        # A damaged one with a higher number, once: it must not stop the next ones.
        if not self.damaged:
            self.damaged.append(1000)
            publish(self.folder, 1000, self.models, damage=True)
        publish(self.folder, number, self.models)
        self.times[number] = time.perf_counter()


# --- The server ---


@contextlib.contextmanager
def served(folder: Path, log: Path) -> Iterator[tuple[Process, tuple[str, int]]]:
    """Starts the server and waits until it is ready; it is killed at the end."""
    address = ("127.0.0.1", free_ports(1)[0])
    command = ["-m", "tf_levelset.server", str(folder), "--name", NAME]
    command += ["--host", address[0], "--port", str(address[1])]
    command += ["--max-bytes", str(MAX_BYTES), "--max-pixels", str(MAX_PIXELS)]
    with started(command, log) as process:
        wait_until_ready(process, address, log)
        yield process, address


def wait_until_ready(process: Process, address: tuple[str, int], log: Path) -> None:
    """Waits until the server answers.

    Raises:
        RuntimeError: If it ends or takes too long.
    """
    began = time.perf_counter()
    while process.poll() is None and time.perf_counter() - began < PATIENCE:
        connection = http.client.HTTPConnection(*address)
        with (
            contextlib.suppress(ConnectionRefusedError),
            contextlib.closing(connection),
        ):
            if request(connection, "GET", MODEL)[0] == 200:
                return
        time.sleep(0.1)
    text = text_of(log)[-2000:]
    raise RuntimeError(f"Expected the server to start. Received: {text}")


def wait_for_version(clients: Sequence[Client], number: int) -> None:
    """Waits until a version has answered, at most `TAKE_UP_SECONDS`."""
    began = time.perf_counter()
    while time.perf_counter() - began < TAKE_UP_SECONDS:
        if any(a.version == number for client in clients for a in list(client.answers)):
            return
        time.sleep(0.1)


def watch(pid: int, versions: Published, seconds: float) -> list[float]:
    """Publishes versions; returns the server's memory in MiB, once a second."""
    began, found = time.perf_counter(), []
    while (gone := time.perf_counter() - began) < seconds:
        versions.update(gone / seconds)
        with contextlib.suppress(FileNotFoundError):
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            found.append(round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1))
        time.sleep(min(1.0, seconds / 60))
    return found


def is_read(pipe: Path) -> bool:
    """Tells whether a process has opened a named pipe to read it."""
    try:
        os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
    except OSError as error:
        if error.errno == errno.ENXIO:
            return False
        raise
    return True


# --- Findings ---


def counts(answers: Sequence[Answer], seconds: float) -> dict[str, Any]:
    """Returns numbers of requests and how long they took."""
    sound = [answer for answer in answers if answer.size is not None]
    right = [answer for answer in sound if not answer.fault]
    malformed = [answer for answer in answers if answer.size is None]
    refused: dict[str, Counter[str]] = {}
    for answer in malformed:
        refused.setdefault(answer.kind, Counter())[str(answer.code)] += 1
    times: dict[str, list[int]] = {size: [] for size in SIZES}
    for answer in right:
        milliseconds = math.ceil(1000 * (answer.ended - answer.began))
        times[str(answer.size)].append(milliseconds)
    pixels = sum(answer.pixels for answer in right)
    return {
        "requests": len(answers),
        "masks_asked_for": len(sound),
        "masks_right": len(right),
        "failed_or_wrong": len(sound) - len(right),
        "malformed": len(malformed),
        "malformed_not_refused_well": sum(bool(answer.fault) for answer in malformed),
        "by_kind": dict(Counter(answer.kind for answer in sound)),
        "pixels": pixels,
        "undecided_pixels_that_differ": sum(answer.differing for answer in right),
        "masks_a_second": round(len(right) / seconds, 2),
        "megapixels_a_second": round(pixels / seconds / 1e6, 3),
        "latency_ms": {size: percentiles(values) for size, values in times.items()},
        "refused": {kind: dict(codes) for kind, codes in sorted(refused.items())},
    }


def percentiles(milliseconds: Sequence[int]) -> dict[str, int]:
    """Returns the number of times, and what 50, 95 and 99 % of them do not exceed."""
    if not milliseconds:
        return {"count": 0}
    shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
    found = {"count": len(milliseconds)}
    for name, share in shares.items():
        found[name] = int(np.quantile(milliseconds, share, method="inverted_cdf"))
    return found


def faults_of(answers: Sequence[Answer], published: Mapping[int, float]) -> list[str]:
    """Returns the faults of answers and of their order."""
    faults = [answer.fault for answer in answers if answer.fault]
    named = [answer for answer in answers if answer.version]
    faults += [
        f"version {answer.version} before it was there"
        for answer in named
        if answer.ended < published.get(answer.version, math.inf)
    ]
    # An answer that ended before another request began must not have a newer version.
    newest, by_end = 0, sorted(named, key=lambda answer: answer.ended, reverse=True)
    for answer in sorted(named, key=lambda answer: answer.began):
        while by_end and by_end[-1].ended < answer.began:
            newest = max(newest, by_end.pop().version)
        if answer.version < newest:
            faults.append(f"version {answer.version} after version {newest}")
    return faults


def taken_up(
    answers: Sequence[Answer], published: Mapping[int, float]
) -> dict[str, dict[str, Any]]:
    """Returns the masks of each version, and after how many seconds its first came."""
    found = {}
    for number, at in published.items():
        ends = [answer.ended for answer in answers if answer.version == number]
        first = round(min(ends) - at, 2) if ends else None
        found[str(number)] = {"masks": len(ends), "first_after_seconds": first}
    return found


def late_versions(versions: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Returns the faults of versions that answered late or never."""
    first = {number: found["first_after_seconds"] for number, found in versions.items()}
    return [
        f"version {number} first answered after {seconds} s"
        for number, seconds in first.items()
        if seconds is None or seconds > TAKE_UP_SECONDS
    ]


def in_thirds(memory: Sequence[float]) -> dict[str, Any]:
    """Returns the median of each third of a trial, the peak and the growth."""
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
    """Returns the bounds of memory that were exceeded."""
    bounds = {name: memory[f"{name}_bound"] for name in ("growth", "peak")}
    return [
        f"memory: {name} of {memory[name]} MiB"
        for name, bound in bounds.items()
        if bound is not None and memory[name] > bound
    ]
