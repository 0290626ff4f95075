"""Exports a trained network as a SavedModel, as ONNX and as TensorFlow Lite."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tf_levelset.commands.shared_options import add_dataset, add_option, add_outputs

if TYPE_CHECKING:
    import numpy as np


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `tf-levelset export`."""
    parser.add_argument(
        "model",
        type=Path,
        help="Trained network: a .keras file, or the folder of one loss in a run.",
    )
    parser.add_argument(
        "folder",
        type=Path,
        help="Folder in which a folder named after the version is written, as "
        "TensorFlow Serving expects it.",
    )
    shown = "one more than the newest in the folder"
    add_option(parser, "--version", "Number of the version.", int, shown=shown)
    add_outputs(parser)
    sentence = "Leave out the operations that OpenVINO and ONNX do not support."
    add_option(parser, "--portable", sentence, bool)
    sentence = "Also write this ONNX file; implies --portable."
    add_option(parser, "--onnx", sentence, Path, shown="none")
    sentence = "Take images of this size only, in pixels."
    size = {"nargs": 2, "metavar": ("H", "W")}
    add_option(parser, "--size", sentence, int, shown="any size", **size)
    sentence = "Also write this TFLite file; needs --size and implies --portable."
    add_option(parser, "--tflite", sentence, Path, shown="none")
    sentence = (
        "Quantize the TFLite file to 8 bits. It is calibrated with training images of "
        "the data set and checked on images of the split val."
    )
    add_option(parser, "--int8", sentence, bool)
    sentence = "Least share of pixels on which the TFLite file agrees with the network."
    add_option(parser, "--min-agreement", sentence, float, 0.99)
    add_dataset(parser)


def run(options: argparse.Namespace) -> None:
    """Writes the exported files and prints their paths."""
    from tf_levelset.export.onnx import export_onnx
    from tf_levelset.export.saved_model import export
    from tf_levelset.export.tflite import export_tflite
    from tf_levelset.models.safe_loading import load_keras
    from tf_levelset.training.run_folder import CLASSES_FILE, read_class_names

    path: Path = options.model
    if path.is_dir():
        path = path / "model.keras"
    if not path.is_file():
        raise FileNotFoundError(
            f"Expected a .keras file or a folder with a model.keras. Received: {path}"
        )
    _check_together(options)
    images = _images_for_tflite(options) if options.tflite else {}
    model = load_keras(path)
    names = path.with_name(CLASSES_FILE)
    class_names = read_class_names(names) if names.exists() else ()
    portable = options.portable or bool(options.onnx or options.tflite)
    version = export(
        model,
        options.folder,
        class_names,
        options.version,
        outputs=options.outputs,
        portable=portable,
        size=options.size,
    )
    print(version)
    if options.onnx is not None:
        print(export_onnx(version, options.onnx))
    if options.tflite is not None:
        share, difference = export_tflite(
            version, options.tflite, **images, min_agreement=options.min_agreement
        )
        print(
            f"{options.tflite}: predicts the network's class for {share:.2%} of the "
            f"pixels; probabilities differ by at most {difference:.2g}"
        )


def _check_together(options: argparse.Namespace) -> None:
    for option, needed in (("tflite", "size"), ("int8", "tflite")):
        if getattr(options, option) and not getattr(options, needed):
            raise ValueError(
                f"Expected --{needed} together with --{option}. Received: --{option} "
                "alone"
            )


def _images_for_tflite(options: argparse.Namespace) -> dict[str, Iterator[np.ndarray]]:
    """Opens the images that check a TFLite file and, for 8 bits, calibrate it."""
    from tf_levelset.commands.loading import load_split, recipe_for
    from tf_levelset.datasets import load_dataset
    from tf_levelset.datasets.pipeline import arrays_of, image_dataset
    from tf_levelset.inference.panels import spread

    if options.int8:
        recipe = recipe_for(options.model, options.dataset)
        checked = load_split(options, recipe, recipe.val_split)
        training = load_split(options, recipe, recipe.train_split)
        sources = {"images": spread(checked, 20), "calibration": spread(training, 100)}
    else:  # Floats agree on any images.
        sources = {"images": load_dataset("synthetic", "val", num_samples=20)}
    return {
        name: arrays_of(image_dataset(source), source)
        for name, source in sources.items()
    }
