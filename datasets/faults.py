"""What can be wrong with a data set's files, and the error that says all of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

THREADS = 4
"""Decoding lets other threads run."""


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong.

    Attributes:
        path: of the file, or of the list or folder, that it is found in.
        message: what was expected there, and what was found.
        missing: whether the file is not there at all.
    """

    path: str
    message: str
    missing: bool = False

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


@dataclass(frozen=True, eq=False)
class Inspection:
    """What reading one sample has found.

    Attributes:
        faults: all that is wrong with its files.
        pixels: int64 (C,): how many pixels each class has; None where there are no
            labels to count.
        void: how many pixels are void.
    """

    faults: tuple[Fault, ...]
    pixels: np.ndarray | None = None
    void: int = 0


class DataSetError(ValueError):
    """A data set has faults.

    Attributes:
        faults: all that were found.
    """

    def __init__(self, name: str, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        lines = "".join(f"\n  {fault}" for fault in faults)
        super().__init__(
            f"Expected the files of {name!r} to be sound. Received: {len(faults)} "
            f"fault{'s' * (len(faults) > 1)}:{lines}"
        )


class MissingFilesError(DataSetError, FileNotFoundError):
    """A data set has faults, missing files among them."""


def error_of(name: str, faults: Sequence[Fault]) -> DataSetError:
    """Returns the error to raise for a data set's faults, of which there are some."""
    missing = any(fault.missing for fault in faults)
    return (MissingFilesError if missing else DataSetError)(name, faults)


def missing_files(paths: Iterable[str | os.PathLike[str]]) -> list[Fault]:
    """Returns a fault for every path at which there is no file."""
    return [
        Fault(os.fspath(path), "Expected a file. Received: none", missing=True)
        for path in paths
        if not os.path.isfile(path)
    ]


def inspect_all(
    inspect: Callable[[int], Inspection], count: int, threads: int = THREADS
) -> list[Inspection]:
    """Returns what each of `count` samples has been found to be, in order."""
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(inspect, range(count)))
