"""Training that was interrupted, compared bit by bit with training that was not."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from noise_source import noise_source

from tf_levelset import (
    CaffeSGD,
    ExactResume,
    MeanIoU,
    compat,
)
from tf_levelset.datasets import Source, training_dataset
from tf_levelset.datasets.pipeline import batch_names, sample_index
from tf_levelset.training.checkpoints import Checkpoints
from tf_levelset.training.interrupts import Interrupts

STEPS, STEPS_PER_EPOCH, BATCH, SAMPLES, SEED = 8, 3, 2, 6, 5
"""Two epochs, and two steps of a third."""

BAD = 4
"""The sample that may be one to fail at."""

State = dict[str, Any]


def source_with(label: int | None = None) -> Source:
    """Six images of noise, 5 × 4, of four classes; `BAD` may have one label only."""
    source = noise_source(SAMPLES, (5, 4), (5, 4))

    def load(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image, labels = source.load(index)
        changed = tf.fill((5, 4), tf.constant(label, tf.uint8))
        return image, tf.where(tf.equal(index, BAD), changed, labels)

    return source if label is None else dataclasses.replace(source, load=load)


CROSS_ENTROPY = keras.losses.SparseCategoricalCrossentropy(
    from_logits=True, ignore_class=255
)


def net(loss: Any = None) -> keras.Model:
    """Everything with a state: dropout, batch statistics, momentum, rate, metrics."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5, 4, 3))
    x = keras.layers.Conv2D(4, 3, padding="same")(inputs)
    x = keras.layers.BatchNormalization()(x)
    x = compat.dropout(0.5, "dropout")(x)
    model = keras.Model(inputs, keras.layers.Conv2D(4, 1)(x))
    schedule = keras.optimizers.schedules.PolynomialDecay(0.01, STEPS)
    model.compile(
        CaffeSGD(schedule, momentum=0.9),
        loss or CROSS_ENTROPY,
        metrics=[
            MeanIoU(4, ignore_class=255, sparse_y_pred=False, name="iou"),
            "accuracy",
        ],
    )
    model.optimizer.build(model.trainable_variables)
    return model


def lasting(model: keras.Model) -> list[tf.Variable]:
    return [*compat.state_of(model), *compat.variables_of(model.optimizer)]


@cache
def initial_values() -> list[np.ndarray]:
    return [variable.numpy() for variable in lasting(net())]


