"""Which runs are compared, and whose scores are better."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from made_up_runs import evaluation, write_run

from tf_levelset.reporting.run_comparison import (
    read_entries,
    score_tables,
)
from tf_levelset.training.recipe import Recipe
from tf_levelset.training.recipes import RECIPES

SYNTHETIC = RECIPES["synthetic"]


def changed(**changes: Any) -> Recipe:
    return dataclasses.replace(SYNTHETIC, **changes)


def titles(*paths: Path) -> list[str]:
    return [entry.title for entry in read_entries(paths)]


def summary(*paths: Path) -> dict[str, list[str]]:
    return score_tables(read_entries(paths))["Summary"]


# --- Entries ---


def test_a_run_stands_for_its_losses_in_the_recipes_order(tmp_path: Path) -> None:
    recipe = changed(losses=("ls", "ce"))
    run = write_run(tmp_path / "one", recipe, ls=evaluation(0.5), ce=evaluation(0.4))
    assert titles(run) == ["one/ls", "one/ce"]
    assert titles(run / "ce") == ["one/ce"]
    assert titles(run / "ce", run, run / "ls") == ["one/ce", "one/ls"]


def test_paths_may_be_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(tmp_path / "one", SYNTHETIC, ce=evaluation(0.4))
    monkeypatch.chdir(run / "ce")
    assert titles(Path()) == ["one/ce"]
    assert titles(Path("../ls"), Path("..")) == ["one/ls", "one/ce"]


@pytest.mark.parametrize("name", ["nowhere", "events", "run/events"])
def test_other_folders_are_an_error(tmp_path: Path, name: str) -> None:
    write_run(tmp_path / "run", SYNTHETIC, ce=evaluation(0.4))
    with pytest.raises(ValueError, match="Expected a run folder, or the folder of a"):
        read_entries([tmp_path / name])


def test_runs_without_an_epoch_are_an_error(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", SYNTHETIC)
    with pytest.raises(ValueError, match=r"an epoch has finished. Received: .*run"):
        read_entries([run])


def test_states(tmp_path: Path) -> None:
    recipe = changed(losses=("ce", "ls", "dice"), epochs=7)
    run = write_run(tmp_path / "run", recipe, ce=evaluation(0.4), ls=None)
    assert [e.state() for e in read_entries([run])] == [
        "finished after 3 s of training",
        "not finished: 2 of 7 epochs",
        "not finished: 0 of 7 epochs",
    ]
    (run / "ls" / "model.keras").touch()
    assert read_entries([run])[1].state() == "trained, not yet evaluated"
    run = write_run(tmp_path / "other", changed(iterations=90), ce=None)
    assert read_entries([run])[0].state() == "not finished: 20 of 90 steps"


# --- Comparable runs ---


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
def test_runs_on_other_images_are_an_error(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    first = write_run(tmp_path / "run", SYNTHETIC, ce=evaluation(0.4))
    other = write_run(tmp_path / "other", changed(**changes), ce=evaluation(0.4))
    with pytest.raises(
        ValueError, match=f"on the same images. Received: run/ce on {message}$"
    ):
        read_entries([first, other])
    # Only the folders of the data may differ.
    places = changed(dataset_options={"sbd_dir": "elsewhere"})
    other = write_run(tmp_path / "other", places, ce=evaluation(0.4))
    assert len(read_entries([first, other])) == 4


def test_runs_with_other_classes_are_an_error(tmp_path: Path) -> None:
    first = write_run(tmp_path / "run", SYNTHETIC, ce=evaluation(0.4))
    scores = evaluation(0.4, classes=("sky", "car"))
    other = write_run(tmp_path / "other", SYNTHETIC, ce=scores)
    with pytest.raises(ValueError, match=r"classes\. Received: run/ce on sky, road"):
        read_entries([first, other])
    # A run that has not finished may not know its classes yet.
    other = write_run(tmp_path / "third", SYNTHETIC, ce=None)
    assert len(read_entries([other, first])) == 4


# --- Scores ---


def test_differences_are_to_the_first_evaluated_entry(tmp_path: Path) -> None:
    first = write_run(tmp_path / "a", SYNTHETIC, ce=evaluation(0.4), ls=None)
    second = write_run(
        tmp_path / "b", SYNTHETIC, ce=evaluation(0.25), ls=evaluation(0.5)
    )
    found = summary(first, second)
    assert found["mIoU %"] == ["40.00", "–", "25.00 (−15.00)", "50.00 (+10.00), best"]
    assert found["mIoU within 5 px %"] == [
        *("20.00", "–", "12.50 (−7.50)", "25.00 (+5.00), best"),
    ]
    # Less energy is better.
    assert found["level set energy"] == [
        *("60.0", "–", "75.0 (+15.0)", "50.0 (−10.0), best"),
    ]


def test_of_equal_scores_none_is_the_best(tmp_path: Path) -> None:
    recipe = changed(losses=("ce", "ls", "dice"))
    scores = {"ls": evaluation(0.4), "dice": evaluation(0.4)}
    run = write_run(tmp_path / "a", recipe, ce=None, **scores)
    assert summary(run)["mIoU %"] == ["–", "40.00", "40.00 (+0.00)"]


def test_scores_that_are_not_there(tmp_path: Path) -> None:
    # An evaluation of an older version lacks some.
    scores = evaluation(0.4)
    del scores["trimap_mean_iou"], scores["class_boundary_iou"]
    run = write_run(tmp_path / "a", changed(losses=("ce",)), ce=scores)
    found = score_tables(read_entries([run]))
    assert found["Summary"]["mIoU within 1 px %"] == ["–"]
    assert list(found) == ["Summary", "IoU of each class, %"]
    # There are none before an evaluation.
    run = write_run(tmp_path / "b", changed(losses=("ce",)), ce=None)
    assert score_tables(read_entries([run])) == {}
