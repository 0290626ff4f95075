"""Reads a whole data set once, to find everything that is wrong before training."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tf_levelset.datasets.catalog import load_dataset
from tf_levelset.datasets.files.faults import (
    DataSetError,
    Fault,
    Inspection,
    error_of,
    inspect_all,
)
from tf_levelset.datasets.pipeline import Source


def verify(source: Source, threads: int = 4) -> Inspection:
    """Reads every sample as training will, and collects what is wrong.

    Args:
        source: A source of files. A generated one has no faults and is not read.
        threads: The number of samples that are read in parallel, at least 1.

    Returns:
        An `Inspection` of all samples together: their faults in order, and the pixels
        of each class, (C,), and of void, as far as labels could be read.
    """
    faults: list[Fault] = []
    pixels, void = np.zeros(source.num_classes, np.int64), 0
    if source.inspect is not None:
        for found in inspect_all(source.inspect, source.num_samples, threads):
            faults += found.faults
            pixels += found.pixels
            void += found.void
    return Inspection(tuple(faults), pixels, void)


@dataclass(frozen=True, eq=False)
class Verified:
    """Splits that were loaded and have no faults.

    Attributes:
        sources: The splits, in the order that they were asked for.
        found: The result of `verify` for each; empty if nothing was read again.
        state: `state_of_files` of the sources.
    """

    sources: tuple[Source, ...]
    found: tuple[Inspection, ...]
    state: str

    def empty_classes(self) -> list[Fault]:
        """Returns a fault for every class without a pixel in a split that was read.

        Splits without files or labels are left out.
        """
        return [
            Fault(source.name, f"Expected pixels of class {name!r}. Received: none")
            for source, found in zip(self.sources, self.found, strict=False)
            if source.inspect is not None and source.has_labels
            for name, count in zip(source.class_names, found.pixels, strict=True)
            if count == 0
        ]


def load_verified(
    name: str,
    splits: Sequence[str],
    data_dir: str | os.PathLike[str] | None = None,
    options: Mapping[str, Any] | None = None,
    known_state: str | None = None,
) -> Verified:
    """Loads splits of a data set and reads them from end to end.

    Args:
        name: As for `load_dataset`.
        splits: The names of the splits, each once.
        data_dir: As for `load_dataset`.
        options: Further arguments for `load_dataset`.
        known_state: The `state` in which the files had no faults before. Files that
            are still in this state are not read again.

    Returns:
        The splits.

    Raises:
        DataSetError: If there are faults; it lists those of all splits together.
        FileNotFoundError: As for `load_dataset`.
        ValueError: As for `load_dataset`.
    """
    sources: list[Source] = []
    faults: list[Fault] = []
    for split in splits:
        try:
            sources.append(load_dataset(name, split, data_dir, **(options or {})))
        except DataSetError as error:
            faults += error.faults
    state = state_of_files(sources)
    found: list[Inspection] = []
    if faults or state != known_state:
        found = [verify(source) for source in sources]
    faults += [fault for inspection in found for fault in inspection.faults]
    if faults:
        # Faults of a folder are faults of all its splits: each is listed once.
        raise error_of(name, list(dict.fromkeys(faults)))
    return Verified(tuple(sources), tuple(found), state)


def state_of_files(sources: Sequence[Source]) -> str:
    """Returns a digest that changes with the size or the time of any file."""
    digest = hashlib.sha256()
    for path in (path for source in sources for path in source.files):
        stat = os.stat(path)
        digest.update(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()
