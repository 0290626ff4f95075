"""Prints the targets of a folder of results as a table in Markdown.

    python -m benchmarks.report benchmarks/results

The folder holds a folder for each run, with a JSON file for each benchmark.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tf_levelset.inference.score_table import table


def read(folder: Path) -> list[dict[str, Any]]:
    """Returns the results of all runs, in the order of their files' names.

    Raises:
        FileNotFoundError: If there is none.
    """
    paths = sorted(folder.glob("*/*.json"))
    if not paths:
        raise FileNotFoundError(
            f"Expected results such as {folder}/1/loss.json. Received: none"
        )
    return [json.loads(path.read_text()) for path in paths]


def targets_table(results: Sequence[dict[str, Any]]) -> str:
    """Returns a table with a row for each target and a column for each run.

    A figure is a median with its quartiles, where it has them.
    """
    figures: dict[str, list[str]] = {}
    verdicts: dict[str, tuple[str, str]] = {}
    for result in results:
        for target in result["targets"]:
            name, bound = target["name"], target["bound"]
            figures.setdefault(name, []).append(_figure(target))
            met = "" if target["met"] is None else "yes" if target["met"] else "no"
            before = verdicts.get(name, ("", met))[1]
            both = met if before == met else "in some runs"
            verdicts[name] = ("" if bound is None else f"≤ {bound:.3g}", both)
    runs = max(len(values) for values in figures.values())
    header = ["what", "target", *(f"run {i + 1}" for i in range(runs)), "met"]
    rows: list[Sequence[str]] = [header]
    for name, values in figures.items():
        bound, met = verdicts[name]
        rows.append([name, bound, *values, *[""] * (runs - len(values)), met])
    return table(rows)


def _figure(target: dict[str, Any]) -> str:
    measured = f"{target['measured']:.3g}"
    if "quartile_1" not in target:
        return measured
    return f"{measured} ({target['quartile_1']:.3g}–{target['quartile_3']:.3g})"


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table, and the machines that the results are from."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    results = read(parser.parse_args(arguments).folder)
    print(targets_table(results), end="")
    for machine in sorted({result["environment"]["processor"] for result in results}):
        print(f"\n{machine}")


if __name__ == "__main__":
    main()
