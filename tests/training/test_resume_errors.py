"""Runs that cannot be resumed or trained, and say why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_levelset import ExactResume, compat
from tf_levelset.training import resume as resume_module


def linear(optimizer: Any = "sgd", units: int = 1, **options: Any) -> keras.Model:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(units)])
    model.compile(optimizer, "mse", **options)
    return model


def resume_of(model: keras.Model, folder: Path, **options: Any) -> ExactResume:
    return ExactResume(model, folder, **{"steps": 8, "steps_per_epoch": 3, **options})


def fit(resume: ExactResume) -> ExactResume:
    """Trains what is left to train, on the same batch in every step."""
    batch = tf.ones((2, 2)), tf.ones((2, 1))
    batches = tf.data.Dataset.from_tensors(batch).repeat()
    for _, span in resume.parts():
        with resume.naming_samples():
            resume.model.fit(
                batches, callbacks=[resume], shuffle=False, verbose=0, **span
            )
    return resume


@pytest.mark.parametrize(
    "change",
    [{"steps": 0}, {"steps_per_epoch": 0}, {"seconds": -1}, {"seconds": float("nan")}],
)
def test_arguments_out_of_range_raise(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Expected `steps`"):
        resume_of(linear(), tmp_path, **change)


def test_models_that_cannot_be_resumed_raise(tmp_path: Path) -> None:
    unbuilt = keras.Sequential([keras.layers.Dense(1)])
    unbuilt.compile("sgd", "mse")
    uncompiled = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    averaged = linear(keras.optimizers.SGD(use_ema=True, name="averaged"))
    models = [unbuilt, uncompiled, averaged]
    if not compat.KERAS_3:
        models.append(linear(keras.optimizers.legacy.SGD()))
    for model in models:
        with pytest.raises(ValueError, match="built and compiled with an optimizer of"):
            resume_of(model, tmp_path)
    with pytest.raises(ValueError, match=r"without `use_ema`.*averaged"):
        resume_of(averaged, tmp_path)


def test_steps_that_are_not_counted_raise(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="steps_per_execution=1"):
        fit(resume_of(linear(steps_per_execution=3), tmp_path))
    resume = resume_of(linear(), tmp_path)
    span = {"initial_epoch": 1, "epochs": 2}
    with pytest.raises(ValueError, match=r"Expected epoch 0 .* epoch 1"):
        resume.model.fit(
            np.ones((2, 2)), np.ones((2, 1)), callbacks=[resume], verbose=0, **span
        )


def test_a_run_can_be_made_longer_by_epochs_only(tmp_path: Path) -> None:
    fit(resume_of(linear(), tmp_path, steps=3))
    resume = fit(resume_of(linear(), tmp_path, steps=8))
    assert [row["step"] for row in resume.history] == [3, 6, 8]
    with pytest.raises(ValueError, match=r"steps_per_epoch=3, with .* Received: 4"):
        resume_of(linear(), tmp_path, steps_per_epoch=4)
    with pytest.raises(ValueError, match=r"Expected steps=8, with .* Received: 9"):
        resume_of(linear(), tmp_path, steps=9)


@pytest.mark.parametrize(
    ("other", "step"),
    [
        (lambda: linear(units=2), 8),
        (lambda: linear("adam"), 8),
        (lambda: linear(metrics=["mae"]), 5),  # inside an epoch
    ],
)
def test_the_checkpoints_of_another_model_raise(
    tmp_path: Path, other: Callable[[], keras.Model], step: int
) -> None:
    fit(resume_of(linear(), tmp_path, seconds=0, keep=9))
    for later in range(step + 1, 9):
        (tmp_path / f"step-{later}.sha256").unlink()
    with pytest.raises(ValueError, match=rf"another model, in .*step-{step}"):
        fit(resume_of(other(), tmp_path))


def test_workers_that_see_other_checkpoints_raise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resume_module, "all_the_same", lambda strategy, step: step != 0)
    with pytest.raises(ValueError, match=r"the same checkpoint.*Received: step 0"):
        resume_of(linear(), tmp_path)


def test_errors_outside_of_steps_are_left_alone(tmp_path: Path) -> None:
    resume = fit(resume_of(linear(), tmp_path))
    error = tf.errors.InvalidArgumentError(None, None, "in validation")
    with pytest.raises(tf.errors.InvalidArgumentError), resume.naming_samples():
        raise error


@pytest.mark.parametrize("mixed", [False, True])
def test_a_learning_rate_that_was_changed_is_kept(tmp_path: Path, mixed: bool) -> None:
    def optimizer() -> Any:
        sgd = keras.optimizers.SGD(0.1)
        return keras.mixed_precision.LossScaleOptimizer(sgd) if mixed else sgd

    trained = linear(optimizer())
    saved = resume_of(trained, tmp_path)
    trained.optimizer.learning_rate = 0.001
    saved.step = 1
    saved.save()
    again = linear(optimizer())
    resume_of(again, tmp_path)
    assert float(again.optimizer.learning_rate) == pytest.approx(0.001)
