"""`python -m reliability`: one trial by its name, its findings written as JSON."""

from __future__ import annotations

import argparse
import importlib
import sys

TRIALS = ("minimum", "resume", "serving", "workers")
"""Modules of this package, each with `add_options` and `run`."""


def main() -> None:
    """Runs the trial asked for; the exit code is 1 if something did not hold."""
    parser = argparse.ArgumentParser(prog="python -m reliability", description=__doc__)
    trials = parser.add_subparsers(required=True, metavar="TRIAL")
    for name in TRIALS:
        module = importlib.import_module(f"reliability.{name}")
        purpose = (module.__doc__ or "").splitlines()[0]
        trial = trials.add_parser(name, help=purpose, description=purpose)
        module.add_options(trial)
        trial.set_defaults(run=module.run)
    options = parser.parse_args()
    sys.exit(0 if options.run(options) else 1)


if __name__ == "__main__":
    main()
