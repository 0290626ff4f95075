"""One loss of a recipe: its history's files, and nets with several outputs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import keras
import numpy as np
import pytest

from tf_levelset.datasets import load_dataset
from tf_levelset.training.compiled import build_loss
from tf_levelset.training.recipe import Recipe
from tf_levelset.training.run import Run
from tf_levelset.training.train import train

MULTI_SCALE = {"width": 0.03, "depth": 0.01, "dilation": 1, "dropout": 0.0}


def test_the_checkpoint_holds_the_history(tmp_path: Path, tiny_recipe: Recipe) -> None:
    # A kill may fall between the checkpoint and the files that people read.
    recipe = dataclasses.replace(tiny_recipe, losses=("ce",), epochs=1)
    train(recipe, tmp_path)
    paths = [tmp_path / "ce" / f"history.{kind}" for kind in ("json", "csv")]
    before = [path.read_text() for path in paths]
    paths[0].write_text("[]")
    paths[1].unlink()
    source = load_dataset("synthetic", "train", num_samples=10, size=(33, 40))
    run = Run(recipe, "ce", tmp_path / "ce", source, source)
    assert run.history == json.loads(before[0])
    assert [path.read_text() for path in paths] == before


def test_a_multi_scale_net_is_trained_by_the_sum_of_four_losses(
    tmp_path: Path, tiny_recipe: Recipe
) -> None:
    recipe = dataclasses.replace(
        tiny_recipe,
        model="deeplab_msc_largefov",
        model_options={**MULTI_SCALE, "batch_norm": False},
        losses=("ls",),
        iterations=2,
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

    train(recipe, tmp_path)
    (row,) = json.loads((tmp_path / "ls" / "history.json").read_text())
    # The metrics are the fused output's, under their own names; the loss is the sum.
    assert {"mean_iou", "val_mean_iou", "level_set_energy_per_pixel"} <= set(row)
    for split in ("", "val_"):
        parts = [row[f"{split}{name}_loss"] for name in run.trained.output_names]
        assert len(parts) == 4
        assert row[f"{split}loss"] == pytest.approx(sum(parts), rel=1e-4)
    model = keras.models.load_model(tmp_path / "ls" / "model.keras", compile=False)
    assert model(np.zeros((1, 20, 30, 3))).shape == (1, 20, 30, 8)
