"""Anyone's own data: a folder of pictures, one of masks, and a list of classes."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tf_levelset.datasets.faults import Fault
from tf_levelset.datasets.folder import (
    LabelReader,
    color_label_reader,
    paired_files_source,
    read_index_labels,
)
from tf_levelset.datasets.pipeline import IGNORE_CLASS, Source
from tf_levelset.datasets.voc import voc_palette
from tf_levelset.files import read_text

VOID = "void"
"""The name, in a list of classes, of what belongs to none."""

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")
MASK_SUFFIXES = (".png", ".bmp", ".gif", ".tif", ".tiff")
"""Of formats that lose nothing: a JPEG's colours are no longer those of the classes."""

BY_FRACTION = ("train", "val")
"""The splits of a folder without lists."""

Color = tuple[int, int, int]


@dataclass(frozen=True)
class ClassList:
    """What the masks mean.

    Attributes:
        names: of the C classes, in the order of their labels.
        palette: uint8 (C, 3), RGB: the masks' own colours, or VOC's for index masks.
        read_labels: reads a mask's file.
        label_ids: the class, or void, of each id that `read_labels` gives.
    """

    names: tuple[str, ...]
    palette: np.ndarray
    read_labels: LabelReader
    label_ids: dict[int, int]


def image_masks(
    data_dir: str | os.PathLike[str],
    split: str = "train",
    *,
    images: str = "images",
    masks: str = "masks",
    classes: str | Sequence[str] | Mapping[str, int | Sequence[int]] = "classes.txt",
    val_fraction: float = 0.2,
    seed: int = 0,
) -> Source:
    """Returns a split of pictures and masks that lie in two folders.

    A mask has its picture's path in its folder, with another suffix: the mask of
    `images/a/b.jpg` is `masks/a/b.png`. Pictures are JPEG, PNG or BMP files; masks are
    files of a format that loses nothing.

    Splits are lists of such paths without suffix, one a line, in `train.txt`,
    `val.txt` and so on beside the folders. Without `train.txt` and `val.txt` a fraction
    of the pictures, chosen by their paths and `seed` alone, is `"val"`.

    Args:
        data_dir: The folder of all this.
        split: `"train"`, `"val"`, or the name of a list.
        images: The pictures' folder in `data_dir`.
        masks: The masks' folder in `data_dir`.
        classes: A file in `data_dir` with a class a line: its name, then nothing (ids
            count from 0), its id, or its colour, red, green and blue. `void`, as often
            as needed, is an id or a colour of pixels that do not count, and what
            follows `#` is a comment. Or the names themselves, or a mapping of them to
            ids or colours. Without colours 255 is void, unless it is a class.
        val_fraction: The share of pictures in `"val"`, in (0, 1), where there are no
            lists.
        seed: Another one gives another `"val"`.

    Returns:
        A `Source`. Reading it raises for masks of wrong sizes, ids or colours, with
        their paths; `verification.verify` finds all of them.

    Raises:
        DataSetError: If a picture has no mask, a mask no picture, or two files one
            path; if a list names what is not there, or the same in train and val. All
            faults of the split are named, those inside the files too.
        FileNotFoundError: If a folder, the class list or a split's list is missing.
        ValueError: If the class list is malformed or an argument out of range.
    """
    if not 0 < val_fraction < 1:
        raise ValueError(
            f"Expected `val_fraction` in (0, 1). Received: {val_fraction!r}"
        )
    root = Path(data_dir)
    class_list = read_classes(root, classes)
    found, faults = _pairs(root, root / images, root / masks)
    paths, more = _of_split(root, split, sorted(found), val_fraction, seed)
    pairs = [(name, *found[name]) for name in paths if name in found]
    return paired_files_source(
        f"folder/{split}",
        [image for _, image, _ in pairs],
        [mask for _, _, mask in pairs],
        class_list.names,
        class_list.palette,
        sample_names=[name for name, _, _ in pairs],
        label_ids=class_list.label_ids,
        read_labels=class_list.read_labels,
        faults=[*faults, *more],
    )


# --- Classes ---


def read_classes(
    root: Path, classes: str | Sequence[str] | Mapping[str, int | Sequence[int]]
) -> ClassList:
    """Reads a list of classes; see `image_masks`.

    Args:
        root: the data set's folder.
        classes: as there.

    Raises:
        FileNotFoundError: if the file is missing.
        ValueError: for a malformed list; every wrong line is named.
    """
    if isinstance(classes, str):
        path = root / classes
        return class_list(_entries(path), str(path))
    if isinstance(classes, Mapping):
        return class_list([_entry(n, v) for n, v in classes.items()], "`classes`")
    return class_list([(name, ()) for name in classes], "`classes`")


