"""Losses, optimizer and net, as a recipe says."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tf_levelset.datasets import load_dataset
from tf_levelset.training.compiled import build_loss
from tf_levelset.training.recipe import LOSSES, Recipe
from tf_levelset.training.run import Run
from tf_levelset.training.train import train


def test_both_losses_start_alike(tmp_path: Path, tiny_recipe: Recipe) -> None:
    sources = [
        load_dataset("synthetic", split, num_samples=4, size=(33, 40))
        for split in ("train", "val")
    ]
    first, second = (
        Run(tiny_recipe, name, tmp_path / name, *sources) for name in ("ce", "ls")
    )
    for a, b in zip(first.model.get_weights(), second.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(first.batches(0, 2), second.batches(0, 2), strict=True):
        np.testing.assert_array_equal(a[0], b[0])
    assert first.trained.loss.level_set_weight == 0
    assert second.trained.loss.level_set_weight == 0.67


@pytest.mark.parametrize(
    ("model", "stride", "expected"),
    [
        ("deeplab_msc_largefov", 1, r"of \(8,\)"),
        ("deeplab_largefov", 16, r"of \(1, 8\)"),
        ("fcn16s_vgg16", 8, r"of \(1, 16\)"),
    ],
)
def test_a_loss_stride_that_is_not_the_nets_raises(
    tmp_path: Path, tiny_recipe: Recipe, model: str, stride: int, expected: str
) -> None:
    options = {"width": 0.01, "depth": 0.01}
    recipe = dataclasses.replace(
        tiny_recipe, model=model, model_options=options, loss_stride=stride
    )
    with pytest.raises(ValueError, match=f"Expected `loss_stride` {expected}"):
        train(recipe, tmp_path)
    assert not (tmp_path / "config.json").exists()


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_built(name: str, tiny_recipe: Recipe) -> None:
    labels = np.array([[[0, 1, 255], [2, 1, 0]]])
    logits = np.random.default_rng(0).normal(size=(1, 2, 3, 3)).astype(np.float32)

    def value(loss: str, **options: float) -> float:
        recipe = dataclasses.replace(
            tiny_recipe, loss_options={loss: options} if options else {}
        )
        return float(build_loss(recipe, loss, 255)(labels, logits))

    assert np.isfinite(value(name))
    if name in ("dice", "lovasz", "boundary", "active_contour"):
        # They stand beside the cross-entropy.
        added = value(name, weight=1.0) - value("ce")
        assert abs(added) > 1e-3
        half = value(name, weight=0.5) - value("ce")
        assert half == pytest.approx(added / 2, rel=1e-4)


@pytest.mark.parametrize("name", ["lmp", "dice"])
def test_unknown_loss_options_raise(name: str, tiny_recipe: Recipe) -> None:
    recipe = dataclasses.replace(tiny_recipe, loss_options={name: {"sharpness": 1}})
    with pytest.raises(ValueError, match=f"Expected options that '{name}' takes"):
        build_loss(recipe, name, 255)
