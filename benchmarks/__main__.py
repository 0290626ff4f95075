"""`python -m benchmarks`: runs benchmarks, each in a process of its own."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import harness

BENCHMARKS = ("loss", "step", "metrics", "pipeline", "inference")


def main() -> None:
    """Runs the benchmarks that are asked for, one after the other."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, default=BENCHMARKS)
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("benchmarks/results/1"),
        help="folder of the JSON files, one for each benchmark",
    )
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes, to see that it runs"
    )
    parser.add_argument("--here", metavar="NAME", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        write(options.here, options.out, options.quick)
        return
    failed = [name for name in options.only if not run(name, options)]
    if failed:
        sys.exit(
            f"Expected every benchmark to end well. Received: failures of {failed}"
        )


def run(name: str, options: argparse.Namespace) -> bool:
    """Runs one benchmark in a process of its own and returns whether it ended well."""
    command = [sys.executable, "-m", "benchmarks", "--here", name]
    command += ["--out", str(options.out)] + ["--quick"] * options.quick
    start = time.perf_counter()
    code = subprocess.run(
        command, env={"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ}, check=False
    ).returncode
    print(f"{name}: {time.perf_counter() - start:.0f} s, exit code {code}", flush=True)
    return code == 0


def write(name: str, folder: Path, quick: bool) -> None:
    """Measures one benchmark and writes FOLDER/NAME.json."""
    figures: dict[str, Any] = {
        "benchmark": name,
        "quick": quick,
        "environment": harness.environment(),
    }
    start = time.perf_counter()
    figures |= importlib.import_module(f"benchmarks.{name}").measure(quick)
    figures["seconds"] = round(time.perf_counter() - start, 1)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
