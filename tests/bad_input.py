"""What a function may answer to bad input, also where it might crash or hang.

A function may return its result or raise an error that explains itself: a `ValueError`
that states what was expected and what was received, an `OSError`, an `ImportError` for
an optional library, or TensorFlow's `InvalidArgumentError` from inside a graph. Every
other exception is a fault.
"""

from __future__ import annotations

import functools
import importlib
import json
import multiprocessing
import resource
import traceback
import warnings
from collections.abc import Callable
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings

SECONDS, BYTES, ROOM = 60.0, 2**30, 4 * 2**30
"""A call in the child process may take so long and so much memory. `ROOM` bounds what
it may allocate, so that a fault does not take the machine along."""

START_SECONDS = 600.0


def examples(count: int) -> settings:
    """Returns settings that try `count` examples, the same ones in every run.

    With `--hypothesis-profile=deep` that profile's number of random examples is tried.
    """
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    if settings().max_examples >= 10_000:
        return settings(suppress_health_check=checks)
    return settings(max_examples=count, derandomize=True, suppress_health_check=checks)


@dataclass(frozen=True)
class Refused:
    """An error that explains itself, with its message."""

    text: str


def answer_of(function: Callable[..., Any], *args: Any) -> Any:
    """Calls a function; returns its result, or `Refused` for an explained error.

    Raises:
        AssertionError: For any other exception.
    """
    with warnings.catch_warnings():
        # Libraries warn about damaged files.
        warnings.simplefilter("ignore")
        try:
            return function(*args)
        except Exception as error:
            if not _is_explained(error):
                text = "".join(traceback.format_exception(error))[-3000:]
                raise AssertionError(f"Expected an explained error. {text}") from None
            return Refused(str(error))


def _is_explained(error: Exception) -> bool:
    if isinstance(error, UnicodeError | json.JSONDecodeError):
        return False
    if isinstance(error, ValueError):
        return "xpected" in str(error) and "eceived" in str(error)
    of_graph = type(error).__name__ == "InvalidArgumentError"
    return of_graph or isinstance(error, OSError | ImportError)


def bounded_answer_of(
    function: Callable[..., Any], *args: Any, seconds: float = SECONDS
) -> Any:
    """Calls `answer_of` in a child process with bounds of time and memory.

    Args:
        function: Of a module that the child can import by name.
        *args: What can be pickled.
        seconds: How long the call may take.

    Raises:
        AssertionError: If the process ends, hangs or takes too much memory.
    """
    child = _child()
    # The start of the process and its imports do not count.
    child.submit(_import, function.__module__).result(START_SECONDS)
    try:
        answer, taken = child.submit(_measured, function, *args).result(seconds)
    except (futures.BrokenExecutor, futures.TimeoutError) as error:
        _child.cache_clear()
        for process in multiprocessing.active_children():
            process.kill()
        raise AssertionError(f"Expected an answer. Received: {error!r}") from None
    assert taken <= BYTES, f"Expected at most {BYTES} bytes. Received: {taken}"
    return answer


@functools.cache
def _child() -> futures.ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")
    return futures.ProcessPoolExecutor(1, context)


def _import(module: str) -> None:
    importlib.import_module(module)


def _measured(function: Callable[..., Any], *args: Any) -> tuple[Any, int]:
    """Returns the answer, and by how many bytes memory rose (Linux)."""
    room = _status_bytes("VmSize") + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (room, resource.RLIM_INFINITY))
    Path("/proc/self/clear_refs").write_text("5")
    before = _status_bytes("VmRSS")
    answer = answer_of(function, *args)
    return answer, _status_bytes("VmHWM") - before


def _status_bytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{field}:"))
    return int(line.split()[1]) << 10
