"""The command `train`, on tiny networks."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from tf_levelset.commands.main import main
from tf_levelset.training import recipes
from tf_levelset.training.checkpoints import Checkpoints
from tf_levelset.training.recipe import Recipe


def test_train_prints_a_table(
    finished_run: Path,
    tiny_recipe: Recipe,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(recipes.RECIPES, "synthetic", tiny_recipe)
    # The run has finished, so that the same command only prints its report.
    assert main(["train", "--output", str(finished_run)]) == 0
    printed = capsys.readouterr().out
    assert "cross-entropy" in printed
    assert "with level set loss" in printed
    assert "mIoU" in printed
    assert str(finished_run / "panel.png") in printed


class Training:
    """Stands in for `train`: notes its arguments and trains nothing."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.told: list[Any] = []
        monkeypatch.setattr("tf_levelset.training.train.train", self)
        monkeypatch.setattr(
            tf.config.experimental,
            "enable_op_determinism",
            lambda: self.told.append("deterministic"),
        )
        monkeypatch.setattr(
            "tf_levelset.training.distribution.strategy_named",
            lambda name: f"strategy {name}",
        )

    def __call__(
        self,
        recipe: Recipe,
        run_dir: Path,
        data_dir: str | None = None,
        checkpoints: dict[str, float] | None = None,
        strategy: str | None = None,
        restart: bool = False,
    ) -> dict[str, Any]:
        self.recipe, self.run_dir = recipe, run_dir
        self.told += [checkpoints, strategy, *["restart"] * restart]
        (run_dir / "report.md").write_text("the report")
        return {} if strategy == "strategy workers" else {"evaluation": {"ls": {}}}


def test_smoke_leaves_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # That every recipe's smoke test passes: tests/training/test_recipes.py.
    monkeypatch.chdir(tmp_path)
    training = Training(monkeypatch)
    command = ["train", "--smoke", "--recipe", "camvid", "--losses", "ls"]
    assert main(command) == 0
    assert "camvid: the smoke test of ls passed." in capsys.readouterr().out
    recipe = dataclasses.replace(recipes.RECIPES["camvid"], losses=("ls",))
    assert training.recipe == recipes.smoke(recipe)
    assert not training.run_dir.exists()
    assert not list(tmp_path.iterdir())


def test_own_data_with_faults_is_not_trained_on(
    own_data: Path, tmp_path: Path, error_of: Callable[..., str]
) -> None:
    run = tmp_path / "run"
    arguments = ["train", "--dataset", "folder", "--data-dir", str(own_data)]
    arguments += ["--width", "0.02", "--depth", "0.01", "--dilation", "1"]
    arguments += ["--iterations", "2", "--batch-size", "2", "--crop", "33", "33"]
    arguments += ["--output", str(run), "--losses", "ls"]
    mask = own_data / "masks/0.png"
    whole = mask.read_bytes()
    mask.write_bytes(whole[: len(whole) // 2])
    assert f"{mask}: Expected a whole image file" in error_of(*arguments)
    assert not run.exists()
    mask.write_bytes(whole)
    assert main(arguments) == 0
    result = json.loads((run / "report.json").read_text())["evaluation"]["ls"]
    assert set(result["class_iou"]) == {"ground", "tree"}
    # The files are not read again until one of them changes.
    assert json.loads((run / "verified.json").read_text())


def test_a_loss_that_becomes_nan_ends_in_one_line(
    tmp_path: Path,
    tiny_recipe: Recipe,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(recipes.RECIPES, "synthetic", tiny_recipe)
    arguments = ["train", "--output", str(tmp_path), "--losses", "ce"]
    arguments += ["--learning-rate", "1e30", "--checkpoint-seconds", "0"]
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert "Expected a finite loss. Received: nan" in error
    assert len(error.splitlines()) == 1
    # It names the images of the step and keeps the checkpoint before it.
    assert re.search(r"at step 1, of the samples (train_\d+(, )?){3}\. ", error)
    assert "step-1 is the last checkpoint before." in error
    assert Checkpoints(tmp_path / "ce" / "checkpoint").newest() == 1


def test_options_of_checkpoints_and_execution_reach_the_run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    training = Training(monkeypatch)
    arguments = ["train", "--output", str(tmp_path)]
    assert main(arguments) == 0
    assert training.told == [{}, "strategy None"]
    assert "the report" in capsys.readouterr().out
    training.told.clear()
    arguments += ["--restart", "--checkpoint-seconds", "2.5", "--keep-checkpoints", "7"]
    assert main([*arguments, "--deterministic", "--distribute", "workers"]) == 0
    checkpoints = {"seconds": 2.5, "keep": 7}
    told = ["deterministic", checkpoints, "strategy workers", "restart"]
    assert training.told == told
    # Only the chief of the workers prints.
    assert capsys.readouterr().out == ""


def test_a_config_of_another_program_is_not_resumed(
    tmp_path: Path, error_of: Callable[..., str]
) -> None:
    (tmp_path / "config.json").write_text('{"a": 1}')
    said = error_of("train", "--output", tmp_path)
    assert f"Expected {tmp_path / 'config.json'} to be the recipe of a run" in said
