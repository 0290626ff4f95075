"""The named recipes, and those derived from others."""

from __future__ import annotations

import dataclasses
import importlib
import json
from pathlib import Path

import numpy as np
import pytest

from tf_levelset.datasets import list_datasets, load_dataset
from tf_levelset.datasets.catalog import FILES
from tf_levelset.models.catalog import FCN_MULTIPLIERS, RESNET101_MULTIPLIERS
from tf_levelset.training.recipes import (
    DEFAULTS,
    NUM_CLASSES,
    RECIPES,
    smoke,
    with_model,
)
from tf_levelset.training.run import Run
from tf_levelset.training.train import train


def test_every_dataset_has_its_default() -> None:
    assert set(DEFAULTS) == set(list_datasets())
    for dataset, name in DEFAULTS.items():
        assert RECIPES[name].dataset == dataset


PAPER = ("voc", "pascal_context", "cityscapes")
COMMON = ("fcn8s_resnet101", "deeplab_largefov", "deeplab_resnet101")


@pytest.mark.parametrize(
    ("net", "learning_rate", "crop", "l2"),
    [
        ("fcn32s_resnet101", 0.004, 512, 1e-4),
        ("fcn16s_resnet101", 0.004, 512, 1e-4),
        ("fcn8s_resnet101", 0.004, 512, 1e-4),
        ("deeplab_largefov", 0.004, 512, 1e-4),
        ("deeplab_msc_largefov", 0.004, 512, 1e-4),
        ("deeplab_resnet101", 0.00025, 321, 5e-4),
        ("deeplab_msc_resnet101", 0.00025, 321, 5e-4),
    ],
)
def test_the_papers_recipes(
    net: str, learning_rate: float, crop: int, l2: float
) -> None:
    # Kim et al. 2019, Section 4.2, which names "poly" for ResNet101 alone.
    recipes = [
        r for name, r in RECIPES.items() if name in (f"{d}-{net}" for d in PAPER)
    ]
    assert len(recipes) == (3 if net in COMMON else 1)
    for recipe in recipes:
        assert recipe.learning_rate == learning_rate
        assert recipe.augmentation.crop == (crop, crop)
        assert recipe.augmentation.flip
        assert (recipe.l2, recipe.batch_size, recipe.momentum) == (l2, 10, 0.9)
        assert (recipe.schedule, recipe.power) == ("poly", 0.9)
        assert recipe.model_options == {"weights": "imagenet"}
        assert recipe.iterations == 20_000
        # λ: the paper's on the sum at stride 8, or what it weighs there, λ·n.
        if recipe.loss_stride == 8:
            assert recipe.level_set == {"level_set_weight": 4e-4}
        else:
            weight = recipe.level_set["level_set_weight"]
            assert weight == pytest.approx(4e-4 * (crop / 8) ** 2, rel=2e-3)
            assert recipe.level_set["normalization"] == "mean"
        # The paper names crop and flip; only DeepLab's ResNets see other scales.
        scaled = recipe.augmentation.scale == (0.5, 1.5)
        assert scaled == net.startswith(("deeplab_resnet", "deeplab_msc_resnet"))
    voc = RECIPES[f"voc-{net}"]
    assert voc.train_split == "trainaug"


def test_the_papers_rates() -> None:
    assert RECIPES["voc-deeplab_largefov"].multipliers == (
        ("fc8/kernel", 10, 1),
        ("fc8/bias", 20, 0),
        ("/bias", 2, 0),
        ("/(gamma|beta)", 1, 0),
    )


# --- Another net ---


def test_another_net_brings_its_own_rates_and_options() -> None:
    recipe = with_model(RECIPES["voc-deeplab_largefov"], "deeplab_resnet101")
    assert recipe.model == "deeplab_resnet101"
    assert recipe.multipliers == RESNET101_MULTIPLIERS
    assert recipe.model_options == {"weights": "imagenet"}
    assert recipe.learning_rate == 0.004  # the recipe's
    fcn = with_model(recipe, "fcn8s_vgg16")
    assert fcn.multipliers == FCN_MULTIPLIERS
    small = with_model(RECIPES["camvid"], "fcn8s_vgg16")
    assert small.multipliers == RECIPES["camvid"].multipliers  # one rate for all
    assert small.model_options == {"width": 0.25}
    assert with_model(small, "fcn8s_vgg16") is small


# --- Smoke tests ---

TO_THE_END = ("voc-deeplab_msc_largefov",)
"""The recipes that are run to their end; of the others, one step is taken. The files of
a run do not depend on the net, and graphs take long to trace."""

CHANGED_BY_SMOKE = (
    *("name", "dataset", "train_split", "val_split", "dataset_options"),
    *("model_options", "iterations", "batch_size", "input_scale", "augmentation"),
)
"""The fields of a recipe that its smoke test may change."""


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_takes_a_step(name: str, tmp_path: Path) -> None:
    recipe = RECIPES[name]
    assert recipe.name == name
    assert recipe.dataset in list_datasets()
    assert {"ce", "ls"} <= set(recipe.losses)
    tiny = smoke(recipe)
    assert tiny.name == ""  # its numbers are no recipe's
    assert "weights" not in tiny.model_options
    kept = recipe.to_json() | {k: tiny.to_json()[k] for k in CHANGED_BY_SMOKE}
    assert tiny.to_json() == kept

    source = load_dataset(tiny.dataset, "train", **tiny.dataset_options)
    assert len(source.class_names) == NUM_CLASSES.get(recipe.dataset, 8)
    run = Run(tiny, "ls", tmp_path / "ls", source, source)
    run.trained.run_eagerly = True
    before = run.model.get_weights()
    values = run.trained.train_on_batch(
        *next(iter(run.batches(0, 1))), return_dict=True
    )
    assert np.isfinite(values["loss"])
    assert any(map(np.any, map(np.not_equal, before, run.model.get_weights())))


@pytest.mark.parametrize("name", TO_THE_END)
def test_a_recipe_runs_to_its_end(name: str, tmp_path: Path) -> None:
    tiny = dataclasses.replace(smoke(RECIPES[name]), losses=("ls",))
    (result,) = train(tiny, tmp_path)["evaluation"].values()
    assert result["images"] == 4
    assert len(result["class_iou"]) == NUM_CLASSES.get(RECIPES[name].dataset, 8)
    (*_, last) = json.loads((tmp_path / "ls" / "history.json").read_text())
    assert last["step"] == 2
    assert np.isfinite(last["loss"])
    assert (tmp_path / "ls" / "export" / "1" / "saved_model.pb").exists()


def test_numbers_of_classes_are_those_of_the_data_sets() -> None:
    for dataset, number in NUM_CLASSES.items():
        module = importlib.import_module(f"tf_levelset.datasets.{FILES[dataset]}")
        assert len(module.CLASSES) == number
