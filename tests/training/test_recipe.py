"""Recipes as plain data."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from tf_levelset.datasets import Augmentation
from tf_levelset.training.recipe import Recipe
from tf_levelset.training.recipes import RECIPES

# None of its values is the default.
OTHER = Recipe(
    dataset="voc",
    name="other",
    train_split="trainaug",
    val_split="train",
    dataset_options={"sbd_dir": "sbd"},
    model="other",
    model_options={"width": 0.5},
    losses=("ls",),
    level_set={"class_weight": [1.0, 2.0]},
    loss_options={"dice": {"weight": 0.5}},
    loss_stride=1,
    epochs=3,
    iterations=100,
    batch_size=2,
    learning_rate=0.01,
    schedule="step",
    power=0.5,
    step_size=50,
    gamma=0.5,
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
        ("losses", ("ce", "mse")),
        ("loss_options", {"ls": {}}),
        ("loss_stride", 4),
        ("iterations", 0),
        ("schedule", "cosine"),
        ("iterations", 2.5),
        ("batch_size", 2.5),
        ("seed", "1"),
        ("learning_rate", "high"),
        ("model_options", 5),
        ("level_set", 3),
        ("learning_rate", float("inf")),
        ("learning_rate", True),
        ("power", float("nan")),
        ("power", -1.0),
        ("gamma", "a"),
        ("momentum", 1.5),
        ("l2", -1e-4),
        ("seed", -1),
        ("seed", 2**40),
        ("step_size", 0),
        ("name", 3),
        ("dataset", 3),
        ("model", ["fcn8s_vgg16"]),
        ("val_split", None),
        ("losses", (["ce"],)),
        ("loss_options", {"dice": 3}),
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


@pytest.mark.parametrize("values", [None, 3, [], "a", {}, {"augmentation": 3}])
def test_what_is_no_recipe_raises(values: Any) -> None:
    with pytest.raises(ValueError, match="Expected the fields of a recipe"):
        Recipe.from_json(values)


def test_an_augmentation_is_one() -> None:
    with pytest.raises(ValueError, match="Expected `augmentation`"):
        Recipe("synthetic", augmentation={"flip": True})  # type: ignore[arg-type]
