"""The command `tf-levelset` and all that it can be asked to do."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
import tensorflow as tf

from tf_levelset.commands.recipe_arguments import list_recipes, recipe_of
from tf_levelset.datasets import (
    Source,
    evaluation_dataset,
    list_datasets,
    load_dataset,
    subset,
)
from tf_levelset.datasets.files.faults import error_of
from tf_levelset.datasets.verification import Verified, load_verified
from tf_levelset.datasets.voc import voc_palette
from tf_levelset.energy.options import HEAVISIDES, NORMALIZATIONS
from tf_levelset.export.onnx import export_onnx
from tf_levelset.export.saved_model import MAX_CLASSES, export
from tf_levelset.files import inside, write_json, write_text
from tf_levelset.inference.augmented import augmented
from tf_levelset.inference.crf import PRESETS, DenseCRF, refined
from tf_levelset.inference.evaluation import evaluate
from tf_levelset.inference.inputs import find_inputs
from tf_levelset.inference.panels import panel, write_png
from tf_levelset.inference.prediction import Outputs, claim, predict, stamp
from tf_levelset.inference.predictor import Predictor, find_models, load_predictors
from tf_levelset.inference.score_table import report_rows, table
from tf_levelset.inference.submission import write_submission
from tf_levelset.inference.tiling import Tiling
from tf_levelset.models import list_models
from tf_levelset.models.safe_loading import load_keras
from tf_levelset.optimizers.schedules import SCHEDULES
from tf_levelset.reporting.html_page import write_report
from tf_levelset.reporting.level_sets import level_set_panel, zoomed_panel
from tf_levelset.reporting.tables import find_runs, markdown, tables
from tf_levelset.training.distribution import strategy_named
from tf_levelset.training.recipe import DEFAULTS, LOSSES, RECIPES, Recipe, smoke
from tf_levelset.training.resume import graph_message
from tf_levelset.training.run import (
    CLASSES_FILE,
    PALETTE_FILE,
    CheckpointOptions,
    load_recipe,
    train,
)
from tf_levelset.training.run_folder import read_class_names, read_palette

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
        message = graph_message(error)
    except tf.errors.ResourceExhaustedError as error:
        message = error.message  # as of a full disk
    except (ValueError, OSError, ImportError) as error:
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
    _add_submit(commands)
    _add_tables(commands)
    _add_check_data(commands)
    _add_predict(commands)
    _add_figures(commands)
    _add_report(commands)
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
    recipe = command.add_argument_group("recipe")
    recipe.add_argument(
        "--recipe",
        metavar="NAME",
        help="see --list-recipes; or a .json file, such as a run's config.json",
    )
    recipe.add_argument(
        "--list-recipes", action="store_true", help="print what can be trained, and how"
    )
    recipe.add_argument(
        "--smoke",
        action="store_true",
        help="run the recipe in seconds and leave nothing: its losses and rates on a "
        "tiny net, two steps, made pictures",
    )
    recipe.add_argument(
        "--set",
        nargs="+",
        action="extend",
        metavar="FIELD=JSON",
        help="any field of the recipe, such as model_options.rates=[1,2,3,4]",
    )
    _add_dataset(command, None)
    command.add_argument(
        "--output", type=Path, help="folder of the run (default: runs/NAME)"
    )
    command.add_argument(
        "--losses", nargs="+", choices=tuple(LOSSES), help="ls is Eq. 8: CE + λ·E"
    )
    command.add_argument("--train-split", help="such as train, or voc's trainaug")
    command.add_argument("--val-split")
    length = command.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=int)
    length.add_argument("--iterations", type=int, help="number of steps")
    command.add_argument("--batch-size", type=int)
    command.add_argument("--learning-rate", type=float)
    command.add_argument("--schedule", choices=SCHEDULES)
    command.add_argument("--momentum", type=float)
    command.add_argument("--l2", type=float, help="coupled weight decay")
    command.add_argument("--seed", type=int)
    command.add_argument(
        "--input-scale", type=float, help="factor on the pictures' size"
    )
    command.add_argument(
        "--loss-stride",
        type=int,
        choices=(1, 8, 16, 32),
        help="where the loss is taken: the net's output stride, or 1",
    )
    safety = command.add_argument_group("being stopped and going on")
    safety.add_argument(
        "--checkpoint-seconds",
        type=float,
        help="how much work may be lost; a checkpoint is also written after each epoch "
        f"(default: {CheckpointOptions.seconds:g})",
    )
    safety.add_argument(
        "--keep-checkpoints",
        type=int,
        help=f"how many checkpoints stay (default: {CheckpointOptions.keep})",
    )
    safety.add_argument(
        "--deterministic",
        action="store_true",
        help="only operations that give the same bits again on the same machine",
    )
    command.add_argument(
        "--distribute",
        choices=("mirrored", "workers"),
        help="train on all GPUs of this machine, or on those of all the processes that "
        "TF_CONFIG names",
    )
    model = command.add_argument_group("model")
    model.add_argument(
        "--model",
        choices=list_models(),
        help="instead of the recipe's, without its own options",
    )
    model.add_argument("--width", type=float, help="multiplies the filters")
    model.add_argument("--depth", type=float, help="multiplies the layers of a block")
    model.add_argument("--dilation", type=int, help="of fc6")
    model.add_argument("--dropout", type=float)
    model.add_argument(
        "--batch-norm", action=argparse.BooleanOptionalAction, help="normalise"
    )
    model.add_argument(
        "--weights", help="what to start from: imagenet, a path, or none"
    )
    level_set = command.add_argument_group("level set loss")
    level_set.add_argument("--level-set-weight", type=float, help="λ")
    level_set.add_argument("--heaviside", choices=tuple(HEAVISIDES))
    level_set.add_argument("--epsilon", type=float)
    level_set.add_argument("--normalization", choices=NORMALIZATIONS)
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
    _add_crf(command)
    command.add_argument("--output", type=Path, help="folder of the JSON and panel")
    command.set_defaults(command=_evaluate, if_stopped="Stopped.")


def _add_export(commands: Any) -> None:
    command = commands.add_parser("export", help="write a SavedModel for serving")
    command.add_argument("model", type=Path, help="a .keras file, or a loss's folder")
    command.add_argument("folder", type=Path, help="gets a numbered version folder")
    command.add_argument("--version", type=int, help="default: the next")
    command.add_argument(
        "--portable",
        action="store_true",
        help="leave out what OpenVINO and ONNX do not have",
    )
    command.add_argument("--onnx", type=Path, help="also write this ONNX file")
    command.set_defaults(command=_export, if_stopped="Stopped.")


def _add_submit(commands: Any) -> None:
    command = commands.add_parser(
        "submit", help="write predictions as VOC's and Cityscapes' servers take them"
    )
    command.add_argument("model", type=Path, help="a loss's folder, or a model's file")
    command.add_argument("folder", type=Path, help="gets the files")
    _add_dataset(command, None)
    command.add_argument("--split", default="test")
    command.add_argument("--flip", action="store_true", help="average with the mirror")
    command.add_argument("--scales", type=float, nargs="+", default=[1.0])
    _add_crf(command)
    command.set_defaults(command=_submit, if_stopped="Stopped.")


def _add_crf(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--crf",
        choices=("resnet", "vgg"),
        help="refine the answers by a dense CRF, with the parameters of this backbone",
    )
    command.add_argument("--crf-iterations", type=int, help="default: 10")


def _add_tables(commands: Any) -> None:
    command = commands.add_parser(
        "tables", help="print the paper's tables from run folders, beside its numbers"
    )
    command.add_argument("folders", type=Path, nargs="*", default=[Path("runs")])
    command.add_argument("--output", type=Path, help="folder of tables.md, tables.json")
    command.set_defaults(command=_tables, if_stopped="Stopped.")


def _add_check_data(commands: Any) -> None:
    command = commands.add_parser(
        "check-data",
        help="read a data set from end to end and list all that is wrong with it",
    )
    _add_dataset(command, "folder")
    command.add_argument("--splits", nargs="+", default=["train", "val"])
    command.set_defaults(command=_check_data, if_stopped="Stopped.")


def _add_predict(commands: Any) -> None:
    command = commands.add_parser(
        "predict", help="write masks and overlays of pictures, folders or videos"
    )
    command.add_argument("model", type=Path, help="a loss's folder, or a model's file")
    command.add_argument("inputs", type=Path, nargs="+", help="files or folders")
    command.add_argument("--output", type=Path, default=Path("predictions"))
    command.add_argument("--no-overlays", action="store_true", help="masks alone")
    command.add_argument(
        "--probabilities", action="store_true", help="also NAME.npy, float32 (H, W, C)"
    )
    command.add_argument(
        "--tile",
        type=int,
        nargs=2,
        metavar=("H", "W"),
        help="predict in overlapping tiles of this size",
    )
    command.add_argument("--overlap", type=int, help="of tiles (default: 64 pixels)")
    command.add_argument("--flip", action="store_true", help="average with the mirror")
    command.add_argument("--scales", type=float, nargs="+", default=[1.0])
    _add_crf(command)
    command.set_defaults(
        command=_predict,
        if_stopped="Stopped; what was done is kept. The same command goes on.",
    )


def _add_figures(commands: Any) -> None:
    command = commands.add_parser(
        "figures",
        help="draw what the level set loss sees: level sets, regions, energies, zooms",
    )
    command.add_argument("path", type=Path, help="a run folder, or a model's file")
    _add_dataset(command, None)
    command.add_argument("--split", help="default: what the run was judged on, or val")
    command.add_argument("--samples", nargs="+", help="names; default: the first")
    command.add_argument("--classes", nargs="+", help="default: those in the picture")
    command.add_argument("--heaviside", choices=tuple(HEAVISIDES), default="mahf")
    command.add_argument("--epsilon", type=float, default=1 / 20)
    command.add_argument("--output", type=Path, default=Path("figures"))
    command.set_defaults(command=_figures, if_stopped="Stopped.")


def _add_report(commands: Any) -> None:
    command = commands.add_parser(
        "report", help="compare runs on one page of HTML: curves, tables, pictures"
    )
    command.add_argument(
        "runs", type=Path, nargs="+", metavar="RUN", help="a run's or a loss's folder"
    )
    command.add_argument("--data-dir", help="folder of the data set's files")
    command.add_argument("--output", "--out", type=Path, default=Path("report.html"))
    command.set_defaults(command=_report, if_stopped="Stopped.")


def _train(options: argparse.Namespace) -> None:
    if getattr(options, "list_recipes", False):
        print(list_recipes(), end="")
        return
    recipe = recipe_of(options)
    # The pictures of a batch are made side by side: threads within each only disturb.
    cv2.setNumThreads(1)
    if getattr(options, "smoke", False):
        for name in ("output", "data_dir", "distribute"):
            if hasattr(options, name):
                raise ValueError(
                    "Expected none of --data-dir, --output and --distribute with "
                    "--smoke, which makes its pictures, leaves nothing and is one "
                    f"process. Received: {getattr(options, name)}"
                )
        _smoke(recipe)
        return
    if getattr(options, "deterministic", False):
        tf.config.experimental.enable_op_determinism()
    strategy = strategy_named(getattr(options, "distribute", None))
    checkpoints = CheckpointOptions(
        getattr(options, "checkpoint_seconds", CheckpointOptions.seconds),
        getattr(options, "keep_checkpoints", CheckpointOptions.keep),
    )
    run_dir = getattr(options, "output", Path("runs") / recipe.name)
    data_dir = getattr(options, "data_dir", None)
    if not train(recipe, run_dir, data_dir, checkpoints, strategy):
        return  # of which the chief tells
    print()
    print((run_dir / "report.md").read_text(encoding="utf-8"), end="")
    print(f"\nPictures: {run_dir / 'panel.png'}; all of it: {run_dir}")


def _smoke(recipe: Recipe) -> None:
    """Runs a recipe's whole path, tiny, in a folder that does not stay."""
    with tempfile.TemporaryDirectory() as folder:
        report = train(smoke(recipe), Path(folder))
    print(f"{recipe.name}: {', '.join(report['evaluation'])} run to their end.")


