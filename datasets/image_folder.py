"""The data set "folder": any folder of images, one of masks, and a list of classes."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tf_levelset.checks import expect, plain_options
from tf_levelset.datasets.files.class_lists import Classes, read_classes
from tf_levelset.datasets.files.faults import Fault, error_of
from tf_levelset.datasets.files.pairs import find_pairs, without_suffix
from tf_levelset.datasets.paired_files import paired_files_source
from tf_levelset.datasets.pipeline import Source
from tf_levelset.files import read_text

BY_FRACTION = ("train", "val")
"""The splits of a folder without lists."""

SPLIT_FOLDERS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""The split that a folder in the folders of images and masks holds, by its name."""


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
    mask of `images/a/b.jpg` is `masks/a/b.png`, or all masks have the same addition to
    their names, such as `masks/a/b_mask.png`. Images are JPEG, PNG, BMP, GIF, TIFF or
    WebP files; masks are PNG, BMP, GIF or TIFF files. Both are turned upright as their
    EXIF orientations say. Linked folders are followed.

    A split is a list of such paths, with or without suffix, one a line, in `train.txt`,
    `val.txt` and so on beside the folders. Without `train.txt` and `val.txt`, folders
    such as `images/train` and `masks/train` are the splits (see `SPLIT_FOLDERS`).
    Without these, a fraction of the images is `"val"`, chosen by their paths and `seed`
    alone.

    Args:
        data_dir: The folder that holds all of this.
        split: `"train"`, `"val"`, or the name of a list or of a split's folder.
        images: The folder of images in `data_dir`.
        masks: The folder of masks in `data_dir`.
        classes: A file in `data_dir` with a class a line: its name, followed by
            nothing (ids count from 0), by its id, or by its colour: red, green and
            blue, separated by spaces or commas. A name that begins or ends with a
            number stands in double quotes. The name `void`, which may occur several
            times, stands for pixels that are ignored; text after `#` is a comment. Or
            the names themselves, or a mapping from names to ids or colours. Without
            colours, 255 is void unless a class has that id.
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
        FileNotFoundError: If a folder, the list of classes or a split's list or folder
            is missing.
        ValueError: If the list of classes is malformed or an argument out of range.
    """
    expect(0 < val_fraction < 1, "`val_fraction` in (0, 1)", val_fraction)
    root = Path(data_dir)
    class_list = read_classes(root, classes)
    for folder in (images, masks):
        if not (root / folder).is_dir():
            raise FileNotFoundError(
                f"Expected the folders {images} and {masks} in {root}. "
                f"Received: no folder {root / folder}"
            )
    found, faults = find_pairs(root / images, root / masks)
    try:
        names, more = _of_split(root, split, sorted(found), val_fraction, seed)
    except (OSError, ValueError) as error:
        if faults:  # which may have caused the other
            raise error_of(f"folder/{split}", faults) from error
        raise
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


# --- Splits ---


def _of_split(
    root: Path, split: str, names: Sequence[str], val_fraction: float, seed: int
) -> tuple[list[str], list[Fault]]:
    """Returns the names in a split, and what is wrong with its list or folders."""
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
    by_folder = _by_folder(names)
    if len(by_folder.keys() - {""}) > 1:
        return _of_folder(root, split, by_folder)
    expected = f"`split` to be one of {BY_FRACTION} or to have a list {lists[split]}"
    expect(split in BY_FRACTION, expected, split)
    held_out = _held_out(names, val_fraction, seed)
    return [n for n in names if (n in held_out) == (split == "val")], []


def _by_folder(names: Iterable[str]) -> dict[str, list[str]]:
    """Returns the names by the split of their first folder, "" for other folders."""
    by_folder: dict[str, list[str]] = defaultdict(list)
    for name in names:
        folder, slash, _ = name.partition("/")
        by_folder[SPLIT_FOLDERS.get(folder.lower(), "") if slash else ""].append(name)
    return by_folder


def _of_folder(
    root: Path, split: str, by_folder: Mapping[str, list[str]]
) -> tuple[list[str], list[Fault]]:
    """Returns the names in the folder of a split, and those that are in none."""
    if split not in by_folder:
        raise FileNotFoundError(
            f"Expected the folder of {split!r} among the images and masks in {root}, "
            f"since there are those of {sorted(by_folder.keys() - {''})}. Received: no "
            "pair in such a folder. Lists of the splits take precedence over folders"
        )
    faults = []
    if others := by_folder.get(""):
        message = (
            "Expected all images in the folders of the splits. Received: "
            f"{len(others)} elsewhere, such as {', '.join(others[:3])}"
        )
        faults.append(Fault(str(root), message))
    return by_folder[split], faults


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
    names = [without_suffix(line.strip()) for line in read_text(path).splitlines()]
    return [name for name in names if name]


def _held_out(names: Sequence[str], fraction: float, seed: int) -> set[str]:
    """Chooses names by their digests, so that few change sides when files are added."""
    expect(len(names) >= 2, "at least 2 images, to split them", len(names))
    count = min(len(names) - 1, max(1, round(fraction * len(names))))

    def digest(name: str) -> bytes:
        return hashlib.sha256(os.fsencode(f"{seed}/{name}")).digest()

    return set(sorted(names, key=digest)[:count])
