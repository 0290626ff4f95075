"""The recipes that have a name, and what can be derived from a recipe.

Each is trained by its name, and a copy of the recipe is kept in the run folder:

    tf-levelset train --recipe NAME --data-dir FOLDER --output RUN

`tf-levelset train --list-recipes` prints the command of every recipe and loss beside
the mIoU that the paper reports. `--smoke` runs a recipe in seconds, see `smoke`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from tf_levelset.checks import expect
from tf_levelset.datasets.augmentation import Augmentation
from tf_levelset.models.catalog import (
    ASPP_RATES,
    FCN_MULTIPLIERS,
    LARGEFOV_MULTIPLIERS,
    RESNET101_MULTIPLIERS,
    scaled_rates,
    supported_options,
)
from tf_levelset.training.recipe import FROM_SCRATCH, Recipe

# --- Recipes for two CPU cores ---

LEVEL_SET_WEIGHTS = {
    "sum": 4e-4,  # the paper's λ
    "mean": 0.67,  # the same, multiplied by the size of its map, 41²
    "scale_free": 3.0,
    "correlation": 3.0,
    "balanced": 12.0,
}
"""The weight of each normalization where none is given. The last three come from the
tuning fold of docs/results.md; "balanced" with the logit and ε = 1."""

_SMALL_LEVEL_SET = {
    "level_set_weight": LEVEL_SET_WEIGHTS["mean"],
    "normalization": "mean",
}
_SMALL_LARGEFOV = {"width": 0.25, "batch_norm": True, "dilation": 4, "dropout": 0.0}
_SMALL_RESNET = {"width": 0.125, "depth": 0.5, "freeze_batch_norm": False}
_SMALL_DEEPLAB_RESNET = {**_SMALL_RESNET, "rates": [*scaled_rates(ASPP_RATES, 160)]}

_SYNTHETIC = Recipe(
    dataset="synthetic",
    name="synthetic",
    model_options={**_SMALL_LARGEFOV, "dilation": 2},
    level_set=_SMALL_LEVEL_SET,
    loss_stride=1,  # At stride 8 the thin shapes would be lost.
    epochs=3,
    batch_size=8,
    augmentation=Augmentation(flip=True),
)
"""A first run on any machine: generated images, no files, a few minutes.

    tf-levelset train
"""

_CAMVID = Recipe(
    dataset="camvid",
    name="camvid",
    model_options=_SMALL_LARGEFOV,
    level_set=_SMALL_LEVEL_SET,
    epochs=45,
    batch_size=8,
    l2=5e-4,
    input_scale=0.5,
    augmentation=Augmentation(scale=(0.75, 1.5), crop=(180, 240), flip=True),
)
"""CamVid from scratch, evaluated at 480×360: about half an hour per loss.

    tf-levelset train --recipe camvid --data-dir CamVid
"""

_FOLDER = dataclasses.replace(
    _CAMVID,
    dataset="folder",
    name="folder",
    loss_stride=1,
    input_scale=1.0,
    augmentation=Augmentation(scale=(0.75, 1.5), crop=(240, 240), flip=True),
)
"""A starting point for your own images and masks.

    tf-levelset train --dataset folder --data-dir FOLDER
"""

_CAMVID_SHORT = tuple(
    dataclasses.replace(
        _CAMVID,
        name=f"camvid-{model}",
        model=model,
        model_options=options,
        learning_rate=learning_rate,
        epochs=12,
        input_scale=1 / 3,
        augmentation=Augmentation(crop=(120, 160), flip=True),
    )
    for model, options, learning_rate in (
        ("deeplab_largefov", _SMALL_LARGEFOV, 0.1),
        ("deeplab_resnet101", _SMALL_DEEPLAB_RESNET, 0.02),
        ("fcn8s_resnet101", _SMALL_RESNET, 0.02),  # At 0.1 it diverges.
    )
)
"""Each type of net on real images, in a few minutes per loss.

    tf-levelset train --recipe camvid-fcn8s_resnet101 --data-dir CamVid
