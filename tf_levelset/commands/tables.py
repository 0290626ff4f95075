"""Prints the paper's tables with the results of run folders beside its numbers."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `tf-levelset tables`."""
    parser.add_argument(
        "folders",
        type=Path,
        nargs="*",
        default=[Path("runs")],
        metavar="FOLDER",
        help="Folders in which run folders are found, at any depth. Default: runs.",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="Also write tables.md and tables.json to this folder. Default: none.",
    )


def run(options: argparse.Namespace) -> None:
    """Prints the tables as Markdown."""
    from tf_levelset.files import write_json, write_text
    from tf_levelset.reporting.tables import find_runs, markdown, tables

    runs = find_runs(options.folders)
    text = markdown(runs)
    print(text, end="")
    if options.output is not None:
        write_text(options.output / "tables.md", text)
        write_json(options.output / "tables.json", tables(runs))
