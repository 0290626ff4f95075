"""Writes predictions in the format of the test servers of VOC and Cityscapes."""

from __future__ import annotations

import argparse
from pathlib import Path

from tf_levelset.commands.shared_options import (
    add_dataset,
    add_model,
    add_option,
    add_test_time,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `tf-levelset submit`."""
    add_model(parser)
    parser.add_argument(
        "folder", type=Path, help="Folder in which the predictions are written."
    )
    add_dataset(parser)
    add_option(parser, "--split", "Split of the data set.", default="test")
    add_test_time(parser)


def run(options: argparse.Namespace) -> None:
    """Writes a file for every image of the split."""
    from tf_levelset.commands.loading import (
        at_test_time,
        load_predictor,
        load_split,
        recipe_for,
    )
    from tf_levelset.inference.submission import write_submission

    net = load_predictor(options.model, options.outputs)
    recipe = recipe_for(options.model, options.dataset)
    source = load_split(options, recipe, options.split)
    predictor = at_test_time(net, options)
    paths = write_submission(predictor, source, options.folder, recipe.dataset)
    print(f"Wrote {len(paths)} files to {options.folder}.")
