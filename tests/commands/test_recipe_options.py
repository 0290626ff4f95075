"""Recipes from the command line's options and from files; the list of them."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from bad_input import examples
from hypothesis import given
from hypothesis import strategies as st

from tf_levelset.commands.main import main, parser
from tf_levelset.commands.recipe_options import recipe_of
from tf_levelset.training.recipe import Recipe
from tf_levelset.training.recipes import LEVEL_SET_WEIGHTS, RECIPES


def recipe_from(arguments: str) -> Recipe:
    return recipe_of(parser().parse_args(["train", *shlex.split(arguments)]))


def with_values(name: str, values: dict[str, Any]) -> dict[str, Any]:
    """The JSON of a named recipe with other values, by their dotted paths."""
    expected = RECIPES[name].to_json()
    for path, value in values.items():
        *groups, field = path.split(".")
        (expected[groups[0]] if groups else expected)[field] = value
    return expected


FLAGS: dict[str, tuple[str, Sequence[Any]]] = {
    "epochs": ("epochs", (1, 7)),
    "batch-size": ("batch_size", (1, 16)),
    "learning-rate": ("learning_rate", (0.5, 1e-6)),
    "schedule": ("schedule", ("poly", "step", "constant")),
    "momentum": ("momentum", (0.0, 0.99)),
    "l2": ("l2", (0.0, 1e-3)),
    "seed": ("seed", (0, 12345)),
    "input-scale": ("input_scale", (0.5, 1.0)),
    "loss-stride": ("loss_stride", (1, 8)),
    "train-split": ("train_split", ("train", "val")),
    "width": ("model_options.width", (0.1, 2.0)),
    "dilation": ("model_options.dilation", (1, 12)),
    "dropout": ("model_options.dropout", (0.0, 0.9)),
    "level-set-weight": ("level_set.level_set_weight", (0.0, 5.0)),
    "heaviside": ("level_set.heaviside", ("mahf", "ahf", "hf")),
    "epsilon": ("level_set.epsilon", (0.05, 0.9)),
    "normalization": ("level_set.normalization", ("sum", "balanced")),
}
"""The fields of a recipe that options set, and valid values."""


@examples(50)
@given(st.sets(st.sampled_from(sorted(FLAGS)), min_size=1, max_size=7), st.data())
def test_options_set_their_fields_and_no_other(
    names: set[str], data: st.DataObject
) -> None:
    values = {name: data.draw(st.sampled_from(FLAGS[name][1])) for name in names}
    fields = {FLAGS[name][0]: value for name, value in values.items()}
    if "normalization" in names:
        weight = LEVEL_SET_WEIGHTS[values["normalization"]]
        fields.setdefault("level_set.level_set_weight", weight)
    found = recipe_from(" ".join(f"--{n} {value}" for n, value in values.items()))
    assert found.to_json() == with_values("synthetic", fields)


VOC = "voc-deeplab_largefov"


@pytest.mark.parametrize(
    ("arguments", "name", "values"),
    [
        ("", "synthetic", {}),
        ("--dataset voc", VOC, {}),
        ("--recipe voc-fcn8s_resnet101", "voc-fcn8s_resnet101", {}),
        ("--dataset voc --sbd-dir a", VOC, {"dataset_options.sbd_dir": "a"}),
        ("--dataset voc --weights none", VOC, {"model_options.weights": None}),
        (
            "--losses ls --signed",
            "synthetic",
            {"losses": ["ls"], "level_set.signed": True},
        ),
        (
            "--dataset camvid --crop 96 128 --no-flip",
            "camvid",
            {"augmentation.crop": [96, 128], "augmentation.flip": False},
        ),
        # The length is in epochs or in iterations.
        ("--iterations 7", "synthetic", {"iterations": 7}),
        ("--dataset voc --epochs 3", VOC, {"epochs": 3, "iterations": None}),
        # --set reaches every field, and may be given again.
        (
            "--set loss_options.dice='{\"weight\":0.5}'",
            "synthetic",
            {"loss_options.dice": {"weight": 0.5}},
        ),
        (
            "--set gamma=0.2 schedule=step --set l2=0.5",
            "synthetic",
            {"gamma": 0.2, "schedule": "step", "l2": 0.5},
        ),
    ],
)
def test_options_change_a_named_recipe(
    arguments: str, name: str, values: dict[str, Any]
) -> None:
    assert recipe_from(arguments).to_json() == with_values(name, values)


@pytest.mark.parametrize(
    ("arguments", "weight"),
    [
        ("--normalization sum", 4e-4),
        ("--normalization balanced --heaviside logit --epsilon 1", 12),
        ("--set level_set.normalization=scale_free", 3),
        ("--dataset voc --normalization mean", 0.67),
        # The recipe's own, for its own form.
        ("--recipe voc-fcn8s_resnet101 --normalization mean --heaviside ahf", 1.64),
        ('--set level_set=\'{"normalization":"mean"}\'', 0.67),
        # One that is given.
        ("--normalization sum --level-set-weight 0.67", 0.67),
        ("--normalization sum --set level_set.level_set_weight=0.67", 0.67),
    ],
)
def test_each_normalization_has_its_own_weight(arguments: str, weight: float) -> None:
    assert recipe_from(arguments).level_set["level_set_weight"] == weight


def test_list_of_recipes_has_numbers_and_commands(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["train", "--list-recipes"])
    lines = capsys.readouterr().out.splitlines()[2:]
    assert len(lines) == sum(len(r.losses) for r in RECIPES.values())
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    by_loss = {(row[0], row[1]): row[2:] for row in cells}
    assert by_loss["voc-deeplab_largefov", "ce"][2] == (
        "62.8, 66.5 with CRF-5, 67.3 with CRF-10"
    )
    assert by_loss["voc-deeplab_resnet101-losses", "lmp"][2] == "76.3"
    for (name, loss), row in by_loss.items():
        _, _, *arguments = shlex.split(row[3])
        recipe = recipe_from(shlex.join(arguments))
        assert (recipe.name, recipe.losses) == (name, (loss,))


def test_a_recipe_is_read_from_a_file(tmp_path: Path) -> None:
    nameless = dataclasses.replace(RECIPES["camvid"], name="", seed=3)
    mine = tmp_path / "mine.json"
    mine.write_text(json.dumps(nameless.to_json()))
    found = recipe_from(f"--recipe {mine} --losses ls")
    assert found == dataclasses.replace(nameless, name="mine", losses=("ls",))
    of_run = tmp_path / "config.json"
    of_run.write_text(json.dumps(RECIPES["camvid"].to_json()))
    assert recipe_from(f"--recipe {of_run}") == RECIPES["camvid"]


def test_errors_name_the_file_of_a_recipe(tmp_path: Path) -> None:
    mine = tmp_path / "mine.json"
    with pytest.raises(FileNotFoundError, match=re.escape(str(mine))):
        recipe_from(f"--recipe {mine}")
    mine.write_text("{")
    with pytest.raises(ValueError, match=re.escape(f"Expected JSON in {mine}")):
        recipe_from(f"--recipe {mine}")
    mine.write_text(json.dumps({**RECIPES["camvid"].to_json(), "epoch": 3}))
    with pytest.raises(ValueError, match=r"the fields of a recipe.*'epoch'"):
        recipe_from(f"--recipe {mine}")
    mine.write_text(json.dumps(RECIPES["camvid"].to_json()))
    with pytest.raises(ValueError, match="Expected --dataset camvid"):
        recipe_from(f"--recipe {mine} --dataset voc")
