"""Training that was cut off, against training that was not: bit by bit."""

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
from tf_levelset.datasets.pipeline import (
    Source,
    batch_names,
    sample_index,
    training_dataset,
)
from tf_levelset.training import resume
from tf_levelset.training.checkpoints import Checkpoints
from tf_levelset.training.interrupts import Interrupts

STEPS, STEPS_PER_EPOCH, BATCH, SAMPLES, SEED = 8, 3, 2, 6, 5
"""Two epochs, and two steps of a third."""

State = dict[str, Any]


def noise(labels_of: Callable[[np.ndarray], None] | None = None) -> Source:
    """Six pictures of noise, 5 × 4, and their labels of 3 classes."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (SAMPLES, 5, 4, 3), dtype=np.uint8)
    labels = rng.integers(0, 3, (SAMPLES, 5, 4), dtype=np.uint8)
    if labels_of is not None:
        labels_of(labels)
    image_table, label_table = tf.constant(images), tf.constant(labels)
    return Source(
        name="noise",
        class_names=("a", "b", "c"),
        palette=np.zeros((3, 3)),
        num_samples=SAMPLES,
        load=lambda index: (image_table[index], label_table[index]),
        sample_names=tuple(f"picture-{i}" for i in range(SAMPLES)),
        image_size=(5, 4),
    )


def net(loss: Any = None, **options: Any) -> keras.Model:
    """All that has a state: dropout, batch statistics, momentum, schedule, metrics."""
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


@pytest.fixture(scope="module", autouse=True)
def quick_disk() -> Iterator[None]:
    """No waiting for the disk: no test here cuts its power."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """One for all runs: `scramble` is what a new process does, and harder."""
    return net()


def scramble(model: keras.Model) -> None:
    """Leaves nothing of what a model has learned, drawn or summed up."""
    for variable in (*lasting(model), *compat.metric_variables(model)):
        variable.assign(tf.ones_like(variable) * 3)


def lasting(model: keras.Model) -> list[tf.Variable]:
    return [*compat.state_of(model), *compat.variables_of(model.optimizer)]


@cache
def at_first() -> list[np.ndarray]:
    return [variable.numpy() for variable in lasting(net())]


def resume_of(model: keras.Model, folder: Path, **options: Any) -> ExactResume:
    defaults = {"steps": STEPS, "steps_per_epoch": STEPS_PER_EPOCH}
    defaults |= {"seconds": 0, "keep": 100}
    return ExactResume(model, folder, **{**defaults, **options})


@cache
def batches_from(start: int, source: Source | None = None) -> tf.data.Dataset:
    return training_dataset(
        source or noise(), batch_size=BATCH, seed=SEED, start_step=start
    )


def fit(
    resume: ExactResume,
    source: Source | None = None,
    *others: keras.callbacks.Callback,
) -> None:
    """Trains what is still to be trained."""
    for start, span in resume.parts():
        with resume.naming_samples():
            resume.model.fit(
                batches_from(start, source),
                callbacks=[*others, resume],
                shuffle=False,
                verbose=0,
                **span,
            )


def states(folder: Path) -> dict[int, State]:
    """All that each checkpoint holds, but for the time that it took."""
    found = {}
    for step in Checkpoints(folder).steps():
        reader = tf.train.load_checkpoint(str(Checkpoints(folder).prefix(step)))
        tensors = {
            name: reader.get_tensor(name)
            for name in reader.get_variable_to_shape_map()
            if name.split("/")[0] in ("model", "optimizer", "metrics")
        }
        found[step] = tensors
    return found


def rows(resume: ExactResume) -> list[State]:
    return [{k: v for k, v in r.items() if k != "seconds"} for r in resume.history]


def assert_same(found: State, expected: State) -> None:
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        assert found[name].tobytes() == value.tobytes(), name


Unbroken = tuple[dict[int, State], list[State]]


@pytest.fixture(scope="module")
def unbroken(model: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> Unbroken:
    """The states after every step, and the history."""
    folder = tmp_path_factory.mktemp("unbroken")
    resume = resume_of(new(model, folder), folder)
    fit(resume)
    return states(folder), rows(resume)


class Crash(Exception):
    """What ends a run, nobody knows why."""


class CrashAt(keras.callbacks.Callback):
    """Ends a run at a moment of its n-th step or epoch."""

    def __init__(self, moment: str, count: int) -> None:
        super().__init__()
        self._left = count
        setattr(self, moment, self._tick)

    def _tick(self, *_: Any, **__: Any) -> None:
        self._left -= 1
        if self._left == 0:
            raise Crash


def test_every_state_is_there_and_moves(unbroken: Unbroken) -> None:
    every, history = unbroken
    assert list(every) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [(row["epoch"], row["step"], row["steps"]) for row in history] == [
        (1, 3, 3),
        (2, 6, 3),
        (3, 8, 2),
    ]
    # Two convolutions with their momenta, and four of batch normalisation.
    kinds = [name.split("/")[0] for name in every[1]]
    assert kinds.count("model") >= 8 + 1  # dropout's
    assert kinds.count("optimizer") >= 6 + 1  # the step's
    assert kinds.count("metrics") >= 3
    for before, after in ((1, 2), (4, 5)):
        changed = {
            name.split("/")[0]
            for name, value in every[after].items()
            if value.tobytes() != every[before][name].tobytes()
        }
        assert changed == {"model", "optimizer", "metrics"}


@pytest.mark.parametrize(
    ("step", "seconds"),
    [*((step, 0) for step in range(1, STEPS + 1)), (2, 1e9), (6, 1e9), (8, 1e9)],
)
def test_cut_off_in_any_step(
    model: keras.Model, unbroken: Unbroken, tmp_path: Path, step: int, seconds: float
) -> None:
    with pytest.raises(Crash):
        fit(
            resume_of(new(model, tmp_path), tmp_path, seconds=seconds),
            None,
            # The step is done, and not saved.
            CrashAt("on_train_batch_end", step),
        )
    saved = step - 1 if seconds == 0 else (step - 1) // STEPS_PER_EPOCH * 3
    assert (Checkpoints(tmp_path).newest() or 0) == saved
    resume = resume_of(new(model, tmp_path), tmp_path, seconds=0)
    assert resume.step == saved
    fit(resume)
    compare(tmp_path, resume, unbroken)


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_cut_off_at_the_end_of_an_epoch(
    model: keras.Model, unbroken: Unbroken, tmp_path: Path, epoch: int
) -> None:
    resume = resume_of(new(model, tmp_path), tmp_path)
    with pytest.raises(Crash):
        fit(resume, None, CrashAt("on_epoch_end", epoch))
    # The step is done, its epoch is not.
    assert Checkpoints(tmp_path).newest() == min(STEPS, epoch * 3) - 1
    resume = resume_of(new(model, tmp_path), tmp_path)
    fit(resume)
    compare(tmp_path, resume, unbroken)


def test_cut_off_again_and_again(
    model: keras.Model, unbroken: Unbroken, tmp_path: Path
) -> None:
    for step in range(STEPS - 1):
        resume = resume_of(new(model, tmp_path), tmp_path)
        assert resume.step == step
        again = step % STEPS_PER_EPOCH > 0
        with pytest.raises(Crash):
            fit(resume, None, CrashAt("on_train_batch_begin", 2 + again))
    resume = resume_of(new(model, tmp_path), tmp_path)
    fit(resume)
    compare(tmp_path, resume, unbroken)


def test_the_newest_is_damaged(
    model: keras.Model, unbroken: Unbroken, tmp_path: Path
) -> None:
    resume = resume_of(new(model, tmp_path), tmp_path)
    with pytest.raises(Crash):
        fit(resume, None, CrashAt("on_train_batch_begin", 6))
    path = tmp_path / "step-5.data-00000-of-00001"
    path.write_bytes(path.read_bytes()[:-7])
    resume = resume_of(new(model, tmp_path), tmp_path)
    assert resume.step == 4
    fit(resume)
    compare(tmp_path, resume, unbroken)


def test_a_model_that_has_never_trained_goes_on(
    unbroken: Unbroken, tmp_path: Path
) -> None:
    # What Keras makes within the first step is not there yet.
    resume = resume_of(net(), tmp_path)
    with pytest.raises(Crash):
        fit(resume, None, CrashAt("on_train_batch_begin", 6))
    for _ in range(2):
        resume = resume_of(net(), tmp_path)
        assert resume.step == 5
        with pytest.raises(Crash):
            fit(resume, None, CrashAt("on_train_batch_end", 1))
    resume = resume_of(net(), tmp_path)
    fit(resume)
    compare(tmp_path, resume, unbroken)


def new(model: keras.Model, folder: Path) -> keras.Model:
    """The model as a new process has it, but for a start from the same weights."""
    scramble(model)
    if Checkpoints(folder).newest() is None:
        for variable, value in zip(lasting(model), at_first(), strict=True):
            variable.assign(value)
    return model


def compare(folder: Path, resume: ExactResume, unbroken: Unbroken) -> None:
    every, history = unbroken
    assert rows(resume) == history
    found = states(folder)
    assert max(found) == STEPS
    for step, state in found.items():
        assert_same(state, every[step])


def test_a_finished_run_has_nothing_left_to_do(
    model: keras.Model, tmp_path: Path
) -> None:
    resume = resume_of(new(model, tmp_path), tmp_path)
    fit(resume)
    again = resume_of(new(model, tmp_path), tmp_path)
    assert again.parts() == []
    assert rows(again) == rows(resume)


@pytest.mark.parametrize(
    ("done", "steps", "expected"),
    [
        (0, 6, [(0, 0, 2, 3)]),
        (0, 8, [(0, 0, 2, 3), (6, 2, 3, 2)]),
        # An epoch that was cut off goes on with its last step.
        (1, 9, [(0, 0, 1, 3), (3, 1, 3, 3)]),
        (4, 8, [(3, 1, 2, 3), (6, 2, 3, 2)]),
        (7, 8, [(6, 2, 3, 2)]),
        (6, 8, [(6, 2, 3, 2)]),
        (0, 2, [(0, 0, 1, 2)]),
        (1, 2, [(0, 0, 1, 2)]),
        (8, 8, []),
    ],
)
def test_what_is_left_in_calls_of_fit(
    model: keras.Model,
    tmp_path: Path,
    done: int,
    steps: int,
    expected: list[tuple[int, ...]],
) -> None:
    resume = ExactResume(model, tmp_path, steps=steps, steps_per_epoch=3)
    resume.step = done
    assert [(start, *span.values()) for start, span in resume.parts()] == expected


# --- Signals ---


class Signal(keras.callbacks.Callback):
    """Ctrl-C in a step."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.left = step

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("step", [2, 3, 8])
def test_a_signal_stops_after_the_step_and_its_checkpoint(
    model: keras.Model, unbroken: Unbroken, tmp_path: Path, step: int
) -> None:
    resume = resume_of(new(model, tmp_path), tmp_path, seconds=1e9)
    with pytest.raises(KeyboardInterrupt), Interrupts() as resume.interrupts:
        fit(resume, None, Signal(step))
    assert Checkpoints(tmp_path).newest() == step
    resume = resume_of(new(model, tmp_path), tmp_path, seconds=1e9)
    fit(resume)
    compare(tmp_path, resume, unbroken)


