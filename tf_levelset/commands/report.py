"""Compares runs on one page of HTML, with curves, tables and predictions."""

from __future__ import annotations

import argparse
from pathlib import Path

from tf_levelset.commands.shared_options import add_data_dir


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `tf-levelset report`."""
    parser.add_argument(
        "runs",
        type=Path,
        nargs="+",
        metavar="RUN",
        help="Run folders, or folders of single losses in them.",
    )
    add_data_dir(parser)
    parser.add_argument(
        "--output",
        "--out",
        type=Path,
        default=Path("report.html"),
        metavar="PATH",
        help="File to write. Default: %(default)s.",
    )


def run(options: argparse.Namespace) -> None:
    """Writes the page."""
    from tf_levelset.reporting.html_page import write_report

    write_report(options.runs, options.output, options.data_dir)
    print(f"Wrote {options.output}.")
