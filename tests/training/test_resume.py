"""Training that was interrupted, compared bit by bit with training that was not."""

from __future__ import annotations

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

from tf_levelset import (
    CaffeSGD,
    CrossEntropyLevelSetLoss,
    ExactResume,
    MeanIoU,
    WeightRamp,
    compat,
)
from tf_levelset.datasets import Source, training_dataset
from tf_levelset.datasets.pipeline import batch_names, sample_index
from tf_levelset.training.checkpoints import Checkpoints
from tf_levelset.training.interrupts import Interrupts

STEPS, STEPS_PER_EPOCH, BATCH, SAMPLES, SEED = 8, 3, 2, 6, 5
"""Two epochs, and two steps of a third."""

State = dict[str, Any]


def noise(change: Callable[[np.ndarray], None] | None = None) -> Source:
    """Six images of noise, 5 × 4, with labels of 3 classes, which may be changed."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (SAMPLES, 5, 4, 3), dtype=np.uint8)
    labels = rng.integers(0, 3, (SAMPLES, 5, 4), dtype=np.uint8)
    if change is not None:
        change(labels)
    image_table, label_table = tf.constant(images), tf.constant(labels)
    return Source(
        name="noise",
        class_names=("a", "b", "c"),
        palette=np.zeros((3, 3)),
        num_samples=SAMPLES,
        load=lambda index: (image_table[index], label_table[index]),
        sample_names=tuple(f"image-{i}" for i in range(SAMPLES)),
        image_size=(5, 4),
    )


def net(loss: Any = None, **options: Any) -> keras.Model:
    """Everything with a state: dropout, batch statistics, momentum, rate, metrics."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5, 4, 3))
    x = keras.layers.Conv2D(4, 3, padding="same")(inputs)
    x = keras.layers.BatchNormalization()(x)
    x = compat.dropout(0.5, "dropout")(x)
    model = keras.Model(inputs, keras.layers.Conv2D(3, 1)(x))
    schedule = keras.optimizers.schedules.PolynomialDecay(0.01, STEPS)
    model.compile(
        CaffeSGD(schedule, momentum=0.9),
        loss or keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[MeanIoU(3, sparse_y_pred=False, name="iou"), "accuracy"],
        **options,
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
    source = source or noise()
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
    return states(folder), rows(resume)


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


def test_a_checkpoint_holds_everything_that_changes(unbroken: Unbroken) -> None:
    every, history = unbroken
    assert list(every) == [1, 2, 3, 4, 5, 6, 7, 8]
    found = [(row["epoch"], row["step"], row["steps"]) for row in history]
    assert found == [(1, 3, 3), (2, 6, 3), (3, 8, 2)]
    # Two convolutions with their momenta, and four of batch normalisation.
    parts = [name.split("/")[0] for name in every[1]]
    assert parts.count("model") >= 8 + 1  # the state of dropout
    assert parts.count("optimizer") >= 6 + 1  # the step
    assert parts.count("metrics") >= 3
    for before, after in ((1, 2), (4, 5)):
        changed = {
            name.split("/")[0]
            for name, value in every[after].items()
            if value != every[before][name]
        }
        assert changed == {"model", "optimizer", "metrics"}


@pytest.mark.parametrize(
    ("step", "seconds"),
    [*((step, 0) for step in range(1, STEPS + 1)), (2, 1e9), (6, 1e9), (8, 1e9)],
)
def test_interrupted_in_any_step(
    model: keras.Model, unbroken: Unbroken, tmp_path: Path, step: int, seconds: float
) -> None:
    resume = resume_of(new(model, tmp_path), tmp_path, seconds=seconds)
    with pytest.raises(Crash):
        fit(resume, At("on_train_batch_end", step))  # taken, and not yet saved
    saved = step - 1 if seconds == 0 else (step - 1) // STEPS_PER_EPOCH * 3
    assert (Checkpoints(tmp_path).newest() or 0) == saved
    check_finishes(model, tmp_path, unbroken)


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_interrupted_at_the_end_of_an_epoch(
    model: keras.Model, unbroken: Unbroken, tmp_path: Path, epoch: int
) -> None:
    with pytest.raises(Crash):
        fit(resume_of(new(model, tmp_path), tmp_path), At("on_epoch_end", epoch))
    # The step is completed, its epoch is not.
    assert Checkpoints(tmp_path).newest() == min(STEPS, epoch * 3) - 1
    check_finishes(model, tmp_path, unbroken)


def test_interrupted_after_every_step(
    model: keras.Model, unbroken: Unbroken, tmp_path: Path
) -> None:
    for step in range(STEPS - 1):
        resume = resume_of(new(model, tmp_path), tmp_path)
        assert resume.step == step
        with pytest.raises(Crash):
            fit(resume, At("on_train_batch_begin", 2))
    check_finishes(model, tmp_path, unbroken)


def test_a_damaged_checkpoint_is_passed_over(
    model: keras.Model, unbroken: Unbroken, tmp_path: Path
) -> None:
    with pytest.raises(Crash):
        fit(resume_of(new(model, tmp_path), tmp_path), At("on_train_batch_begin", 6))
    path = tmp_path / "step-5.data-00000-of-00001"
    path.write_bytes(path.read_bytes()[:-7])
    assert resume_of(new(model, tmp_path), tmp_path).step == 4
    check_finishes(model, tmp_path, unbroken)


def test_a_model_that_has_never_been_trained_resumes(
    unbroken: Unbroken, tmp_path: Path
) -> None:
    # Keras has not yet created the variables of its metrics.
    with pytest.raises(Crash):
        fit(resume_of(net(), tmp_path), At("on_train_batch_begin", 6))
    with pytest.raises(Crash):
        fit(resume_of(net(), tmp_path), At("on_train_batch_end", 1))
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


@pytest.mark.parametrize(
    ("done", "steps", "expected"),
    [
        (0, 6, [(0, 0, 2, 3)]),
        (0, 8, [(0, 0, 2, 3), (6, 2, 3, 2)]),
        (1, 9, [(1, 0, 1, 2), (3, 1, 3, 3)]),
        (4, 8, [(4, 1, 2, 2), (6, 2, 3, 2)]),
        (7, 8, [(7, 2, 3, 1)]),
        (6, 8, [(6, 2, 3, 2)]),
        (0, 2, [(0, 0, 1, 2)]),
        (1, 2, [(1, 0, 1, 1)]),
        (8, 8, []),
    ],
)
def test_calls_of_fit_that_are_left(
    model: keras.Model, tmp_path: Path, done: int, steps: int, expected: list[Any]
) -> None:
    resume = ExactResume(model, tmp_path, steps=steps, steps_per_epoch=3)
    resume.step = done
    assert [(start, *span.values()) for start, span in resume.parts()] == expected


def test_a_weight_ramp_resumes(tmp_path: Path) -> None:
    def run(folder: Path, *others: keras.callbacks.Callback) -> list[np.ndarray]:
        weight = tf.Variable(0.0, trainable=False)
        loss = CrossEntropyLevelSetLoss(weight, normalization="mean", from_logits=True)
        model = net(loss)
        ramp = WeightRamp(weight, 2.0, steps=STEPS)
        fit(resume_of(model, folder), ramp, *others)
        return [variable.numpy() for variable in lasting(model)]

    expected = run(tmp_path / "unbroken")
    with pytest.raises(Crash):
        run(tmp_path / "broken", At("on_train_batch_begin", 6))
    for found, value in zip(run(tmp_path / "broken"), expected, strict=True):
        np.testing.assert_array_equal(found, value)


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
    bad = 4
    order = [int(sample_index(i, SEED, SAMPLES)) for i in range(SAMPLES)]
    step = order.index(bad) // BATCH
    names = {f"image-{i}" for i in order[step * BATCH : (step + 1) * BATCH]}

    def make_bad(labels: np.ndarray) -> None:
        labels[bad] = label

    source = noise(make_bad)
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
