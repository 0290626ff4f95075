"""Recipes as plain data."""

from __future__ import annotations

import dataclasses
import inspect
import json
from typing import Any

import pytest

from tf_levelset import CrossEntropyLevelSetLoss
from tf_levelset.datasets import Augmentation, list_datasets
from tf_levelset.models import deeplab_largefov, list_models
from tf_levelset.optimizers import CaffeSGD
from tf_levelset.recipes import LOSSES, RECIPES, Recipe

# None of its values is the default.
OTHER = Recipe(
    dataset="voc",
    train_split="trainaug",
    val_split="train",
    dataset_options={"sbd_dir": "sbd"},
    model="other",
    model_options={"width": 0.5},
    losses=("ls",),
    level_set={"class_weight": [1.0, 2.0]},
    loss_stride=1,
    epochs=3,
    batch_size=2,
    learning_rate=0.01,
    power=0.5,
    momentum=0.5,
    l2=0.0,
    multipliers=(("fc8/", 10.0, 1.0), ("/bias", 2.0, 0.0)),
    input_scale=0.75,
    augmentation=Augmentation(scale=(0.5, 1.5), crop=(8, 9), photometric=True),
    seed=7,
)


def test_the_other_recipe_has_no_default() -> None:
    default = Recipe("synthetic")
    for field in dataclasses.fields(Recipe):
        assert getattr(OTHER, field.name) != getattr(default, field.name), field.name


@pytest.mark.parametrize("recipe", [*RECIPES.values(), OTHER])
def test_json_round_trip(recipe: Recipe) -> None:
    values = recipe.to_json()
    text = json.dumps(values, allow_nan=False)
    # Already JSON's own types: a folder's file compares equal to a new recipe's.
    assert json.loads(text) == values
    assert Recipe.from_json(json.loads(text)) == recipe


def test_json_is_a_copy() -> None:
    recipe = Recipe("synthetic", model_options={"width": 0.5})
    values = recipe.to_json()
    values["model_options"]["width"] = 2
    values["epochs"] = 9
    assert recipe == Recipe("synthetic", model_options={"width": 0.5})
    made = Recipe.from_json(json.loads(json.dumps(recipe.to_json())))
    assert made.to_json() == recipe.to_json()


def test_from_json_leaves_its_argument_alone() -> None:
    values = OTHER.to_json()
    Recipe.from_json(values)
    assert values == OTHER.to_json()


def test_unknown_fields_raise() -> None:
    values = {**OTHER.to_json(), "optimiser": "adam", "decay": 1}
    with pytest.raises(ValueError, match=r"Received: \['decay', 'optimiser'\]"):
        Recipe.from_json(values)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("batch_size", -1),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("input_scale", 0.0),
        ("losses", ()),
        ("losses", ("ce", "lmp")),
        ("loss_stride", 4),
    ],
)
def test_bad_values_raise(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"Expected `{name}`"):
        Recipe(**{"dataset": "synthetic", name: value})
    with pytest.raises(ValueError, match=f"Expected `{name}`"):
        Recipe.from_json({**OTHER.to_json(), name: value})


def test_recipes_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        OTHER.epochs = 4  # type: ignore[misc]


# --- The recipes that have a name ---


def test_every_dataset_has_its_recipe() -> None:
    assert set(RECIPES) == set(list_datasets())


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_name_what_there_is(name: str) -> None:
    recipe = RECIPES[name]
    assert recipe.dataset == name
    assert recipe.model in list_models()
    assert recipe.losses == LOSSES
    known = set(inspect.signature(deeplab_largefov).parameters)
    assert set(recipe.model_options) <= known - {"num_classes", "upsample"}
    # Each of its parts can be made.
    loss = CrossEntropyLevelSetLoss(
        **recipe.level_set, from_logits=True, ignore_class=255
    )
    assert loss.level_set_weight > 0
    CaffeSGD(
        recipe.learning_rate,
        momentum=recipe.momentum,
        l2=recipe.l2,
        multipliers=recipe.multipliers,
    )


def test_the_papers_recipe() -> None:
    # Kim et al. 2019, Section 4.2, DeepLab-LargeFOV; λ and the sum of Eq. 4 at
    # stride 8, as DeepLab takes its loss.
    recipe = RECIPES["voc"]
    assert (recipe.learning_rate, recipe.batch_size, recipe.momentum) == (
        0.004,
        10,
        0.9,
    )
    assert (recipe.l2, recipe.loss_stride, recipe.power) == (1e-4, 8, 0.9)
    assert recipe.augmentation == Augmentation(crop=(512, 512), flip=True)
    assert recipe.level_set == {"level_set_weight": 4e-4}
    assert recipe.model_options == {}
    assert {p: (rate, decay) for p, rate, decay in recipe.multipliers} == {
        "fc8/kernel": (10, 1),
        "fc8/bias": (20, 0),
        "/bias": (2, 0),
        "/(gamma|beta)": (1, 0),
    }
