"""`python -m fuzzing`: cases at every entrance, written down batch by batch."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import environment
from fuzzing.case import ENTRANCES, TYPED_ERRORS
from fuzzing.runner import Limits, Result, run
from tf_levelset.files import read_json, write_json

SHARES = {"losses": 34, "metrics": 20, "loaders": 22, "commands": 13, "models": 11}
"""Of a hundred cases."""

BATCH = 250
"""Cases a process; the figures are written after each."""

LIMITS = Limits()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the cases asked for; returns 1 if one of them failed."""
    parser = argparse.ArgumentParser(prog="python -m fuzzing", description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000, help="number of all cases")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=ENTRANCES, default=[*ENTRANCES])
    parser.add_argument("--out", type=Path, help="JSON file; it goes on where it was")
    parser.add_argument("--case", type=int, help="run this one alone, and tell of it")
    options = parser.parse_args(arguments)
    if options.case is not None:
        return show(options.only, options.seed, options.case)
    figures = begun(options.out, options.seed)
    for name, count in allotted(options.cases, options.only).items():
        tally = figures["entrances"].setdefault(name, empty())
        while tally["cases"] < count:
            numbers = range(tally["cases"], min(tally["cases"] + BATCH, count))
            for result in run(name, options.seed, numbers, LIMITS):
                add(tally, result)
            if options.out is not None:
                write_json(options.out, figures)
            print(f"{name}: {told(tally)}", flush=True)
    failed = sum(len(t["failures"]) for t in figures["entrances"].values())
    print(f"{failed} failures" if failed else "No failures.")
    return int(failed > 0)


def allotted(cases: int, names: Sequence[str]) -> dict[str, int]:
    """Returns how many of all cases each entrance gets, rounded up."""
    shares = {name: SHARES[name] for name in SHARES if name in names}
    total = sum(shares.values())
    return {name: -(-cases * share // total) for name, share in shares.items()}


def begun(path: Path | None, seed: int) -> dict[str, Any]:
    """Returns the figures that a file holds, or new ones.

    Raises:
        ValueError: if it holds those of another seed.
    """
    if path is not None and path.exists():
        figures: dict[str, Any] = read_json(path)
        if figures["seed"] != seed:
            raise ValueError(
                f"Expected the seed {figures['seed']} of {path}. Received: {seed}"
            )
        return figures
    return {
        "seed": seed,
        "limits": dataclasses.asdict(LIMITS),
        "typed_errors": list(TYPED_ERRORS),
        "environment": environment(),
        "entrances": {},
    }


def empty() -> dict[str, Any]:
    """Returns the tally of no case."""
    return {
        "cases": 0,
        "right": 0,
        "typed_errors": {},
        "failures": [],
        "peak_bytes": 0,
        "peak_case": None,
        "seconds": 0.0,
        "longest_seconds": 0.0,
        "longest_case": None,
    }


def add(tally: dict[str, Any], result: Result) -> None:
    """Counts a result."""
    tally["cases"] += 1
    tally["seconds"] = round(tally["seconds"] + result.seconds, 3)
    for name, value in (("peak", result.bytes), ("longest", round(result.seconds, 3))):
        key = f"{name}_{'bytes' if name == 'peak' else 'seconds'}"
        if value > tally[key]:
            tally[key], tally[f"{name}_case"] = value, result.number
    if result.kind == "right":
        tally["right"] += 1
    elif result.kind == "failure":
        failure = {"number": result.number, "case": result.case, "text": result.text}
        tally["failures"].append(failure)
    else:
        errors = tally["typed_errors"]
        errors[result.kind] = errors.get(result.kind, 0) + 1


def told(tally: Mapping[str, Any]) -> str:
    """Returns a tally in a line."""
    errors = sum(tally["typed_errors"].values())
    return (
        f"{tally['cases']} cases, {tally['right']} right, {errors} typed errors, "
        f"{len(tally['failures'])} failures; {tally['seconds']:.0f} s, "
        f"at most {tally['peak_bytes'] / 2**20:.0f} MiB"
    )


def show(names: Sequence[str], seed: int, number: int) -> int:
    """Runs one case of each entrance, and prints all of it; returns 1 for a failure."""
    failed = False
    for name in names:
        for result in run(name, seed, [number], LIMITS):
            print(f"{name} {number}: {result.kind}")
            print(f"  case: {result.case}")
            print(f"  {result.seconds:.2f} s, {result.bytes / 2**20:.0f} MiB")
            print("\n".join(f"  {line}" for line in result.text.splitlines()))
            failed |= result.kind == "failure"
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
