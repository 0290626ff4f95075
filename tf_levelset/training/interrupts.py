"""Stopping between two training steps, rather than inside one."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class Interrupts:
    """Notes Ctrl-C and SIGTERM, so that a loop can stop where it is safe to.

    A second signal stops at once. Python delivers signals to the main thread only; in
    other threads nothing is noted.

    Example:
    >>> with Interrupts() as interrupts:
    ...     for step in range(2):
    ...         interrupts.raise_if_requested()
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        print("\nStopping after this step; once more to stop at once.", flush=True)

    def raise_if_requested(self) -> None:
        """Raises `KeyboardInterrupt` if a signal has been received."""
        if self.requested:
            raise KeyboardInterrupt
