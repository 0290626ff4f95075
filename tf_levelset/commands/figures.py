"""Draws the level sets, regions and energies of predictions, and enlarged details."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from tf_levelset.commands.shared_options import (
    add_dataset,
    add_option,
    add_path,
    add_split,
)
from tf_levelset.energy.options import HEAVISIDES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `tf-levelset figures`."""
    add_path(parser)
    add_dataset(parser)
    add_split(parser)
    sentence, shown = "Names of the images to draw.", "the first of the split"
    add_option(parser, "--samples", sentence, shown=shown, nargs="+")
    sentence, shown = "Names of the classes to draw.", "those in the image"
    add_option(parser, "--classes", sentence, shown=shown, nargs="+")
    sentence = "Approximation of the Heaviside function."
    add_option(parser, "--heaviside", sentence, HEAVISIDES, "mahf")
    add_option(parser, "--epsilon", "Width ε of the approximation.", float, 1 / 20)
    sentence = "Folder in which the figures are written."
    add_option(parser, "--output", sentence, Path, Path("figures"))


def run(options: argparse.Namespace) -> None:
    """Writes two figures for each image and prints their paths."""
    from tf_levelset.commands.loading import load_split, recipe_for
    from tf_levelset.datasets.pipeline import arrays_of, evaluation_dataset, subset
    from tf_levelset.files import inside
    from tf_levelset.inference.evaluation import check_classes
    from tf_levelset.inference.panels import write_png
    from tf_levelset.inference.predictor import load_predictors
    from tf_levelset.reporting.level_sets import level_set_panel, zoomed_panel

    predictors = load_predictors(options.path, options.outputs)
    recipe = recipe_for(options.path, options.dataset)
    source = load_split(options, recipe, options.split or recipe.val_split)
    names = options.samples or source.sample_names[:1]
    chosen = subset(source, [_index(source.sample_names, n, "sample") for n in names])
    wanted = options.classes or source.class_names
    classes = {n: _index(source.class_names, n, "class") for n in wanted}
    samples = arrays_of(evaluation_dataset(chosen), chosen)
    for name, (image, labels) in zip(names, samples, strict=True):
        predictions = {
            title or "prediction": predictor(image)
            for title, predictor in predictors.items()
        }
        for scores in predictions.values():
            check_classes(scores, source)
        present = {n: c for n, c in classes.items() if (labels == c).any()}
        if options.classes is None and not present:
            raise ValueError(
                f"Expected a class in the labels of {name}, whose level sets are to be "
                "drawn. Received: void alone. Name others by --samples or --classes."
            )
        figures = {
            "level_sets": level_set_panel(
                image,
                labels,
                predictions,
                present if options.classes is None else classes,
                heaviside=options.heaviside,
                epsilon=options.epsilon,
                ignore_class=source.ignore_class,
            ),
            "zooms": zoomed_panel(image, labels, predictions, source.palette),
        }
        for subject, figure in figures.items():
            path = options.output / f"{name}-{subject}.png"
            write_png(inside(options.output, path), figure)
            print(path)


def _index(names: Sequence[str], name: str, what: str) -> int:
    if name not in names:
        known = ", ".join(names[:20])
        raise ValueError(f"Expected a {what} such as {known}. Received: {name!r}")
    return list(names).index(name)
