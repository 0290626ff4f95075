"""The recipe that the options of `train` describe, and the list of all recipes."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

from tf_levelset.files import read_json
from tf_levelset.inference.score_table import table
from tf_levelset.reporting.published import COLUMNS, TABLES
from tf_levelset.training.recipe import Recipe
from tf_levelset.training.recipes import (
    LEVEL_SET_WEIGHTS,
    RECIPES,
    default_recipe,
    with_model,
)

_WEIGHT = "level_set_weight"

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
"""Options that are stored in a field of the recipe that holds several."""

_DATA_OPTIONS = {
    "synthetic": "",
    "camvid": " --data-dir CamVid",
    "cityscapes": " --data-dir cityscapes",
    "folder": " --data-dir DATA",
    "pascal_context": " --data-dir VOCdevkit/VOC2010",
    "voc": " --data-dir VOCdevkit/VOC2012 --sbd-dir SBD",
}
"""Options that name the files of each data set, for the list of commands."""


def recipe_of(options: argparse.Namespace) -> Recipe:
    """Returns the recipe that the options name, with the changes that they ask for.

    A normalization that the recipe does not have brings its own weight, unless one is
    given. The recipe keeps its name, so that the same command finds its run again;
    `tf-levelset tables` lists what was changed.

    Args:
        options: Parsed options of `train`. An option that is None changes nothing.

    Raises:
        ValueError: If the recipe is unknown or belongs to another data set, or if a
            value is not valid.
    """
    recipe = _named_recipe(options.recipe, options.dataset)
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
    form, weight = _form(recipe), changes["level_set"].get(_WEIGHT)
    if _WEIGHT not in given:
        changes["level_set"].pop(_WEIGHT, None)
    recipe = dataclasses.replace(recipe, **changes)
    for assignment in given.get("set", ()):
        recipe = _with_assignment(recipe, assignment)
    if _WEIGHT in recipe.level_set:
        return recipe
    if _form(recipe) != form:
        weight = LEVEL_SET_WEIGHTS.get(_form(recipe))
    if weight is None:
        return recipe  # its file names no weight, or the form is unknown
    level_set = {**recipe.level_set, _WEIGHT: weight}
    return dataclasses.replace(recipe, level_set=level_set)


def _form(recipe: Recipe) -> str:
    return str(recipe.level_set.get("normalization", "sum"))


def _named_recipe(name: str | None, dataset: str | None) -> Recipe:
    if name is None:
        return default_recipe(dataset or "synthetic")
    if name.endswith(".json"):
        recipe = Recipe.from_json(read_json(Path(name)))
        recipe = dataclasses.replace(recipe, name=recipe.name or Path(name).stem)
    elif name in RECIPES:
        recipe = RECIPES[name]
    else:
        raise ValueError(
            "Expected --recipe to be a name that --list-recipes prints, or a .json "
            f"file. Received: {name!r}"
        )
    if dataset not in (None, recipe.dataset):
        raise ValueError(
            f"Expected --dataset {recipe.dataset} or none, because the recipe "
            f"{name!r} is for that data set. Received: {dataset}"
        )
    return recipe


def _with_assignment(recipe: Recipe, assignment: str) -> Recipe:
    """Returns the recipe with one field, or one item of a field, set."""
    path, equals, text = assignment.partition("=")
    field, dot, item = path.partition(".")
    values = recipe.to_json()
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = text  # a word without quotes
    if not equals or (dot and not isinstance(values.get(field), dict)):
        raise ValueError(
            "Expected --set to be FIELD=JSON or FIELD.ITEM=JSON with a field of the "
            f"recipe. Received: {assignment!r}"
        )
    values[field] = {**values[field], item: value} if dot else value
    if field == "epochs":
        values["iterations"] = None
    try:
        return Recipe.from_json(values)
    except ValueError as error:
        # The message about an unknown field lists the whole recipe: too long here.
        if "the fields of a recipe" not in str(error):
            raise
        raise ValueError(
            "Expected --set to be FIELD=JSON with a field of the recipe and a value of "
            f"its type. Received: {assignment!r}"
        ) from error


def list_recipes() -> str:
    """Returns a Markdown table with a row for each recipe and loss.

    The columns are the recipe, the loss, the data set, the network, the mIoU in % that
    the paper reports, and the command that trains it.
    """
    rows = [("recipe", "loss", "data set", "network", "paper's mIoU %", "command")]
    for recipe in RECIPES.values():
        for loss in recipe.losses:
            rows.append(
                (
                    recipe.name,
                    loss,
                    recipe.dataset,
                    recipe.model,
                    _published(recipe.name, loss),
                    f"python train_keras.py --recipe {recipe.name}"
                    f"{_DATA_OPTIONS[recipe.dataset]} --losses {loss}",
                )
            )
    return table(rows)


def _published(recipe: str, loss: str) -> str:
    """Returns the paper's mIoU for a loss, without a CRF and with one."""
    found = {
        column: row.published[column]
        for column in COLUMNS
        for entry in TABLES
        for row in entry.rows
        if row.recipe == recipe
        and column.split("+")[0] == loss
        and column in row.published
    }
    numbers = [
        f"{value:.1f}{column.removeprefix(loss).replace('+crf', ' with CRF-')}"
        for column, value in found.items()
    ]
    return ", ".join(numbers) or "–"
