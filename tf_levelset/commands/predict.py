"""Predicts images, folders of images and videos, and writes masks and overlays."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from tf_levelset.commands.shared_options import add_model, add_option, add_test_time

if TYPE_CHECKING:
    import numpy as np

    from tf_levelset.inference.tiling import Tiling


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `tf-levelset predict`."""
    add_model(parser)
    parser.add_argument(
        "inputs",
        type=Path,
        nargs="+",
        help="Images, videos, or folders of them. In folders, what earlier commands "
        "wrote there is left out.",
    )
    sentence = "Folder in which the predictions are written."
    add_option(parser, "--output", sentence, Path, Path("predictions"))
    sentence = "Write the masks alone, without overlays on the images."
    add_option(parser, "--no-overlays", sentence, bool)
    sentence = "Also write NAME.npy with the probabilities, float32 (H, W, C)."
    add_option(parser, "--probabilities", sentence, bool)
    add_option(
        parser,
        "--tile",
        "Predict in overlapping tiles of this size, in pixels.",
        int,
        shown="the whole image at once",
        nargs=2,
        metavar=("H", "W"),
    )
    sentence = "Overlap of neighbouring tiles, in pixels."
    add_option(parser, "--overlap", sentence, int, shown="64")
    add_test_time(parser)
    parser.set_defaults(
        if_stopped="Stopped. What was written is kept, and the same command continues."
    )


def run(options: argparse.Namespace) -> None:
    """Writes the predictions, then raises for the inputs that could not be read."""
    import keras

    from tf_levelset.commands.loading import at_test_time, load_predictor
    from tf_levelset.datasets.files.faults import error_of
    from tf_levelset.export.saved_model import MAX_CLASSES
    from tf_levelset.inference.inputs import find_inputs, other_files
    from tf_levelset.inference.prediction import Outputs, claim, predict, stamp
    from tf_levelset.inference.predictor import find_models

    inputs = find_inputs(options.inputs)
    if others := other_files(options.inputs):
        print(f"Left out: files of other types, {len(others)}, such as {others[0]}.")
    tiling = _tiling(options)
    net = load_predictor(options.model, options.outputs)
    predictor, num_classes = at_test_time(net, options), net.num_classes
    if num_classes > MAX_CLASSES:
        raise ValueError(
            f"Expected a model of at most {MAX_CLASSES} classes, because a mask has "
            f"one byte for each pixel. Received: {num_classes} classes"
        )
    outputs = Outputs(
        options.output,
        _palette(options.model, num_classes),
        overlays=not options.no_overlays,
        probabilities=options.probabilities,
    )
    asked = ("flip", "scales", "crf", "crf_iterations", "tile", "overlap")
    settings = {name: getattr(options, name) for name in asked}
    if options.outputs != "auto":  # Folders of earlier versions do not name it.
        settings["outputs"] = options.outputs
    (model,) = find_models(options.model).values()
    claim(options.output, {"model": stamp(model), **settings}, inputs)
    bar = keras.utils.Progbar(None, unit_name="image")

    def show(done: int, total: int) -> None:
        bar.target = max(done, total)
        bar.update(done)

    faults = predict(predictor, inputs, outputs, tiling, show)
    print(f"Wrote {options.output}.")
    if faults:
        raise error_of("predict", faults)


def _tiling(options: argparse.Namespace) -> Tiling | None:
    from tf_levelset.inference.tiling import Tiling

    if options.tile is None:
        if options.overlap is not None:
            raise ValueError(
                "Expected --tile together with --overlap. Received: "
                f"--overlap {options.overlap} alone"
            )
        return None
    if options.crf is not None:
        raise ValueError(
            "Expected either --tile or --crf, because the CRF needs the whole image. "
            "Received: both"
        )
    overlap = () if options.overlap is None else (options.overlap,)
    return Tiling(*options.tile, *overlap)


def _palette(model: Path, num_classes: int) -> np.ndarray:
    """Returns the colours of the run that a model belongs to, or VOC's."""
    from tf_levelset.datasets.voc import voc_palette
    from tf_levelset.training.run_folder import PALETTE_FILE, read_palette

    for folder in (model, *model.resolve().parents[:3]):
        if (folder / PALETTE_FILE).exists():
            palette = read_palette(folder / PALETTE_FILE)
            if len(palette) == num_classes:
                return palette
    return voc_palette(num_classes)