# --- What is not finite ---


class Bad(keras.losses.Loss):
    """A loss that is not finite where a picture is all of class 2."""

    def __init__(self, value: float) -> None:
        super().__init__(name="bad")
        self.value = value

    def call(self, y_true: Any, y_pred: Any) -> Any:
        bad = tf.reduce_all(tf.cast(y_true, tf.int32) == 2, axis=(1, 2))
        loss = tf.reduce_mean(tf.square(y_pred), axis=(1, 2, 3))
        return tf.where(bad, tf.constant(self.value, loss.dtype), loss)


def one_bad_picture(label: int) -> tuple[Source, int, set[str]]:
    """A source, the step that first shows its bad picture, and that step's names."""
    bad = 4

    def make_bad(labels: np.ndarray) -> None:
        labels[bad] = label

    order = [int(sample_index(i, SEED, SAMPLES)) for i in range(SAMPLES)]
    step = order.index(bad) // BATCH
    names = {f"picture-{i}" for i in order[step * BATCH : (step + 1) * BATCH]}
    return noise(make_bad), step, names


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_names_its_batch(
    tmp_path: Path, value: float
) -> None:
    source, step, names = one_bad_picture(2)
    resume = resume_of(
        net(Bad(value)),
        tmp_path,
        names=partial(batch_names, source, batch_size=BATCH, seed=SEED),
    )
    with pytest.raises(ValueError, match="Expected a finite loss") as caught:
        fit(resume, source)
    message = str(caught.value)
    assert f"Received: {value} at step {step}, of the samples" in message
    named = {f"picture-{i}" for i in range(SAMPLES) if f"picture-{i}" in message}
    assert named == names
    # The state before that step.
    assert Checkpoints(tmp_path).newest() == (step or None)
    if step:
        assert f"{tmp_path / f'step-{step}'} is the last" in message
        for value in states(tmp_path)[step].values():
            assert np.isfinite(value).all()


