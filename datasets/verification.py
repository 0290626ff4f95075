"""Reading a whole data set once, to say all that is wrong before work is lost."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tf_levelset.datasets import load_dataset
from tf_levelset.datasets.faults import (
    THREADS,
    DataSetError,
    Fault,
    error_of,
    inspect_all,
)
from tf_levelset.datasets.pipeline import Source


@dataclass(frozen=True, eq=False)
class Verification:
    """What reading every sample of a source has found.

    Attributes:
        faults: in the order of the samples.
        pixels: int64 (C,): how many pixels each class has, where labels could be read.
        void: how many pixels are void there.
    """

    faults: tuple[Fault, ...]
    pixels: np.ndarray
    void: int


def verify(source: Source, threads: int = THREADS) -> Verification:
    """Reads every sample, as training will, and says all that is wrong.

    Args:
        source: of files. What is generated has no faults, and is not read.
        threads: how many samples are read side by side, at least 1.

    Returns:
        A `Verification`. That of a source without files or labels counts no pixel.
    """
    faults: list[Fault] = []
    pixels, void = np.zeros(source.num_classes, np.int64), 0
    if source.inspect is None:
        return Verification((), pixels, void)
    for inspection in inspect_all(source.inspect, source.num_samples, threads):
        faults += inspection.faults
        if inspection.pixels is not None:
            pixels += inspection.pixels
            void += inspection.void
    return Verification(tuple(faults), pixels, void)


def empty_classes(source: Source, found: Verification) -> tuple[Fault, ...]:
    """Returns a fault for every class without a pixel, which cannot be learned.

    Args:
        source: of files with labels; of others nothing was counted.
        found: what `verify` said of it.
    """
    if source.inspect is None or not source.has_labels:
        return ()
    return tuple(
        Fault(source.name, f"Expected pixels of class {name!r}. Received: none")
        for name, count in zip(source.class_names, found.pixels, strict=True)
        if count == 0
    )


@dataclass(frozen=True, eq=False)
class Verified:
    """Splits that were loaded and found sound.

    Attributes:
        sources: in the order that they were asked for.
        found: what `verify` said of each; empty where nothing was read again.
        state: `state_of_files` of the sources.
    """

    sources: tuple[Source, ...]
    found: tuple[Verification, ...]
    state: str

    def empty_classes(self) -> list[Fault]:
        """A fault for every class without a pixel in a split that was read."""
        pairs = zip(self.sources, self.found, strict=False)
        return [fault for pair in pairs for fault in empty_classes(*pair)]


def load_verified(
    name: str,
    splits: Sequence[str],
    data_dir: str | os.PathLike[str] | None = None,
    options: Mapping[str, Any] | None = None,
    known_state: str | None = None,
) -> Verified:
    """Loads splits of a data set and reads them from end to end.

    Args:
        name: see `load_dataset`, and so the other arguments.
        splits: each once.
        data_dir: the data set's folder.
        options: of the data set.
        known_state: the `state` in which the files were found sound before; where it
            still is theirs they are not read again.

    Returns:
        The splits.

    Raises:
        DataSetError: for the faults of all splits together.
        FileNotFoundError: see `load_dataset`.
        ValueError: see `load_dataset`.
    """
    sources: list[Source] = []
    faults: list[Fault] = []
    for split in splits:
        try:
            sources.append(load_dataset(name, split, data_dir, **(options or {})))
        except DataSetError as error:
            faults += error.faults
    state = state_of_files(sources)
    found: list[Verification] = []
    if faults or state != known_state:
        found = [verify(source) for source in sources]
    faults += [fault for verification in found for fault in verification.faults]
    if faults:
        # What is wrong with a folder is wrong with all its splits.
        raise error_of(name, list(dict.fromkeys(faults)))
    return Verified(tuple(sources), tuple(found), state)


def state_of_files(sources: Sequence[Source]) -> str:
    """Returns a digest that changes with the size or the time of any file.

    Args:
        sources: of files or not.
    """
    found = hashlib.sha256()
    for path in (path for source in sources for path in source.files):
        stat = os.stat(path)
        found.update(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return found.hexdigest()
