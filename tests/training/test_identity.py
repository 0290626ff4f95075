"""What a run is: what may change before it is resumed, and what may not."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import made_up_runs
import numpy as np
import pytest
from PIL import Image

from tf_levelset.commands.loading import load_split
from tf_levelset.datasets.verification import load_verified
from tf_levelset.files import write_json
from tf_levelset.training.identity import (
    Identity,
    identity_of,
    notices,
    read_identity,
    remove_run,
    resumed,
)
from tf_levelset.training.recipe import Recipe
from tf_levelset.training.run_folder import load_recipe

RECIPE = Recipe("folder", losses=("ce", "ls"), epochs=2, batch_size=2)


def identity(data: Path, **changes: Any) -> Identity:
    recipe = dataclasses.replace(RECIPE, **changes)
    splits = [recipe.train_split, recipe.val_split]
    verified = load_verified("folder", splits, data, known={})
    return identity_of(recipe, verified.content)


def invert(data: Path) -> None:
    """Swaps the classes of all masks, whose files keep their times."""
    for path in (data / "masks").iterdir():
        stat = path.stat()
        labels = np.array(Image.open(path))
        Image.fromarray(np.where(labels == 255, labels, 1 - labels)).save(path)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def remove(data: Path) -> None:
    for path in (data / "images/4.jpg", data / "masks/4.png"):
        path.unlink()


def lists(data: Path) -> None:
    """The same samples as without lists, but two are exchanged."""
    (data / "train.txt").write_text("1\n0\n2\n4\n")
    (data / "val.txt").write_text("3\n")


def classes(text: str) -> Callable[[Path], Any]:
    return lambda data: (data / "classes.txt").write_text(text)


SWAPPED = "classes.txt: 0 was `ground`, is `tree`; classes.txt: 1 was `tree`, is `gro"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (invert, r"masks/\d\.png changed; .*; and 2 more like this"),
        (remove, "images/4.jpg is missing; masks/4.png is missing"),
        (lists, "folder/train has other samples or another order"),
        (classes("tree\nground"), SWAPPED),
        (classes("ground 1\ntree 0"), SWAPPED),
        (classes("tree 1\nground 0"), "class 0 was `ground`, is `tree`; class 1 was"),
        (classes("ground\nshrub"), "classes.txt: 1 was `tree`, is `shrub`"),
        (classes("ground\ntree\npond"), "classes.txt: 2 was absent, is `pond`"),
        ({"learning_rate": 0.5}, "learning_rate was `0.1`, is `0.5`"),
        ({"level_set": {"epsilon": 0.1}}, "level_set.epsilon was absent, is `0.1`"),
        ({"epochs": 1}, "epochs was `2`, is `1`"),
        ({"iterations": 3}, "iterations was `null`, is `3`"),
    ],
)
def test_what_changed_is_named(own_data: Path, change: Any, named: str) -> None:
    before, options = identity(own_data), {}
    if isinstance(change, dict):
        options = change
    else:
        change(own_data)
    with pytest.raises(ValueError, match=rf"\({named}.*\)\. Use --restart"):
        resumed(before, identity(own_data, **options), own_data)


def test_what_does_not_matter_may_change(own_data: Path, tmp_path: Path) -> None:
    before = identity(own_data, loss_options={"dice": {"weight": 3.0}})
    before.write(tmp_path / "run")
    assert read_identity(tmp_path / "run") == before
    moved = own_data.rename(tmp_path / "moved")
    (moved / "classes.txt").write_text("ground 0  # named\n\ntree 1\n")
    for path in moved.rglob("*.*"):
        os.utime(path, ns=(0, 0))
    options = {"dice": {"weight": 5.0}, "lmp": {"ratio": 0.1}}
    now = identity(
        moved,
        losses=("ce", "lmp"),
        level_set={"epsilon": 0.1},  # of a loss that is not trained now
        loss_options=options,
        epochs=3,
        dataset_options={"sbd_dir": "elsewhere"},
    )
    merged = resumed(before, now, tmp_path).recipe
    assert (merged.losses, merged.epochs) == (("ce", "ls", "lmp"), 3)
    assert (merged.level_set, merged.loss_options) == ({}, options)
    (line,) = notices(before, now)
    assert line.startswith("The run goes on to step 6 instead of 4. The schedule ")
    step = dataclasses.replace(now.recipe, schedule="step")
    said = f"{line[:39]} Only the losses named go on, and not ['ls']."
    assert notices(before, dataclasses.replace(now, recipe=step)) == [said]


def test_initial_weights_are_known_by_their_content(
    own_data: Path, tmp_path: Path
) -> None:
    paths = [tmp_path / name for name in ("a.h5", "b.h5")]
    paths[0].write_text("a")
    paths[1].write_text("a")
    before, moved = (
        identity(own_data, model_options={"weights": str(path)}) for path in paths
    )
    resumed(before, moved, tmp_path)
    paths[1].write_text("b")
    changed = identity(own_data, model_options={"weights": str(paths[1])})
    with pytest.raises(ValueError, match=r"\(.*b\.h5 changed\)"):
        resumed(before, changed, tmp_path)


def test_a_run_of_version_0_1_is_resumed_if_its_classes_are_the_same(
    own_data: Path, tmp_path: Path
) -> None:
    scores = made_up_runs.evaluation(0.5, ("ground", "tree"))
    run = made_up_runs.write_run(tmp_path / "run", RECIPE, ce=scores)
    # Its file lacks fields that have a default now.
    values = RECIPE.to_json()
    for field in ("name", "schedule", "iterations", "loss_options"):
        del values[field]
    write_json(run / "config.json", values)
    assert load_recipe(run) == RECIPE
    write_json(run / "verified.json", "the state of files")
    before, now = read_identity(run), identity(own_data)
    assert before is not None
    assert "kept no digests of its data" in notices(before, now)[0]
    resumed(before, now, run).write(run)
    assert read_identity(run) == before
    classes("tree\nground")(own_data)
    with pytest.raises(ValueError, match=r"\(class 0 was `ground`, is `tree`; class 1"):
        resumed(before, identity(own_data), run)


@pytest.mark.parametrize(
    "values", [3, {}, {"data": {}}, {"data": {**{"files": {}}, "samples": 3}}]
)
def test_a_file_that_is_no_identity_is_named(tmp_path: Path, values: Any) -> None:
    made_up_runs.write_run(tmp_path, RECIPE)
    write_json(tmp_path / "verified.json", values)
    with pytest.raises(ValueError, match=r"the data of a run in .*verified\.json"):
        read_identity(tmp_path)


# --- Commands ---


def files_of(folder: Path) -> dict[Path, tuple[int, bytes]]:
    files = filter(Path.is_file, folder.rglob("*"))
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def test_the_command_refuses_and_changes_nothing(
    own_data: Path, tmp_path: Path, error_of: Callable[..., str]
) -> None:
    scores = made_up_runs.evaluation(1.0, ("ground", "tree"))
    run = made_up_runs.write_run(tmp_path / "run", RECIPE, ce=scores, ls=scores)
    identity(own_data).write(run)
    (run / "ls/model.keras").write_text("weights")
    before = files_of(run)
    invert(own_data)
    classes("tree\nground")(own_data)
    config = run / "config.json"
    command = ("train", "--recipe", config, "--output", run, "--data-dir", own_data)
    said = error_of(*command)
    assert f"({SWAPPED}" in said
    assert ".png changed; and 2 more like this)" in said
    # What is wrong with the new run is found before the old one is removed.
    assert "Expected" in error_of(*command, "--restart", "--set", "crop=3")
    assert "Expected" in error_of(*command, "--restart", "--width", "0")
    assert files_of(run) == before

    (run / "notes.txt").write_text("mine")
    (tmp_path / "run" / "boundary").mkdir()
    remove_run(run)
    assert sorted(path.name for path in run.iterdir()) == ["boundary", "notes.txt"]


def test_classes_of_a_data_set_are_compared_with_those_of_a_run(
    own_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run/ls"
    write_json(folder / "classes.json", ["ground", "tree"])
    (folder / "model.keras").write_text("")
    names: dict[str, Any] = {"sbd_dir": None, "data_dir": str(own_data)}

    def load(path: Path) -> None:
        load_split(argparse.Namespace(path=path, **names), RECIPE, "val")

    load(folder)
    assert not capsys.readouterr().out
    classes("ground\nshrub")(own_data)
    load(folder / "model.keras")
    assert "class 1 was `tree`, is `shrub`" in capsys.readouterr().out
    classes("tree\nground")(own_data)
    with pytest.raises(ValueError, match=r"class 0 was `ground`, is `tree`; class 1"):
        load(folder.parent)
