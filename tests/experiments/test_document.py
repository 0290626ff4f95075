"""The document says what the results say, and says where there are none."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("matplotlib")

from made_up_results import result

from experiments import document, report
from experiments.sweeps import (
    CHOSEN,
    FEWER_SEEDS,
    HEADLINE,
    NETS,
    SWEEPS,
    TUNED,
    UNLIKE,
    start_arm,
)
from tf_levelset.files import write_json

BEST = document.BEST


def pairs(gains: dict[str, tuple[float, ...]], **changes: Any) -> list[Any]:
    """A pair a number: an arm's gain over 50 % mIoU, in points."""
    return [
        result(arm, seed, 0.5 + gain / 100, **changes)
        for arm, of_arm in gains.items()
        for seed, gain in enumerate(of_arm)
    ]


OFFICIAL = pairs({"ce": (0, 0), "plain": (1.1, 1.2), BEST: (4, 5)})


@pytest.fixture(autouse=True)
def _two_pairs_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "LEAST_PAIRS", 2)
    monkeypatch.setattr(report, "LEAST_FOR_INTERVAL", 2)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("|")[1:-1]]


def found(results: dict[str, Any]) -> dict[str, document.Target]:
    return {t.name.split(":")[0] + t.name[-8:]: t for t in document.targets(results)}


def test_targets_without_runs_are_not_known() -> None:
    for target in document.targets({}):
        assert (target.measured, target.met) == ("", None)
    table = document.targets_table(document.targets({}))
    assert table.count(document.NOT_RUN) == table.count("not decided") == 11


def test_a_gain_is_held_to_its_mean() -> None:
    target = document.gain_target("it", OFFICIAL, 4.0)
    # t(1) = 12.7062 at 95 %, s/√2 = 0.5: zero is within the interval.
    assert (target.measured, target.met) == ("+4.50 [-1.85, +10.85]", False)
    surer = pairs({"ce": (0, 0), BEST: (4.4, 4.6)})
    assert document.gain_target("it", surer, 4.0).met is True
    assert document.gain_target("it", surer, 4.6).met is False


def test_few_pairs_decide_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert len(FEWER_SEEDS) > 2
    for target in document.targets({"official": OFFICIAL}):
        assert target.met is None


def test_the_headlines_cross_entropy_is_of_the_pairs_compared() -> None:
    other = result("ce", 7, 0.9)
    (answer,) = document.answers({"official": [*OFFICIAL, other]})
    assert (answer.ce, answer.pairs) == (50, 2)


def test_few_pairs_are_no_headline() -> None:
    first = [run for run in OFFICIAL if run["seed"] == 0]
    assert document.headline({"official": first}) == document.NOT_RUN
    assert document.headline({}) == document.NOT_RUN


def test_nets_count_where_the_interval_lies_above_zero() -> None:
    assert document.nets_target({"official": OFFICIAL}, "official").met is None
    nets_gains = [(1, 1), (1, 1.1), (0, 3), (0.9, 0.9), (0, 0)]
    nets = [
        {**run, "arm": f"{net}.{run['arm']}"}
        for net, gains in zip(NETS, nets_gains, strict=True)
        for run in pairs({"ce": (0, 0), "plain": gains})
    ]
    both = {"official": OFFICIAL, "nets": nets}
    target = document.nets_target(both, "official")
    assert (target.measured, target.met) == ("3 of 6 nets", True)
    target = document.nets_target({"nets": nets}, "official")
    assert (target.measured, target.met) == ("2 of 5 nets", None)
    target = document.nets_target({"nets": nets[:8]}, "official")
    assert (target.measured, target.met) == ("2 of 2 nets", None)
    without = {"official": pairs({"ce": (0, 0), "plain": (0, 0)}), "nets": nets}
    target = document.nets_target(without, "official")
    assert (target.measured, target.met) == ("2 of 6 nets", False)


