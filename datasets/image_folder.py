"""The data set "folder": any folder of images, one of masks, and a list of classes."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tf_levelset.checks import expect, plain_options
from tf_levelset.constants import IGNORE_CLASS
from tf_levelset.datasets.files.faults import Fault
from tf_levelset.datasets.files.labels import (
    LabelReader,
    color_label_reader,
    read_index_labels,
)
from tf_levelset.datasets.paired_files import paired_files_source
from tf_levelset.datasets.pipeline import Source
from tf_levelset.datasets.voc import voc_palette
from tf_levelset.files import read_text

VOID = "void"
"""The name, in a list of classes, of pixels that belong to no class."""

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")
MASK_SUFFIXES = (".png", ".bmp", ".gif", ".tif", ".tiff")
"""Lossless formats only: a JPEG file would change the colours of the classes."""

BY_FRACTION = ("train", "val")
"""The splits of a folder without lists."""

Classes = str | Sequence[str] | Mapping[str, int | Sequence[int]]


@dataclass(frozen=True)
class ClassList:
    """The classes, and how they are stored in the masks.

    Attributes:
        names: The C names, in the order of the labels.
        palette: uint8 (C, 3), RGB: the colours in the masks, or VOC's for index masks.
        read_labels: Reads a mask file.
        label_ids: The class, or void, of each id that `read_labels` returns.
        stored: By each id or colour in the masks, as text, its name in the list.
    """

    names: tuple[str, ...]
    palette: np.ndarray
    read_labels: LabelReader
    label_ids: dict[int, int]
    stored: dict[str, str]


@plain_options
def image_folder(
    data_dir: str | os.PathLike[str],
    split: str = "train",
    *,
    images: str = "images",
    masks: str = "masks",
    classes: Classes = "classes.txt",
    val_fraction: float = 0.2,
    seed: int = 0,
) -> Source:
    """Returns a split of the images and masks in two folders.

    A mask has the path of its image, in the other folder and with another suffix: the
    mask of `images/a/b.jpg` is `masks/a/b.png`. Images are JPEG, PNG or BMP files;
    masks are PNG, BMP, GIF or TIFF files.

    A split is a list of such paths, with or without suffix, one a line, in `train.txt`,
    `val.txt` and so on beside the folders. Without `train.txt` and `val.txt`, a
    fraction of the images is `"val"`, chosen by their paths and `seed` alone.

    Args:
        data_dir: The folder that holds all of this.
        split: `"train"`, `"val"`, or the name of a list.
        images: The folder of images in `data_dir`.
        masks: The folder of masks in `data_dir`.
        classes: A file in `data_dir` with a class a line: its name, followed by
            nothing (ids count from 0), by its id, or by its colour: red, green and
            blue. The name `void`, which may occur several times, stands for pixels
            that are ignored; text after `#` is a comment. Or the names themselves, or
            a mapping from names to ids or colours. Without colours, 255 is void unless
            a class has that id.
        val_fraction: The fraction of images in `"val"`, in (0, 1), without lists.
        seed: Another seed selects other images for `"val"`.

    Returns:
        A `Source`. Reading a mask of a wrong size, or with unknown ids or colours,
        raises an error that names it; `verification.verify` finds all of them.

    Raises:
        DataSetError: If an image has no mask or a mask no image, if two files have the
            same path without suffix, or if a list names a missing file or one that is
            in both train and val. All faults of the split are listed, those inside
            files too.
        FileNotFoundError: If a folder, the list of classes or a split's list is
            missing.
        ValueError: If the list of classes is malformed or an argument out of range.
    """
    expect(0 < val_fraction < 1, "`val_fraction` in (0, 1)", val_fraction)
    root = Path(data_dir)
    class_list = _read_classes(root, classes)
    found, faults = _pairs(root, root / images, root / masks)
    names, more = _of_split(root, split, sorted(found), val_fraction, seed)
    names = [name for name in names if name in found]
    source = paired_files_source(
        f"folder/{split}",
        [found[name][0] for name in names],
        [found[name][1] for name in names],
        class_list.names,
        class_list.palette,
        sample_names=names,
        label_ids=class_list.label_ids,
        read_labels=class_list.read_labels,
        faults=[*faults, *more],
    )
    return replace(source, stored_classes=class_list.stored)


# --- Classes ---

Entry = tuple[str, tuple[int, ...]]
"""The name of a class, and nothing, its id, or its colour."""


def _read_classes(root: Path, classes: Classes) -> ClassList:
    """Reads the argument `classes` of `image_folder`."""
    if isinstance(classes, str):
        return class_list(_entries(root / classes), str(root / classes))
    if not isinstance(classes, Mapping):
        return class_list([(name, ()) for name in classes])
    values = [(v,) if isinstance(v, int) else tuple(v) for v in classes.values()]
    return class_list(list(zip(classes, values, strict=True)))


def _entries(path: Path) -> list[Entry]:
    """Reads the lines of a list of classes."""
    if not path.is_file():
        raise FileNotFoundError(
            f"Expected a list of classes at {path}, one name a line. Received: no such "
            "file"
        )
    entries: list[Entry] = []
    wrong = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        words = line.split("#")[0].split()
        if not words:
            continue
        values = _trailing_integers(words)
        name = " ".join(words[: len(words) - len(values)])
        if not name or len(values) not in (0, 1, 3):
            wrong.append(f"line {number}: {line.strip()}")
        entries.append((name, values))
    expect(not wrong, f"lines NAME, NAME ID or NAME RED GREEN BLUE in {path}", wrong)
    return entries


def _trailing_integers(words: Sequence[str]) -> tuple[int, ...]:
    """Returns the integers at the end of a line, at most three."""
    count = 0
    while count < min(3, len(words)) and words[-count - 1].isdecimal():
        count += 1
    return tuple(int(word) for word in words[len(words) - count :])


def class_list(entries: Sequence[Entry], where: str = "`classes`") -> ClassList:
    """Returns the classes of a list.

    Args:
        entries: The entries, in their order.
        where: The name of the list in errors.

    Raises:
        ValueError: If the entries are of different types, a value is out of range or
            occurs twice, a name occurs twice, or there are fewer than 2 or more than
            255 classes.
    """
    _check_entries(entries, where)
    names = tuple(name for name, _ in entries if name != VOID)
    classes = {name: index for index, name in enumerate(names)}
    labels = [classes.get(name, IGNORE_CLASS) for name, _ in entries]
    stored = {
        " ".join(map(str, values or (index,))): name
        for index, (name, values) in enumerate(entries)
    }
    if len(entries[0][1]) == 3:
        colors = {
            (values[0], values[1], values[2]): label
            for (_, values), label in zip(entries, labels, strict=True)
        }
        palette = np.array([v for name, v in entries if name != VOID], np.uint8)
        # This reader returns classes rather than ids.
        same = {label: label for label in labels}
        return ClassList(names, palette, color_label_reader(colors), same, stored)
    ids = [values[0] if values else i for i, (_, values) in enumerate(entries)]
    label_ids = {IGNORE_CLASS: IGNORE_CLASS, **dict(zip(ids, labels, strict=True))}
    return ClassList(
        names, voc_palette(len(names)), read_index_labels, label_ids, stored
    )


def _check_entries(entries: Sequence[Entry], where: str) -> None:
    names = [name for name, _ in entries if name != VOID]
    values = [v for _, v in entries if v]
    wrong = [
        *(f"{n} twice" for n in dict.fromkeys(names) if names.count(n) > 1),
        *(f"{list(v)} twice" for v in dict.fromkeys(values) if values.count(v) > 1),
        *(f"{list(v)}, not in [0, 255]" for v in values if not _are_bytes(v)),
    ]
    lengths = {len(v) for _, v in entries}
    if len(lengths) > 1 or not lengths <= {0, 1, 3}:
        wrong.append(f"entries with {sorted(lengths)} values")
    if not 2 <= len(names) <= IGNORE_CLASS:
        wrong.append(f"{len(names)} classes")
    expected = f"2 to {IGNORE_CLASS} classes, all with ids, all with colours or all"
    expect(not wrong, f"{expected} without, each once, in {where}", wrong)


def _are_bytes(values: Sequence[int]) -> bool:
    return all(type(v) is int and 0 <= v <= 255 for v in values)


# --- Files ---


def _pairs(
    root: Path, images: Path, masks: Path
) -> tuple[dict[str, tuple[Path, Path]], list[Fault]]:
    """Returns the (image, mask) of each path without suffix, and files without one."""
    for folder in (images, masks):
        if not folder.is_dir():
            raise FileNotFoundError(
                f"Expected the folders {images.name} and {masks.name} in {root}. "
                f"Received: no folder {folder}"
            )
    found, first = _files(images, IMAGE_SUFFIXES, "image")
    labels, second = _files(masks, MASK_SUFFIXES, "mask")
    faults = [*first, *second]
    for name in sorted(found.keys() ^ labels.keys()):
        expected = f"mask, such as {masks / name}{MASK_SUFFIXES[0]}"
        if name in labels:
            expected = f"image in {images}"
        path = str(found.get(name) or labels[name])
        message = f"Expected its {expected}. Received: none"
        faults.append(Fault(path, message, missing=True))
    both = found.keys() & labels.keys()
    return {name: (found[name], labels[name]) for name in both}, faults


def _files(
    folder: Path, suffixes: Sequence[str], what: str
) -> tuple[dict[str, Path], list[Fault]]:
    """Returns the files of a folder by their relative paths without suffix.

    Hidden files, such as those that operating systems leave in folders, are skipped.
    """
    found: dict[str, Path] = {}
    faults = []
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.is_dir() or any(part.startswith(".") for part in inside.parts):
            continue
        name = inside.with_suffix("").as_posix()
        if path.suffix.lower() not in suffixes:
            message = f"Expected {what}s {', '.join(suffixes)}. Received: {path.name}"
            faults.append(Fault(str(path), message))
        elif name in found:
            message = f"Expected one {what} named {name}. Received: {found[name]} too"
            faults.append(Fault(str(path), message))
        else:
            found[name] = path
    return found, faults


# --- Splits ---


def _of_split(
    root: Path, split: str, names: Sequence[str], val_fraction: float, seed: int
) -> tuple[list[str], list[Fault]]:
    """Returns the names in a split, and what is wrong with its list."""
    lists = {name: root / f"{name}.txt" for name in {*BY_FRACTION, split}}
    listed = {name: path for name, path in lists.items() if path.is_file()}
    if split in listed:
        others = [listed[n] for n in BY_FRACTION if n in listed and n != split]
        # Lists of other names may share samples with train and val.
        return _of_list(listed[split], names, others if split in BY_FRACTION else [])
    if listed:
        raise FileNotFoundError(
            f"Expected a list of {split!r} at {lists[split]}, since there are others. "
            "Received: no such file"
        )
    expected = f"`split` to be one of {BY_FRACTION} or to have a list {lists[split]}"
    expect(split in BY_FRACTION, expected, split)
    held_out = _held_out(names, val_fraction, seed)
    return [n for n in names if (n in held_out) == (split == "val")], []


def _of_list(
    path: Path, names: Sequence[str], others: Sequence[Path]
) -> tuple[list[str], list[Fault]]:
    """Returns the names in a list, each once, and what is wrong with it.

    Args:
        path: The path of the list.
        names: The names of all pairs.
        others: Lists that must not share a name with this one.
    """
    known = set(names)
    counts = Counter(_read_list(path))
    faults = []
    for name, count in counts.items():
        if count > 1:
            message = f"Expected each image once. Received: {name} {count} times"
            faults.append(Fault(str(path), message))
        if name not in known:
            message = f"Expected an image and a mask of {name}. Received: not both"
            faults.append(Fault(str(path), message, missing=True))
    for other in others:
        for name in sorted(counts.keys() & set(_read_list(other))):
            message = f"Expected no image of {other}. Received: {name}"
            faults.append(Fault(str(path), message))
    return list(counts), faults


def _read_list(path: Path) -> list[str]:
    """Reads names, one a line, and removes their suffixes."""
    names = []
    for line in read_text(path).splitlines():
        name = line.strip()
        suffix = Path(name).suffix.lower()
        if suffix in (*IMAGE_SUFFIXES, *MASK_SUFFIXES):
            name = name[: -len(suffix)]
        names.append(name)
    return [name for name in names if name]


def _held_out(names: Sequence[str], fraction: float, seed: int) -> set[str]:
    """Chooses names by their digests, so that few change sides when files are added."""
    expect(len(names) >= 2, "at least 2 images, to split them", len(names))
    count = min(len(names) - 1, max(1, round(fraction * len(names))))

    def digest(name: str) -> bytes:
        return hashlib.sha256(os.fsencode(f"{seed}/{name}")).digest()

    return set(sorted(names, key=digest)[:count])
