"""Programs that a trial starts, waits for and kills, and comparisons of results."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import ROOT

Process = subprocess.Popen[bytes]


@contextlib.contextmanager
def started(command: Sequence[str], log: Path, **variables: str) -> Iterator[Process]:
    """Starts Python with arguments, and kills it if it is still there at the end.

    Args:
        command: The arguments of Python.
        log: The file that the program's output is added to.
        **variables: Of its environment.
    """
    with log.open("ab") as stream:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env={"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ, **variables},
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def expect_success(process: Process, log: Path) -> None:
    """Waits for the end of a program.

    Raises:
        RuntimeError: If its exit code is not 0.
    """
    code = process.wait()
    if code:
        raise RuntimeError(
            f"Expected the program to end well. Received: exit code {code}\n"
            + text_of(log)[-2000:]
        )


def text_of(log: Path) -> str:
    """Returns what programs have written to a log."""
    return log.read_text("utf-8", errors="replace")


def wait_until(
    process: Process, condition: Callable[[], bool], seconds: float = 900.0
) -> None:
    """Waits until a condition holds or the program has ended.

    Raises:
        RuntimeError: If that takes longer than `seconds`.
    """
    began = time.perf_counter()
    while not condition() and process.poll() is None:
        if time.perf_counter() - began > seconds:
            raise RuntimeError(
                f"Expected another checkpoint within {seconds:.0f} s. Received: none"
            )
        time.sleep(0.0005)


def free_ports(number: int) -> list[int]:
    """Returns ports of this machine that nothing listens at."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def differing(found: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """Returns the names of the values that are not the same bits in both."""
    names = sorted({*found, *expected})
    return [n for n in names if not same(found.get(n), expected.get(n))]


def same(a: Any, b: Any) -> bool:
    """Tells whether two values have the same type, shape and bits."""
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    return type(a) is type(b) and bool(a == b)