def test_a_drive_has_a_table_1_of_its_own_and_of_its_runs_alone() -> None:
    main, others = document.TABLE_1[UNLIKE]
    elsewhere = [{**run, "fold": "A"} for run in pairs({"ce": (9,), "plain": (20,)})]
    results = {main: [*elsewhere, *({**r, "fold": UNLIKE} for r in OFFICIAL)]}
    target = document.nets_target(results, UNLIKE)
    assert target.name.endswith(f"on {UNLIKE}")
    assert target.measured == "1 of 1 nets"
    results[others] = [{**run, "arm": f"{NETS[0]}.{run['arm']}"} for run in OFFICIAL]
    rows = document.table_1(results, UNLIKE).splitlines()[2:]
    for row, net in zip(rows, (start_arm(), NETS[0]), strict=False):
        assert cells(row)[:3] == [net, "2", "50.00"]
        assert cells(row)[-2] == "+4.50 [-1.85, +10.85]"
    results[others] += [
        {**run, "arm": f"{NETS[1]}.{run['arm']}"}
        for run in pairs({"ce": (0,), "plain": (4.2,)})
    ]
    last = cells(document.table_1(results, UNLIKE).splitlines()[-1])
    # Of the nets' means, 1.15 and 4.2: s/√2 = 1.525, t(1) = 12.7062 at 95 %.
    assert last[:2] == ["mean of the other nets", "2"]
    assert last[4] == "+2.68 [-16.70, +22.05]"
    # Of one net alone.
    assert last[6] == "+4.50 (1)"
    title, figures, *_ = document.net_tables(results, UNLIKE)
    assert title == f"{NETS[0]}, {UNLIKE}:"
    assert f"| {NETS[0]}.ce " in figures


def test_boundaries_have_to_gain_more_than_the_whole() -> None:
    # Half of 4 and of 5 less 4 and 5: −2.25, s/√2 = 0.25, t(1) = 12.7062.
    target = document.trimap_target(OFFICIAL)
    assert (target.measured, target.met) == ("-2.25 [-5.43, +0.93]", None)
    even = pairs({"ce": (0, 0), BEST: (4, 4.1)})
    assert document.trimap_target(even).met is False
    wider = {str(width): 0.9 for width in (1, 3, 5, 10)}
    runs = [*even[:2], *pairs({BEST: (4, 4.1)}, trimap_mean_iou=wider)]
    assert document.trimap_target(runs).met is True


def test_small_objects_have_to_be_found_more_often() -> None:
    for ours, met in ((0.4, True), (0.3, None), (0.2, False)):
        found = {"car": ours, "building": 0.3}
        runs = [
            *pairs({"ce": (0, 0)}, small_object_recall=0.3),
            *pairs(
                {BEST: (4, 5)},
                small_object_recall=ours,
                class_small_object_recall=found,
            ),
        ]
        assert document.small_objects_target(runs).met is met
        things = document.small_objects_target(runs, figure="small things")
        assert (things.name, things.met) == (f"{BEST}: recall of small things up", met)


def test_a_class_is_lost_where_its_interval_lies_below_zero() -> None:
    def runs(first: float, second: float) -> list[Any]:
        return [
            *pairs({"ce": (0, 0)}),
            result(BEST, 0, 0.5, class_iou={"sky": first}),
            result(BEST, 1, 0.5, class_iou={"sky": second}),
        ]

    target = document.classes_target(runs(0.45, 0.451))
    assert target.met is False
    assert target.measured.startswith("sky -4.95 [")
    assert document.classes_target(runs(0.4, 0.5)).met is True
    # One class of eleven: p = 0.006 of itself, and 0.07 of them all.
    others = {f"class {index}": 0.5 for index in range(10)}
    noisy = [
        {**run, "evaluation": {**run["evaluation"], "class_iou": {**iou, **others}}}
        for run in runs(0.45, 0.451)
        for iou in [run["evaluation"]["class_iou"]]
    ]
    target = document.classes_target(noisy)
    assert (target.measured[:9], target.met) == ("sky -4.95", None)


def test_ahead_of_all_others_is_known_once_all_have_run() -> None:
    arms = {name: (0.0, 1.0) for name in CHOSEN if name not in ("ce", BEST)}
    runs = pairs({"ce": (0, 0), **arms, BEST: (4, 5)})
    assert len(CHOSEN) == len(TUNED) + 1
    target = document.losses_target(runs)
    assert (target.measured[:5], target.met) == ("+4.00", True)
    # One of them has not run.
    target = document.losses_target([*runs[:-4], *runs[-2:]])
    assert (target.measured[:5], target.met) == ("+4.00", None)
    behind = document.losses_target([*runs, *pairs({BEST: (-1, 0)})])
    assert (behind.measured[:5], behind.met) == ("-1.00", False)
    assert document.losses_target([*runs, *pairs({BEST: (0, 2)})]).met is None


