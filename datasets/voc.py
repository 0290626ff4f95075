"""PASCAL VOC 2012 (Everingham et al.), and SBD's labels for it (Hariharan et al.)."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from tf_levelset.checks import expect
from tf_levelset.constants import IGNORE_CLASS
from tf_levelset.datasets.files.labels import (
    LABEL_FORMATS,
    color_label_reader,
    read_index_labels,
)
from tf_levelset.datasets.files.matlab import read_variable
from tf_levelset.datasets.paired_files import paired_files_source
from tf_levelset.datasets.pipeline import Source
from tf_levelset.files import read_text

# fmt: off
CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat",
    "chair", "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant",
    "sheep", "sofa", "train", "tvmonitor",
)
# fmt: on
SPLITS = ("train", "val", "trainval", "trainaug", "test")


def voc(
    data_dir: str | os.PathLike[str],
    split: str = "train",
    sbd_dir: str | os.PathLike[str] | None = None,
    list_file: str | os.PathLike[str] | None = None,
) -> Source:
    """Returns a split of PASCAL VOC 2012: 20 classes and background.

    `"trainaug"` is the usual training set of 10,582 images: the 1,464 of VOC with
    VOC's labels, and those of SBD that are not in VOC val with SBD's labels. VOC val
    has 1,449 images. The labels of `"test"`, 1,456 images in an archive of their own,
    are withheld: only VOC's server can evaluate it (see
    `tf_levelset.inference.submission`).

    Args:
        data_dir: The devkit's folder `VOC2012`, which holds `JPEGImages`,
            `SegmentationClass` and `ImageSets/Segmentation`, or a folder that holds
            `VOC2012` or `VOCdevkit/VOC2012`.
        split: `"train"`, `"val"`, `"trainval"`, `"trainaug"` or `"test"`.
        sbd_dir: SBD's folder, which holds `cls`, `train.txt` and `val.txt`, or a
            folder that holds it as `dataset` or `benchmark_RELEASE/dataset`. Needed
            for `"trainaug"` only.
        list_file: A file of image ids, one a line, instead of the split's own.

    Returns:
        A `Source`. Labels are palette or greyscale PNGs of class indices, or RGB PNGs
        in VOC's colours; the border around objects is void, 255. `"test"` has
        `has_labels=False`.

    Raises:
        FileNotFoundError: If a folder, a list or a listed file is missing.
        ValueError: If `split` is unknown, or `sbd_dir` is missing for `"trainaug"`.
    """
    expect(split in SPLITS, f"`split` to be one of {SPLITS}", split)
    places = ("", "VOC2012", "VOCdevkit/VOC2012")
    root = find_folder(data_dir, places, "JPEGImages", "VOC's")
    if split == "trainaug":
        ids, images, labels = _trainaug(root, sbd_dir, list_file)
    else:
        ids = read_ids(list_file or _list_path(root, split))
        images = [root / "JPEGImages" / f"{i}.jpg" for i in ids]
        labels = [root / "SegmentationClass" / f"{i}.png" for i in ids]
    return paired_files_source(
        f"voc/{split}",
        images,
        None if split == "test" else labels,
        CLASSES,
        voc_palette(len(CLASSES)),
        sample_names=ids,
        read_labels=read_voc_labels,
    )


def voc_palette(num_colors: int = 256) -> np.ndarray:
    """Returns VOC's colours, by the devkit's formula.

    Bits 0, 3 and 6 of a label are the highest bits of red, bits 1, 4 and 7 of green,
    bits 2 and 5 of blue.

    Args:
        num_colors: The number of colours, at most 256.

    Returns:
        uint8 (num_colors, 3), RGB; row 255 is the colour of void.
    """
    labels = np.arange(num_colors)[:, np.newaxis]
    channels = np.arange(3)
    palette = np.zeros((num_colors, 3), dtype=np.int64)
    for group in range(3):
        palette |= (labels >> (3 * group + channels) & 1) << (7 - group)
    return palette.astype(np.uint8)


# --- Label files ---


def read_voc_labels(path: str) -> np.ndarray:
    """Reads the labels of an image, in any of the formats that they come in.

    Args:
        path: SBD's .mat file, or a PNG: palette, greyscale, or RGB in VOC's colours.

    Returns:
        Integers (H, W), void being 255.

    Raises:
        ValueError: If an RGB file has a colour that is not one of VOC's, or a .mat file
            has no struct `GTcls` with a field `Segmentation`.
    """
    if path.endswith(".mat"):
        return _read_sbd_labels(path)
    with Image.open(path, formats=LABEL_FORMATS) as image:
        is_rgb = image.mode == "RGB"
    return _read_colors(path) if is_rgb else read_index_labels(path)


def _read_sbd_labels(path: str) -> np.ndarray:
    struct = read_variable(path, "GTcls")
    if getattr(struct, "size", 0) != 1 or "Segmentation" not in (
        struct.dtype.names or ()
    ):
        raise ValueError(
            f"Expected a struct GTcls with a field Segmentation in {path}. "
            "Received: a file without it"
        )
    return struct["Segmentation"].item()


_read_colors = color_label_reader(
    {tuple(voc_palette()[i].tolist()): i for i in (*range(len(CLASSES)), IGNORE_CLASS)}
)


# --- Folders and lists ---


def _trainaug(
    root: Path,
    sbd_dir: str | os.PathLike[str] | None,
    list_file: str | os.PathLike[str] | None,
) -> tuple[tuple[str, ...], list[Path], list[Path]]:
    """Returns the ids, image files and label files of trainaug."""
    if sbd_dir is None:
        raise ValueError("Expected `sbd_dir` for split 'trainaug'. Received: None")
    places = ("", "dataset", "benchmark_RELEASE/dataset")
    sbd = find_folder(sbd_dir, places, "cls", "SBD's")
    voc_train = set(read_ids(_list_path(root, "train")))
    if list_file is not None:
        ids = read_ids(list_file)
    else:
        ids = trainaug_ids(
            voc_train,
            read_ids(sbd / "train.txt"),
            read_ids(sbd / "val.txt"),
            read_ids(_list_path(root, "val")),
        )
    images, labels = [], []
    for i in ids:
        image = root / "JPEGImages" / f"{i}.jpg"
        copy = sbd / "img" / image.name
        if i in voc_train:
            labels.append(root / "SegmentationClass" / f"{i}.png")
        else:
            labels.append(sbd / "cls" / f"{i}.mat")
            image = copy if not image.is_file() and copy.is_file() else image
        images.append(image)
    return ids, images, labels


def trainaug_ids(
    voc_train: Iterable[str],
    sbd_train: Iterable[str],
    sbd_val: Iterable[str],
    voc_val: Iterable[str],
) -> tuple[str, ...]:
    """Returns VOC train ∪ SBD train ∪ SBD val without VOC val, sorted ids."""
    union = {*voc_train, *sbd_train, *sbd_val}
    return tuple(sorted(union.difference(voc_val)))


def _list_path(root: Path, split: str) -> Path:
    return root / "ImageSets" / "Segmentation" / f"{split}.txt"


def read_ids(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Returns the image ids in a list file, one a line.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not UTF-8 text.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"Expected a list of image ids at {path}. Received: no such file"
        )
    return tuple(read_text(Path(path)).split())


def find_folder(
    folder: str | os.PathLike[str], places: Iterable[str], inside: str, whose: str
) -> Path:
    """Returns the first of some places in a folder that holds the folder `inside`.

    Args:
        folder: Where to look.
        places: Relative paths, in the order of preference; "" is the folder itself.
        inside: The name of a folder in the place looked for.
        whose: Whose folder that is, for the error.

    Raises:
        FileNotFoundError: If no place holds it; the error names all of them.
    """
    candidates = [Path(folder, place) for place in places]
    for candidate in candidates:
        if (candidate / inside).is_dir():
            return candidate
    raise FileNotFoundError(
        f"Expected {whose} folder {inside} in one of "
        f"{', '.join(map(str, candidates))}. Received: no such folder"
    )
