"""Cityscapes (Cordts et al., CVPR 2016), its fine labels: 19 classes, 2048×1024."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from tf_levelset.checks import expect
from tf_levelset.constants import IGNORE_CLASS
from tf_levelset.datasets.paired_files import paired_files_source
from tf_levelset.datasets.pipeline import Source


class Label(NamedTuple):
    """A row of the official table."""

    id: int
    """The value in the files `*_labelIds.png`; −1 does not occur there."""
    train_id: int
    """The class in [0, 19), or 255 or −1 for what is not evaluated."""
    name: str
    color: tuple[int, int, int]


LABELS = (
    Label(0, 255, "unlabeled", (0, 0, 0)),
    Label(1, 255, "ego vehicle", (0, 0, 0)),
    Label(2, 255, "rectification border", (0, 0, 0)),
    Label(3, 255, "out of roi", (0, 0, 0)),
    Label(4, 255, "static", (0, 0, 0)),
    Label(5, 255, "dynamic", (111, 74, 0)),
    Label(6, 255, "ground", (81, 0, 81)),
    Label(7, 0, "road", (128, 64, 128)),
    Label(8, 1, "sidewalk", (244, 35, 232)),
    Label(9, 255, "parking", (250, 170, 160)),
    Label(10, 255, "rail track", (230, 150, 140)),
    Label(11, 2, "building", (70, 70, 70)),
    Label(12, 3, "wall", (102, 102, 156)),
    Label(13, 4, "fence", (190, 153, 153)),
    Label(14, 255, "guard rail", (180, 165, 180)),
    Label(15, 255, "bridge", (150, 100, 100)),
    Label(16, 255, "tunnel", (150, 120, 90)),
    Label(17, 5, "pole", (153, 153, 153)),
    Label(18, 255, "polegroup", (153, 153, 153)),
    Label(19, 6, "traffic light", (250, 170, 30)),
    Label(20, 7, "traffic sign", (220, 220, 0)),
    Label(21, 8, "vegetation", (107, 142, 35)),
    Label(22, 9, "terrain", (152, 251, 152)),
    Label(23, 10, "sky", (70, 130, 180)),
    Label(24, 11, "person", (220, 20, 60)),
    Label(25, 12, "rider", (255, 0, 0)),
    Label(26, 13, "car", (0, 0, 142)),
    Label(27, 14, "truck", (0, 0, 70)),
    Label(28, 15, "bus", (0, 60, 100)),
    Label(29, 255, "caravan", (0, 0, 90)),
    Label(30, 255, "trailer", (0, 0, 110)),
    Label(31, 16, "train", (0, 80, 100)),
    Label(32, 17, "motorcycle", (0, 0, 230)),
    Label(33, 18, "bicycle", (119, 11, 32)),
    Label(-1, -1, "license plate", (0, 0, 142)),
)

# The classes, in the order of the table.
_EVALUATED = tuple(label for label in LABELS if 0 <= label.train_id < IGNORE_CLASS)
CLASSES: dict[str, tuple[int, int, int]] = {
    label.name: label.color for label in _EVALUATED
}
CLASS_IDS = tuple(label.id for label in _EVALUATED)

SPLITS = ("train", "val", "test")
LABEL_FILES = ("labelIds", "labelTrainIds")

_IMAGE_END = "_leftImg8bit.png"


def cityscapes(
    data_dir: str | os.PathLike[str], split: str = "train", labels: str = "labelIds"
) -> Source:
    """Returns a split of Cityscapes, sorted by city, sequence and frame.

    There are 2,975 training, 500 validation and 1,525 test images. The labels of the
    test split are withheld: the files in `gtFine/test` show no class, only what lies
    outside the region of interest, and are not read. The benchmark's server evaluates
    that split (see `tf_levelset.inference.submission`).

    Args:
        data_dir: The folder that holds `leftImg8bit` and `gtFine`, with
            `leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png` and so on.
        split: `"train"`, `"val"` or `"test"`.
        labels: Which label files to read: `"labelIds"`, which are downloaded, or
            `"labelTrainIds"`, which the official tools make from them.

    Returns:
        A `Source` with sample names such as `"aachen_000000_000019"`. Labels are train
        ids; what the benchmark does not evaluate is void, 255. `"test"` has
        `has_labels=False`.

    Raises:
        FileNotFoundError: If the split's folder, the labels of an image or the image
            of labels is missing.
        ValueError: If `split` or `labels` is unknown.
    """
    expect(split in SPLITS, f"`split` to be one of {SPLITS}", split)
    known = labels in LABEL_FILES
    expect(known, f"`labels` to be one of {LABEL_FILES}", labels)
    image_dir = Path(data_dir, "leftImg8bit", split)
    label_dir, label_end = Path(data_dir, "gtFine", split), f"_gtFine_{labels}.png"
    samples = _find_samples(image_dir, _IMAGE_END)
    if split != "test":
        # A sample with one file only is an error that names the other.
        samples |= _find_samples(label_dir, label_end)
    places = sorted(samples)
    label_paths = [label_dir / city / f"{name}{label_end}" for city, name in places]
    return paired_files_source(
        f"cityscapes/{split}",
        [image_dir / city / f"{name}{_IMAGE_END}" for city, name in places],
        None if split == "test" else label_paths,
        tuple(CLASSES),
        tuple(CLASSES.values()),
        sample_names=[name for _, name in places],
        label_ids=label_ids() if labels == "labelIds" else None,
    )


def label_ids() -> dict[int, int]:
    """Returns the class, or void, 255, of each id in the files `*_labelIds.png`."""
    return {label.id: label.train_id for label in LABELS if label.id >= 0}


def _find_samples(folder: Path, end: str) -> set[tuple[str, str]]:
    """Returns the (city, name) of the files CITY/NAMEend in a folder."""
    paths = list(folder.glob(f"*/*{end}"))
    if not paths:
        raise FileNotFoundError(
            f"Expected Cityscapes' files CITY/*{end} in {folder}. Received: no such "
            "files"
        )
    return {(path.parent.name, path.name.removesuffix(end)) for path in paths}