def test_the_crf_of_cross_entropy_is_a_rival() -> None:
    refined = result("ce", 0, 0.52)["evaluation"]
    runs = [{**run, "crf_evaluation": refined} for run in OFFICIAL[:2]]
    # 2 and 3: s/√2 = 0.5, t(1) = 12.7062.
    target = document.crf_target([*runs, *OFFICIAL[2:]])
    assert (target.measured, target.met) == ("+2.50 [-3.85, +8.85]", None)
    target = document.crf_target([*runs, *pairs({BEST: (4, 4.1)})])
    assert (target.measured[:5], target.met) == ("+2.05", True)


def test_the_headline_has_intervals_and_p_values_corrected_for_all() -> None:
    lines = document.headline({"official": OFFICIAL}).splitlines()
    (row,) = map(cells, lines[2:])
    # t = 1.15/0.05 and 4.5/0.5 with 1 degree: p = 0.0277, twice that, and 0.0704.
    assert row == [
        "CamVid's own split",
        "2",
        "50.0",
        "+1.15 [+0.51, +1.79]",
        "0.055",
        "+4.50 [-1.85, +10.85]",
        "0.070",
    ]
    even = pairs({"ce": (0, 0), "plain": (1, 1), BEST: (2, 2)})
    row = cells(document.headline({"official": even}).splitlines()[2])
    assert row[4] == row[6] == "< 0.001"


def test_a_headline_is_of_the_pairs_that_all_have_and_names_their_drives() -> None:
    runs = pairs({"ce": (0, 0, 9), "plain": (1, 2, 3), BEST: (3, 5)})
    drives = [{**run, "fold": fold} for fold in "BA" for run in runs]
    found = document.answers({"drives_on_accelerator": drives})
    for answer, fold in zip(found, "AB", strict=True):
        assert answer.where == f"{fold}, a drive left out of training"
        assert (answer.pairs, answer.ce) == (2, 50)
        assert [gain.mean for gain in answer.gains] == pytest.approx([1.5, 4])


def test_other_nets_are_in_the_headline_pair_by_pair() -> None:
    # The third net has one pair, the fourth none: neither counts.
    nets = [
        {**run, "arm": f"{net}.{run['arm']}", "start": "a", "initial_weights": net}
        for net, gains in zip(NETS, ((4, 5), (1, 0, 7), (9,), ()), strict=False)
        for run in pairs({"ce": (0, 0, 0), "plain": (1, 1, 1), BEST: gains})
    ]
    others = {document.TABLE_1[UNLIKE][1]: nets}
    *_, answer = document.answers({"official": OFFICIAL, **others})
    assert answer.where == f"{UNLIKE}, mean of 2 other nets"
    assert (answer.pairs, answer.ce) == (2, 50)
    assert answer.gains[1].values == pytest.approx((2.5, 2.5))
    one = {name: runs[-8:] for name, runs in others.items()}
    assert document.answers(one) == []


def test_arms_are_said_to_be_what_they_are() -> None:
    lines = document.arms_table().splitlines()[2:]
    assert [cells(line)[0] for line in lines] == list(CHOSEN)
    of_plain = cells(lines[1])
    assert of_plain[2:] == ["level_set_weight 2.8, normalization mean", "0.02"]


def test_pairs_of_two_machines_are_named() -> None:
    ours, theirs = ({**run, "machine": "a"} for run in OFFICIAL[1:3])
    same = {"official": [ours, {**theirs, "seed": 1, "initial_weights": "1"}]}
    assert document.mixed_pairs(same) == ""
    runs = [{**run, "onednn": "1"} for run in OFFICIAL if run["arm"] == "plain"]
    text = document.mixed_pairs({"official": [*OFFICIAL[:2], *runs]})
    assert text.endswith("official: plain-official-0, plain-official-1.")


def test_drives_have_targets_of_their_own() -> None:
    runs = pairs({"ce": (0,) * 5, BEST: (4.5,) * 5, "dice": (5.0,) * 5})
    found = document.targets(
        {"drives_on_accelerator": [{**run, "fold": "A"} for run in runs]}
    )
    of_drive = [target for target in found if target.name.endswith(" on A")]
    gain, near, small, things, classes, lead = of_drive
    assert (gain.measured[:5], gain.met) == ("+4.50", True)
    assert (near.measured[:5], near.met) == ("-2.25", False)
    assert (small.measured[:5], small.met) == ("+0.00", None)
    assert (things.measured[:5], things.met) == ("+0.00", None)
    assert classes.met is True
    assert lead.measured.endswith("over dice")
    assert lead.met is False


