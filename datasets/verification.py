"""Reads a whole data set once, to find everything that is wrong before training."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
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
from tf_levelset.files import sha256


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


CONTENT = {"classes": list, "stored_classes": dict, "samples": dict, "files": dict}
"""What `content_of` returns."""


@dataclass(frozen=True, eq=False)
class Verified:
    """Splits that were loaded and have no faults.

    Attributes:
        sources: The splits, in the order that they were asked for.
        found: The result of `verify` for each; empty if nothing was read again.
        content: `content_of` the sources, if it was asked for.
    """

    sources: tuple[Source, ...]
    found: tuple[Inspection, ...]
    content: dict[str, Any]

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

    def unlisted_void(self) -> list[Fault]:
        """Returns a fault for every split with an id that is void for want of a class.

        Only the user knows whether it marks void pixels or a class.
        """
        return [
            Fault(
                source.name,
                f"Expected a line for {void} in the list of classes: void {void}, or "
                f"NAME {void} if it is a class. Received: none, and "
                f"{found.void / (found.void + found.pixels.sum()):.1%} of the pixels "
                f"are {void} and count as void",
            )
            for source, found in zip(self.sources, self.found, strict=False)
            for void in [source.ignore_class]
            if found.void and not _tells(source.stored_classes, void)
        ]


def _tells(stored_classes: Mapping[str, str], label: int) -> bool:
    """Returns whether a data set says what an id is: by its list, colours or format."""
    is_list_of_ids = stored_classes and all(map(str.isdecimal, stored_classes))
    return not is_list_of_ids or str(label) in stored_classes


def load_verified(
    name: str,
    splits: Sequence[str],
    data_dir: str | os.PathLike[str] | None = None,
    options: Mapping[str, Any] | None = None,
    known: Mapping[str, Any] | None = None,
) -> Verified:
    """Loads splits of a data set and reads them from end to end.

    Args:
        name: As for `load_dataset`.
        splits: The names of the splits, each once.
        data_dir: As for `load_dataset`.
        options: Further arguments for `load_dataset`.
        known: A `content` that had no faults before, or an empty one. If it is still
            the same, its images are not decoded again. With None, no file is digested.

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
    content: dict[str, Any] = {}
    if not faults and known is not None:
        content = content_of(sources, data_dir, options or {})
    found: list[Inspection] = []
    if not content or content != known:
        found = [verify(source) for source in sources]
    faults += [fault for inspection in found for fault in inspection.faults]
    if faults:
        # Faults of a folder are faults of all its splits: each is listed once.
        raise error_of(name, list(dict.fromkeys(faults)))
    return Verified(tuple(sources), tuple(found), content)


def content_of(
    sources: Sequence[Source],
    data_dir: str | os.PathLike[str] | None,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """Returns what splits of a data set hold, wherever their folders are.

    Every file is read once, without being decoded; the digests themselves take about a
    second per gigabyte.

    Args:
        sources: The splits.
        data_dir: As for `load_dataset`.
        options: As for `load_dataset`; those that end in `_dir` are folders too.

    Returns:
        JSON values that are equal if the content is: the names of `classes`,
        `stored_classes` (see `Source`), the names of `samples` by split in their order,
        and a digest for each of the `files`.
    """
    folders = {key: value for key, value in options.items() if key.endswith("_dir")}
    files = list(dict.fromkeys(path for source in sources for path in source.files))
    names = [_name(path, {**folders, "": data_dir}) for path in files]
    with ThreadPoolExecutor() as pool:
        digests = dict(zip(names, pool.map(sha256, files), strict=True))
    return {
        "classes": list(sources[0].class_names),
        "stored_classes": dict(sources[0].stored_classes),
        "samples": {source.name: list(source.sample_names) for source in sources},
        "files": digests,
    }


def _name(path: str, folders: Mapping[str, Any]) -> str:
    """Returns the path of a file inside the first folder that holds it."""
    for key, folder in folders.items():
        if folder is not None and Path(path).is_relative_to(folder):
            return Path(key, Path(path).relative_to(folder)).as_posix()
    return path
