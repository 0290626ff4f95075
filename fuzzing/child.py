"""A process that runs cases one by one and tells of each before and after it.

`python -m fuzzing.child ENTRANCE SEED LIMITS NUMBER …`: a line of JSON before a case,
its number, and one after it, what came of it. Whatever else is printed goes to the
error output, so that the lines are only ours.
"""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any, TextIO

from benchmarks.harness import status_bytes
from fuzzing.case import execute, make


def main() -> None:
    """Runs the cases of the command line."""
    entrance, seed, room, *numbers = sys.argv[1:]
    report = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    faulthandler.enable()
    # What this imports, and keeps for all cases, is not the first one's.
    make(entrance, int(seed), int(numbers[0]))
    _limit(int(room))
    tell(report, {"ready": True})
    for number in map(int, numbers):
        tell(report, {"number": number})
        tell(report, run(entrance, int(seed), number))


def run(entrance: str, seed: int, number: int) -> dict[str, Any]:
    """Runs a case, and measures its time and how far memory rose."""
    case = make(entrance, seed, number)
    before = _reset_peak()
    start = time.perf_counter()
    outcome = execute(case)
    return {
        "kind": outcome.kind,
        "text": outcome.text,
        "case": case.description,
        "seconds": time.perf_counter() - start,
        "bytes": max(0, status_bytes("VmHWM") - before),
    }


def tell(report: TextIO, values: dict[str, Any]) -> None:
    """Writes a line."""
    report.write(json.dumps(values) + "\n")
    report.flush()


def _limit(room: int) -> None:
    """Lets the process have so many bytes more than it has, but not the machine's.

    TensorFlow lays claim to far more addresses than it uses.
    """
    most = status_bytes("VmSize") + room
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _reset_peak() -> int:
    """Forgets the process's highest memory; returns what it has now (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")
    return status_bytes("VmRSS")


if __name__ == "__main__":
    main()
