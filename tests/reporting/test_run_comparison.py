"""Runs side by side: which, what they were asked for, and the better of two numbers."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from made_up_runs import evaluation, write_run

from tf_levelset.reporting.run_comparison import (
    SUMMARY,
    Cell,
    by_class,
    configuration,
    flattened,
    read_entries,
)
from tf_levelset.training.recipe import Recipe
from tf_levelset.training.recipes import RECIPES

SYNTHETIC = RECIPES["synthetic"]


def changed(**changes: Any) -> Recipe:
    return dataclasses.replace(SYNTHETIC, **changes)


def cells(runs: list[Path], title: str) -> list[Cell]:
    entries = read_entries(runs)
    (quantity,) = (q for q in SUMMARY if q.title == title)
    return quantity.cells(entries)


# --- Which ---


def test_a_run_is_its_losses_in_the_recipes_order(tmp_path: Path) -> None:
    recipe = changed(losses=("ls", "ce"))
    run = write_run(tmp_path / "one", recipe, ls=evaluation(0.5), ce=evaluation(0.4))
    assert [e.title for e in read_entries([run])] == ["one/ls", "one/ce"]


def test_a_losss_folder_stands_for_itself_and_counts_once(tmp_path: Path) -> None:
    run = write_run(tmp_path / "one", SYNTHETIC, ce=evaluation(0.4), ls=evaluation(0.5))
    assert [e.title for e in read_entries([run / "ls"])] == ["one/ls"]
    entries = read_entries([run / "ls", run, run / "ce"])
    assert [e.title for e in entries] == ["one/ls", "one/ce"]


def test_paths_are_those_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_run(tmp_path / "one", SYNTHETIC, ce=evaluation(0.4))
    monkeypatch.chdir(run / "ce")
    assert [e.title for e in read_entries([Path()])] == ["one/ce"]
    assert [e.title for e in read_entries([Path("../ls"), Path("..")])] == [
        "one/ls",
        "one/ce",
    ]


def test_runs_of_one_name_are_told_apart(tmp_path: Path) -> None:
    runs = [
        write_run(
            tmp_path / folder / "run", changed(losses=("ce",)), ce=evaluation(0.4)
        )
        for folder in ("a/x", "b/x")
    ]
    assert [e.run for e in read_entries(runs)] == ["a/x/run", "b/x/run"]


@pytest.mark.parametrize("name", ["nowhere", "events", "run/events"])
def test_other_folders_are_no_runs(tmp_path: Path, name: str) -> None:
    write_run(tmp_path / "run", SYNTHETIC, ce=evaluation(0.4))
    with pytest.raises(ValueError, match="Expected a run folder, or a loss's folder"):
        read_entries([tmp_path / name])


def test_something_must_be_there(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", SYNTHETIC)
    with pytest.raises(ValueError, match=r"an epoch that has ended. Received: .*run"):
        read_entries([run])


def test_states(tmp_path: Path) -> None:
    recipe = changed(losses=("ce", "ls", "dice"), epochs=7)
    run = write_run(tmp_path / "run", recipe, ce=evaluation(0.4), ls=None)
    assert [e.state() for e in read_entries([run])] == [
        "finished",
        "not finished: 2 of 7 epochs",
        "not finished: 0 of 7 epochs",
    ]
    (run / "ls" / "model.keras").touch()
    assert read_entries([run])[1].state() == "trained, not judged yet"
    recipe = changed(iterations=90)
    run = write_run(tmp_path / "other", recipe, ce=None)
    assert read_entries([run])[0].state() == "not finished: 20 of 90 steps"


# --- Comparable ---


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": "camvid"}, "synthetic/val, other/ce on camvid/val"),
        ({"val_split": "train"}, "synthetic/val, other/ce on synthetic/train"),
        (
            {"dataset_options": {"seed": 3}},
            r'synthetic/val, other/ce on synthetic/val with {"seed": 3}',
        ),
    ],
)
def test_runs_of_other_pictures_are_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    first = write_run(tmp_path / "run", SYNTHETIC, ce=evaluation(0.4))
    other = write_run(tmp_path / "other", changed(**changes), ce=evaluation(0.4))
    with pytest.raises(
        ValueError, match=f"on the same pictures. Received: run/ce on {message}$"
    ):
        read_entries([first, other])


def test_where_files_lie_is_no_difference(tmp_path: Path) -> None:
    voc = RECIPES["voc-deeplab_largefov"]
    runs = [
        write_run(
            tmp_path / name,
            dataclasses.replace(voc, dataset_options={"sbd_dir": name}),
            ce=evaluation(0.4),
        )
        for name in ("a", "b")
    ]
    assert len(read_entries(runs)) == 4


def test_runs_of_other_classes_are_refused(tmp_path: Path) -> None:
    first = write_run(tmp_path / "run", SYNTHETIC, ce=evaluation(0.4))
    scores = evaluation(0.4, classes=("sky", "car"))
    other = write_run(tmp_path / "other", SYNTHETIC, ce=scores)
    with pytest.raises(ValueError, match=r"classes\. Received: run/ce on sky, road"):
        read_entries([first, other])
    # Which a run that goes on does not know yet.
    other = write_run(tmp_path / "third", SYNTHETIC, ce=None)
    assert len(read_entries([first, other])) == 4


# --- Configuration ---


def test_only_fields_that_differ_by_dotted_path(tmp_path: Path) -> None:
    level_set = {"level_set_weight": 0.67, "normalization": "mean"}
    runs = [
        write_run(tmp_path / "a", SYNTHETIC, ce=evaluation(0.4)),
        write_run(
            tmp_path / "b",
            changed(
                level_set={**level_set, "epsilon": 0.1},
                augmentation=dataclasses.replace(SYNTHETIC.augmentation, crop=(33, 40)),
                losses=("ce",),
                iterations=9,
            ),
            ce=evaluation(0.4),
        ),
    ]
    differ, common = configuration(read_entries(runs))
    assert differ == {
        "losses": ['["ce", "ls"]', '["ce"]'],
        "iterations": ["null", "9"],
        "augmentation.crop": ["null", "[33, 40]"],
        "level_set.epsilon": ["–", "0.1"],
    }
    assert common["level_set.level_set_weight"] == "0.67"
    assert common["model"] == "deeplab_largefov"
    assert not set(differ) & set(common)


def test_a_run_differs_not_from_itself(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", SYNTHETIC, ce=evaluation(0.4), ls=evaluation(0.5))
    differ, common = configuration(read_entries([run]))
    assert not differ
    assert set(common) == set(flattened(SYNTHETIC.to_json()))


def test_flattened() -> None:
    values = {"a": {"b": {"c": 1, "d": [2, {"e": 3}]}, "f": {}}, "g": None}
    assert flattened(values) == {"a.b.c": 1, "a.b.d": [2, {"e": 3}], "g": None}


# --- Scores ---


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    first = write_run(tmp_path / "a", SYNTHETIC, ce=evaluation(0.4), ls=None)
    second = write_run(
        tmp_path / "b", SYNTHETIC, ce=evaluation(0.25), ls=evaluation(0.5)
    )
    return [first, second]


def test_differences_are_to_the_first_and_the_best_is_marked(runs: list[Path]) -> None:
    assert cells(runs, "mIoU %") == [
        Cell("40.00"),
        Cell("–"),
        Cell("25.00", "−15.00"),
        Cell("50.00", "+10.00", is_best=True),
    ]
    assert cells(runs, "mIoU within 5 px %") == [
        Cell("20.00"),
        Cell("–"),
        Cell("12.50", "−7.50"),
        Cell("25.00", "+5.00", is_best=True),
    ]


def test_less_energy_is_better(runs: list[Path]) -> None:
    assert cells(runs, "level set energy") == [
        Cell("60.0"),
        Cell("–"),
        Cell("75.0", "+15.0"),
        Cell("50.0", "−10.0", is_best=True),
    ]


def test_a_run_that_goes_on_is_not_compared(runs: list[Path]) -> None:
    # Of the same length all: 1.5 s an epoch, two epochs.
    assert cells(runs, "training s") == [
        Cell("3"),
        Cell("3 so far"),
        Cell("3", "+0"),
        Cell("3", "+0"),
    ]


def test_differences_are_to_the_first_that_was_judged(tmp_path: Path) -> None:
    recipe = changed(losses=("ce", "ls", "dice"))
    scores = {"ls": evaluation(0.4), "dice": evaluation(0.4)}
    run = write_run(tmp_path / "a", recipe, ce=None, **scores)
    # Nor is the best of equals.
    assert cells([run], "mIoU %") == [Cell("–"), Cell("40.00"), Cell("40.00", "+0.00")]


def test_a_class_without_a_number(tmp_path: Path) -> None:
    run = write_run(
        tmp_path / "a",
        SYNTHETIC,
        ce=evaluation(0.4, class_iou={"sky": None, "road": 0.5}),
        ls=evaluation(0.4, class_iou={"sky": 0.25, "road": 0.75}),
    )
    entries = read_entries([run])
    sky, road = by_class("class_iou", entries)
    assert (sky.title, road.title) == ("sky", "road")
    assert sky.cells(entries) == [Cell("–"), Cell("25.00")]
    assert road.cells(entries) == [
        Cell("50.00"),
        Cell("75.00", "+25.00", is_best=True),
    ]


def test_an_evaluation_of_an_older_version_lacks_some(tmp_path: Path) -> None:
    scores = evaluation(0.4)
    del scores["trimap_mean_iou"], scores["class_boundary_iou"]
    run = write_run(tmp_path / "a", changed(losses=("ce",)), ce=scores)
    assert cells([run], "mIoU within 1 px %") == [Cell("–")]
    assert by_class("class_boundary_iou", read_entries([run])) == []
