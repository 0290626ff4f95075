"""Options that several commands have in common."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tf_levelset.constants import OUTPUTS
from tf_levelset.datasets import list_datasets

METAVARS = {Path: "PATH", int: "N", float: "NUMBER", str: "NAME"}


def add_option(
    parser: Any,
    name: str,
    sentence: str,
    kind: type | Sequence[Any] = str,
    default: Any = None,
    shown: str = "",
    **details: Any,
) -> None:
    """Adds an option whose help is a sentence and the default.

    Args:
        parser: A parser or a group of options.
        name: Name of the option, such as `--output`.
        sentence: The option's help.
        kind: Type of the value, or all values that are allowed; bool for a switch.
        default: Value without the option.
        shown: Text of the default, where the value itself does not explain it.
        **details: Further arguments of `add_argument`.
    """
    if kind is bool:
        text = f"{sentence} Off by default."
        parser.add_argument(name, action="store_true", help=text)
        return
    if isinstance(kind, type):
        details = {"type": kind, "metavar": METAVARS[kind], **details}
    else:
        details = {"type": type(kind[0]), "choices": kind, **details}
    text = f"{sentence} Default: {shown or default}."
    parser.add_argument(name, default=default, help=text, **details)


def add_model(parser: argparse.ArgumentParser) -> None:
    """Adds the argument `model`, one trained network, and the option `--outputs`."""
    add_outputs(parser)
    parser.add_argument(
        "model",
        type=Path,
        help="Trained network: the folder of one loss in a run, a .keras file or a "
        "SavedModel.",
    )


def add_path(parser: argparse.ArgumentParser) -> None:
    """Adds the argument `path`, a run or one network, and the option `--outputs`."""
    add_outputs(parser)
    parser.add_argument(
        "path",
        type=Path,
        help="Run folder, the folder of one loss in it, a .keras file or a SavedModel.",
    )


def add_outputs(parser: argparse.ArgumentParser) -> None:
    """Adds the option `--outputs`."""
    sentence = "What the network of a .keras file returns; auto reads it from the file."
    add_option(parser, "--outputs", sentence, OUTPUTS, "auto")


def add_dataset(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """Adds the options `--dataset`, `--data-dir` and `--sbd-dir`.

    Args:
        parser: The parser of a command.
        default: Name of the data set that is used without `--dataset`; None for the
            data set of the run.
    """
    add_option(
        parser,
        "--dataset",
        "Data set, one of %(choices)s.",
        list_datasets(),
        default,
        shown=default or "the data set of the run",
        metavar="NAME",
    )
    add_data_dir(parser)
    sentence = "Folder of SBD, which the split trainaug of voc needs."
    add_option(parser, "--sbd-dir", sentence, shown="none", metavar="PATH")


def add_data_dir(parser: argparse.ArgumentParser) -> None:
    """Adds the option `--data-dir`."""
    sentence = "Folder of the data set's files; synthetic has none."
    add_option(parser, "--data-dir", sentence, shown="none", metavar="PATH")


def add_split(parser: argparse.ArgumentParser) -> None:
    """Adds the option `--split`."""
    shown = "the split that the run was evaluated on, or val"
    add_option(parser, "--split", "Split of the data set.", shown=shown)


def add_test_time(parser: argparse.ArgumentParser) -> None:
    """Adds the options `--flip`, `--scales`, `--crf` and `--crf-iterations`."""
    group = parser.add_argument_group("test-time augmentation and CRF")
    sentence = "Average the prediction with that of the mirrored image."
    add_option(group, "--flip", sentence, bool)
    sentence = "Average the predictions of the image resized by these factors."
    add_option(group, "--scales", sentence, float, [1.0], shown="1", nargs="+")
    sentence = "Refine predictions by a dense CRF that is tuned for this backbone."
    add_option(group, "--crf", sentence, ("resnet", "vgg"), shown="no CRF")
    sentence = "Number of mean-field iterations of the CRF."
    add_option(group, "--crf-iterations", sentence, int, shown="10")
