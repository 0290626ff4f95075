"""Reads every file of a data set and lists the faults that it finds."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from tf_levelset.commands.shared_options import add_dataset, add_option

if TYPE_CHECKING:
    from tf_levelset.datasets.verification import Verified


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `tf-levelset check-data`."""
    add_dataset(parser, default="folder")
    splits = ["train", "val"]
    sentence = "Splits of the data set."
    add_option(
        parser, "--splits", sentence, str, splits, shown="train and val", nargs="+"
    )


def run(options: argparse.Namespace) -> None:
    """Prints the share of each class in the splits, or raises for their faults."""
    from tf_levelset.datasets.files.faults import error_of
    from tf_levelset.datasets.verification import load_verified

    extra = {} if options.sbd_dir is None else {"sbd_dir": options.sbd_dir}
    splits = list(dict.fromkeys(options.splits))
    verified = load_verified(options.dataset, splits, options.data_dir, extra)
    print(class_shares(verified), end="")
    empty, void = verified.empty_classes(), verified.unlisted_void()
    if empty:
        raise error_of(options.dataset, [*empty, *void])
    for fault in void:
        print(f"Warning: {fault}")
    print("No faults.")


def class_shares(verified: Verified) -> str:
    """Returns a Markdown table of the share of pixels of each class, by split."""
    from tf_levelset.inference.score_table import table

    images = [f"{source.num_samples} images" for source in verified.sources]
    totals = [int(found.pixels.sum()) + found.void for found in verified.found]
    rows = [("class", *(source.name for source in verified.sources)), ("", *images)]
    for index, name in enumerate(verified.sources[0].class_names):
        counts = [int(found.pixels[index]) for found in verified.found]
        rows.append((name, *map(_percent, counts, totals)))
    voids = [found.void for found in verified.found]
    return table([*rows, ("void", *map(_percent, voids, totals))])


def _percent(count: int, total: int) -> str:
    return f"{100 * count / total:.3f} %" if total else "–"
