"""`python -m experiments`: runs sweeps and prints their tables."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments import results
from experiments.sweeps import SWEEPS
from tf_levelset.commands.main import INTERRUPTED
from tf_levelset.commands.terminal import write_any_text


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit status."""
    write_any_text()
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except KeyboardInterrupt:
        print("Stopped. The same command goes on.")
        return INTERRUPTED
    except (ValueError, OSError, ImportError) as error:
        print(f"experiments: error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments", description=__doc__)
    parser.add_argument(
        "--results", type=Path, default=results.RESULTS, help="folder of the results"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="run the trials that have no result yet")
    run.add_argument("sweep", choices=sorted(SWEEPS))
    run.add_argument("--data-dir", required=True, help="folder CamVid of SegNet")
    run.add_argument("--scratch", type=Path, default=Path("runs/experiments"))
    run.add_argument(
        "--only",
        default="*",
        metavar="PATTERN",
        help="names of trials, as a shell matches files, such as '*-official-3'",
    )
    run.add_argument(
        "--threads",
        type=int,
        default=1,
        help="threads of an operation; with one, a machine repeats its weights exactly",
    )
    run.set_defaults(command=_run)
    table = commands.add_parser("table", help="print a sweep's table in Markdown")
    table.add_argument("sweep", help="name of a file in the folder of results")
    table.add_argument("--fold", help="only this fold")
    table.add_argument("--baseline", default="ce", help="configuration to compare with")
    table.add_argument("--classes", action="store_true", help="IoU class by class")
    table.set_defaults(command=_table)
    return parser


def _run(options: argparse.Namespace) -> None:
    import cv2
    import tensorflow as tf

    from experiments.runner import matching, run_sweep

    cv2.setNumThreads(1)  # The images of a batch are made in parallel already.
    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    run_sweep(
        options.sweep,
        matching(SWEEPS[options.sweep](), options.only),
        options.scratch,
        options.data_dir,
        options.results,
    )


def _table(options: argparse.Namespace) -> None:
    from experiments.tables import COLUMNS, paired_table

    rows = [
        row
        for row in results.read(options.sweep, options.results)
        if options.fold in (None, row["fold"])
    ]
    if not rows:
        raise FileNotFoundError(
            f"Expected results of {options.sweep!r} in {options.results}. "
            "Received: none"
        )
    classes = {name: name for name in rows[0]["scores"]["class_iou"]}
    columns = classes if options.classes else COLUMNS
    print(paired_table(rows, options.baseline, columns), end="")


if __name__ == "__main__":
    sys.exit(main())
