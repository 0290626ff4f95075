"""Options that several commands have in common."""

from __future__ import annotations

import argparse
from pathlib import Path

from tf_levelset.datasets import list_datasets


def add_model(parser: argparse.ArgumentParser) -> None:
    """Adds the argument `model`, one trained network."""
    parser.add_argument(
        "model",
        type=Path,
        help="Trained network: the folder of one loss in a run, a .keras file or a "
        "SavedModel.",
    )


def add_dataset(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """Adds the options `--dataset`, `--data-dir` and `--sbd-dir`.

    Args:
        parser: The parser of a command.
        default: Name of the data set that is used without `--dataset`; None for the
            data set of the run.
    """
    parser.add_argument(
        "--dataset",
        choices=list_datasets(),
        default=default,
        metavar="NAME",
        help="Data set, one of %(choices)s. Default: "
        f"{default or 'the data set of the run'}.",
    )
    add_data_dir(parser)
    parser.add_argument(
        "--sbd-dir",
        metavar="FOLDER",
        help="Folder of SBD, which the split trainaug of voc needs. Default: none.",
    )


def add_data_dir(parser: argparse.ArgumentParser) -> None:
    """Adds the option `--data-dir`."""
    parser.add_argument(
        "--data-dir",
        metavar="FOLDER",
        help="Folder with the files of the data set. Default: none, as synthetic needs "
        "no files.",
    )


def add_split(parser: argparse.ArgumentParser) -> None:
    """Adds the option `--split`."""
    parser.add_argument(
        "--split",
        metavar="NAME",
        help="Split of the data set. Default: the split that the run was evaluated on, "
        "or val.",
    )


def add_test_time(parser: argparse.ArgumentParser) -> None:
    """Adds the options `--flip`, `--scales`, `--crf` and `--crf-iterations`."""
    group = parser.add_argument_group("test-time augmentation and CRF")
    group.add_argument(
        "--flip",
        action="store_true",
        help="Average the prediction with that of the mirrored image. Off by default.",
    )
    group.add_argument(
        "--scales",
        type=float,
        nargs="+",
        default=[1.0],
        metavar="FACTOR",
        help="Average the predictions of the image resized by these factors. "
        "Default: 1.",
    )
    group.add_argument(
        "--crf",
        choices=("resnet", "vgg"),
        help="Refine the prediction by a dense CRF with DeepLab's parameters for this "
        "backbone. Default: no CRF.",
    )
    group.add_argument(
        "--crf-iterations",
        type=int,
        metavar="N",
        help="Number of mean-field iterations of the CRF. Default: 10.",
    )
