"""One loss of a recipe: its history's files, and nets with several outputs."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tf_levelset.datasets import load_dataset
from tf_levelset.training.compiled import build_loss
from tf_levelset.training.recipe import Recipe
from tf_levelset.training.run import Run

MULTI_SCALE = {"width": 0.03, "depth": 0.01, "dilation": 1, "dropout": 0.0}


def test_the_checkpoint_holds_the_history(
    tmp_path: Path, tiny_recipe: Recipe, finished_run: Path
) -> None:
    # A kill may fall between the checkpoint and the files that people read.
    shutil.copytree(finished_run / "ce", tmp_path / "ce")
    paths = [tmp_path / "ce" / f"history.{kind}" for kind in ("json", "csv")]
    before = [path.read_text() for path in paths]
    paths[0].write_text("[]")
    paths[1].unlink()
    source = load_dataset("synthetic", "train", **tiny_recipe.dataset_options)
    run = Run(tiny_recipe, "ce", tmp_path / "ce", source, source)
    assert run.history == json.loads(before[0])
    assert [path.read_text() for path in paths] == before


def test_a_multi_scale_net_is_trained_by_the_sum_of_four_losses(
    tmp_path: Path, tiny_recipe: Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = dataclasses.replace(
        tiny_recipe,
        model="deeplab_msc_largefov",
        model_options={**MULTI_SCALE, "batch_norm": False},
    )
    source = load_dataset("synthetic", "train", **recipe.dataset_options)
    run = Run(recipe, "ls", tmp_path / "x", source, source)
    images, labels = next(iter(run.batches(0, 1)))
    assert len(labels) == 4
    outputs = run.trained(images, training=False)
    loss = build_loss(recipe, "ls", 255)
    by_hand = sum(float(loss(y, p)) for y, p in zip(labels, outputs, strict=True))
    values = run.trained.evaluate(images, labels, verbose=0, return_dict=True)
    assert values["loss"] == pytest.approx(by_hand, rel=1e-5)

    validation = {f"val_{name}": value for name, value in values.items()}
    row = run.recorder.row(0, {**values, **validation})
    # The metrics are the fused output's, under their own names; the loss is the sum.
    assert {"mean_iou", "val_mean_iou", "level_set_energy_per_pixel"} <= set(row)
    for split in ("", "val_"):
        parts = [row[f"{split}{name}_loss"] for name in run.trained.output_names]
        assert row[f"{split}loss"] == pytest.approx(sum(parts), rel=1e-4)
    assert run.model(np.zeros((1, 20, 30, 3))).shape == (1, 20, 30, 8)

    # An added loss that dwarfs the cross-entropy, 23 - 2 against 2, is said once.
    name = f"{run.trained.output_names[-1]}_cross_entropy"
    for loss, said in (
        (22, ""),
        (23, "'ls' adds to the cross-entropy is 10.5"),
        (9, ""),
    ):
        run.recorder.on_train_batch_end(0, {"loss": 4.0 * loss, name: 2.0})
        printed = capsys.readouterr().out
        assert said in printed
        assert bool(said) == bool(printed)
