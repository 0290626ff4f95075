"""PASCAL VOC 2012 (Everingham et al.), and SBD's labels for it (Hariharan et al.)."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from tf_levelset.datasets.folder import (
    color_label_reader,
    find_folder,
    image_files_source,
    index_labels,
    open_labels,
    paired_files_source,
    read_ids,
)
from tf_levelset.datasets.matlab import read_variable
from tf_levelset.datasets.pipeline import IGNORE_CLASS, Source

CLASSES = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
SPLITS = ("train", "val", "trainval", "trainaug", "test")


def voc(
    data_dir: str | os.PathLike[str],
    split: str = "train",
    sbd_dir: str | os.PathLike[str] | None = None,
    list_file: str | os.PathLike[str] | None = None,
) -> Source:
    """Returns a split of PASCAL VOC 2012: 21 classes, background among them.

    `"trainaug"` is the usual training set of 10,582 pictures: VOC's 1,464 with VOC's
    labels, and those of SBD that are not in VOC val with SBD's labels. VOC val has
    1,449 pictures. `"test"`, 1,456 pictures in an archive of its own, has no labels:
    only VOC's server can judge it (see `tf_levelset.inference.submission`).

    Args:
        data_dir: The devkit's folder `VOC2012`, which holds `JPEGImages`,
            `SegmentationClass` and `ImageSets/Segmentation`, or a folder that holds
            `VOC2012` or `VOCdevkit/VOC2012`.
        split: `"train"`, `"val"`, `"trainval"`, `"trainaug"` or `"test"`.
        sbd_dir: SBD's folder, which holds `cls`, `train.txt` and `val.txt`, or a
            folder that holds it as `dataset` or `benchmark_RELEASE/dataset`. Needed
            for `"trainaug"`, and read for it only.
        list_file: A file of picture ids, one a line, instead of the split's own.

    Returns:
        A `Source`. Labels are palette or greyscale PNGs of class indices, or RGB PNGs
        in VOC's colours; the border around objects, void, is 255. That of `"test"` has
        `has_labels=False`.

    Raises:
        FileNotFoundError: If a folder, a list or a listed file is missing.
        ValueError: If `split` is unknown, or `"trainaug"` lacks `sbd_dir`.
    """
    if split not in SPLITS:
        raise ValueError(f"Expected `split` to be one of {SPLITS}. Received: {split!r}")
    root = find_folder(
        data_dir, ("", "VOC2012", "VOCdevkit/VOC2012"), "JPEGImages", "VOC's"
    )
    palette = voc_palette(len(CLASSES))
    if split == "test":
        ids = read_ids(list_file or _list_path(root, split))
        images = [_voc_image(root, i) for i in ids]
        return image_files_source(
            f"voc/{split}", images, CLASSES, palette, sample_names=ids
        )
    if split == "trainaug":
        if sbd_dir is None:
            raise ValueError(
                "Expected `sbd_dir`, the folder of SBD, for split 'trainaug'. "
                "Received: sbd_dir=None"
            )
        sbd = find_folder(
            sbd_dir, ("", "dataset", "benchmark_RELEASE/dataset"), "cls", "SBD's"
        )
        ids, pairs = _trainaug_files(root, sbd, list_file)
    else:
        ids = read_ids(list_file or _list_path(root, split))
        pairs = [(_voc_image(root, i), _voc_labels(root, i)) for i in ids]
    return paired_files_source(
        f"voc/{split}",
        [image for image, _ in pairs],
        [labels for _, labels in pairs],
        CLASSES,
        palette,
        sample_names=ids,
        read_labels=read_voc_labels,
    )


def trainaug_ids(
    voc_train: Iterable[str],
    sbd_train: Iterable[str],
    sbd_val: Iterable[str],
    voc_val: Iterable[str],
) -> tuple[str, ...]:
    """Returns VOC train ∪ SBD train ∪ SBD val without VOC val, sorted ids."""
    union = {*voc_train, *sbd_train, *sbd_val}
    return tuple(sorted(union.difference(voc_val)))


def voc_palette(num_colors: int = 256) -> np.ndarray:
    """Returns VOC's colours, by the devkit's formula.

    Bits 0, 3 and 6 of a label are the highest bits of red, bits 1, 4 and 7 of green,
    bits 2 and 5 of blue.

    Args:
        num_colors: How many, at most 256.

    Returns:
        uint8 (num_colors, 3), RGB; row 255 is the colour of void.
    """
    labels = np.arange(num_colors)[:, np.newaxis]
    channels = np.arange(3)
    palette = np.zeros((num_colors, 3), dtype=np.int64)
    for group in range(3):
        palette |= (labels >> (3 * group + channels) & 1) << (7 - group)
    return palette.astype(np.uint8)


def read_voc_labels(path: str) -> np.ndarray:
    """Reads the labels of a picture, in any of the forms they come in.

    Args:
        path: SBD's .mat file, or a PNG: palette, greyscale, or RGB in VOC's colours.

    Returns:
        Integers (H, W), void being 255.

    Raises:
        ValueError: If an RGB file has a colour that is not VOC's.
    """
    if path.endswith(".mat"):
        return read_sbd_labels(path)
    with open_labels(path) as image:
        if image.mode != "RGB":
            return index_labels(image, path)
    return _read_colors(path)


def read_sbd_labels(path: str) -> np.ndarray:
    """Reads SBD's class labels of a picture.

    Args:
        path: A .mat file with a struct `GTcls` that has a field `Segmentation`.

    Returns:
        uint8 (H, W).

    Raises:
        ValueError: If the file has no such struct.
    """
    struct = read_variable(path, "GTcls")
    if getattr(struct, "size", 0) != 1 or "Segmentation" not in (
        struct.dtype.names or ()
    ):
        raise ValueError(
            f"Expected a struct GTcls with a field Segmentation in {path}. "
            "Received: a file without it"
        )
    return struct["Segmentation"].item()


def _voc_colors() -> dict[tuple[int, int, int], int]:
    palette = voc_palette()
    labels = [*range(len(CLASSES)), IGNORE_CLASS]
    return {tuple(palette[label].tolist()): label for label in labels}


_read_colors = color_label_reader(_voc_colors())


def _trainaug_files(
    root: Path, sbd: Path, list_file: str | os.PathLike[str] | None
) -> tuple[tuple[str, ...], list[tuple[Path, Path]]]:
    """Returns the ids and the (picture, labels) paths of trainaug."""
    voc_train = read_ids(_list_path(root, "train"))
    if list_file is not None:
        ids = read_ids(list_file)
    else:
        ids = trainaug_ids(
            voc_train,
            read_ids(sbd / "train.txt"),
            read_ids(sbd / "val.txt"),
            read_ids(_list_path(root, "val")),
        )
    own = set(voc_train)
    pairs = [
        (_voc_image(root, i), _voc_labels(root, i))
        if i in own
        else (_sbd_image(root, sbd, i), sbd / "cls" / f"{i}.mat")
        for i in ids
    ]
    return ids, pairs


def _voc_image(root: Path, sample_id: str) -> Path:
    return root / "JPEGImages" / f"{sample_id}.jpg"


def _voc_labels(root: Path, sample_id: str) -> Path:
    return root / "SegmentationClass" / f"{sample_id}.png"


def _sbd_image(root: Path, sbd: Path, sample_id: str) -> Path:
    """Returns VOC's picture, or SBD's copy where VOC's is not there."""
    image = _voc_image(root, sample_id)
    copy = sbd / "img" / image.name
    return copy if not image.is_file() and copy.is_file() else image


def _list_path(root: Path, split: str) -> Path:
    return root / "ImageSets" / "Segmentation" / f"{split}.txt"
