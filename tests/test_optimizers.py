"""CaffeSGD against Caffe's update written out, and Keras' contracts."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_levelset.compat import KERAS_3
from tf_levelset.optimizers import CaffeSGD

MULTIPLIERS = [("head/kernel", 10.0, 1.0), ("head/bias", 20.0, 0.0), ("bias", 2.0, 0.0)]


def small_model() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(4, name="body", bias_initializer="ones"),
            keras.layers.Dense(2, name="head", bias_initializer="ones"),
        ]
    )


def caffe(
    weights: list[np.ndarray],
    gradients: list[list[np.ndarray]],
    rates: list[tuple[float, float]],
    learning_rate: float,
    momentum: float,
    decay: float,
) -> list[np.ndarray]:
    """Caffe's SGD: v ← μ v + lr·m (g + d·λ w);  w ← w − v."""
    weights = [w.astype(np.float64) for w in weights]
    velocity = [np.zeros_like(w) for w in weights]
    for step in gradients:
        for i, (rate, decay_rate) in enumerate(rates):
            gradient = step[i] + decay_rate * decay * weights[i]
            velocity[i] = momentum * velocity[i] + learning_rate * rate * gradient
            weights[i] = weights[i] - velocity[i]
    return weights


@pytest.mark.parametrize("in_graph", [False, True])
def test_equals_caffes_update(in_graph: bool) -> None:
    model = small_model()
    rng = np.random.default_rng(0)
    gradients = [
        [rng.normal(size=v.shape) for v in model.trainable_variables] for _ in range(5)
    ]
    expected = caffe(
        model.get_weights(),
        gradients,
        [(1, 1), (2, 0), (10, 1), (20, 0)],
        learning_rate=0.01,
        momentum=0.9,
        decay=0.1,
    )
    optimizer = CaffeSGD(0.01, momentum=0.9, l2=0.1, multipliers=MULTIPLIERS)
    optimizer.build(model.trainable_variables)

    def apply(step: list[tf.Tensor]) -> None:
        optimizer.apply_gradients(zip(step, model.trainable_variables, strict=True))

    run = tf.function(apply) if in_graph else apply
    for step in gradients:
        run([tf.constant(g, tf.float32) for g in step])
    for ours, theirs in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_decays_ten_times_as_much_as_keras_weight_decay() -> None:
    # With zero gradients and momentum 0.9, coupled decay sums to 1/(1 − 0.9) of it.
    def decayed(optimizer: Any) -> float:
        weight = keras.Variable([1.0]) if KERAS_3 else tf.Variable([1.0])
        optimizer.build([weight])
        for _ in range(400):
            optimizer.apply_gradients([(tf.zeros(1), weight)])
        return 1 - float(weight.numpy()[0])

    ours = decayed(CaffeSGD(0.01, momentum=0.9, l2=1e-4))
    theirs = decayed(keras.optimizers.SGD(0.01, momentum=0.9, weight_decay=1e-4))
    assert 9 < ours / theirs < 10.1


def test_poly_schedule() -> None:
    schedule = keras.optimizers.schedules.PolynomialDecay(0.1, 10, 0.0, power=0.9)
    optimizer = CaffeSGD(schedule)
    weight = keras.Variable([0.0]) if KERAS_3 else tf.Variable([0.0])
    optimizer.build([weight])
    for step in range(10):
        before = float(weight.numpy()[0])
        optimizer.apply_gradients([(tf.ones(1), weight)])
        taken = before - float(weight.numpy()[0])
        np.testing.assert_allclose(taken, 0.1 * (1 - step / 10) ** 0.9, rtol=1e-4)


def test_trains_and_round_trips(tmp_path: Any) -> None:
    model = small_model()
    optimizer = CaffeSGD(
        0.01, momentum=0.9, l2=1e-4, multipliers=MULTIPLIERS, nesterov=True
    )
    model.compile(optimizer, "mse")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(32, 3)), rng.normal(size=(32, 2))
    losses = model.fit(x, y, epochs=3, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras").optimizer
    assert isinstance(loaded, CaffeSGD)
    assert loaded.get_config() == optimizer.get_config()
    assert loaded.multipliers == optimizer.multipliers


def test_under_mixed_float16() -> None:
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        model = small_model()
        model.compile(CaffeSGD(0.01, l2=1e-4, multipliers=MULTIPLIERS), "mse")
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(32, 3)), rng.normal(size=(32, 2))
        losses = model.fit(x, y, epochs=3, verbose=0).history["loss"]
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert np.isfinite(losses).all()


@pytest.mark.parametrize(
    "options",
    [
        {"l2": -1.0},
        {"weight_decay": 1e-4},
        {"multipliers": [("bias", 2.0)]},
        {"multipliers": [("bias", -2.0, 0.0)]},
        {"multipliers": [(1, 2.0, 0.0)]},
    ],
)
def test_bad_arguments_raise(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Expected"):
        CaffeSGD(0.1, **options)