def test_what_fails_inside_a_step_names_its_batch(tmp_path: Path) -> None:
    source, step, names = one_bad_picture(77)  # no class
    resume = resume_of(
        net(Bad(0.0)),
        tmp_path,
        names=partial(batch_names, source, batch_size=BATCH, seed=SEED),
    )
    with pytest.raises(
        ValueError, match=f"Expected .*At step {step}, of the"
    ) as caught:
        fit(resume, source)
    assert isinstance(caught.value.__cause__, tf.errors.InvalidArgumentError)
    assert all(name in str(caught.value) for name in names)
    assert Checkpoints(tmp_path).newest() == (step or None)


def test_what_fails_outside_of_a_step_is_left_as_it_is(
    model: keras.Model, tmp_path: Path
) -> None:
    resume = resume_of(new(model, tmp_path), tmp_path)
    fit(resume)
    error = tf.errors.InvalidArgumentError(None, None, "in validation")
    with (
        pytest.raises(tf.errors.InvalidArgumentError, match="in validation"),
        resume.naming_samples(),
    ):
        raise error


class Spoil(keras.callbacks.Callback):
    """Weights become infinite in a step whose loss is finite."""

    def __init__(self, kind: Callable[[keras.Model], list[tf.Variable]]) -> None:
        super().__init__()
        self.kind, self.steps = kind, 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.steps += 1
        if self.steps == 3:
            variable = [v for v in self.kind(self.model) if v.dtype.is_floating][-1]
            variable.assign(variable * float("inf"))


