"""Recipes from the command line's options and from files; the list of them."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from pathlib import Path

import pytest

from tf_levelset.commands.main import parser
from tf_levelset.commands.recipe_options import list_recipes, recipe_of
from tf_levelset.training.recipe import Recipe
from tf_levelset.training.recipes import RECIPES


def test_options_change_the_recipe() -> None:
    options = parser().parse_args(
        shlex.split(
            "train --dataset camvid --epochs 3 --losses ls --level-set-weight 0.1 "
            "--signed --width 0.5 --crop 96 128 --no-flip"
        )
    )
    recipe = recipe_of(options)
    assert (recipe.dataset, recipe.epochs, recipe.losses) == ("camvid", 3, ("ls",))
    assert recipe.level_set["level_set_weight"] == 0.1
    assert recipe.level_set["signed"] is True
    assert recipe.level_set["normalization"] == "mean"  # the recipe's own
    assert recipe.model_options["width"] == 0.5
    assert recipe.augmentation.crop == (96, 128)
    assert not recipe.augmentation.flip


def recipe_from(command: str) -> Recipe:
    return recipe_of(parser().parse_args(shlex.split(command)))


def test_recipe_by_name() -> None:
    recipe = recipe_from("train --recipe voc-deeplab_resnet101 --sbd-dir SBD")
    named = RECIPES["voc-deeplab_resnet101"]
    assert recipe == dataclasses.replace(named, dataset_options={"sbd_dir": "SBD"})
    assert recipe_from("train") == RECIPES["synthetic"]
    voc = recipe_from("train --dataset voc")
    assert voc == RECIPES["voc-deeplab_largefov"]


def test_length_is_epochs_or_iterations() -> None:
    assert recipe_from("train --dataset voc --epochs 3").iterations is None
    assert recipe_from("train --iterations 7").iterations == 7


def test_weights_none_starts_from_nothing() -> None:
    recipe = recipe_from("train --dataset voc --weights none")
    assert recipe.model_options["weights"] is None


def test_set_changes_any_field() -> None:
    recipe = recipe_from(
        "train --recipe camvid-deeplab_resnet101 --set "
        "model_options.rates=[1,2] loss_options.dice='{\"weight\":0.5}' gamma=0.2 "
        "augmentation.photometric=true schedule=step"
    )
    assert recipe.model_options["rates"] == [1, 2]
    assert recipe.model_options["width"] == 0.125  # the recipe's own
    assert recipe.loss_options == {"dice": {"weight": 0.5}}
    assert (recipe.gamma, recipe.schedule) == (0.2, "step")
    assert recipe.augmentation.photometric


def test_set_may_be_given_again() -> None:
    recipe = recipe_from("train --set epochs=9 --set batch_size=3 l2=0.5")
    assert (recipe.epochs, recipe.batch_size, recipe.l2) == (9, 3, 0.5)


def test_epochs_that_are_set_count() -> None:
    recipe = recipe_from("train --dataset voc --set epochs=3")
    assert (recipe.epochs, recipe.iterations) == (3, None)


def test_another_model_falls_back_to_its_own_options() -> None:
    recipe = recipe_from("train --model deeplab_resnet101 --width 0.1")
    assert recipe.model == "deeplab_resnet101"
    assert recipe.model_options == {"width": 0.1}


def test_list_of_recipes_has_numbers_and_commands() -> None:
    lines = list_recipes().splitlines()[2:]
    assert len(lines) == sum(len(r.losses) for r in RECIPES.values())
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    by_loss = {(row[0], row[1]): row[2:] for row in cells}
    assert by_loss["voc-deeplab_largefov", "ce"][2] == (
        "62.8, 66.5 with CRF-5, 67.3 with CRF-10"
    )
    assert by_loss["voc-deeplab_resnet101-losses", "lmp"][2] == "76.3"
    for (name, loss), row in by_loss.items():
        _, _, *arguments = shlex.split(row[3])
        recipe = recipe_from(shlex.join(["train", *arguments]))
        assert (recipe.name, recipe.losses) == (name, (loss,))


def test_a_recipe_is_read_from_a_file(tmp_path: Path) -> None:
    nameless = dataclasses.replace(RECIPES["camvid"], name="", seed=3)
    mine = tmp_path / "mine.json"
    mine.write_text(json.dumps(nameless.to_json()))
    found = recipe_from(f"train --recipe {mine} --losses ls")
    assert found == dataclasses.replace(nameless, name="mine", losses=("ls",))
    of_run = tmp_path / "config.json"
    of_run.write_text(json.dumps(RECIPES["camvid"].to_json()))
    assert recipe_from(f"train --recipe {of_run}") == RECIPES["camvid"]


def test_errors_name_the_file_of_a_recipe(tmp_path: Path) -> None:
    mine = tmp_path / "mine.json"
    with pytest.raises(FileNotFoundError, match=re.escape(str(mine))):
        recipe_from(f"train --recipe {mine}")
    mine.write_text("{")
    with pytest.raises(ValueError, match=re.escape(f"Expected JSON in {mine}")):
        recipe_from(f"train --recipe {mine}")
    mine.write_text(json.dumps({**RECIPES["camvid"].to_json(), "epoch": 3}))
    with pytest.raises(ValueError, match=r"the fields of a recipe.*'epoch'"):
        recipe_from(f"train --recipe {mine}")
    mine.write_text(json.dumps(RECIPES["camvid"].to_json()))
    with pytest.raises(ValueError, match="Expected --dataset camvid"):
        recipe_from(f"train --recipe {mine} --dataset voc")