Entry = tuple[str, tuple[int, ...]]
"""A class's name, and nothing, its id, or its colour."""


def _entry(name: str, value: int | Sequence[int]) -> Entry:
    return name, (value,) if isinstance(value, int) else tuple(value)


def _entries(path: Path) -> list[Entry]:
    """Reads the lines of a class list."""
    if not path.is_file():
        raise FileNotFoundError(
            f"Expected a list of classes at {path}, a name a line. Received: no such "
            "file"
        )
    entries: list[Entry] = []
    wrong = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        words = line.split("#")[0].split()
        numbers = _trailing_integers(words)
        name = " ".join(words[: len(words) - len(numbers)])
        if not words:
            continue
        if not name or len(numbers) not in (0, 1, 3):
            wrong.append(f"line {number}: {line.strip()!r}")
        entries.append((name, numbers))
    if wrong:
        raise ValueError(
            f"Expected lines NAME, NAME ID or NAME RED GREEN BLUE in {path}. "
            f"Received: {'; '.join(wrong)}"
        )
    return entries


def _trailing_integers(words: Sequence[str]) -> tuple[int, ...]:
    """The integers that a line ends with, up to three."""
    numbers: list[int] = []
    for word in reversed(words):
        if not word.isdecimal() or len(numbers) == 3:
            break
        numbers.insert(0, int(word))
    return tuple(numbers)


def class_list(entries: Sequence[Entry], where: str) -> ClassList:
    """Returns what a list's entries mean.

    Args:
        entries: in order.
        where: the list, for errors.

    Raises:
        ValueError: for entries of several kinds, values out of range or used twice, a
            name that is there twice, fewer than two classes or more than 255.
    """
    _check_entries(entries, where)
    names = tuple(name for name, _ in entries if name != VOID)
    if len(entries[0][1]) == 3:
        return _of_colors(names, entries)
    ids = {name: index for index, name in enumerate(names)}
    values = [v[0] if v else i for i, (_, v) in enumerate(entries)]
    label_ids = {
        value: ids.get(name, IGNORE_CLASS)
        for (name, _), value in zip(entries, values, strict=True)
    }
    return ClassList(
        names,
        voc_palette(len(names)),
        read_index_labels,
        {IGNORE_CLASS: IGNORE_CLASS, **label_ids},
    )


def _of_colors(names: tuple[str, ...], entries: Sequence[Entry]) -> ClassList:
    ids = {name: index for index, name in enumerate(names)}
    colors: dict[Color, int] = {
        (v[0], v[1], v[2]): ids.get(name, IGNORE_CLASS) for name, v in entries
    }
    palette = np.array([v for name, v in entries if name != VOID], np.uint8)
    # `color_label_reader` answers classes.
    label_ids = {label: label for label in colors.values()}
    return ClassList(names, palette, color_label_reader(colors), label_ids)


def _check_entries(entries: Sequence[Entry], where: str) -> None:
    names = [name for name, _ in entries if name != VOID]
    values = [v for _, v in entries if v]
    wrong = [
        *(f"{n!r} twice" for n in dict.fromkeys(names) if names.count(n) > 1),
        *(f"{list(v)} twice" for v in dict.fromkeys(values) if values.count(v) > 1),
        *(f"{list(v)}, not in [0, 255]" for v in values if not _are_bytes(v)),
    ]
    kinds = {len(v) for _, v in entries}
    if len(kinds) > 1:
        wrong.append("some entries with ids or colours and some without, or both kinds")
    if not 2 <= len(names) <= IGNORE_CLASS:
        wrong.append(f"{len(names)} classes")
    if wrong:
        raise ValueError(
            f"Expected 2 to {IGNORE_CLASS} classes, all with ids, all with colours "
            f"or all without, each once, in {where}. Received: {'; '.join(wrong)}"
        )


def _are_bytes(values: Iterable[int]) -> bool:
    return all(type(v) is int and 0 <= v <= IGNORE_CLASS for v in values)


# --- Files ---


