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
import http.client
import math
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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
    malformed_requests,
    small_net,
    sound_requests,
)

TAKE_UP_SECONDS = 30.0
"""After which a new version must answer."""

ENDED = (0, -signal.SIGTERM)
"""Codes that the server may end with: Uvicorn raises the signal again when all requests
have been answered."""

PEAK_MIB = 2048
"""Bound of the server's memory."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this trial."""
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--swaps", type=int, default=6, help="new versions")
    parser.add_argument("--seed", type=int, default=0, help="of the requests")


def measure(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Serves, asks and replaces versions; returns the findings."""
    models = exported(scratch / "models")
    folder, log = scratch / "served", scratch / "log"
    publish(folder, 1, models)
    sound = sound_requests([net for net, _ in models], options.seed)
    refused = malformed_requests()
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
        crashed = process.poll() is not None
        process.send_signal(signal.SIGTERM)
        code = process.wait(PATIENCE)
    answers = [answer for client in clients for answer in client.answers]
    others = {
        "the server ended": crashed,
        "a traceback in the server's log": "Traceback" in text_of(log),
        f"the server ended with code {code}": code not in ENDED,
        f"memory: peak of {max(memory)} MiB": max(memory) > PEAK_MIB,
    }
    faults = faults_of(answers, versions.times)
    faults += late_versions(answers, versions.times)
    faults += [text for text, is_so in others.items() if is_so]
    return {
        "minutes": options.minutes,
        "clients": options.clients,
        **counts(answers, seconds),
        "versions": len(versions.times),
        "damaged_versions": len(versions.damaged),
        "peak_memory_mib": max(memory),
        "faults": faults[:100],
    }


def holds(found: Mapping[str, Any]) -> bool:
    """Tells whether there were no faults."""
    return not found["faults"]


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


# --- Findings ---


def counts(answers: Sequence[Answer], seconds: float) -> dict[str, Any]:
    """Returns numbers of requests and how long the masks took."""
    sound = [answer for answer in answers if answer.size is not None]
    right = [answer for answer in sound if not answer.fault]
    malformed = [answer for answer in answers if answer.size is None]
    times = [answer.ended - answer.began for answer in right]
    return {
        "masks_asked_for": len(sound),
        "failed_or_wrong": len(sound) - len(right),
        "pixels": sum(answer.pixels for answer in right),
        "undecided_pixels_that_differ": sum(answer.differing for answer in right),
        "malformed": len(malformed),
        "malformed_not_refused_well": sum(bool(answer.fault) for answer in malformed),
        "masks_a_second": round(len(right) / seconds, 2),
        "seconds_p50": round(float(np.quantile(times, 0.5)), 3) if times else None,
        "seconds_p99": round(float(np.quantile(times, 0.99)), 3) if times else None,
    }


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


def late_versions(
    answers: Sequence[Answer], published: Mapping[int, float]
) -> list[str]:
    """Returns the faults of versions that answered late or never."""
    faults = []
    for number, at in published.items():
        ends = [answer.ended for answer in answers if answer.version == number]
        seconds = min(ends, default=math.inf) - at
        if seconds > TAKE_UP_SECONDS:
            faults.append(f"version {number} first answered after {seconds:.1f} s")
    return faults
