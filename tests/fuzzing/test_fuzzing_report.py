"""The table of a run's figures, and the one in the documentation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fuzzing.__main__ import add, empty
from fuzzing.report import markdown
from fuzzing.runner import Result

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "fuzzing" / "results"
"""Not in the source archive."""
DOCUMENT = ROOT / "docs" / "reliability.md"


def test_the_table() -> None:
    tallies = {"losses": empty(), "models": empty()}
    for number in range(1500):
        add(tallies["losses"], Result(number, "right", "", {}, 0.01, 2**20))
    add(tallies["models"], Result(0, "ValueError", "", {}, 2.5, 3 * 2**20))
    add(tallies["models"], Result(1, "failure", "", {}, 1.0, 0))
    lines = markdown({"entrances": tallies}).splitlines()
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in lines]
    assert cells[2] == ["losses", "1,500", "1,500", "0", "0", "1", "0.0", "15"]
    assert cells[3] == ["models", "2", "0", "1", "1", "3", "2.5", "4"]
    assert cells[4] == ["all", "1,502", "1,500", "1", "1", "3", "2.5", "18"]


@pytest.mark.parametrize("name", sorted(path.name for path in RESULTS.glob("*.json")))
def test_the_document_shows_the_figures(name: str) -> None:
    figures = json.loads((RESULTS / name).read_text())
    text = DOCUMENT.read_text("utf-8")
    assert markdown(figures) in text
    assert figures["environment"]["machine"] in text
    tallies = figures["entrances"].values()
    assert not any(tally["failures"] for tally in tallies)
    assert sum(tally["cases"] for tally in tallies) >= 10_000
