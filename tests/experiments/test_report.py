from __future__ import annotations

from pathlib import Path

import pytest
from made_up_results import result

from experiments.report import (
    FIGURES,
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
    # Two pairs have no interval worth reading.
    assert better[1:3] == ["2", "+3.00"]
    # The half of it, in trimaps.
    assert better[4] == "+1.50"
    assert worse[1:3] == ["1", "-10.00"]


def test_three_pairs_have_an_interval() -> None:
    third = [result("ce", 2, 0.5), result("better", 2, 0.53)]
    row = paired_table([*RESULTS, *third], "ce").splitlines()[3]
    # Differences 2, 4 and 3: s = 1, t(2) = 4.3027, half-width 4.3027/√3.
    assert "| 3     | +3.00 [+0.52, +5.48] |" in row


def test_small_things_are_the_mean_of_those_classes_that_have_some() -> None:
    found = {"car": 0.5, "sign": 0.1, "pole": None, "building": 1.0}
    evaluation = result("ce", 0, 0.5, class_small_object_recall=found)["evaluation"]
    assert FIGURES["small things"](evaluation) == pytest.approx(0.3)
    evaluation["class_small_object_recall"] = {"building": 1.0, "pole": None}
    assert FIGURES["small things"](evaluation) is None


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


def test_what_other_sweeps_ran_of_an_arm_is_borrowed_and_says_so(
    tmp_path: Path,
) -> None:
    write_json(tmp_path / "losses_on_a_drive/a.json", result("ce", 0, 0.5))
    write_json(tmp_path / "heavisides/a.json", result("mahf", 0, 0.6))
    write_json(tmp_path / "heavisides/b.json", result("hf", 0, 0.6))
    ours, borrowed = read_sweep(tmp_path, "losses_on_a_drive")
    assert (ours["arm"], ours.get("borrowed")) == ("ce", None)
    assert (borrowed["arm"], borrowed["borrowed"]) == ("plain", "heavisides")
    with pytest.raises(FileNotFoundError, match="a sweep's results"):
        read_sweep(tmp_path, "sensitivity")


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