@pytest.fixture(scope="module", autouse=True)
def quick_disk() -> Iterator[None]:
    """Does not wait for the disk: no test here cuts its power."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """One model for all tests, which `new` makes as good as new."""
    return net()


def new(model: keras.Model, folder: Path) -> keras.Model:
    """The model as a new process has it, with the same initial weights.

    Nothing is left of what it has learned, drawn or summed up.
    """
    for variable in (*lasting(model), *compat.metric_variables(model)):
        variable.assign(tf.ones_like(variable) * 3)
    if Checkpoints(folder).newest() is None:
        for variable, value in zip(lasting(model), initial_values(), strict=True):
            variable.assign(value)
    return model


def resume_of(model: keras.Model, folder: Path, **options: Any) -> ExactResume:
    defaults = {"steps": STEPS, "steps_per_epoch": STEPS_PER_EPOCH}
    defaults |= {"seconds": 0, "keep": 100}
    return ExactResume(model, folder, **{**defaults, **options})


@cache
def batches_from(start: int, source: Source | None = None) -> tf.data.Dataset:
    source = source or source_with()
    return training_dataset(source, batch_size=BATCH, seed=SEED, start_step=start)


def fit(
    resume: ExactResume, *others: keras.callbacks.Callback, source: Source | None = None
) -> ExactResume:
    """Trains what is left to train."""
    for start, span in resume.parts():
        with resume.naming_samples():
            resume.model.fit(
                batches_from(start, source),
                callbacks=[*others, resume],
                shuffle=False,
                verbose=0,
                **span,
            )
    return resume


def states(folder: Path) -> dict[int, State]:
    """The variables of every checkpoint, as bytes."""
    found = {}
    for step in Checkpoints(folder).steps():
        reader = tf.train.load_checkpoint(str(Checkpoints(folder).prefix(step)))
        values = {n: reader.get_tensor(n) for n in reader.get_variable_to_shape_map()}
        found[step] = {
            name: (value.dtype, value.tobytes())
            for name, value in values.items()
            if name.split("/")[0] in ("model", "optimizer", "metrics")
        }
    return found


def rows(resume: ExactResume) -> list[State]:
    return [{k: v for k, v in r.items() if k != "seconds"} for r in resume.history]


Unbroken = tuple[dict[int, State], list[State]]


@pytest.fixture(scope="module")
def unbroken(model: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> Unbroken:
    """The states after every step, and the history."""
    folder = tmp_path_factory.mktemp("unbroken")
    resume = fit(resume_of(new(model, folder), folder))
    every = states(folder)
    assert list(every) == [1, 2, 3, 4, 5, 6, 7, 8]
    for before, after in ((1, 2), (4, 5)):
        changed = {
            name.split("/")[0]
            for name, value in every[after].items()
            if value != every[before][name]
        }
        assert changed == {"model", "optimizer", "metrics"}
    return every, rows(resume)


def check_finishes(model: keras.Model, folder: Path, unbroken: Unbroken) -> None:
    """Finishes a run, and compares all its checkpoints and its history."""
    resume = fit(resume_of(new(model, folder), folder))
    every, history = unbroken
    assert rows(resume) == history
    found = states(folder)
    assert max(found) == STEPS
    for step, state in found.items():
        assert state == every[step], step
    again = resume_of(new(model, folder), folder)
    assert again.parts() == []
    assert rows(again) == history


class Crash(Exception):
    """Ends a run, for no known reason."""


class At(keras.callbacks.Callback):
    """Calls a function at a moment of the n-th step or epoch; by default crashes."""

    def __init__(
        self, moment: str, count: int, act: Callable[[Any], None] | None = None
    ) -> None:
        super().__init__()
        self.left, self.act = count, act
        setattr(self, moment, self.tick)

    def tick(self, *_: Any, **__: Any) -> None:
        self.left -= 1
        if self.left == 0:
            if self.act is None:
                raise Crash
            self.act(self.model)


@pytest.mark.parametrize(
    ("moment", "count", "seconds", "saved"),
    [
        # A step is taken, and not yet saved.
        *(("on_train_batch_end", step, 0, step - 1) for step in range(1, STEPS + 1)),
        # Its epoch is not completed.
        *(("on_epoch_end", n, 0, min(STEPS, 3 * n) - 1) for n in (1, 2, 3)),
        # Checkpoints are written at the end of epochs only.
        ("on_train_batch_end", 2, 1e9, 0),
        ("on_train_batch_end", 6, 1e9, 3),
        ("on_train_batch_end", 8, 1e9, 6),
    ],
)
def test_interrupted_at_any_moment(
    model: keras.Model,
    unbroken: Unbroken,
    tmp_path: Path,
    moment: str,
    count: int,
    seconds: float,
    saved: int,
) -> None:
    resume = resume_of(new(model, tmp_path), tmp_path, seconds=seconds)
    with pytest.raises(Crash):
        fit(resume, At(moment, count))
    assert (Checkpoints(tmp_path).newest() or 0) == saved
    check_finishes(model, tmp_path, unbroken)


def test_interrupted_after_every_step_and_damaged(
    model: keras.Model, unbroken: Unbroken, tmp_path: Path
) -> None:
    for step in range(STEPS - 1):
        resume = resume_of(new(model, tmp_path), tmp_path)
        assert resume.step == step
        with pytest.raises(Crash):
            fit(resume, At("on_train_batch_begin", 2))
    path = tmp_path / f"step-{STEPS - 1}.data-00000-of-00001"
    path.write_bytes(path.read_bytes()[:-7])
    assert resume_of(new(model, tmp_path), tmp_path).step == STEPS - 2
    check_finishes(model, tmp_path, unbroken)


def test_a_model_that_has_never_been_trained_resumes(
    model: keras.Model, unbroken: Unbroken, tmp_path: Path
) -> None:
    with pytest.raises(Crash):
        fit(resume_of(new(model, tmp_path), tmp_path), At("on_train_batch_begin", 6))
    # Keras has not yet created the variables of its metrics.
    check_finishes(net(), tmp_path, unbroken)


@pytest.mark.parametrize("step", [2, 3, 8])
def test_a_signal_stops_after_the_step_and_its_checkpoint(
    model: keras.Model, unbroken: Unbroken, tmp_path: Path, step: int
) -> None:
    def ctrl_c(_: keras.Model) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    resume = resume_of(new(model, tmp_path), tmp_path, seconds=1e9)
    with pytest.raises(KeyboardInterrupt), Interrupts() as resume.interrupts:
        fit(resume, At("on_train_batch_begin", step, ctrl_c))
    assert Checkpoints(tmp_path).newest() == step
    check_finishes(model, tmp_path, unbroken)


# --- Losses and weights that are not finite ---


class Bad(keras.losses.Loss):
    """A loss that is not finite where an image has class 2 only."""

    def __init__(self, value: float) -> None:
        super().__init__(name="bad")
        self.value = value

    def call(self, y_true: Any, y_pred: Any) -> Any:
        bad = tf.reduce_all(tf.cast(y_true, tf.int32) == 2, axis=(1, 2))
        loss = tf.reduce_mean(tf.square(y_pred), axis=(1, 2, 3))
        return tf.where(bad, tf.constant(self.value, loss.dtype), loss)


@pytest.mark.parametrize(
    ("label", "value", "message"),
    [
        (2, float("nan"), "Expected a finite loss. Received: nan at"),
        (2, float("inf"), "Expected a finite loss. Received: inf at"),
        (77, 0.0, "At"),  # a label that is no class fails inside the graph
    ],
)
def test_a_step_that_fails_names_its_samples(
    tmp_path: Path, label: int, value: float, message: str
) -> None:
    order = [int(sample_index(i, SEED, SAMPLES)) for i in range(SAMPLES)]
    step = order.index(BAD) // BATCH
    names = {f"s{i}" for i in order[step * BATCH : (step + 1) * BATCH]}

    source = source_with(label)
    names_of = partial(batch_names, source, batch_size=BATCH, seed=SEED)
    resume = resume_of(net(Bad(value)), tmp_path, names=names_of)
    with pytest.raises(ValueError, match=f"{message} step {step}, of the") as caught:
        fit(resume, source=source)
    said = str(caught.value)
    assert {name for name in source.sample_names if name in said} == names
    # The last checkpoint is from before that step.
    assert Checkpoints(tmp_path).newest() == (step or None)
    last = f"{tmp_path / f'step-{step}'} is the last" if step else "No checkpoint"
    assert last in said


@pytest.mark.parametrize("seconds", [0, 1e9])
@pytest.mark.parametrize(
    "part", [compat.state_of, lambda model: compat.variables_of(model.optimizer)]
)
def test_weights_that_are_not_finite_are_not_saved(
    model: keras.Model, tmp_path: Path, part: Callable[..., Any], seconds: float
) -> None:
    def spoil(model: keras.Model) -> None:
        variable = [v for v in part(model) if v.dtype.is_floating][-1]
        variable.assign(variable * float("inf"))

    resume = resume_of(new(model, tmp_path), tmp_path, seconds=seconds)
    with pytest.raises(ValueError, match=r"finite weights.*infinity after step 2"):
        fit(resume, At("on_train_batch_end", 3, spoil))
    assert Checkpoints(tmp_path).newest() == (None if seconds else 2)