"""

# --- Recipes of the paper (Kim et al. 2019, Section 4.2), for a GPU ---
#
#     tf-levelset train --recipe voc-deeplab_largefov \
#         --data-dir VOCdevkit/VOC2012 --sbd-dir SBD
#
# Settings that the paper leaves open follow DeepLab's second version, whose scheme it
# adopts.

_DATASETS: dict[str, dict[str, Any]] = {
    "voc": {"train_split": "trainaug"},
    "pascal_context": {},
    "cityscapes": {},
}
_ALL: dict[str, Any] = {
    # The paper starts the ResNets from MS-COCO (`--weights PATH`); weights from
    # ImageNet are available to everybody.
    "model_options": {"weights": "imagenet"},
    "iterations": 20_000,  # of DeepLab's second version at this batch size
    "batch_size": 10,
    # Section 4.2 names it for ResNet101 only; DeepLab's second version uses it for
    # LargeFOV too.
    "schedule": "poly",
}
_FCN_AND_LARGEFOV: dict[str, Any] = {
    **_ALL,
    "learning_rate": 0.004,
    "l2": 1e-4,
    "augmentation": Augmentation(crop=(512, 512), flip=True),
}
_FCN: dict[str, Any] = {
    **_FCN_AND_LARGEFOV,
    # At the size of the images, as FCN does. The weight is the paper's, multiplied by
    # the size of the map at stride 8 of a crop of 512: λ·n = 4·10⁻⁴ · 64².
    "loss_stride": 1,
    "level_set": {"level_set_weight": 1.64, "normalization": "mean"},
    "multipliers": FCN_MULTIPLIERS,
}
_LARGEFOV: dict[str, Any] = {
    **_FCN_AND_LARGEFOV,
    "level_set": {"level_set_weight": 4e-4},
    "multipliers": LARGEFOV_MULTIPLIERS,
}
_RESNET101: dict[str, Any] = {
    **_ALL,
    "level_set": {"level_set_weight": 4e-4},
    "learning_rate": 0.00025,
    "l2": 5e-4,
    "multipliers": RESNET101_MULTIPLIERS,
    # The paper names crop and flip; the scales are those of DeepLab's second version.
    "augmentation": Augmentation(scale=(0.5, 1.5), crop=(321, 321), flip=True),
}
_NETS: dict[str, dict[str, Any]] = {
    "fcn32s_resnet101": _FCN,
    "fcn16s_resnet101": _FCN,
    "fcn8s_resnet101": _FCN,
    "deeplab_largefov": _LARGEFOV,
    "deeplab_msc_largefov": _LARGEFOV,
    "deeplab_resnet101": _RESNET101,
    "deeplab_msc_resnet101": _RESNET101,
}
_OF_TABLES_2_AND_3 = ("fcn8s_resnet101", "deeplab_largefov", "deeplab_resnet101")


def _paper(dataset: str, model: str, name: str = "", **changes: Any) -> Recipe:
    """Returns the recipe of a row of the paper's tables."""
    options = {**_DATASETS[dataset], **_NETS[model], **changes}
    return Recipe(dataset, name=name or f"{dataset}-{model}", model=model, **options)


_PAPER = (
    *(_paper("voc", model) for model in _NETS),  # Tables 1 and 4
    *(_paper("pascal_context", model) for model in _OF_TABLES_2_AND_3),
    *(_paper("cityscapes", model) for model in _OF_TABLES_2_AND_3),
    _paper(  # Table 5
        "voc",
        "deeplab_resnet101",
        name="voc-deeplab_resnet101-losses",
        losses=("ce", "lad", "lmp", "ls"),
    ),
)

# --- By name ---

RECIPES = {
    recipe.name: recipe
    for recipe in (_SYNTHETIC, _CAMVID, _FOLDER, *_CAMVID_SHORT, *_PAPER)
}
"""All named recipes."""

DEFAULTS = {
    "synthetic": "synthetic",
    "camvid": "camvid",
    "voc": "voc-deeplab_largefov",
    "pascal_context": "pascal_context-deeplab_largefov",
    "cityscapes": "cityscapes-deeplab_largefov",
    "folder": "folder",
}
"""The recipe of each data set that is used when none is named."""


def default_recipe(dataset: str) -> Recipe:
    """Returns the recipe that is used for a data set when none is named."""
    expected = "--recipe together with --dataset, for a data set without a default"
    expect(dataset in DEFAULTS, expected, dataset)
    return RECIPES[DEFAULTS[dataset]]


# --- Recipes derived from others ---


def with_model(recipe: Recipe, model: str) -> Recipe:
    """Returns a recipe for another net.

    Options that only the old net has are dropped. Its per-layer learning rates are
    replaced by those of the new net.

    Args:
        recipe: A recipe.
        model: Name of the new net, one of `tf_levelset.models.list_models()`.
    """
    if model == recipe.model:
        return recipe
    kept = ("width", "depth", "weights")
    options = {k: v for k, v in recipe.model_options.items() if k in kept}
    options = supported_options(model, options)
    multipliers = recipe.multipliers
    if multipliers != FROM_SCRATCH:
        multipliers = _NETS.get(model, _FCN)["multipliers"]
    return dataclasses.replace(
        recipe, model=model, model_options=options, multipliers=multipliers
    )


NUM_CLASSES = {"camvid": 11, "cityscapes": 19, "pascal_context": 60, "voc": 21}
"""Number of classes of each data set whose classes are fixed."""


def smoke(recipe: Recipe) -> Recipe:
    """Returns a recipe that runs in seconds: a tiny net, two steps, generated images.

    The losses, the optimizer, its learning rates and its schedule, the number of
    classes and the types of augmentation are those of the given recipe.

    Args:
        recipe: A recipe.

    Returns:
        A recipe without a name, on synthetic scenes.
    """
    options: dict[str, Any] = {"num_samples": 4, "size": [33, 41]}
    if recipe.dataset in NUM_CLASSES:
        options["num_classes"] = NUM_CLASSES[recipe.dataset]
    tiny = {
        "width": 0.02,
        "depth": 0.01,
        "dilation": 1,
        "rates": [1, 1, 2, 2],
        # With frozen statistics that were never learned, the logits would explode.
        "freeze_batch_norm": False,
    }
    tiny = supported_options(recipe.model, tiny)
    model_options = {**recipe.model_options, **tiny}
    model_options.pop("weights", None)
    return dataclasses.replace(
        recipe,
        name="",
        dataset="synthetic",
        train_split="train",
        val_split="val",
        dataset_options=options,
        model_options=model_options,
        iterations=2,
        batch_size=2,
        input_scale=1.0,
        augmentation=dataclasses.replace(recipe.augmentation, crop=(33, 33)),
    )
