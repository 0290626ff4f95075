"""How everything is measured: alternately, with ratios round by round.

The speed of a shared machine drifts by more than the differences of interest. So two
things are timed in turn, one sample of each per round, and compared round by round.
"""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("tf-levelset", "tensorflow", "keras", "numpy", "opencv-python")

Samples = dict[str, list[float]]


def alternate(
    cases: Mapping[str, Callable[[], float | None]], rounds: int, warmups: int = 2
) -> Samples:
    """Times every case once per round, in an order that is reversed each round.

    Args:
        cases: The functions to time, by name. They return None, or the seconds if they
            took the time themselves.
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
        "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "TensorFlow's default"),
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
