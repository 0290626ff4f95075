"""Trains a network with cross-entropy, and once more with the level set loss added.

The options change a recipe: a named set of data, network, losses and settings. Running
the same command again resumes a run that was stopped.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tf_levelset.commands.recipe_options import list_recipes, recipe_of
from tf_levelset.commands.shared_options import METAVARS, add_data_dir, add_option
from tf_levelset.datasets import list_datasets
from tf_levelset.energy.options import HEAVISIDES, NORMALIZATIONS
from tf_levelset.models import list_models
from tf_levelset.optimizers.schedules import SCHEDULES
from tf_levelset.training.recipe import LOSS_STRIDES, LOSSES, Recipe
from tf_levelset.training.recipes import LEVEL_SET_WEIGHTS

Kind = type | tuple[Any, ...]
"""The values of an option: a type, two numbers (type, name, name), or choices."""

COMMON: dict[str, tuple[Kind, str]] = {
    "--losses": (
        tuple(LOSSES),
        "Losses to train with, each from the same initial weights: any of %(choices)s. "
        "ce is cross-entropy and ls is Eq. 8, cross-entropy with the level set loss.",
    ),
    "--model": (
        list_models(),
        "Network, one of %(choices)s. Instead of the recipe's network, it takes only "
        "the recipe's width, depth and weights.",
    ),
    "--batch-size": (int, "Number of images in a step."),
    "--learning-rate": (float, "Learning rate at the first step."),
}
"""Options of the recipe that are used most."""

LENGTH: dict[str, tuple[Kind, str]] = {
    "--epochs": (
        int,
        "Number of passes over the training split; more than before make a run longer.",
    ),
    "--iterations": (int, "Number of training steps, instead of --epochs."),
}

GROUPS: dict[str, dict[str, tuple[Kind, str]]] = {
    "data": {
        "--sbd-dir": (str, "Folder of SBD, which the split trainaug of voc needs."),
        "--train-split": (str, "Split to train on; voc also has trainaug."),
        "--val-split": (str, "Split to evaluate on."),
        "--input-scale": (float, "Factor on the size of the images for the network."),
    },
    "optimization": {
        "--schedule": (SCHEDULES, "Learning rate schedule, one of %(choices)s."),
        "--momentum": (float, "Momentum of SGD."),
        "--l2": (float, "Weight decay, added to the gradient as in Caffe."),
        "--loss-stride": (
            LOSS_STRIDES,
            "Stride at which the loss is computed, one of %(choices)s: the output "
            "stride of the network, or 1 for the size of the images.",
        ),
        "--seed": (int, "Seed of initial weights, order of images and augmentation."),
    },
    "network": {
        "--weights": (
            str,
            "Initial weights: imagenet, a file, or none (random).",
        ),
        "--width": (float, "Factor on the number of filters of each layer."),
        "--depth": (float, "Factor on the number of layers of each block."),
        "--dilation": (int, "Dilation rate of the layer fc6."),
        "--dropout": (float, "Probability with which dropout zeroes a feature."),
        "--batch-norm": (bool, "Add batch normalization to a network without it."),
    },
    "level set loss": {
        "--level-set-weight": (
            float,
            "Weight λ of the loss beside the cross-entropy. Another --normalization "
            "than the recipe's brings its own ("
            + ", ".join(f"{form} {w:g}" for form, w in LEVEL_SET_WEIGHTS.items())
            + ").",
        ),
        "--heaviside": (
            HEAVISIDES,
            "Approximation of the Heaviside function, one of %(choices)s.",
        ),
        "--epsilon": (float, "Width ε of the approximation."),
        "--normalization": (
            NORMALIZATIONS,
            "Normalization of the energy, one of %(choices)s.",
        ),
        "--signed": (
            bool,
            "Also penalize predictions anticorrelated with their class (c1 < c2).",
        ),
    },
    "augmentation": {
        "--crop": ((int, "H", "W"), "Size of random crops, in pixels."),
        "--scale": ((float, "MIN", "MAX"), "Range of the random factor on the size."),
        "--flip": (bool, "Mirror half of the images left to right."),
        "--photometric": (
            bool,
            "Change brightness, contrast, saturation and hue at random.",
        ),
    },
}
"""The other options of the recipe, by the title of their group."""

_DETAILS = {"--losses": {"nargs": "+"}, "--sbd-dir": {"metavar": "PATH"}}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `tf-levelset train`: the common ones, then groups."""
    _add_run(parser)
    _add_recipe_options(parser, COMMON)
    _add_recipe_options(parser.add_mutually_exclusive_group(), LENGTH)
    for title, options in GROUPS.items():
        _add_recipe_options(parser.add_argument_group(title), options)
    _add_execution(parser.add_argument_group("checkpoints and execution"))
    parser.set_defaults(
        if_stopped="Stopped. Progress is saved, and the same command resumes."
    )