def test_tables_have_the_shape_of_the_papers() -> None:
    lines = document.table_1({"official": OFFICIAL}, "official").splitlines()
    assert len(lines) == 2 + 1 + len(NETS) + 1
    main = cells(lines[2])
    assert main[:3] == [start_arm(), "2", "50.00"]
    assert main[3:] == ["", "+1.15 [+0.51, +1.79]", "", "+4.50 [-1.85, +10.85]", ""]
    assert document.NOT_RUN in lines[3]
    lines = document.table_4(OFFICIAL).splitlines()
    assert cells(lines[2]) == ["ce", "2", "50.00", "500"]


def test_the_best_of_a_losses_trials_is_bold() -> None:
    ce = result("ce-0.02", 100, 0.3)
    for index, loss in enumerate(("ce", *TUNED)):
        arms = [trial.arm for trial in document.tuning_trials(loss)]
        assert len(arms) == 4
        assert all(arm.startswith(loss) for arm in arms)
        runs = [result(arm, 100, 0.3 + 0.01 * i) for i, arm in enumerate(arms)]
        table = document.tuning_table({"tuning": [ce, *runs]})
        row = table.splitlines()[2 + index]
        assert row.count("**") == 2
        assert "**+3.00**" in row
        assert "not run" in table


def test_a_trial_is_held_against_the_cross_entropy_of_its_own_start() -> None:
    def from_start(digest: str, ce: float, **arms: float) -> list[Any]:
        values = {"ce-0.02": ce, **arms}
        runs = [result(arm, 100, value) for arm, value in values.items()]
        return [{**run, "initial_weights": digest} for run in runs]

    both = {
        "tuning": from_start("a", 0.3, dice3=0.31),
        "tuning_on_cpu": from_start("b", 0.4, dice3=0.43, boundary1=0.42),
    }
    gains = document.tuning_gains(both)
    assert gains["dice3"].values == pytest.approx((1, 3))
    assert gains["boundary1"].mean == pytest.approx(2)
    assert document.tuning_gains({}) == {}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    for run in OFFICIAL:
        write_json(folder / f"official/{run['arm']}-{run['seed']}.json", run)
    scratch = pairs({"plain": (0, 0), BEST: (3, 4)})
    for run in scratch:
        write_json(folder / f"from_scratch/{run['arm']}-{run['seed']}.json", run)
    for run in pairs({start_arm(): (0, 0), "another": (0, 0)}):
        write_json(folder / f"starts/{run['arm']}-{run['seed']}.json", run)
    for trial in SWEEPS["sensitivity"]():
        write_json(
            folder / f"sensitivity/{trial.name}.json", result(trial.arm, 100, 0.4)
        )
    write_json(folder / "heavisides/ce.json", result("ce", 100, 0.35))
    return folder


def test_the_baseline_from_scratch_is_the_start(results: Path) -> None:
    runs = document.read_all(results)["from_scratch"]
    assert sorted({run["arm"] for run in runs}) == sorted(HEADLINE)
    target = document.gain_target("it", runs, 3.0)
    assert (target.measured, target.met) == ("+3.50 [-2.85, +9.85]", False)


def test_the_document_is_written_with_its_plots(results: Path, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "not_shown.md").write_text("Other data sets.\n")
    (notes / "answer.md").write_text("It depends.\n")
    (notes / "the_first_look.md").write_text("At first.\n")
    path = tmp_path / "docs/results.md"
    document.write_document(results, notes, path)
    text = path.read_text()
    assert text.startswith("# Results\n\nIt depends.\n\n| judged on ")
    in_full = (tmp_path / "docs/results_in_full.md").read_text()
    assert "## The first look\n\nAt first.\n\nNot run." in in_full
    assert "IoU class by class:" in in_full
    assert "IoU class by class:" not in text
    assert "trimap 1 px" in in_full
    assert "The first look" not in text
    assert "## What was not shown\n\nOther data sets." in text
    assert f"## Drives left out\n\n{document.NOT_RUN}" in text
    images = sorted(p.stem for p in (tmp_path / "docs/results").glob("*.png"))
    assert images == [
        "camvids_own_split-curves",
        "camvids_own_split-differences",
        f"sensitivity-{BEST}",
        "sensitivity-plain",
    ]
    for image in images:
        assert f"(results/{image}.png)" in text
    # Cross-entropy's runs from scratch are the starts', and counted there.
    assert re.search(r"run from_scratch --data-dir CAMVID` +\| 4 +\| 16 +\| 0.4", text)


def test_notes_of_no_section_raise(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"notes of.*'tuning'.*\['nonsense'\]"):
        document.document({}, {"nonsense": ""}, {})
