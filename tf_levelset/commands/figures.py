"""Draws the level sets, regions and energies of predictions, and enlarged details."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from tf_levelset.commands.shared_options import add_dataset, add_split
from tf_levelset.energy.options import HEAVISIDES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `tf-levelset figures`."""
    parser.add_argument(
        "path",
        type=Path,
        help="Run folder, the folder of one loss in it, a .keras file or a SavedModel.",
    )
    add_dataset(parser)
    add_split(parser)
    parser.add_argument(
        "--samples",
        nargs="+",
        metavar="NAME",
        help="Names of the images to draw. Default: the first of the split.",
    )
    parser.add_argument(
        "--classes",
        nargs="+",
        metavar="NAME",
        help="Names of the classes to draw. Default: those in the image.",
    )
    parser.add_argument(
        "--heaviside",
        choices=tuple(HEAVISIDES),
        default="mahf",
        help="Approximation of the Heaviside function. Default: %(default)s.",
    )
    parser.add_argument(
        "--epsilon",
        type=float,
        default=1 / 20,
        metavar="WIDTH",
        help="Width ε of the approximation. Default: %(default)s.",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("figures"),
        metavar="FOLDER",
        help="Folder in which the figures are written. Default: %(default)s.",
    )


def run(options: argparse.Namespace) -> None:
    """Writes two figures for each image and prints their paths."""
    from tf_levelset.commands.loading import load_split, recipe_for
    from tf_levelset.datasets import evaluation_dataset, subset
    from tf_levelset.files import inside
    from tf_levelset.inference.panels import write_png
    from tf_levelset.inference.predictor import load_predictors
    from tf_levelset.reporting.level_sets import level_set_panel, zoomed_panel

    predictors = load_predictors(options.path)
    recipe = recipe_for(options.path, options.dataset)
    source = load_split(options, recipe, options.split or recipe.val_split)
    names = options.samples or source.sample_names[:1]
    chosen = subset(source, [_index(source.sample_names, n, "sample") for n in names])
    wanted = options.classes or source.class_names
    classes = {n: _index(source.class_names, n, "class") for n in wanted}
    samples = evaluation_dataset(chosen).as_numpy_iterator()
    for name, (image, labels) in zip(names, samples, strict=True):
        predictions = {
            title or "prediction": predictor(image)
            for title, predictor in predictors.items()
        }
        present = {n: c for n, c in classes.items() if (labels == c).any()}
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
