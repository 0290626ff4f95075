"""The images in a folder and their masks in another one, found by their names."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tf_levelset.datasets.files.faults import Fault
from tf_levelset.datasets.files.images import IMAGE_SUFFIXES
from tf_levelset.files import files_below

MASK_SUFFIXES = (".png", ".bmp", ".gif", ".tif", ".tiff")
"""Lossless formats only: a JPEG file would change the colours of the classes."""

_REASONS = {
    **dict.fromkeys((".jpg", ".jpeg"), ", whose compression has changed the labels"),
    ".webp": ", whose compression may have changed the labels",
    ".json": ", whose annotations are to be drawn into mask files",
}
"""Why files of some types are no masks."""

Pairs = dict[str, tuple[Path, Path]]
"""The image and the mask by their name: the path in their folder, without suffix, its
characters composed as in NFC. File systems differ in how they store accents."""


def find_pairs(images: Path, masks: Path) -> tuple[Pairs, list[Fault]]:
    """Finds the images and masks in two folders, at any depth.

    The mask of `a/b.jpg` has the name `a/b`, or `a/b.jpg`, before its suffix. If no
    mask has the name of an image, all may have the same addition, such as `a/b_mask` or
    `a/mask_b`, provided that then every image has one mask and every mask an image.

    Returns:
        The pairs, and a fault for each file that is in none.
    """
    found, first = _files(images, IMAGE_SUFFIXES, "image")
    labels, second = _files(masks, MASK_SUFFIXES, "mask")
    labels, third = _by_image(found, labels, masks)
    faults = [*third, *first, *second]
    for name in sorted(found.keys() ^ labels.keys()):
        expected = f"mask, such as {masks / name}{MASK_SUFFIXES[0]}"
        if name in labels:
            expected = f"image in {images}"
        path = str(found.get(name) or labels[name])
        message = f"Expected its {expected}. Received: none"
        faults.append(Fault(path, message, missing=True))
    both = found.keys() & labels.keys()
    return {name: (found[name], labels[name]) for name in both}, faults


def without_suffix(name: str) -> str:
    """Returns a name as `Pairs` has it, from a path in the folder."""
    suffix = Path(name).suffix
    if suffix.lower() in (*IMAGE_SUFFIXES, *MASK_SUFFIXES):
        name = name[: -len(suffix)]
    return unicodedata.normalize("NFC", name)


def _files(
    folder: Path, suffixes: Sequence[str], what: str
) -> tuple[dict[str, Path], list[Fault]]:
    """Returns the files of a folder by their names, and faults for all others.

    Hidden files, such as those that operating systems leave in folders, are skipped.
    """
    found: dict[str, Path] = {}
    faults = []
    for path in files_below(folder):
        name = without_suffix(path.relative_to(folder).as_posix())
        if path.suffix.lower() not in suffixes:
            message = f"Expected {what}s {', '.join(suffixes)}. Received: {path.name}"
            message += _REASONS.get(path.suffix.lower(), "")
            faults.append(Fault(str(path), message))
        elif name in found:
            message = f"Expected one {what} named {name}. Received: {found[name]} too"
            faults.append(Fault(str(path), message))
        else:
            found[name] = path
    return found, faults


# --- Additions to names ---


def _by_image(
    found: Mapping[str, Path], labels: Mapping[str, Path], masks: Path
) -> tuple[dict[str, Path], list[Fault]]:
    """Returns the masks by the names of their images, where the additions are clear.

    Otherwise a fault says how many masks have an addition, if most have the same one.
    """
    images = {name: path for name, path in found.items() if name not in labels}
    alone = labels.keys() - found.keys()
    readings = _readings(alone, images)
    complete = [
        names
        for names in readings.values()
        if names.keys() == labels.keys() and sorted(names.values()) == sorted(found)
    ]
    if complete and all(names == complete[0] for names in complete):
        return {complete[0][name]: path for name, path in labels.items()}, []
    (head, tail), names = max(
        readings.items(), key=lambda reading: len(reading[1]), default=(("", ""), {})
    )
    if 2 * len(names) <= len(alone):
        return dict(labels), []
    message = (
        "Expected masks with the names of their images, or the same addition in the "
        "names of all masks and one for each image. Received: "
        f"{len(names)} of {len(labels)} masks named {head}NAME{tail}, and "
        f"{len(images)} of {len(found)} images without a mask of their name"
    )
    return dict(labels), [Fault(str(masks), message)]


def _readings(
    labels: Iterable[str], images: Mapping[str, Path]
) -> dict[tuple[str, str], dict[str, str]]:
    """Returns the image of each mask by what its name adds before and after."""
    names = {f"{name}{path.suffix}": name for name, path in images.items()}
    names |= {name: name for name in images}
    readings: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for label in sorted(labels):
        folder, slash, stem = label.rpartition("/")
        for place in range(len(stem) + 1):
            head, tail = stem[:place], stem[place:]
            for addition, rest in ((("", tail), head), ((head, ""), tail)):
                image = names.get(f"{folder}{slash}{rest}")
                if image is not None:
                    readings[addition][label] = image
    return readings
