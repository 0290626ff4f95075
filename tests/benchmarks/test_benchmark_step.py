"""The settings of the training step, and a step of the tiny one."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from benchmarks import step
from tf_levelset import compat

TINY = step.tiny(step.NARROW)


@pytest.mark.parametrize(
    ("setting", "shape"),
    [
        (step.FULL, (1, 41, 41)),
        (step.NARROW, (1, 321, 321)),
        (step.chosen(), (8, 120, 160)),
    ],
)
def test_labels_stand_where_the_loss_is_taken(
    setting: step.Setting, shape: tuple[int, ...]
) -> None:
    images, labels = step.batch(setting)
    assert images.shape == (setting.batch, *setting.size, 3)
    assert labels.shape == shape
    assert int(np.max(labels)) < setting.classes


def test_settings_in_words() -> None:
    assert step.described(step.FULL) == (
        "batch 1, 321×321 pixels, 21 classes, loss at stride 8"
    )


def test_the_chosen_form_is_that_of_the_experiments() -> None:
    setting = step.chosen()
    assert setting.recipe.name == "frozen-balanced"
    assert setting.recipe.level_set["normalization"] == "balanced"
    assert step.described(setting) == (
        "batch 8, 120×160 pixels, 11 classes, loss at stride 1"
    )


def test_full_width_is_deeplabs() -> None:
    # 20.5 million parameters at 21 classes.
    assert step.net(step.FULL).count_params() == pytest.approx(20.5e6, rel=0.005)


def test_both_losses_start_from_the_same_weights_and_train(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(step, "MODES", {"graph": False})
    steps = step.training_steps(TINY)
    assert [*steps] == ["CE, graph", "CE + LS, graph"]
    models = [work.args[0] for work in steps.values() if isinstance(work, partial)]
    before = [[v.numpy().copy() for v in compat.state_of(model)] for model in models]
    for one, other in zip(*before, strict=True):
        np.testing.assert_array_equal(one, other)
    steps["CE + LS, graph"]()
    new = [v.numpy() for v in compat.state_of(models[1])]
    assert any((a != b).any() for a, b in zip(before[1], new, strict=True))
    assert all(np.isfinite(v).all() for v in new)


def test_the_target_is_the_median_of_the_pairs() -> None:
    ratio = {"median": 1.04, "pairs": [1.0, 1.04, 1.2]}
    target = step.step_target(step.NARROW, ratio)
    assert (target["measured"], target["bound"], target["met"]) == (1.04, 1.05, True)
    assert step.step_target(step.NARROW, {"median": 1.06})["met"] is False


def test_the_full_net_is_reported_beside_the_paper() -> None:
    target = step.step_target(step.FULL, {"median": 1.19})
    assert (target["bound"], target["met"]) == (None, None)
    assert target["published_ratio"] == 1.18


@pytest.mark.parametrize(("seconds", "pairs"), [(1.9, 50), (2.0, 30)])
def test_slow_steps_are_paired_less_often(seconds: float, pairs: int) -> None:
    pilot = {"CE, XLA": [seconds], "CE + LS, XLA": [seconds], "CE, graph": [9.0]}
    assert step.number_of_pairs(pilot, "CE, XLA", "CE + LS, XLA") == pairs