class _ListRecipes(argparse.Action):
    """Prints the recipes and exits, as `--help` does."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        print(list_recipes(), end="")
        parser.exit()


def _add_run(parser: argparse.ArgumentParser) -> None:
    add_option(
        parser,
        "--recipe",
        "Recipe to train: a name that --list-recipes prints, or a .json file such as "
        "the config.json of a run.",
        shown="the first recipe of the data set",
    )
    parser.add_argument(
        "--list-recipes",
        action=_ListRecipes,
        nargs=0,
        default=argparse.SUPPRESS,
        help="Print every recipe, the mIoU that the paper reports for it, and the "
        "command that trains it; then exit.",
    )
    sentence = (
        "Try the recipe in seconds: two steps of its losses and learning rates with a "
        "tiny network on synthetic images. Nothing is kept."
    )
    add_option(parser, "--smoke", sentence, bool)
    add_option(
        parser,
        "--set",
        "Set any field of the recipe, such as model_options.rates=[1,2,3,4].",
        shown="no change",
        nargs="+",
        action="extend",
        metavar="FIELD=JSON",
    )
    add_option(
        parser,
        "--dataset",
        "Data set, one of %(choices)s.",
        list_datasets(),
        shown="that of the recipe; without --recipe, synthetic",
        metavar="NAME",
    )
    add_data_dir(parser)
    shown = "runs/NAME, after the name of the recipe"
    add_option(parser, "--output", "Folder of the run.", Path, shown=shown)


def _add_recipe_options(group: Any, options: dict[str, tuple[Kind, str]]) -> None:
    """Adds options whose default is the value that the recipe has."""
    for name, (kind, sentence) in options.items():
        if kind is bool:
            text = f"{sentence} Default: the recipe's."
            action = argparse.BooleanOptionalAction
            group.add_argument(name, action=action, help=text)
            continue
        details: dict[str, Any] = dict(_DETAILS.get(name, {}))
        if isinstance(kind, tuple) and isinstance(kind[0], type):
            kind, *names = kind
            details |= {"nargs": len(names), "metavar": tuple(names)}
        elif isinstance(kind, tuple):
            details["metavar"] = METAVARS[type(kind[0])]
        add_option(group, name, sentence, kind, shown="the recipe's", **details)


def _add_execution(group: Any) -> None:
    sentence = (
        "Start over in the folder of the run, and remove the run that it holds, once "
        "the data and the recipe have passed all checks."
    )
    add_option(group, "--restart", sentence, bool)
    sentence = "Longest time between checkpoints; each epoch also ends with one."
    add_option(group, "--checkpoint-seconds", sentence, float, shown="600")
    sentence = "Number of checkpoints to keep."
    add_option(group, "--keep-checkpoints", sentence, int, shown="2")
    sentence = "Use only operations that give the same result, bit for bit, each time."
    add_option(group, "--deterministic", sentence, bool)
    sentence = (
        "Train on all GPUs of this machine (mirrored), or on those of all processes "
        "that TF_CONFIG names (workers)."
    )
    kinds = ("mirrored", "workers")
    add_option(group, "--distribute", sentence, kinds, shown="on one device")


def run(options: argparse.Namespace) -> None:
    """Trains each loss of the recipe and prints the report of the run."""
    import cv2
    import tensorflow as tf

    from tf_levelset.training.distribution import strategy_named
    from tf_levelset.training.train import train

    recipe = recipe_of(options)
    # The images of a batch are loaded in parallel: threads within one only compete.
    cv2.setNumThreads(1)
    if options.smoke:
        _run_smoke(options, recipe)
        return
    if options.deterministic:
        tf.config.experimental.enable_op_determinism()
    strategy = strategy_named(options.distribute)
    given = {"seconds": options.checkpoint_seconds, "keep": options.keep_checkpoints}
    checkpoints = {name: value for name, value in given.items() if value is not None}
    run_dir: Path = options.output or Path("runs") / recipe.name
    data_dir, restart = options.data_dir, options.restart
    if not train(recipe, run_dir, data_dir, checkpoints, strategy, restart=restart):
        return  # a worker: only the chief reports
    print()
    print((run_dir / "report.md").read_text(encoding="utf-8"), end="")
    print(f"\nPredictions: {run_dir / 'panel.png'}. All results: {run_dir}")


def _run_smoke(options: argparse.Namespace, recipe: Recipe) -> None:
    """Runs the smoke test of a recipe in a temporary folder."""
    import tempfile

    from tf_levelset.training.recipes import smoke
    from tf_levelset.training.train import train

    for name in ("data_dir", "output", "distribute", "restart"):
        if getattr(options, name) not in (None, False):
            raise ValueError(
                "Expected --smoke without --data-dir, --output, --distribute and "
                "--restart, because it uses synthetic images, keeps nothing and runs "
                f"in one process. Received: --{name.replace('_', '-')} "
                f"{getattr(options, name)}"
            )
    with tempfile.TemporaryDirectory() as folder:
        report = train(smoke(recipe), Path(folder))
    print(f"{recipe.name}: the smoke test of {', '.join(report['evaluation'])} passed.")
