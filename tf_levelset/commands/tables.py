"""Prints the paper's tables with the results of run folders beside its numbers."""

from __future__ import annotations

import argparse
from pathlib import Path

from tf_levelset.commands.shared_options import add_option


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
    sentence = "Folder to which tables.md and tables.json are written, too."
    add_option(parser, "--output", sentence, Path, shown="none")


def run(options: argparse.Namespace) -> None:
    """Prints the tables as Markdown."""
    from tf_levelset.files import write_json, write_text
    from tf_levelset.reporting.tables import find_runs, markdown, tables

    faults: list[str] = []
    runs = find_runs(options.folders, faults)
    text = markdown(runs, faults)
    print(text, end="")
    if options.output is not None:
        write_text(options.output / "tables.md", text)
        write_json(options.output / "tables.json", tables(runs))
