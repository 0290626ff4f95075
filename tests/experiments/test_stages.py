"""A number of a loss takes one value after the other, in the traced step too."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from experiments.runner import run_sweep
from experiments.stages import Stages
from experiments.trials import Trial
from tf_levelset import CrossEntropyLevelSetLoss
from tf_levelset.files import read_json
from tf_levelset.training.recipes import RECIPES, smoke

EPOCHS = 4


def fitted(
    values: tuple[float, ...], attribute: str = "level_set_weight", first: int = 0
) -> list[float]:
    """Losses of a net that does not learn, epoch by epoch."""
    keras.utils.set_random_seed(0)
    net = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Conv2D(3, 1)])
    loss = CrossEntropyLevelSetLoss(
        1.0, from_logits=True, normalization="mean", heaviside="logit", epsilon=1.0
    )
    net.compile(keras.optimizers.SGD(0.0), loss)
    images = np.random.default_rng(0).random((2, 4, 4, 3), np.float32)
    labels = np.random.default_rng(1).integers(0, 3, (2, 4, 4))
    stages = Stages(attribute, values, EPOCHS)
    history = net.fit(
        images,
        labels,
        epochs=EPOCHS,
        initial_epoch=first,
        verbose=0,
        callbacks=[stages],
    )
    found: list[float] = history.history["loss"]
    return found


def test_each_part_of_the_epochs_has_its_value() -> None:
    losses = fitted((0.0, 2.0))
    constant = [fitted((weight,))[0] for weight in (0.0, 2.0)]
    assert constant[1] > constant[0] + 0.01
    expected = [constant[0]] * 2 + [constant[1]] * 2
    np.testing.assert_allclose(losses, expected, rtol=1e-6)


def test_values_share_epochs_that_they_do_not_divide() -> None:
    stages = Stages("epsilon", (3.0, 2.0, 1.0), 4)
    assert [stages.value(epoch) for epoch in range(4)] == [3.0, 3.0, 2.0, 1.0]


def test_widths_have_stages_too() -> None:
    losses = fitted((1.0, 0.25), "epsilon")
    assert losses[0] == pytest.approx(losses[1])
    assert abs(losses[2] - losses[0]) > 1e-3


def test_a_run_that_was_cut_off_goes_on_with_its_epochs_value() -> None:
    assert fitted((0.0, 2.0), first=1) == pytest.approx(fitted((0.0, 2.0))[1:])


def test_a_loss_without_the_attribute_raises() -> None:
    with pytest.raises(ValueError, match="a loss with 'gamma'"):
        fitted((1.0,), "gamma")


def test_more_stages_than_epochs_raise() -> None:
    recipe = dataclasses.replace(RECIPES["synthetic"], losses=("ls",), epochs=2)
    with pytest.raises(ValueError, match="at most 2 stages"):
        Trial("ls", recipe, stages=("epsilon", (3.0, 2.0, 1.0)))


def test_a_sweep_runs_a_trial_in_stages(tmp_path: Path) -> None:
    recipe = dataclasses.replace(
        smoke(RECIPES["synthetic"]),
        losses=("ls",),
        iterations=None,
        epochs=2,
        batch_size=64,
        loss_stride=8,
        level_set={"level_set_weight": 0.0, "normalization": "mean"},
    )

    def history(stages: Any) -> list[dict[str, float]]:
        trial = Trial("ls", recipe, stages=stages)
        folder = tmp_path / str(stages is None)
        run_sweep("tiny", [trial], folder, folder / "scratch", None)
        result = read_json(folder / "tiny/ls-official-0.json")
        assert result["stages"] == (None if stages is None else [stages[0], [0.0, 9.0]])
        rows: list[dict[str, float]] = result["history"]
        return rows

    plain = history(None)
    staged = history(("level_set_weight", (0.0, 9.0)))
    assert staged[0]["loss"] == pytest.approx(plain[0]["loss"], rel=1e-5)
    assert staged[1]["loss"] > staged[1]["cross_entropy"] + 0.1
