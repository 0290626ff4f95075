"""PASCAL-Context (Mottaghi et al., CVPR 2014): PASCAL VOC 2010, labelled everywhere."""

from __future__ import annotations

import os

import numpy as np

from tf_levelset.checks import expect, plain_options
from tf_levelset.constants import IGNORE_CLASS
from tf_levelset.datasets.files.matlab import read_variable
from tf_levelset.datasets.paired_files import paired_files_source
from tf_levelset.datasets.pipeline import Source
from tf_levelset.datasets.voc import find_folder, read_ids, voc_palette

# The classes in the published order, with their ids in the label files, which know 459
# things. Three have other names there: diningtable is "table", clothes is "cloth" and
# bedcloth is "bedclothes". All other ids are background, and so is 0, no label.
# fmt: off
CLASSES: dict[str, int] = {
    "background": 0, "aeroplane": 2, "bicycle": 23, "bird": 25, "boat": 31,
    "bottle": 34, "bus": 45, "car": 59, "cat": 65, "chair": 72, "cow": 98,
    "diningtable": 397, "dog": 113, "horse": 207, "motorbike": 258, "person": 284,
    "pottedplant": 308, "sheep": 347, "sofa": 368, "train": 416, "tvmonitor": 427,
    "bag": 9, "bed": 18, "bench": 22, "book": 33, "building": 44, "cabinet": 46,
    "ceiling": 68, "clothes": 80, "computer": 85, "cup": 104, "door": 115, "fence": 144,
    "floor": 158, "flower": 159, "food": 162, "grass": 187, "ground": 189,
    "keyboard": 220, "light": 232, "mountain": 259, "mouse": 260, "curtain": 105,
    "platform": 296, "sign": 355, "plate": 295, "road": 324, "rock": 326,
    "shelves": 349, "sidewalk": 354, "sky": 360, "snow": 366, "bedcloth": 19,
    "track": 415, "tree": 420, "truck": 424, "wall": 440, "water": 445, "window": 454,
    "wood": 458,
}
# fmt: on
SPLITS = ("train", "val", "trainval")

_NUM_IDS = 460  # 0 and the 459


@plain_options
def pascal_context(
    data_dir: str | os.PathLike[str],
    split: str = "train",
    context_dir: str | os.PathLike[str] | None = None,
    list_file: str | os.PathLike[str] | None = None,
    background: bool = True,
) -> Source:
    """Returns a split of PASCAL-Context: 59 classes and background.

    The splits are those of VOC 2010: 4,998 training and 5,105 validation images, which
    papers also call the test set. Mottaghi et al. select the 59 most frequent classes.
    DeepLab (v2, Section 4.2) and Long et al. count background as a 60th class; other
    papers leave it out.

    Args:
        data_dir: VOC's folder `VOC2010`, which holds `JPEGImages` and
            `ImageSets/Main`, or a folder that holds `VOC2010` or `VOCdevkit/VOC2010`.
        split: `"train"`, `"val"` or `"trainval"`.
        context_dir: The folder that holds PASCAL-Context's folder `trainval` of .mat
            files; by default the same places as for `data_dir` are searched.
        list_file: A file of image ids, one a line, instead of the split's own.
        background: Whether background is class 0, before the 59. If False, the classes
            are the 59 alone and background is void.

    Returns:
        A `Source` of 60 or 59 classes, in the order of `CLASSES`. There are no official
        colours; these follow VOC's formula.

    Raises:
        FileNotFoundError: If a folder, a list or a listed file is missing.
        ValueError: If `split` is unknown.
    """
    expect(split in SPLITS, f"`split` to be one of {SPLITS}", split)
    places = ("", "VOC2010", "VOCdevkit/VOC2010")
    root = find_folder(data_dir, places, "JPEGImages", "VOC's")
    own_dir = context_dir or data_dir
    context = find_folder(own_dir, places, "trainval", "PASCAL-Context's")
    ids = read_ids(list_file or root / "ImageSets" / "Main" / f"{split}.txt")
    first = 0 if background else 1
    return paired_files_source(
        f"pascal_context/{split}",
        [root / "JPEGImages" / f"{i}.jpg" for i in ids],
        [context / "trainval" / f"{i}.mat" for i in ids],
        tuple(CLASSES)[first:],
        voc_palette(len(CLASSES))[first:],
        sample_names=ids,
        label_ids=label_ids(background),
        read_labels=read_context_labels,
    )


def label_ids(background: bool = True) -> dict[int, int]:
    """Returns what each id in the label files means.

    Args:
        background: As in `pascal_context`.

    Returns:
        The class, or void, 255, of each id from 0 to 459.
    """
    others = 0 if background else IGNORE_CLASS
    named = list(CLASSES.values())[1:]
    first = 1 if background else 0
    return {
        **dict.fromkeys(range(_NUM_IDS), others),
        **{label_id: label for label, label_id in enumerate(named, first)},
    }


def read_context_labels(path: str) -> np.ndarray:
    """Reads the ids of an image.

    Args:
        path: A .mat file with an array of integers `LabelMap`.

    Returns:
        Integers (H, W), uint16 in the published files, in [0, 459].

    Raises:
        ValueError: If the file has no such array.
    """
    labels = read_variable(path, "LabelMap")
    # SciPy may return other things than arrays, such as a function handle.
    dtype = getattr(labels, "dtype", None)
    if dtype is None or not np.issubdtype(dtype, np.integer):
        raise ValueError(
            f"Expected an array of integers LabelMap in {path}. Received: "
            f"{'a file without it' if labels is None else dtype or type(labels)}"
        )
    return labels
