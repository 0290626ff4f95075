"""Lists of classes: their names, and their ids or colours in the masks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tf_levelset.checks import expect
from tf_levelset.constants import IGNORE_CLASS
from tf_levelset.datasets.files.labels import (
    LabelReader,
    color_label_reader,
    read_index_labels,
)
from tf_levelset.datasets.voc import voc_palette
from tf_levelset.files import read_text

VOID = "void"
"""The name, in a list of classes, of pixels that belong to no class."""

Classes = str | Sequence[str] | Mapping[str, int | Sequence[int]]

Entry = tuple[str, tuple[int, ...]]
"""The name of a class, and nothing, its id, or its colour."""

# A name, in double quotes or not, up to three whole numbers, and a comment.
_LINE = re.compile(
    r'(?:"(?P<quoted>[^"]+)"|(?P<plain>[^"#]*?))'
    r"(?P<values>(?:[\s,;:]+\d+){0,3})[\s,;:]*(?:#.*)?"
)
# Such a name may be a line of another form, such as `1 disc` or `disc (1)`.
_WITH_NUMBER = re.compile(r"\W*\d+(?:\W.*)?|.*\W\d+\W*")
_QUOTES = "with names that begin or end with a number in double quotes"


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


def read_classes(root: Path, classes: Classes) -> ClassList:
    """Reads the argument `classes` of `image_folder`.

    Raises:
        FileNotFoundError: If it names a file that does not exist.
        ValueError: As `class_list`, or if a line of the file has another form.
    """
    if isinstance(classes, str):
        entries, lines = _read_lines(root / classes)
        return class_list(entries, f"{root / classes}, {_QUOTES}", lines)
    if not isinstance(classes, Mapping):
        return class_list([(name, ()) for name in classes])
    values = [(v,) if isinstance(v, int) else tuple(v) for v in classes.values()]
    return class_list(list(zip(classes, values, strict=True)))


def _read_lines(path: Path) -> tuple[list[Entry], list[str]]:
    """Returns the entries of a list of classes, and the text of each in errors."""
    if not path.is_file():
        raise FileNotFoundError(
            f"Expected a list of classes at {path}, one name a line. Received: no such "
            "file"
        )
    entries: list[Entry] = []
    lines, wrong = [], []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        match, place = _LINE.fullmatch(line.strip()), f"line {number}: {line.strip()}"
        if match is None:
            wrong.append(place)
            continue
        quoted, name = match["quoted"], (match["plain"] or "").strip()
        values = tuple(map(int, re.findall(r"\d+", match["values"])))
        if not (quoted or name or values):
            continue
        if (
            len(values) not in (0, 1, 3)
            or not (quoted or name)
            or (not quoted and _WITH_NUMBER.fullmatch(name))
        ):
            wrong.append(place)
        entries.append((quoted or " ".join(name.split()), values))
        lines.append(place)
    forms = f"lines NAME, NAME ID or NAME RED GREEN BLUE in {path}, {_QUOTES}"
    expect(not wrong, forms, wrong)
    return entries, lines


def class_list(
    entries: Sequence[Entry], where: str = "`classes`", lines: Sequence[str] = ()
) -> ClassList:
    """Returns the classes of a list.

    Args:
        entries: The entries, in their order.
        where: The name of the list in errors.
        lines: The text of each entry in errors, if it comes from a file.

    Raises:
        ValueError: If the entries are of different types, a value is out of range or
            occurs twice, a name occurs twice, or there are fewer than 2 or more than
            255 classes.
    """
    _check_entries(entries, where, lines)
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


def _check_entries(entries: Sequence[Entry], where: str, lines: Sequence[str]) -> None:
    at = [f" ({line})" for line in lines] or [""] * len(entries)
    names = [name for name, _ in entries]
    values = [v for _, v in entries]
    wrong = [
        f"{name} twice{at[i]}"
        for i, name in enumerate(names)
        if name != VOID and name in names[:i]
    ]
    wrong += [
        f"{list(v)} twice{at[i]}" for i, v in enumerate(values) if v and v in values[:i]
    ]
    wrong += [
        f"{list(v)}, not in [0, 255]{at[i]}"
        for i, v in enumerate(values)
        if not _are_bytes(v)
    ]
    lengths = {len(v): at[i] for i, v in enumerate(values)}
    if len(lengths) > 1 or not lengths.keys() <= {0, 1, 3}:
        examples = "".join(lengths.values())
        wrong.append(f"entries with {sorted(lengths)} values{examples}")
    count = len(names) - names.count(VOID)
    if not 2 <= count <= IGNORE_CLASS:
        wrong.append(f"{count} classes")
    expected = f"2 to {IGNORE_CLASS} classes, all with ids, all with colours or all"
    expect(not wrong, f"{expected} without, each once, in {where}", wrong)


def _are_bytes(values: Sequence[int]) -> bool:
    return all(type(v) is int and 0 <= v <= 255 for v in values)
