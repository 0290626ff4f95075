"""Faults of the files of a data set, and the error that lists all of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from tf_levelset.checks import reason


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong.

    Attributes:
        path: The path of the file, list or folder that it was found in.
        message: What was expected there, and what was found.
        missing: Whether the file does not exist.
    """

    path: str
    message: str
    missing: bool = False

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


@dataclass(frozen=True, eq=False)
class Inspection:
    """The result of reading the files of one sample, or of several.

    Attributes:
        faults: Everything that is wrong with the files.
        pixels: int64 (C,), the number of pixels of each class, as far as labels could
            be read.
        void: The number of void pixels.
    """

    faults: tuple[Fault, ...]
    pixels: np.ndarray
    void: int = 0


class DataSetError(ValueError):
    """Raised for a data set with faults.

    Attributes:
        faults: All that were found.
    """

    def __init__(self, name: str, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        lines = "".join(f"\n  {fault}" for fault in faults)
        super().__init__(
            f"Expected the files of {name!r} to be sound. Received: {len(faults)} "
            f"fault{'s' * (len(faults) > 1)}:{lines}"
        )


class MissingFilesError(DataSetError, FileNotFoundError):
    """Raised for a data set with faults, missing files among them."""


def error_of(name: str, faults: Sequence[Fault]) -> DataSetError:
    """Returns the error to raise for the faults of a data set, at least one."""
    missing = any(fault.missing for fault in faults)
    return (MissingFilesError if missing else DataSetError)(name, faults)


def message_of(error: Exception, path: str) -> str:
    """Returns the message of a fault, in our own words where a library raised it."""
    text = str(error)
    if not text.startswith("Expected"):
        text = reason(error)
    if not text.startswith("Expected"):
        text = f"Expected a whole image file. Received: {text}"
    return text.replace(f" in {path}", "")


def missing_files(paths: Iterable[str | os.PathLike[str]]) -> list[Fault]:
    """Returns a fault for every path at which there is no file."""
    return [
        Fault(os.fspath(path), "Expected a file. Received: none", missing=True)
        for path in paths
        if not os.path.isfile(path)
    ]


def inspect_all(
    inspect: Callable[[int], Inspection], count: int, threads: int = 4
) -> list[Inspection]:
    """Returns the inspections of samples 0 to `count` − 1, made by several threads."""
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(inspect, range(count)))