@pytest.mark.parametrize("seconds", [0, 1e9])
@pytest.mark.parametrize(
    "kind", [compat.state_of, lambda model: compat.variables_of(model.optimizer)]
)
def test_weights_that_are_not_finite_are_not_saved(
    model: keras.Model,
    tmp_path: Path,
    kind: Callable[[keras.Model], list[tf.Variable]],
    seconds: float,
) -> None:
    resume = resume_of(new(model, tmp_path), tmp_path, seconds=seconds)
    with pytest.raises(ValueError, match=r"finite weights.*infinity after step 2"):
        fit(resume, None, Spoil(kind))
    assert Checkpoints(tmp_path).newest() == (None if seconds else 2)


# --- What does not go together ---


@pytest.mark.parametrize(
    "change",
    [{"steps": 0}, {"steps_per_epoch": 0}, {"seconds": -1}, {"seconds": float("nan")}],
)
def test_arguments_out_of_range_raise(
    model: keras.Model, tmp_path: Path, change: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match="Expected `steps`"):
        ExactResume(model, tmp_path, **{"steps": 3, "steps_per_epoch": 3, **change})


def test_models_that_cannot_be_trained_yet_raise(tmp_path: Path) -> None:
    layers = [keras.layers.Dense(1)]
    unbuilt = keras.Sequential(layers)
    unbuilt.compile("sgd", "mse")
    uncompiled = keras.Sequential([keras.Input((2,)), *layers])
    for model in (unbuilt, uncompiled):
        with pytest.raises(ValueError, match="built and compiled"):
            ExactResume(model, tmp_path, steps=3, steps_per_epoch=3)


def test_averages_that_replace_the_weights_raise(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(use_ema=True, name="averaged"), "mse")
    with pytest.raises(ValueError, match=r"without `use_ema`.*averaged"):
        ExactResume(model, tmp_path, steps=3, steps_per_epoch=3)


@pytest.mark.skipif(compat.KERAS_3, reason="Keras 3 has one kind of optimizers")
def test_an_optimizer_whose_state_is_not_known_raises(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.legacy.SGD(), "mse")
    with pytest.raises(ValueError, match=r"optimizer of keras.optimizers.*legacy"):
        ExactResume(model, tmp_path, steps=3, steps_per_epoch=3)


def test_workers_that_see_other_checkpoints_raise(
    model: keras.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resume, "all_the_same", lambda strategy, step: step != 0)
    with pytest.raises(ValueError, match=r"the same checkpoint.*Received: step 0"):
        resume_of(model, tmp_path)


