"""Exports a trained network as a SavedModel, and as ONNX."""

from __future__ import annotations

import argparse
from pathlib import Path

from tf_levelset.commands.shared_options import add_option, add_outputs


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


def run(options: argparse.Namespace) -> None:
    """Writes the exported files and prints their paths."""
    from tf_levelset.export.onnx import export_onnx
    from tf_levelset.export.saved_model import export
    from tf_levelset.models.safe_loading import load_keras
    from tf_levelset.training.run_folder import CLASSES_FILE, read_class_names

    path: Path = options.model
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
        model,
        options.folder,
        class_names,
        options.version,
        outputs=options.outputs,
        portable=portable,
    )
    print(version)
    if options.onnx is not None:
        print(export_onnx(version, options.onnx))
