"""`python -m benchmarks.reliability TRIAL`: runs a trial and writes its findings."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.harness import environment
from tf_levelset.files import write_json

TRIALS = ("resume", "serving", "workers")
"""Modules of this package with the functions `add_options`, `measure`, which returns
the findings, and `holds`, which judges them."""


def main() -> None:
    """Runs a trial; the exit code is 1 if something did not hold."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.reliability", description=__doc__
    )
    trials = parser.add_subparsers(required=True, metavar="TRIAL", dest="trial")
    for name in TRIALS:
        module = importlib.import_module(f"benchmarks.reliability.{name}")
        purpose = (module.__doc__ or "").splitlines()[0]
        trial = trials.add_parser(name, help=purpose, description=purpose)
        module.add_options(trial)
        add_options(trial)
        trial.set_defaults(module=module)
    options = parser.parse_args()
    sys.exit(0 if run(options) else 1)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of every trial."""
    parser.add_argument("--out", type=Path, help="JSON file of the findings")
    parser.add_argument("--scratch", type=Path, help="where temporary files are made")


def run(options: argparse.Namespace) -> bool:
    """Runs the trial `options.module`, writes its findings, tells whether they hold."""
    trial: Any = options.module
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        found = trial.measure(options, Path(scratch))
    found = {
        "trial": options.trial,
        **found,
        "environment": environment(),
        "seconds": round(time.perf_counter() - began, 1),
    }
    print(json.dumps(found, indent=1))
    if options.out is not None:
        write_json(options.out, found)
    return bool(trial.holds(found))


if __name__ == "__main__":
    main()
