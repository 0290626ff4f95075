"""`python -m fuzzing.report FILE.json`: the figures of a run as a Markdown table."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tf_levelset.files import read_json
from tf_levelset.inference.score_table import table


def main() -> None:
    """Prints the table of a file."""
    parser = argparse.ArgumentParser(prog="python -m fuzzing.report")
    parser.add_argument("figures", type=Path)
    print(markdown(read_json(parser.parse_args().figures)), end="")


def markdown(figures: Mapping[str, Any]) -> str:
    """Returns what `fuzzing.__main__` has counted, a row an entrance and their sum."""
    rows: list[tuple[str, ...]] = [
        (
            "entrance",
            "cases",
            "right answers",
            "typed errors",
            "failures",
            "peak MiB a case",
            "longest s",
            "s in all",
        )
    ]
    tallies = figures["entrances"]
    rows += [_row(name, [tally]) for name, tally in tallies.items()]
    rows.append(_row("all", list(tallies.values())))
    return table(rows)


def _row(name: str, tallies: list[dict[str, Any]]) -> tuple[str, ...]:
    errors = sum(sum(tally["typed_errors"].values()) for tally in tallies)
    return (
        name,
        f"{sum(tally['cases'] for tally in tallies):,}",
        f"{sum(tally['right'] for tally in tallies):,}",
        f"{errors:,}",
        f"{sum(len(tally['failures']) for tally in tallies):,}",
        f"{max(tally['peak_bytes'] for tally in tallies) / 2**20:.0f}",
        f"{max(tally['longest_seconds'] for tally in tallies):.1f}",
        f"{sum(tally['seconds'] for tally in tallies):.0f}",
    )


if __name__ == "__main__":
    main()
