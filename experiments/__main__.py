"""`python -m experiments`: runs sweeps, and makes their tables."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.report import (
    FIGURES,
    class_figures,
    paired_table,
    read_sweep,
)
from experiments.sweeps import BASELINES, SWEEPS
from experiments.trials import Trial
from tf_levelset.commands.main import INTERRUPTED

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"


def main() -> None:
    """Runs the command asked for."""
    parser = argparse.ArgumentParser(prog="python -m experiments", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="what of a sweep is not written yet")
    run.add_argument("--data-dir", required=True, help="folder CamVid of SegNet")
    run.add_argument("--scratch", type=Path, default=Path("runs/experiments"))
    run.add_argument(
        "--threads",
        type=int,
        default=1,
        help="of an operation; with one, the same machine gives the same weights, and "
        "several commands, each with trials of its own, use the cores better",
    )
    run.set_defaults(command=_run)
    report = commands.add_parser("report", help="a sweep's table, in Markdown")
    report.add_argument("--classes", action="store_true", help="IoU class by class")
    report.set_defaults(command=_report)
    document = commands.add_parser("document", help="writes docs/results.md")
    document.add_argument("--out", type=Path, default=HERE.parent / "docs/results.md")
    document.set_defaults(command=_document)
    panels = commands.add_parser("panels", help="draws the runs' pictures")
    panels.add_argument("--data-dir", required=True, help="folder CamVid of SegNet")
    panels.add_argument("--out", type=Path, default=HERE.parent / "docs/results")
    panels.set_defaults(command=_panels)
    lower = commands.add_parser("lower", help="writes sweeps for compiled/execute.py")
    lower.add_argument("--platforms", nargs="+", default=("cpu", "cuda"), help="XLA's")
    lower.set_defaults(command=_lower)
    collect = commands.add_parser("collect", help="judges what that answered")
    collect.set_defaults(command=_collect)
    for command in (run, report):
        command.add_argument("sweep", choices=sorted(SWEEPS))
    for command in (lower, collect):
        command.add_argument(
            "sweeps",
            nargs="+",
            metavar="sweep",
            help="SWEEP, or SWEEP:PATTERN of trials' names, as 'drives:*-0016E5-3'",
        )
    for command in (lower, collect):
        command.add_argument("lowered", type=Path, help="folder of what is written")
        command.add_argument(
            "--data-dir", required=True, help="folder CamVid of SegNet"
        )
    collect.add_argument("answers", type=Path, help="folder of what it answered")
    run.add_argument(
        "--only",
        default="*",
        metavar="PATTERN",
        help="names of trials, as a shell matches files, such as '*-official-3'",
    )
    for command in (run, report, document, panels, collect):
        command.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    try:
        options.command(options)
    except KeyboardInterrupt:
        print("Stopped. The same command goes on.")
        sys.exit(INTERRUPTED)


def _run(options: argparse.Namespace) -> None:
    import cv2
    import tensorflow as tf

    from experiments.runner import matching, run_sweep

    cv2.setNumThreads(1)  # as `tf-levelset train` does
    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    run_sweep(
        options.sweep,
        matching(SWEEPS[options.sweep](), options.only),
        options.results,
        options.scratch,
        options.data_dir,
    )


def _lower(options: argparse.Namespace) -> None:
    from experiments.compiled.lower import lower

    sweeps = _trials(options.sweeps)
    lower(sweeps, options.lowered, options.data_dir, options.platforms)


def _collect(options: argparse.Namespace) -> None:
    from experiments.compiled.collect import collect

    folders = (options.lowered, options.answers, options.results)
    for name, trials in _trials(options.sweeps).items():
        collect(name, trials, *folders, options.data_dir)


def _trials(arguments: Sequence[str]) -> dict[str, list[Trial]]:
    """By sweep, in this order, the trials that SWEEP or SWEEP:PATTERN names."""
    from experiments.runner import matching

    found: dict[str, list[Trial]] = {}
    for argument in arguments:
        name, _, pattern = argument.partition(":")
        if name not in SWEEPS:
            raise SystemExit(f"Expected a sweep of {sorted(SWEEPS)}. Received: {name}")
        found.setdefault(name, []).extend(matching(SWEEPS[name](), pattern or "*"))
    return found


def _report(options: argparse.Namespace) -> None:
    results = read_sweep(options.results, options.sweep)
    figures = class_figures(results) if options.classes else FIGURES
    print(paired_table(results, BASELINES[options.sweep], figures), end="")


def _document(options: argparse.Namespace) -> None:
    from experiments.document import write_document

    write_document(options.results, HERE / "notes", options.out)


def _panels(options: argparse.Namespace) -> None:
    from experiments.pictures import write_panels
    from experiments.sweeps import HEADLINE, OFFICIAL, SEEDS
    from tf_levelset.datasets import load_dataset

    folder = options.results / "official" / "pictures"
    write_panels(
        load_dataset("camvid", "val", options.data_dir),
        {arm: folder / f"{arm}-{OFFICIAL}-{SEEDS[0]}" for arm in HEADLINE},
        options.out,
    )


if __name__ == "__main__":
    main()