@pytest.mark.parametrize("mixed", [False, True])
def test_a_rate_that_was_changed_stays(tmp_path: Path, mixed: bool) -> None:
    def simple(rate: float) -> keras.Model:
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        optimizer = keras.optimizers.SGD(rate)
        if mixed:
            wrapped = keras.mixed_precision.LossScaleOptimizer
            optimizer = wrapped(optimizer)
        model.compile(optimizer, "mse")
        return model

    trained = simple(0.1)
    saved = ExactResume(trained, tmp_path, steps=3, steps_per_epoch=3)
    trained.optimizer.learning_rate = 0.001
    saved.step = 1
    saved.save()
    again = simple(0.1)
    ExactResume(again, tmp_path, steps=3, steps_per_epoch=3)
    assert float(again.optimizer.learning_rate) == pytest.approx(0.001)


def test_another_length_than_the_runs_raises(
    model: keras.Model, tmp_path: Path
) -> None:
    fit(resume_of(new(model, tmp_path), tmp_path, seconds=1e9))
    with pytest.raises(ValueError, match=r"steps_per_epoch=3, with .* Received: 4"):
        resume_of(model, tmp_path, steps_per_epoch=4)
    with pytest.raises(ValueError, match=r"Expected steps=8, with .* Received: 9"):
        resume_of(model, tmp_path, steps=9)


def test_a_run_can_be_made_longer_by_epochs(model: keras.Model, tmp_path: Path) -> None:
    fit(resume_of(new(model, tmp_path), tmp_path, steps=3))
    resume = resume_of(new(model, tmp_path), tmp_path, steps=6)
    fit(resume)
    assert [row["step"] for row in resume.history] == [3, 6]


def test_the_checkpoints_of_another_model_raise(
    model: keras.Model, tmp_path: Path
) -> None:
    fit(resume_of(new(model, tmp_path), tmp_path, seconds=1e9))
    inputs = keras.Input((5, 4, 3))
    other = keras.Model(inputs, keras.layers.Conv2D(3, 1)(inputs))
    other.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"Received: another's, in .*step-8"):
        resume_of(other, tmp_path)


def test_an_epoch_that_is_not_the_next_one_raises(
    model: keras.Model, tmp_path: Path
) -> None:
    resume = resume_of(new(model, tmp_path), tmp_path)
    with pytest.raises(ValueError, match=r"Expected epoch 0 .* epoch 1"):
        model.fit(
            batches_from(0),
            shuffle=False,
            initial_epoch=1,
            epochs=2,
            steps_per_epoch=3,
            callbacks=[resume],
            verbose=0,
        )


def test_steps_that_are_not_seen_raise(tmp_path: Path) -> None:
    resume = resume_of(net(steps_per_execution=3), tmp_path)
    with pytest.raises(ValueError, match="steps_per_execution=1"):
        fit(resume)


def test_a_full_disk_ends_training(
    model: keras.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = tf.train.Checkpoint.write

    def full(self: Any, path: str, *arguments: Any) -> Any:
        if path.endswith("step-2"):
            raise tf.errors.ResourceExhaustedError(None, None, "No space left")
        return write(self, path, *arguments)

    monkeypatch.setattr(tf.train.Checkpoint, "write", full)
    with pytest.raises(OSError, match=r"step-2\. Received: No space left.*step 1 is"):
        fit(resume_of(new(model, tmp_path), tmp_path))
    assert Checkpoints(tmp_path).newest() == 1


def test_a_ramp_beside_it_ends_with_the_same_bits(tmp_path: Path) -> None:
    def run(folder: Path, *others: keras.callbacks.Callback) -> list[np.ndarray]:
        weight = tf.Variable(0.0, trainable=False)
        loss = CrossEntropyLevelSetLoss(weight, normalization="mean", from_logits=True)
        model = net(loss)
        resume = resume_of(model, folder)
        fit(resume, None, WeightRamp(weight, 2.0, steps=STEPS), *others)
        return [variable.numpy() for variable in lasting(model)]

    expected = run(tmp_path / "unbroken")
    with pytest.raises(Crash):
        run(tmp_path / "broken", CrashAt("on_train_batch_begin", 6))
    for found, value in zip(run(tmp_path / "broken"), expected, strict=True):
        np.testing.assert_array_equal(found, value)