def _pairs(
    root: Path, images: Path, masks: Path
) -> tuple[dict[str, tuple[Path, Path]], list[Fault]]:
    """Returns the (picture, mask) of each path without suffix, and what has no pair."""
    for folder in (images, masks):
        if not folder.is_dir():
            raise FileNotFoundError(
                f"Expected the folders {images.name} and {masks.name} in {root}. "
                f"Received: no folder {folder}"
            )
    pictures, first = _files(images, IMAGE_SUFFIXES, "picture")
    truths, second = _files(masks, MASK_SUFFIXES, "mask")
    faults = [*first, *second]
    for name in sorted(pictures.keys() - truths.keys()):
        expected = masks / f"{name}{MASK_SUFFIXES[0]}"
        message = f"Expected its mask, such as {expected}. Received: none"
        faults.append(Fault(str(pictures[name]), message, missing=True))
    for name in sorted(truths.keys() - pictures.keys()):
        message = f"Expected its picture in {images}. Received: none"
        faults.append(Fault(str(truths[name]), message, missing=True))
    both = pictures.keys() & truths.keys()
    return {name: (pictures[name], truths[name]) for name in both}, faults


def _files(
    folder: Path, suffixes: Sequence[str], what: str
) -> tuple[dict[str, Path], list[Fault]]:
    """Returns a folder's files by their paths in it without suffix.

    Hidden files, such as those that systems leave in folders, are passed over.
    """
    found: dict[str, Path] = {}
    faults = []
    for path in sorted(folder.rglob("*")):
        if path.is_dir() or any(
            p.startswith(".") for p in path.relative_to(folder).parts
        ):
            continue
        name = path.relative_to(folder).with_suffix("").as_posix()
        if path.suffix.lower() not in suffixes:
            message = (
                f"Expected a {what} of {', '.join(suffixes)}. Received: {path.name}"
            )
            faults.append(Fault(str(path), message))
        elif name in found:
            message = (
                f"Expected one {what} of the name {name}. Received: {found[name]} too"
            )
            faults.append(Fault(str(path), message))
        else:
            found[name] = path
    return found, faults


# --- Splits ---


def _of_split(
    root: Path, split: str, names: Sequence[str], val_fraction: float, seed: int
) -> tuple[list[str], list[Fault]]:
    """Returns the names of a split, and what is wrong with its list."""
    lists = {name: root / f"{name}.txt" for name in {*BY_FRACTION, split}}
    listed = {name: path for name, path in lists.items() if path.is_file()}
    if split in listed:
        others = [listed[n] for n in BY_FRACTION if n in listed and n != split]
        # Lists of other names may hold what train and val hold.
        return _of_list(listed[split], names, others if split in BY_FRACTION else [])
    if listed:
        raise FileNotFoundError(
            f"Expected a list of {split!r} at {lists[split]}, since others are there. "
            "Received: no such file"
        )
    if split not in BY_FRACTION:
        raise ValueError(
            f"Expected `split` of {BY_FRACTION}, or a list {lists[split]}. "
            f"Received: {split!r}"
        )
    held_out = set(_held_out(names, val_fraction, seed))
    return [n for n in names if (n in held_out) == (split == "val")], []


def _of_list(
    path: Path, names: Sequence[str], others: Sequence[Path]
) -> tuple[list[str], list[Fault]]:
    """Returns the names of a list, each once, and what is wrong with it.

    Args:
        path: of the list.
        names: that there are.
        others: lists that share no name with it.
    """
    known = set(names)
    counts = Counter(_read_list(path))
    faults = []
    for name, count in counts.items():
        if count > 1:
            message = f"Expected each picture once. Received: {name} {count} times"
            faults.append(Fault(str(path), message))
        if name not in known:
            message = f"Expected a picture and a mask of {name}. Received: not both"
            faults.append(Fault(str(path), message, missing=True))
    for other in others:
        for name in sorted(counts.keys() & set(_read_list(other))):
            message = f"Expected no picture of {other}. Received: {name}"
            faults.append(Fault(str(path), message))
    return list(counts), faults


def _read_list(path: Path) -> list[str]:
    """Reads names, one a line, with or without a suffix."""
    lines = read_text(path).splitlines()
    return [_without_suffix(line.strip()) for line in lines if line.strip()]


def _without_suffix(entry: str) -> str:
    """An entry of a list, with or without a suffix, as a name."""
    suffix = Path(entry).suffix.lower()
    if suffix in (*IMAGE_SUFFIXES, *MASK_SUFFIXES):
        return entry[: -len(suffix)]
    return entry


def _held_out(names: Sequence[str], fraction: float, seed: int) -> list[str]:
    """Chooses names by their digests: few change sides when files are added."""
    if len(names) < 2:
        raise ValueError(
            f"Expected two pictures or more, to split them. Received: {len(names)}"
        )
    count = min(len(names) - 1, max(1, round(fraction * len(names))))

    def digest(name: str) -> bytes:
        return hashlib.sha256(f"{seed}/{name}".encode()).digest()

    return sorted(names, key=digest)[:count]
