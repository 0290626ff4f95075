"""Recipes as a command line asks for them, and the list of what can be asked for."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

from tf_levelset.files import read_json
from tf_levelset.inference.score_table import table
from tf_levelset.reporting.published import COLUMNS, TABLES
from tf_levelset.training.recipe import DEFAULTS, RECIPES, Recipe, with_model

_GROUPS = {
    "model_options": ("width", "depth", "dilation", "dropout", "batch_norm", "weights"),
    "level_set": (
        "level_set_weight",
        "heaviside",
        "epsilon",
        "normalization",
        "signed",
    ),
    "augmentation": ("crop", "scale", "flip", "photometric"),
    "dataset_options": ("sbd_dir",),
}


def recipe_of(options: argparse.Namespace) -> Recipe:
    """Returns a recipe with what the command line says of it.

    It keeps its name, so that its runs are found again; `tables` tells what differs.

    Raises:
        ValueError: for an unknown recipe, or one of another data set.
    """
    recipe = _named_recipe(options)
    given = {key: value for key, value in vars(options).items() if value is not None}
    if given.get("weights") == "none":
        given["weights"] = None
    if "model" in given:
        recipe = with_model(recipe, given["model"])
    changes: dict[str, Any] = {}
    for group, names in _GROUPS.items():
        values = {name: given[name] for name in names if name in given}
        old = getattr(recipe, group)
        if group == "augmentation":
            changes[group] = dataclasses.replace(old, **values)
        else:
            changes[group] = {**old, **values}
    if "epochs" in given:
        changes["iterations"] = None
    for field in dataclasses.fields(Recipe):
        if field.name in given and field.name not in changes:
            value = given[field.name]
            changes[field.name] = tuple(value) if isinstance(value, list) else value
    recipe = dataclasses.replace(recipe, **changes)
    for assignment in given.get("set", ()):
        recipe = _assigned(recipe, assignment)
    return recipe


def _named_recipe(options: argparse.Namespace) -> Recipe:
    dataset = getattr(options, "dataset", None)
    name = getattr(options, "recipe", None) or DEFAULTS[dataset or "synthetic"]
    if name.endswith(".json"):
        recipe = _recipe_in(Path(name))
    elif name in RECIPES:
        recipe = RECIPES[name]
    else:
        raise ValueError(
            f"Expected a recipe that --list-recipes lists, or a .json file. "
            f"Received: {name!r}"
        )
    if dataset not in (None, recipe.dataset):
        raise ValueError(
            f"Expected --dataset {recipe.dataset}, which is {name!r}'s, or none. "
            f"Received: {dataset}"
        )
    return recipe


def _recipe_in(path: Path) -> Recipe:
    """The recipe in a file, named after it if it has no name."""
    recipe = Recipe.from_json(read_json(path))
    return dataclasses.replace(recipe, name=recipe.name or path.stem)


def _assigned(recipe: Recipe, assignment: str) -> Recipe:
    """Returns the recipe with one field, or one item of a field, set."""
    path, equals, text = assignment.partition("=")
    field, dot, item = path.partition(".")
    values = recipe.to_json()
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = text  # a bare word
    if not equals or (dot and not isinstance(values.get(field), dict)):
        raise ValueError(
            "Expected FIELD=JSON or FIELD.ITEM=JSON with a field of the recipe. "
            f"Received: {assignment!r}"
        )
    values[field] = {**values[field], item: value} if dot else value
    if field == "epochs":
        values["iterations"] = None
    try:
        return Recipe.from_json(values)
    except ValueError as error:
        # Of an unknown field or item, only what was asked for is of interest.
        whole = "the fields of a recipe" in str(error)
        raise ValueError(
            f"Expected FIELD=JSON of the recipe's kind. Received: {assignment!r}"
            if whole
            else str(error)
        ) from error


def list_recipes() -> str:
    """Returns what can be trained: a line a recipe and loss, with the command."""
    rows = [("recipe", "loss", "data set", "net", "paper's mIoU %", "command")]
    published = {
        (row.recipe, column): value
        for column in COLUMNS
        for entry in TABLES
        for row in entry.rows
        if (value := row.published.get(column)) is not None
    }
    for recipe in RECIPES.values():
        for loss in recipe.losses:
            numbers = [
                f"{value:.1f}{column.removeprefix(loss).replace('+crf', ' with CRF-')}"
                for (name, column), value in published.items()
                if name == recipe.name and column.split("+")[0] == loss
            ]
            rows.append(
                (
                    recipe.name,
                    loss,
                    recipe.dataset,
                    recipe.model,
                    ", ".join(numbers) or "–",
                    _command(recipe, loss),
                )
            )
    return table(rows)


def _command(recipe: Recipe, loss: str) -> str:
    """The command that trains one loss of a recipe."""
    folders = {
        "synthetic": "",
        "camvid": " --data-dir CamVid",
        "cityscapes": " --data-dir cityscapes",
        "folder": " --data-dir DATA",
        "pascal_context": " --data-dir VOCdevkit/VOC2010",
        "voc": " --data-dir VOCdevkit/VOC2012 --sbd-dir SBD",
    }
    return (
        f"python train_keras.py --recipe {recipe.name}{folders[recipe.dataset]} "
        f"--losses {loss}"
    )
