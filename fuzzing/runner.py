"""Cases in child processes, with a limit of time and of memory for each."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TAIL = 3000
"""Of what a process that crashed had printed, so many characters are kept."""


@dataclass(frozen=True)
class Limits:
    """What a case may take.

    Attributes:
        seconds: until it counts as one that hangs.
        bytes: that it may add to its process's memory at its highest.
        room: bytes of addresses that its process may take beyond those it had at the
            start: what stops a case that would fill the machine.
        start_seconds: until a process must be ready for its first case.
    """

    seconds: float = 60.0
    bytes: int = 2**30
    room: int = 4 * 2**30
    start_seconds: float = 300.0


@dataclass(frozen=True)
class Result:
    """What came of a case in a process of its own.

    Attributes:
        number: of the case.
        kind: "right", the name of a typed error, or "failure".
        text: what an error said, or what is wrong.
        case: its description; None where it crashed or hung.
        seconds: that it took.
        bytes: by which memory rose at its highest.
    """

    number: int
    kind: str
    text: str
    case: dict[str, Any] | None = None
    seconds: float = 0.0
    bytes: int = 0


def run(
    entrance: str, seed: int, numbers: Sequence[int], limits: Limits | None = None
) -> Iterator[Result]:
    """Runs cases, in a new process wherever one crashed or hung.

    Args:
        entrance: of `case.ENTRANCES`, or the name of a module with a function `make`.
        seed: of the run.
        numbers: of the cases.
        limits: of a case; `Limits()` by default.

    Yields:
        A result a case, in order.
    """
    limits = limits or Limits()
    left = list(numbers)
    while left:
        with Child(entrance, seed, tuple(left), limits) as child:
            for result in child.results():
                left.remove(result.number)
                yield result


class Child:
    """A process with cases to run."""

    def __init__(
        self, entrance: str, seed: int, numbers: Sequence[int], limits: Limits
    ) -> None:
        self.numbers, self.limits = numbers, limits
        command = [sys.executable, "-m", "fuzzing.child", entrance]
        command += map(str, [seed, limits.room, *numbers])
        # The literal formulas are the tests'.
        path = [str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
        self.stack = contextlib.ExitStack()
        errors = tempfile.TemporaryFile()  # noqa: SIM115 - the stack closes it
        self.errors = self.stack.enter_context(errors)
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            cwd=ROOT,
            env={
                "TF_CPP_MIN_LOG_LEVEL": "3",
                **os.environ,
                "PYTHONPATH": os.pathsep.join(filter(None, path)),
            },
        )
        self.lines: queue.Queue[str | None] = queue.Queue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        with self.process:  # closes its files and waits
            self.reader.join()
        self.stack.close()

    def results(self) -> Iterator[Result]:
        """Yields results until the cases are done, or one takes the process along."""
        number = self.numbers[0]
        try:
            self._next(self.limits.start_seconds)
            for _ in self.numbers:
                number = self._next(self.limits.seconds)["number"]
                yield self._result(number, self._next(self.limits.seconds))
        except TimeoutError as error:
            yield Result(number, "failure", f"Received no answer: {error}")
        except EOFError:
            code = self.process.wait()
            yield Result(
                number, "failure", f"Received its end, code {code}: {self._printed()}"
            )

    def _result(self, number: int, values: dict[str, Any]) -> Result:
        kind, text, taken = values["kind"], values["text"], values["bytes"]
        if taken > self.limits.bytes:
            text = (
                f"Expected at most {self.limits.bytes} bytes. Received: {taken}. {text}"
            )
            kind = "failure"
        case, seconds = values["case"], values["seconds"]
        return Result(number, kind, text, case, seconds, taken)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def _next(self, seconds: float) -> dict[str, Any]:
        """Returns the next line's values."""
        try:
            line = self.lines.get(timeout=seconds)
        except queue.Empty:
            raise TimeoutError(f"none in {seconds:g} s") from None
        if line is None:
            raise EOFError
        values: dict[str, Any] = json.loads(line)
        return values

    def _printed(self) -> str:
        self.errors.seek(0)
        return self.errors.read().decode("utf-8", "replace")[-TAIL:]
