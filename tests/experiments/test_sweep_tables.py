"""Tables of sweeps by hand, and of every result that is committed."""

from __future__ import annotations

from typing import Any

import pytest

from experiments import results
from experiments.__main__ import main
from experiments.tables import COLUMNS, paired_table

COMMITTED = sorted(path.stem for path in results.RESULTS.glob("*.jsonl"))


def row(configuration: str, seed: int, mean_iou: float, began: str = "a") -> Any:
    return {
        "configuration": configuration,
        "fold": "official",
        "seed": seed,
        "start": "net",
        "initial_weights": f"{began}{seed}",
        "scores": dict.fromkeys(COLUMNS.values(), mean_iou),
    }


ROWS = [
    *(row("ce", seed, 0.5) for seed in range(3)),
    # Gains of 1, 2 and 3 points: 2 ± t(2)/√3 = 2 ± 2.48.
    *(row("ls", seed, 0.51 + 0.01 * seed) for seed in range(3)),
    row("dice", 0, 0.49),
    # A start of other weights makes no pair.
    row("dice", 1, 0.99, began="b"),
]


def test_differences_are_of_pairs() -> None:
    lines = paired_table(ROWS, "ce", {"mIoU": "mean_iou"}).splitlines()
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["loss", "pairs", "mIoU"]
    assert cells[2:] == [
        ["ce", "3", "50.00"],
        ["ls", "3", "+2.00 [-0.48, +4.48]"],
        ["dice", "1", "-1.00"],
    ]


def test_a_crf_is_a_configuration_of_its_own() -> None:
    rows = [{**ROWS[0], "crf_scores": ROWS[3]["scores"]}]
    assert "| ce + CRF | 1     | +1.00 |" in paired_table(
        rows, "ce", {"mIoU": "mean_iou"}
    )


@pytest.mark.parametrize("sweep", COMMITTED)
def test_committed_results_are_readable(sweep: str) -> None:
    rows = results.read(sweep)
    names = [(r["configuration"], r["fold"], r["seed"]) for r in rows]
    shared = [name for name, r in zip(names, rows, strict=True) if "borrowed_from" in r]
    assert len(set(names)) >= len(names) - len(shared)
    for scores in (r["scores"] for r in rows):
        assert set(COLUMNS.values()) <= set(scores)
        assert all(0 <= value <= 1 for value in scores["class_iou"].values())


def test_the_command_prints_what_the_page_of_results_says(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["table", "official"]) == 0
    assert "+0.34 [-0.34, +1.01]" in capsys.readouterr().out
    assert main(["table", "nonsense"]) == 1
    assert "Expected results of 'nonsense'" in capsys.readouterr().err
