from __future__ import annotations

from pathlib import Path

import pytest
from made_up_results import result

from experiments.report import (
    by_arm,
    class_figures,
    pair_of,
    paired_table,
    read_results,
    read_sweep,
)
from experiments.sweeps import start_arm
from tf_levelset.files import write_json

RESULTS = [
    result("ce", 0, 0.5, small_object_recall=0.25),
    result("ce", 1, 0.6, small_object_recall=0.25),
    result("better", 0, 0.52, small_object_recall=0.5),
    result("better", 1, 0.64, small_object_recall=0.5),
    result("worse", 0, 0.4, small_object_recall=0.25),
]


def test_differences_are_paired_and_sorted() -> None:
    lines = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in paired_table(RESULTS, "ce").splitlines()
    ]
    assert [line[0] for line in lines[2:]] == ["ce", "better", "worse"]
    ce, better, worse = lines[2:]
    assert ce[1:3] == ["2", "55.00"]
    # Differences 2 and 4: mean 3, s = √2, t(1) = 12.7062, half-width 12.7062.
    assert better[1:3] == ["2", "+3.00 [-9.71, +15.71]"]
    # The half of it, in trimaps.
    assert better[4].startswith("+1.50")
    assert worse[1:3] == ["1", "-10.00"]


def test_classes_have_columns_of_their_own() -> None:
    results = [
        result("ce", 0, 0.5, class_iou={"sky": 0.9, "pole": None}),
        result("better", 0, 0.5, class_iou={"sky": 0.85, "pole": None}),
    ]
    figures = class_figures(results)
    assert list(figures) == ["sky", "pole"]
    lines = paired_table(results, "ce", {"sky": figures["sky"]}).splitlines()
    assert [line.split()[1:6:2] for line in lines[2:]] == [
        ["ce", "1", "90.00"],
        ["better", "1", "-5.00"],
    ]
    # What no evaluation has cannot be paired, and is not made up.
    assert by_arm(results, figures["pole"]) == {}


def test_what_a_crf_makes_of_an_arm_is_an_arm() -> None:
    refined = result("ce", 0, 0.55)["evaluation"]
    results = [{**RESULTS[0], "crf_evaluation": refined}, RESULTS[1]]
    values = by_arm(results, lambda e: e["mean_iou"])
    assert values["ce"] == {("official", 0, "0"): 50, ("official", 1, "1"): 60}
    assert values["ce + CRF"] == {("official", 0, "0"): pytest.approx(55)}


def test_runs_that_began_otherwise_are_no_pair() -> None:
    other = {**result("better", 0, 0.6), "initial_weights": "another start"}
    with pytest.raises(ValueError, match="a pair that both arms have"):
        paired_table([RESULTS[0], other], "ce")
    # The first sweeps did not note it.
    older = {k: v for k, v in RESULTS[0].items() if k != "initial_weights"}
    assert pair_of(older) == ("official", 0, "")
    # From scratch, the seed decides.
    assert pair_of({**RESULTS[0], "start": None}) == ("official", 0, "")


def test_starts_of_other_folds_are_not_borrowed(tmp_path: Path) -> None:
    run = {**result("balanced", 0, 0.5), "start": None}
    write_json(tmp_path / "from_scratch/balanced-official-0.json", run)
    for fold in ("official", "0016E5"):
        begun = {**run, "arm": start_arm(), "fold": fold}
        write_json(tmp_path / f"starts/{start_arm()}-{fold}-0.json", begun)
    runs = read_sweep(tmp_path, "from_scratch")
    assert [(r["arm"], r["fold"]) for r in runs] == [
        ("balanced", "official"),
        ("ce", "official"),
    ]


def test_what_an_evaluation_lacks_is_left_out() -> None:
    values = by_arm(
        [result("ce", 0, 0.5, small_object_recall=None)],
        lambda e: e["small_object_recall"],
    )
    assert values == {}


def test_reads_what_is_written(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", RESULTS[0])
    assert read_results(tmp_path) == [RESULTS[0]]


def test_nothing_to_report_raises(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="a sweep's results"):
        read_results(tmp_path)
    with pytest.raises(ValueError, match="an arm of"):
        paired_table(RESULTS, "dice")
