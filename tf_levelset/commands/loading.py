"""Loads what the options of a command name: a recipe, a split, a model, a CRF."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from tf_levelset.datasets import Source, load_dataset
from tf_levelset.inference.augmented import augmented
from tf_levelset.inference.crf import PRESETS, DenseCRF, refined
from tf_levelset.inference.predictor import (
    KerasPredictor,
    Predictor,
    SavedModelPredictor,
    load_predictors,
)
from tf_levelset.training.identity import changed_classes
from tf_levelset.training.recipe import Recipe
from tf_levelset.training.recipes import default_recipe
from tf_levelset.training.run_folder import (
    CLASSES_FILE,
    MODEL_FILE,
    load_recipe,
    read_class_names,
)


def recipe_for(path: Path, dataset: str | None) -> Recipe:
    """Returns the recipe of the run that a path belongs to.

    Args:
        path: A run folder, or a path up to three levels below one.
        dataset: Name of a data set. If the run was trained on another one, or if the
            path belongs to no run, the default recipe of this data set is returned.

    Raises:
        ValueError: If the path belongs to no run and `dataset` is None.
    """
    for folder in (path, *path.resolve().parents[:3]):
        if (folder / "config.json").exists():
            try:
                recipe = load_recipe(folder)
            except ValueError:
                continue  # written by another program
            if dataset in (None, recipe.dataset):
                return recipe
    if dataset is None:
        raise ValueError(
            f"Expected --dataset, since {path} belongs to no run folder. "
            "Received: no --dataset"
        )
    return default_recipe(dataset)


def load_split(options: argparse.Namespace, recipe: Recipe, split: str) -> Source:
    """Loads a split of a recipe's data set from the folders that the options name.

    Raises:
        ValueError: If a class of the run that the network belongs to has another
            number in the data set. Classes that only have other names are printed.
    """
    extra = dict(recipe.dataset_options)
    if options.sbd_dir is not None:
        extra["sbd_dir"] = options.sbd_dir
    source = load_dataset(recipe.dataset, split, options.data_dir, **extra)
    path: Path = options.path if "path" in options else options.model
    for folder in (path, *path.resolve().parents[:3], *sorted(path.glob("*/"))):
        if (folder / MODEL_FILE).exists() and (folder / CLASSES_FILE).exists():
            _compare_classes(read_class_names(folder / CLASSES_FILE), source)
            break
    return source


def _compare_classes(trained: list[str], source: Source) -> None:
    found = list(source.class_names)
    changes = "; ".join(changed_classes(trained, found))
    expected = f"the classes of {source.name} to be those that the network was trained"
    numbers = [(trained.index(n), found.index(n)) for n in trained if n in found]
    if any(number != other for number, other in numbers):
        raise ValueError(f"Expected {expected} with. Received: changes ({changes})")
    if changes:
        print(f"Warning: expected {expected} with. Only their names differ: {changes}.")


def load_predictor(
    path: Path, outputs: str = "auto"
) -> KerasPredictor | SavedModelPredictor:
    """Loads the one model that a path holds; see `load_predictors`.

    Raises:
        ValueError: If the path is a run folder with several models.
    """
    predictors = load_predictors(path, outputs)
    if len(predictors) > 1:
        raise ValueError(
            f"Expected the path of one model, such as {path / next(iter(predictors))}. "
            f"Received: {path}, which holds {len(predictors)} models"
        )
    (predictor,) = predictors.values()
    return predictor


def crf_of(options: argparse.Namespace) -> DenseCRF | None:
    """Returns the CRF that `--crf` and `--crf-iterations` name, or None."""
    iterations = options.crf_iterations
    if options.crf is None:
        if iterations is not None:
            raise ValueError(
                "Expected --crf together with --crf-iterations. Received: "
                f"--crf-iterations {iterations} alone"
            )
        return None
    crf = PRESETS[f"{options.crf}_10"]
    if iterations is None:
        return crf
    return dataclasses.replace(crf, iterations=iterations)


def at_test_time(predictor: Predictor, options: argparse.Namespace) -> Predictor:
    """Wraps a predictor by the test-time augmentation and the CRF of the options."""
    predictor = augmented(predictor, flip=options.flip, scales=tuple(options.scales))
    crf = crf_of(options)
    return predictor if crf is None else refined(predictor, crf)
