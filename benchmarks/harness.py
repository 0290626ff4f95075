"""How everything is measured: alternately, with ratios round by round.

The speed of a shared machine drifts by more than the differences of interest. So two
things are timed in turn, one sample of each per round, and compared round by round.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import importlib
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = (
    "tf-levelset",
    "tensorflow",
    "keras",
    "numpy",
    "opencv-python",
    "openvino",
    "onnxruntime",
    "tf2onnx",
    "pydensecrf2",
)

Samples = dict[str, list[float]]

FREES_MEMORY = {"TF_ENABLE_ONEDNN_OPTS": "0"}
"""The environment in which TensorFlow returns freed memory to the C library.

With oneDNN it keeps a pool, which hides peaks from the system.
"""


def alternate(
    cases: Mapping[str, Callable[[], float | None]], rounds: int, warmups: int = 2
) -> Samples:
    """Times every case once per round, in an order that is reversed each round.

    Args:
        cases: The functions to time, by name. They return None, or the seconds if they
            took the time themselves, as a `Worker` does.
        rounds: Number of samples of each case.
        warmups: Number of rounds before, which do not count.

    Returns:
        The seconds of each case, one sample per round.
    """
    # Otherwise each garbage collection would visit all objects of TensorFlow.
    gc.freeze()
    names = list(cases)
    samples: Samples = {name: [] for name in names}
    for index in range(-warmups, rounds):
        for name in names if index % 2 == 0 else reversed(names):
            seconds = timed(cases[name])
            if index >= 0:
                samples[name].append(seconds)
    return samples


def timed(function: Callable[[], float | None]) -> float:
    """Returns the seconds of a call, as it reports them if it does."""
    gc.collect()
    start = time.perf_counter()
    own = function()
    return time.perf_counter() - start if own is None else own


def summary(samples: Sequence[float]) -> dict[str, float]:
    """Returns the median, the quartiles and the extremes of samples."""
    low, lower, median, upper, high = np.quantile(samples, [0, 0.25, 0.5, 0.75, 1])
    return {
        "median": float(median),
        "quartile_1": float(lower),
        "quartile_3": float(upper),
        "min": float(low),
        "max": float(high),
    }


def described(samples: Samples) -> dict[str, dict[str, float]]:
    """Returns the summary of each case, in seconds."""
    return {name: summary(seconds) for name, seconds in samples.items()}


def best(samples: Samples, names: Iterable[str]) -> str:
    """Returns the name of the case with the smallest median."""
    return min(names, key=lambda name: float(np.median(samples[name])))


def ratio(
    samples: Samples, ours: Sequence[str], theirs: Sequence[str]
) -> dict[str, Any]:
    """Compares the best of our cases with the best of theirs, round by round.

    Returns:
        `ours` and `theirs`, the cases compared; `rounds`, their number; and the
        `summary` of ours over theirs.
    """
    a, b = best(samples, ours), best(samples, theirs)
    ratios = [x / y for x, y in zip(samples[a], samples[b], strict=True)]
    return {"ours": a, "theirs": b, "rounds": len(ratios), **summary(ratios)}


def target(
    name: str, measured: float, bound: float | None, **details: Any
) -> dict[str, Any]:
    """States a figure, the bound it is held to, and whether it meets the bound.

    Args:
        name: What is measured.
        measured: The figure.
        bound: The largest figure that meets the target; None if it is only reported.
        **details: More to keep beside it, such as quartiles.
    """
    met = None if bound is None else measured <= bound
    return {"name": name, "measured": measured, "bound": bound, "met": met, **details}


def ratio_target(
    name: str, compared: Mapping[str, Any], bound: float | None
) -> dict[str, Any]:
    """States the target of a `ratio`, by its median."""
    return target(name, compared["median"], bound, **compared)


class Worker:
    """A process that repeats one piece of work when it is asked to.

    It serves for work whose threads or memory would disturb the other cases.

    Args:
        factory: "module:function", such as "benchmarks.loss:step". The function
            prepares the work and returns a function to be timed, which may return a
            dictionary of further figures.
        environment: Environment variables beside those of this process.
        **arguments: Arguments of the factory, which must be JSON.

    Raises:
        RuntimeError: If the process ends early.
    """

    def __init__(
        self,
        factory: str,
        environment: Mapping[str, str] | None = None,
        **arguments: Any,
    ) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.harness", factory],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
        )
        self._factory = factory
        self.details: dict[str, Any] = {}
        try:
            self._ask(json.dumps(arguments))
        except BaseException:
            self.close()
            raise

    def __call__(self) -> float:
        """Does the work once and returns the seconds that it took."""
        answer = self._ask("run")
        self.details = answer.get("details") or {}
        return float(answer["seconds"])

    def peak_bytes(self) -> int:
        """Does the work twice and returns how far the memory rose above its start."""
        return int(self._ask("peak")["peak_bytes"])

    def close(self) -> None:
        """Ends the process."""
        with self._process:  # closes its files and waits
            pass

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # A process that has ended is noticed below, where it does not answer.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        for answer in self._process.stdout:
            if answer.startswith(_MARK):
                return dict(json.loads(answer.removeprefix(_MARK)))
        raise RuntimeError(
            f"Expected an answer of {self._factory}. Received: its end, with code "
            f"{self._process.wait()}"
        )


def peak_memory(function: Callable[[], object]) -> int:
    """Returns the bytes that a call adds to this process at its peak (Linux).

    The call is made once before, so that compiling it does not count, and then twice.
    """
    function()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = status_bytes("VmRSS")
    for _ in range(2):
        function()
    return status_bytes("VmHWM") - before


def environment() -> dict[str, Any]:
    """Returns the versions and the machine that a figure depends on."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "packages": versions,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "processor": _processor(),
        "memory_gib": round(
            os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1
        ),
        "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "TensorFlow's default"),
        "load_before": os.getloadavg()[0],
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*: (.*)", lines)
    sets = [
        name
        for name in ("avx2", "avx512f", "avx512_vnni", "amx_tile")
        if f" {name} " in lines
    ]
    return f"{model.group(1) if model else platform.processor()} ({', '.join(sets)})"


def status_bytes(field: str) -> int:
    """Returns this process's memory by a field of /proc, such as "VmRSS" (Linux)."""
    status = Path("/proc/self/status").read_text()
    match = re.search(rf"{field}:\s+(\d+) kB", status)
    assert match is not None
    return int(match.group(1)) * 1024


_MARK = "benchmark answer: "


def _answer(values: Mapping[str, Any]) -> None:
    print(_MARK + json.dumps(values), flush=True)


def _serve(factory: str) -> None:
    """Runs the process of a `Worker`: one line in, one line out."""
    module, name = factory.split(":")
    arguments = json.loads(sys.stdin.readline())
    work = getattr(importlib.import_module(module), name)(**arguments)
    _answer({"ready": True})
    for line in sys.stdin:
        if line.strip() == "peak":
            _answer({"peak_bytes": peak_memory(work)})
            continue
        start = time.perf_counter()
        details = work()
        seconds = time.perf_counter() - start
        _answer(
            {
                "seconds": seconds,
                "details": details if isinstance(details, dict) else None,
            }
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Serves a Worker.")
    parser.add_argument("factory")
    _serve(parser.parse_args().factory)
