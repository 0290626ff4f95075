"""Trains a network with cross-entropy, and once more with the level set loss added.

The options change a recipe: a named set of data, network, losses and settings. Running
the same command again resumes a run that was stopped.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tf_levelset.commands.recipe_options import list_recipes, recipe_of
from tf_levelset.datasets import list_datasets
from tf_levelset.energy.options import HEAVISIDES, NORMALIZATIONS
from tf_levelset.models import list_models
from tf_levelset.optimizers.schedules import SCHEDULES
from tf_levelset.training.recipe import LOSSES, Recipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `tf-levelset train`: the common ones, then groups."""
    _add_common(parser)
    _add_data(parser.add_argument_group("data"))
    _add_optimization(parser.add_argument_group("optimization"))
    _add_network(parser.add_argument_group("network"))
    _add_level_set(parser.add_argument_group("level set loss"))
    _add_augmentation(parser.add_argument_group("augmentation"))
    _add_execution(parser.add_argument_group("checkpoints and execution"))
    parser.set_defaults(
        if_stopped="Stopped. Progress is saved, and the same command resumes."
    )


class _ListRecipes(argparse.Action):
    """Prints the recipes and exits, as `--help` does."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        print(list_recipes(), end="")
        parser.exit()


def _add(group: Any, name: str, sentence: str, **options: Any) -> None:
    """Adds an option whose default is the value that the recipe has."""
    group.add_argument(name, help=f"{sentence} Default: the recipe's.", **options)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--recipe",
        metavar="NAME",
        help="Recipe to train: a name that --list-recipes prints, or a .json file such "
        "as the config.json of a run. Default: the first recipe of the data set.",
    )
    parser.add_argument(
        "--list-recipes",
        action=_ListRecipes,
        nargs=0,
        default=argparse.SUPPRESS,
        help="Print every recipe, the mIoU that the paper reports for it, and the "
        "command that trains it; then exit.",
    )
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="Try the recipe in seconds: two steps of its losses and learning rates "
        "with a tiny network on synthetic images. Nothing is kept. Off by default.",
    )
    parser.add_argument(
        "--dataset",
        choices=list_datasets(),
        metavar="NAME",
        help="Data set, one of %(choices)s. Default: that of the recipe; without "
        "--recipe, synthetic.",
    )
    parser.add_argument(
        "--data-dir",
        metavar="FOLDER",
        help="Folder with the files of the data set. Default: none, as synthetic needs "
        "no files.",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="Folder of the run. Default: runs/NAME, after the name of the recipe.",
    )
    _add(
        parser,
        "--losses",
        "Losses to train with, each from the same initial weights: any of %(choices)s. "
        "ce is cross-entropy and ls is Eq. 8, cross-entropy with the level set loss.",
        nargs="+",
        choices=tuple(LOSSES),
        metavar="LOSS",
    )
    parser.add_argument(
        "--model",
        choices=list_models(),
        metavar="NAME",
        help="Network, one of %(choices)s. Instead of the recipe's network, it takes "
        "only the recipe's width, depth and weights. Default: the recipe's.",
    )
    length = parser.add_mutually_exclusive_group()
    _add(
        length,
        "--epochs",
        "Number of passes over the training split.",
        type=int,
        metavar="N",
    )
    _add(
        length,
        "--iterations",
        "Number of training steps, instead of --epochs.",
        type=int,
        metavar="N",
    )
    _add(parser, "--batch-size", "Number of images in a step.", type=int, metavar="N")
    _add(
        parser,
        "--learning-rate",
        "Learning rate at the first step.",
        type=float,
        metavar="RATE",
    )
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        metavar="FIELD=JSON",
        help="Set any field of the recipe, also those without an option, such as "
        "model_options.rates=[1,2,3,4]. Default: no change.",
    )


def _add_data(group: Any) -> None:
    _add(
        group,
        "--sbd-dir",
        "Folder of SBD, which the split trainaug of voc needs.",
        metavar="FOLDER",
    )
    _add(
        group,
        "--train-split",
        "Split to train on, such as train or, for voc, trainaug.",
        metavar="NAME",
    )
    _add(group, "--val-split", "Split to evaluate on, such as val.", metavar="NAME")
    _add(
        group,
        "--input-scale",
        "Factor by which images are resized before they enter the network.",
        type=float,
        metavar="FACTOR",
    )


def _add_optimization(group: Any) -> None:
    _add(
        group,
        "--schedule",
        "Learning rate schedule, one of %(choices)s.",
        choices=SCHEDULES,
        metavar="NAME",
    )
    _add(group, "--momentum", "Momentum of SGD.", type=float, metavar="VALUE")
    _add(
        group,
        "--l2",
        "Weight decay, added to the gradient as in Caffe.",
        type=float,
        metavar="FACTOR",
    )
    _add(
        group,
        "--loss-stride",
        "Stride at which the loss is computed: the output stride of the network, or 1 "
        "for the size of the images.",
        type=int,
        choices=(1, 8, 16, 32),
    )
    _add(
        group,
        "--seed",
        "Seed of the initial weights, the order of the images and the augmentation.",
        type=int,
        metavar="N",
    )


def _add_network(group: Any) -> None:
    _add(
        group,
        "--weights",
        "Initial weights: imagenet, the path of a file, or none for random ones.",
        metavar="WEIGHTS",
    )
    _add(
        group,
        "--width",
        "Factor on the number of filters of each layer.",
        type=float,
        metavar="FACTOR",
    )
    _add(
        group,
        "--depth",
        "Factor on the number of layers of each block.",
        type=float,
        metavar="FACTOR",
    )
    _add(
        group, "--dilation", "Dilation rate of the layer fc6.", type=int, metavar="RATE"
    )
    _add(
        group,
        "--dropout",
        "Probability with which dropout sets a feature to zero.",
        type=float,
        metavar="RATE",
    )
    _add(
        group,
        "--batch-norm",
        "Add batch normalization to networks that have none.",
        action=argparse.BooleanOptionalAction,
    )


def _add_level_set(group: Any) -> None:
    _add(
        group,
        "--level-set-weight",
        "Weight λ of the level set loss beside the cross-entropy.",
        type=float,
        metavar="WEIGHT",
    )
    _add(
        group,
        "--heaviside",
        "Approximation of the Heaviside function, one of %(choices)s.",
        choices=tuple(HEAVISIDES),
        metavar="NAME",
    )
    _add(
        group,
        "--epsilon",
        "Width ε of the approximation.",
        type=float,
        metavar="WIDTH",
    )
    _add(
        group,
        "--normalization",
        "Normalization of the energy, one of %(choices)s.",
        choices=NORMALIZATIONS,
        metavar="NAME",
    )
    _add(
        group,
        "--signed",
        "Also penalize predictions that are anticorrelated with their class (c1 < c2).",
        action=argparse.BooleanOptionalAction,
    )


def _add_augmentation(group: Any) -> None:
    _add(
        group,
        "--crop",
        "Size of random crops, in pixels.",
        type=int,
        nargs=2,
        metavar=("H", "W"),
    )
    _add(
        group,
        "--scale",
        "Range of the random factor by which images are resized.",
        type=float,
        nargs=2,
        metavar=("MIN", "MAX"),
    )
    _add(
        group,
        "--flip",
        "Mirror half of the images left to right.",
        action=argparse.BooleanOptionalAction,
    )
    _add(
        group,
        "--photometric",
        "Change brightness, contrast, saturation and hue at random.",
        action=argparse.BooleanOptionalAction,
    )


def _add_execution(group: Any) -> None:
    group.add_argument(
        "--checkpoint-seconds",
        type=float,
        metavar="SECONDS",
        help="Longest time between two checkpoints; one is also written after each "
        "epoch. Default: 600.",
    )
    group.add_argument(
        "--keep-checkpoints",
        type=int,
        metavar="N",
        help="Number of checkpoints to keep. Default: 2.",
    )
    group.add_argument(
        "--deterministic",
        action="store_true",
        help="Use only operations that give the same result, bit for bit, each time on "
        "the same machine. Off by default.",
    )
    group.add_argument(
        "--distribute",
        choices=("mirrored", "workers"),
        help="Train on all GPUs of this machine (mirrored), or on those of all "
        "processes that TF_CONFIG names (workers). Default: on one device.",
    )


def run(options: argparse.Namespace) -> None:
    """Trains each loss of the recipe and prints the report of the run."""
    import cv2
    import tensorflow as tf

    from tf_levelset.training.distribution import strategy_named
    from tf_levelset.training.run import CheckpointOptions
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
    checkpoints = CheckpointOptions(
        **{name: value for name, value in given.items() if value is not None}
    )
    run_dir: Path = options.output or Path("runs") / recipe.name
    if not train(recipe, run_dir, options.data_dir, checkpoints, strategy):
        return  # a worker: only the chief reports
    print()
    print((run_dir / "report.md").read_text(encoding="utf-8"), end="")
    print(f"\nPredictions: {run_dir / 'panel.png'}. All results: {run_dir}")


def _run_smoke(options: argparse.Namespace, recipe: Recipe) -> None:
    """Runs the smoke test of a recipe in a temporary folder."""
    import tempfile

    from tf_levelset.training.recipes import smoke
    from tf_levelset.training.train import train

    for name in ("data_dir", "output", "distribute"):
        if getattr(options, name) is not None:
            raise ValueError(
                "Expected --smoke without --data-dir, --output and --distribute, "
                "because it uses synthetic images, keeps nothing and runs in one "
                f"process. Received: --{name.replace('_', '-')} "
                f"{getattr(options, name)}"
            )
    with tempfile.TemporaryDirectory() as folder:
        report = train(smoke(recipe), Path(folder))
    print(f"{recipe.name}: the smoke test of {', '.join(report['evaluation'])} passed.")
