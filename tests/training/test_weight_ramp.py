"""A weight that ramps up over training, in the loss of the step that it is set for."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_levelset import CrossEntropyLevelSetLoss, compat
from tf_levelset.training.weight_ramp import WeightRamp

OPTIONS: dict[str, Any] = {"normalization": "mean", "from_logits": True}


def batch() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    images = rng.normal(size=(2, 6, 7, 3)).astype(np.float32)
    return images, rng.integers(0, 3, (2, 6, 7), dtype=np.int32)


def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((6, 7, 3)), keras.layers.Conv2D(3, 1)])


@pytest.mark.parametrize("heaviside", ["mahf", "ahf"])
def test_a_ramp_trains_as_a_loss_of_each_steps_weight(heaviside: str) -> None:
    images, labels = batch()
    weight = tf.Variable(0.0, trainable=False)
    ramped = model()
    options = {**OPTIONS, "heaviside": heaviside}
    ramped.compile(
        keras.optimizers.SGD(0.5), CrossEntropyLevelSetLoss(weight, **options)
    )
    ramp = WeightRamp(weight, 3.0, steps=4)
    ramped.fit(
        tf.data.Dataset.from_tensors((images, labels)).repeat(6),
        verbose=0,
        shuffle=False,
        callbacks=[ramp],
    )
    assert float(weight) == 3.0
    by_hand = model()
    for number in (0.0, 0.75, 1.5, 2.25, 3.0, 3.0):
        loss = CrossEntropyLevelSetLoss(number, **options)
        by_hand.compile(keras.optimizers.SGD(0.5), loss)
        by_hand.train_on_batch(images, labels)
    for found, expected in zip(
        ramped.get_weights(), by_hand.get_weights(), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


class Heard(keras.callbacks.Callback):
    """What a variable was in each step."""

    def __init__(self, weight: Any) -> None:
        super().__init__()
        self.weight = weight
        self.values: list[float] = []

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.values.append(float(self.weight))


def heard(
    trained: keras.Model, weight: Any, steps: int, *, full: float = 1.0
) -> list[float]:
    """The weights of some steps of a ramp over ten."""
    batches = tf.data.Dataset.from_tensors(batch()).repeat(steps)
    listener = Heard(weight)
    callbacks = [WeightRamp(weight, full, steps=10), listener]
    trained.fit(batches, verbose=0, shuffle=False, callbacks=callbacks)
    return listener.values


def variables() -> list[Any]:
    found: list[Any] = [tf.Variable(0.0, trainable=False)]
    if compat.KERAS_3:
        found += [keras.Variable(0.0, trainable=False)]
    return found


@pytest.mark.parametrize("weight", variables(), ids=lambda w: type(w).__name__)
def test_a_ramp_goes_on_where_the_optimizer_is(weight: Any) -> None:
    trained = model()
    loss = CrossEntropyLevelSetLoss(weight, **OPTIONS)
    trained.compile(keras.optimizers.SGD(0.1), loss)
    assert heard(trained, weight, 4) == pytest.approx([0, 0.1, 0.2, 0.3])
    assert heard(trained, weight, 3) == pytest.approx([0.4, 0.5, 0.6])
    assert heard(trained, weight, 6, full=2.0) == pytest.approx(
        [1.4, 1.6, 1.8, 2, 2, 2]
    )
    assert loss.get_config()["level_set_weight"] == 2.0


@pytest.mark.parametrize(
    ("mixed", "at_once", "expected"),
    [(False, 4, [0, 0.4, 0.8, 1]), (True, 1, [0, 0.1, 0.2])],
)
def test_a_ramp_counts_steps_that_are_taken(
    mixed: bool, at_once: int, expected: list[float]
) -> None:
    weight, trained = tf.Variable(0.0, trainable=False), model()
    optimizer: Any = keras.optimizers.SGD(0.1)
    if mixed:
        optimizer = keras.mixed_precision.LossScaleOptimizer(optimizer)
    loss = CrossEntropyLevelSetLoss(weight, **OPTIONS)
    trained.compile(optimizer, loss, steps_per_execution=at_once)
    steps = at_once * len(expected)
    assert heard(trained, weight, steps) == pytest.approx(expected)


@pytest.mark.parametrize(
    "values", [(-1.0, 1), (float("nan"), 1), ("1", 1), (1.0, 0), (1.0, 2.5)]
)
def test_bad_ramps_raise(values: tuple[Any, Any]) -> None:
    with pytest.raises(ValueError, match=r"Expected `(full|steps)` to be"):
        WeightRamp(tf.Variable(0.0), *values)


def test_negative_variables_raise() -> None:
    with pytest.raises(ValueError, match="`level_set_weight`"):
        CrossEntropyLevelSetLoss(tf.Variable(-1.0))