def _evaluate(options: argparse.Namespace) -> None:
    path: Path = options.path
    predictors = load_predictors(path)
    recipe = _recipe_for(path, options.dataset)
    split = options.split or recipe.val_split
    source = _source(options, recipe, split)
    named = {name or str(path): predictor for name, predictor in predictors.items()}
    crf = _crf(options)
    results = {
        name: evaluate(
            predictor,
            source,
            flip=options.flip,
            scales=tuple(options.scales),
            crf=crf,
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
    shown = {name: _at_test_time(p, options) for name, p in named.items()}
    write_png(folder / f"panel-{stem}.png", panel(source, shown, 4))
    print(f"\nWrote {folder / f'evaluation-{stem}.json'} and the panel beside it.")


def _one_predictor(path: Path) -> Predictor:
    """Loads the one model that a path holds."""
    predictors = load_predictors(path)
    if len(predictors) > 1:
        raise ValueError(
            f"Expected one model, such as {path / next(iter(predictors))}. "
            f"Received: {path}, which holds {len(predictors)}"
        )
    (predictor,) = predictors.values()
    return predictor


def _predict(options: argparse.Namespace) -> None:
    inputs = find_inputs(options.inputs)
    tiling = _tiling(options)
    predictor = _at_test_time(_one_predictor(options.model), options)
    num_classes = predictor(np.zeros((33, 33, 3), np.uint8)).shape[-1]
    if num_classes > MAX_CLASSES:
        raise ValueError(
            f"Expected a model of at most {MAX_CLASSES} classes, which a mask's bytes "
            f"can hold. Received: {num_classes}"
        )
    outputs = Outputs(
        options.output,
        _palette(options.model, num_classes),
        overlays=not options.no_overlays,
        probabilities=options.probabilities,
    )
    asked = ("flip", "scales", "crf", "crf_iterations", "tile", "overlap")
    settings = {name: getattr(options, name) for name in asked}
    (model,) = find_models(options.model).values()
    claim(options.output, {"model": stamp(model), **settings}, inputs)
    bar = keras.utils.Progbar(None, unit_name="picture")

    def show(done: int, total: int) -> None:
        bar.target = max(done, total)
        bar.update(done)

    faults = predict(predictor, inputs, outputs, tiling, show)
    print(f"Wrote {options.output}.")
    if faults:
        raise error_of("predict", faults)


def _figures(options: argparse.Namespace) -> None:
    predictors = load_predictors(options.path)
    recipe = _recipe_for(options.path, options.dataset)
    source = _source(options, recipe, options.split or recipe.val_split)
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
        there = {n: c for n, c in classes.items() if (labels == c).any()}
        drawings = {
            "level_sets": level_set_panel(
                image,
                labels,
                predictions,
                there if options.classes is None else classes,
                heaviside=options.heaviside,
                epsilon=options.epsilon,
                ignore_class=source.ignore_class,
            ),
            "zooms": zoomed_panel(image, labels, predictions, source.palette),
        }
        for kind, drawing in drawings.items():
            path = options.output / f"{name}-{kind}.png"
            write_png(inside(options.output, path), drawing)
            print(path)


def _report(options: argparse.Namespace) -> None:
    write_report(options.runs, options.output, options.data_dir)
    print(f"Wrote {options.output}.")


def _index(names: Sequence[str], name: str, what: str) -> int:
    if name not in names:
        known = ", ".join(names[:20])
        raise ValueError(f"Expected a {what} such as {known}. Received: {name!r}")
    return list(names).index(name)


def _tiling(options: argparse.Namespace) -> Tiling | None:
    if options.tile is None:
        if options.overlap is not None:
            raise ValueError(
                f"Expected --tile beside --overlap. Received: {options.overlap} alone"
            )
        return None
    if options.crf is not None:
        raise ValueError(
            "Expected --tile or --crf, which sees a picture as a whole. Received: both"
        )
    height, width = options.tile
    if options.overlap is None:
        return Tiling(height, width)
    return Tiling(height, width, options.overlap)


def _palette(model: Path, num_classes: int) -> np.ndarray:
    """The colours of a model's classes: its run's, or VOC's."""
    for folder in (model, *model.resolve().parents[:3]):
        if (folder / PALETTE_FILE).exists():
            palette = read_palette(folder / PALETTE_FILE)
            if len(palette) == num_classes:
                return palette
    return voc_palette(num_classes)


def _submit(options: argparse.Namespace) -> None:
    predictor = _one_predictor(options.model)
    recipe = _recipe_for(options.model, options.dataset)
    source = _source(options, recipe, options.split)
    predictor = _at_test_time(predictor, options)
    paths = write_submission(predictor, source, options.folder, recipe.dataset)
    print(f"Wrote {len(paths)} files into {options.folder}.")


def _at_test_time(predictor: Predictor, options: argparse.Namespace) -> Predictor:
    """A predictor with what the command line asks for: averages, then the CRF."""
    predictor = augmented(predictor, flip=options.flip, scales=tuple(options.scales))
    crf = _crf(options)
    return predictor if crf is None else refined(predictor, crf)


def _source(options: argparse.Namespace, recipe: Recipe, split: str) -> Source:
    """A split of a recipe's data set, with its files where the command says."""
    extra = dict(recipe.dataset_options)
    if options.sbd_dir is not None:
        extra["sbd_dir"] = options.sbd_dir
    return load_dataset(recipe.dataset, split, options.data_dir, **extra)


def _crf(options: argparse.Namespace) -> DenseCRF | None:
    iterations = options.crf_iterations
    if options.crf is None:
        if iterations is not None:
            raise ValueError(
                f"Expected --crf beside --crf-iterations. Received: {iterations} alone"
            )
        return None
    parameters = PRESETS[f"{options.crf}_10"]
    if iterations is None:
        return parameters
    return dataclasses.replace(parameters, iterations=iterations)


def _test_time(options: argparse.Namespace) -> list[str]:
    """Names what was averaged, so that one file does not overwrite another's."""
    names = ["flip"] if options.flip else []
    if tuple(options.scales) != (1.0,):
        names += [f"{scale:g}" for scale in options.scales]
    crf = _crf(options)
    return names if crf is None else [*names, f"{options.crf}-crf{crf.iterations}"]


def _export(options: argparse.Namespace) -> None:
    path = options.model
    if path.is_dir():
        path = path / "model.keras"
    if not path.is_file():
        raise FileNotFoundError(
            f"Expected a .keras file or a folder with a model.keras. Received: {path}"
        )
    model = load_keras(path)
    names = path.with_name(CLASSES_FILE)
    class_names = read_class_names(names) if names.exists() else ()
    portable = options.portable or options.onnx is not None
    version = export(
        model, options.folder, class_names, options.version, portable=portable
    )
    print(version)
    if options.onnx is not None:
        print(export_onnx(version, options.onnx))


def _check_data(options: argparse.Namespace) -> None:
    extra = {} if options.sbd_dir is None else {"sbd_dir": options.sbd_dir}
    splits = list(dict.fromkeys(options.splits))
    verified = load_verified(options.dataset, splits, options.data_dir, extra)
    print(data_table(verified), end="")
    empty = verified.empty_classes()
    if empty:
        raise error_of(options.dataset, empty)
    print("No faults.")


def data_table(verified: Verified) -> str:
    """Markdown: how much of each split is of each class, in percent of its pixels."""
    pictures = [f"{source.num_samples} pictures" for source in verified.sources]
    totals = [int(found.pixels.sum()) + found.void for found in verified.found]
    rows = [("class", *(source.name for source in verified.sources)), ("", *pictures)]
    for index, name in enumerate(verified.sources[0].class_names):
        counts = [int(found.pixels[index]) for found in verified.found]
        rows.append((name, *map(_percent, counts, totals)))
    voids = [found.void for found in verified.found]
    return table([*rows, ("void", *map(_percent, voids, totals))])


def _percent(count: int, total: int) -> str:
    return f"{100 * count / total:.3f} %" if total else "–"


def _tables(options: argparse.Namespace) -> None:
    runs = find_runs(options.folders)
    text = markdown(runs)
    print(text, end="")
    if options.output is not None:
        write_text(options.output / "tables.md", text)
        write_json(options.output / "tables.json", tables(runs))


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
    return RECIPES[DEFAULTS[dataset]]
