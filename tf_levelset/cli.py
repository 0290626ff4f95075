"""The command `tf-levelset`: train, evaluate, export."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from tf_levelset.datasets import list_datasets, load_dataset
from tf_levelset.evaluation import evaluate, load_predictors, report_rows, table
from tf_levelset.export import export
from tf_levelset.files import read_json, write_json
from tf_levelset.recipes import LOSSES, RECIPES, Recipe
from tf_levelset.training import CLASSES_FILE, load_recipe, train
from tf_levelset.visualize import panel, write_png

INTERRUPTED = 130  # what a shell gives a program that Ctrl-C ended


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        arguments: as on the command line; the process's own by default.

    Returns:
        0, 1 after an error that is the caller's to mend, 130 after Ctrl-C.
    """
    options = parser().parse_args(arguments)
    try:
        options.command(options)
    except KeyboardInterrupt:
        print(options.if_stopped)
        return INTERRUPTED
    except tf.errors.InvalidArgumentError as error:
        # From inside a graph: what was found wrong, without the graph's own account.
        lines = [line for line in error.message.splitlines() if "Expected" in line]
        message = " ".join(lines) or error.message
    except (ValueError, OSError) as error:
        message = str(error)
    else:
        return 0
    print(f"tf-levelset: error: {message}", file=sys.stderr)
    return 1


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    top = argparse.ArgumentParser(
        prog="tf-levelset",
        description="The level set loss for semantic segmentation.",
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    _add_train(commands)
    _add_evaluate(commands)
    _add_export(commands)
    return top


def _add_dataset(command: argparse.ArgumentParser, default: str | None) -> None:
    command.add_argument("--dataset", choices=list_datasets(), default=default)
    command.add_argument("--data-dir", help="folder of the data set's files")
    command.add_argument("--sbd-dir", help="folder of SBD, for voc's trainaug")


def _add_train(commands: Any) -> None:
    command = commands.add_parser(
        "train",
        help="train with cross-entropy, and with the level set loss beside it",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    _add_dataset(command, "synthetic")
    command.add_argument(
        "--output", type=Path, help="folder of the run (default: runs/DATASET)"
    )
    command.add_argument(
        "--losses", nargs="+", choices=LOSSES, help="ls is Eq. 8: CE + λ·E"
    )
    command.add_argument("--train-split", help="such as train, or voc's trainaug")
    command.add_argument("--val-split")
    command.add_argument("--epochs", type=int)
    command.add_argument("--batch-size", type=int)
    command.add_argument("--learning-rate", type=float)
    command.add_argument("--l2", type=float, help="coupled weight decay")
    command.add_argument("--seed", type=int)
    command.add_argument(
        "--input-scale", type=float, help="factor on the pictures' size"
    )
    command.add_argument(
        "--loss-stride", type=int, choices=(1, 8), help="where the loss is taken"
    )
    model = command.add_argument_group("model")
    model.add_argument("--width", type=float, help="multiplies the filters")
    model.add_argument("--dilation", type=int, help="of fc6")
    model.add_argument("--dropout", type=float)
    model.add_argument(
        "--batch-norm", action=argparse.BooleanOptionalAction, help="normalise"
    )
    model.add_argument("--weights", help="path of weights to start from")
    level_set = command.add_argument_group("level set loss")
    level_set.add_argument("--level-set-weight", type=float, help="λ")
    level_set.add_argument("--heaviside", choices=("mahf", "ahf", "hf"))
    level_set.add_argument("--epsilon", type=float)
    level_set.add_argument("--normalization", choices=("sum", "mean", "scale_free"))
    level_set.add_argument("--signed", action=argparse.BooleanOptionalAction)
    augmentation = command.add_argument_group("augmentation")
    augmentation.add_argument("--crop", type=int, nargs=2, metavar=("H", "W"))
    augmentation.add_argument("--scale", type=float, nargs=2, metavar=("MIN", "MAX"))
    augmentation.add_argument("--flip", action=argparse.BooleanOptionalAction)
    augmentation.add_argument("--photometric", action=argparse.BooleanOptionalAction)
    command.set_defaults(
        command=_train,
        if_stopped="Stopped; what was done is kept. The same command resumes.",
    )


def _add_evaluate(commands: Any) -> None:
    command = commands.add_parser(
        "evaluate", help="judge a run folder, a .keras file or a SavedModel"
    )
    command.add_argument("path", type=Path)
    _add_dataset(command, None)
    command.add_argument("--split", help="default: what the run was judged on, or val")
    command.add_argument("--flip", action="store_true", help="average with the mirror")
    command.add_argument("--scales", type=float, nargs="+", default=[1.0])
    command.add_argument("--output", type=Path, help="folder of the JSON and panel")
    command.set_defaults(command=_evaluate, if_stopped="Stopped.")


def _add_export(commands: Any) -> None:
    command = commands.add_parser("export", help="write a SavedModel for serving")
    command.add_argument("model", type=Path, help="a .keras file, or a loss's folder")
    command.add_argument("folder", type=Path, help="gets a numbered version folder")
    command.add_argument("--version", type=int, help="default: the next")
    command.set_defaults(command=_export, if_stopped="Stopped.")


_GROUPS = {
    "model_options": ("width", "dilation", "dropout", "batch_norm", "weights"),
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
    """Returns the data set's recipe with what the command line says of it."""
    recipe = RECIPES[options.dataset]
    given = {key: value for key, value in vars(options).items() if value is not None}
    changes: dict[str, Any] = {}
    for group, names in _GROUPS.items():
        values = {name: given[name] for name in names if name in given}
        old = getattr(recipe, group)
        if group == "augmentation":
            changes[group] = dataclasses.replace(old, **values)
        else:
            changes[group] = {**old, **values}
    for field in dataclasses.fields(Recipe):
        if field.name in given and field.name not in changes:
            value = given[field.name]
            changes[field.name] = tuple(value) if isinstance(value, list) else value
    return dataclasses.replace(recipe, **changes)


def _train(options: argparse.Namespace) -> None:
    recipe = recipe_of(options)
    run_dir = getattr(options, "output", Path("runs") / recipe.dataset)
    train(recipe, run_dir, getattr(options, "data_dir", None))
    print()
    print((run_dir / "report.md").read_text(encoding="utf-8"), end="")
    print(f"\nPictures: {run_dir / 'panel.png'}; all of it: {run_dir}")


def _evaluate(options: argparse.Namespace) -> None:
    path: Path = options.path
    predictors = load_predictors(path)
    recipe = _recipe_for(path, options.dataset)
    extra = dict(recipe.dataset_options)
    if options.sbd_dir is not None:
        extra["sbd_dir"] = options.sbd_dir
    split = options.split or recipe.val_split
    source = load_dataset(recipe.dataset, split, options.data_dir, **extra)
    named = {name or str(path): predictor for name, predictor in predictors.items()}
    results = {
        name: evaluate(
            predictor, source, flip=options.flip, scales=tuple(options.scales)
        )
        for name, predictor in named.items()
    }
    print(table(report_rows(results, {}, {})), end="")
    for name, result in results.items():
        print(f"\n{name}, IoU by class:")
        for class_name, iou in result["class_iou"].items():
            print(f"  {class_name:15s} {'–' if iou is None else f'{100 * iou:6.2f}'}")
    is_run = (path / "config.json").exists()
    for name in sorted(set(recipe.losses) - set(named)) if is_run else ():
        print(f"\n{name} is not trained to its end: the same `train` goes on.")
    folder = options.output or (path if is_run else Path())
    stem = "-".join([split, *_test_time(options)])
    write_json(folder / f"evaluation-{stem}.json", results)
    write_png(folder / f"panel-{stem}.png", panel(source, named, 4))
    print(f"\nWrote {folder / f'evaluation-{stem}.json'} and the panel beside it.")


def _test_time(options: argparse.Namespace) -> list[str]:
    """Names what was averaged, so that one file does not overwrite another's."""
    flip = ["flip"] if options.flip else []
    scales = tuple(options.scales)
    return flip if scales == (1.0,) else [*flip, *(f"{scale:g}" for scale in scales)]


def _export(options: argparse.Namespace) -> None:
    path = options.model
    if path.is_dir():
        path = path / "model.keras"
    if not path.is_file():
        raise FileNotFoundError(
            f"Expected a .keras file or a folder with a model.keras. Received: {path}"
        )
    model = keras.models.load_model(path, compile=False)
    names = path.with_name(CLASSES_FILE)
    class_names = read_json(names) if names.exists() else ()
    print(export(model, options.folder, class_names, options.version))


def _recipe_for(path: Path, dataset: str | None) -> Recipe:
    """Returns the recipe of the run folder around a path, or a data set's own.

    Raises:
        ValueError: if there is neither.
    """
    for folder in (path, *path.resolve().parents[:3]):
        if (folder / "config.json").exists():
            try:
                recipe = load_recipe(folder)
            except ValueError:
                continue  # another program's
            if dataset in (None, recipe.dataset):
                return recipe
    if dataset is None:
        raise ValueError(
            "Expected --dataset, since the path belongs to no run folder. "
            f"Received: {path}"
        )
    return RECIPES[dataset]
