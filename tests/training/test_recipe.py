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
    assert Recipe.from_json(values) == recipe
    assert json.loads(text) == values
    # A copy: changes of it do not change the recipe.
    values["model_options"]["width"] = 2
    values["epochs"] = 99
    assert recipe.to_json() == json.loads(text)


BAD_VALUES: dict[str, list[Any]] = {
    "dataset": [3],
    "name": [3],
    "val_split": [None],
    "model": [["fcn8s_vgg16"]],
    "model_options": [5],
    "losses": [(), ("ce", "mse"), (["ce"],)],
    "level_set": [3],
    "loss_options": [{"ls": {}}, {"dice": 3}],
    "loss_stride": [4],
    "epochs": [0],
    "iterations": [0, 2.5],
    "batch_size": [-1, 2.5],
    "learning_rate": [0.0, float("nan"), float("inf"), "high", True],
    "schedule": ["cosine"],
    "power": [float("nan"), -1.0],
    "step_size": [0],
    "gamma": ["a"],
    "momentum": [1.5],
    "l2": [-1e-4],
    "input_scale": [0.0],
    "seed": ["1", -1, 2**40],
}


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in BAD_VALUES.items() for value in values],
)
def test_bad_values_raise(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"Expected `{name}`"):
        Recipe(**{"dataset": "synthetic", name: value})
    with pytest.raises(ValueError, match=f"Expected `{name}`"):
        Recipe.from_json({**OTHER.to_json(), name: value})


@pytest.mark.parametrize("values", [None, 3, [], "a", {}, {"augmentation": 3}])
def test_what_is_no_recipe_raises(values: Any) -> None:
    with pytest.raises(ValueError, match="Expected the fields of a recipe"):
        Recipe.from_json(values)
    unknown = {**OTHER.to_json(), "optimiser": "adam", "decay": 1}
    with pytest.raises(ValueError, match=r"Received: \['decay', 'optimiser'\]"):
        Recipe.from_json(unknown)
    with pytest.raises(ValueError, match="Expected `augmentation`"):
        Recipe("synthetic", augmentation={"flip": True})  # type: ignore[arg-type]
