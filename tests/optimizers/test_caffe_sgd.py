"""CaffeSGD against Caffe's update written out, and Keras' contracts."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_levelset.compat import KERAS_3, raw_variable, variable_path
from tf_levelset.optimizers.caffe_sgd import CaffeSGD

MULTIPLIERS = [("head/kernel", 10.0, 1.0), ("head/bias", 20.0, 0.0), ("bias", 2.0, 0.0)]


def small_model() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(4, name="body", bias_initializer="ones"),
            keras.layers.Dense(2, name="head", bias_initializer="ones"),
        ]
    )


STEPS, RATE, DECAY = 50, 0.02, 0.05
RATES = {
    "conv1/kernel": (0.5, 2.0),
    "conv1/bias": (0.5, 2.0),
    "conv2/kernel": (1.0, 1.0),
    "conv2/bias": (2.0, 0.0),
    "fc8/kernel": (10.0, 1.0),
    "fc8/bias": (20.0, 0.0),
}
"""Of each variable: its learning rate multiplier, and its decay multiplier."""
PATTERNS = [
    ("fc8/kernel", 10.0, 1.0),
    ("fc8/bias", 20.0, 0.0),
    ("conv[13]/", 0.5, 2.0),  # its bias as well: the first match applies
    ("/bias$", 2.0, 0.0),
]


def conv_net(dtype: str = "float32") -> keras.Model:
    options: dict[str, Any] = {"padding": "same", "dtype": dtype}
    return keras.Sequential(
        [
            keras.Input((6, 7, 2), dtype=dtype),
            keras.layers.Conv2D(4, 3, activation="tanh", name="conv1", **options),
            keras.layers.Conv2D(
                4, 3, activation="tanh", name="conv2", dilation_rate=2, **options
            ),
            keras.layers.Conv2D(2, 1, name="fc8", **options),
        ]
    )


Gradients = Callable[[int], list[tf.Tensor]]


def gradients_of(model: keras.Model) -> Gradients:
    """The gradients of a squared error, on the batch of a step."""
    dtype = model.layers[0].compute_dtype

    @tf.function
    def gradients(images: tf.Tensor, targets: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(images, training=True) - targets) ** 2)
        return tape.gradient(loss, [raw_variable(v) for v in model.trainable_variables])

    def of_step(step: int) -> list[tf.Tensor]:
        images, targets = np.random.default_rng(step).normal(size=(2, 3, 6, 7, 2))
        return gradients(tf.constant(images, dtype), tf.constant(targets, dtype))

    return of_step


@functools.cache
def float64_net() -> tuple[keras.Model, Gradients]:
    model = conv_net("float64")
    return model, gradients_of(model)


def caffe(
    start: list[np.ndarray],
    *,
    momentum: float = 0.9,
    power: float = 0.9,
    decay: float = DECAY,
    rates: dict[str, tuple[float, float]] = RATES,
    momentum_first: bool = True,
    nesterov: bool = False,
) -> list[np.ndarray]:
    """Caffe's SGD in float64: v ← μ v + lr·m (g + d·λ w);  w ← w − v.

    With Nesterov's momentum, w ← w − ((1 + μ) v − μ · the last v).
    Each gradient is taken where these weights are, and not where ours are.
    """
    model, gradients_at = float64_net()
    weights = [w.astype(np.float64) for w in start]
    velocity = [np.zeros_like(w) for w in weights]
    for step in range(STEPS):
        model.set_weights(weights)
        learning_rate = RATE * (1 - step / (2 * STEPS)) ** power
        gradients = gradients_at(step)
        for i, (rate, decay_rate) in enumerate(rates.values()):
            gradient = gradients[i].numpy() + decay_rate * decay * weights[i]
            if momentum_first:
                last = velocity[i]
                velocity[i] = momentum * last + learning_rate * rate * gradient
                ahead = momentum * (velocity[i] - last) if nesterov else 0
                weights[i] = weights[i] - velocity[i] - ahead
            else:
                velocity[i] = momentum * velocity[i] + gradient
                weights[i] = weights[i] - learning_rate * rate * velocity[i]
    return weights


def ours_after(
    start: list[np.ndarray], compiled: str, nesterov: bool = False
) -> list[np.ndarray]:
    model = conv_net()
    model.set_weights(start)
    schedule = keras.optimizers.schedules.PolynomialDecay(
        RATE, 2 * STEPS, 0.0, power=0.9
    )
    optimizer = CaffeSGD(schedule, 0.9, DECAY, PATTERNS, nesterov)
    optimizer.build(model.trainable_variables)

    def apply(gradients: list[tf.Tensor]) -> None:
        optimizer.apply_gradients(
            zip(gradients, model.trainable_variables, strict=True)
        )

    run = {
        "eager": apply,
        "graph": tf.function(apply),
        "xla": tf.function(apply, jit_compile=True),
    }[compiled]
    gradients_at = gradients_of(model)
    for step in range(STEPS):
        run(gradients_at(step))
    return model.get_weights()


def distance(ours: list[np.ndarray], theirs: list[np.ndarray]) -> float:
    """The largest difference, relative to the largest weight of its variable."""
    return max(
        float(np.abs(a - b).max() / np.abs(b).max())
        for a, b in zip(ours, theirs, strict=True)
    )


@pytest.fixture(scope="module")
def start() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [
        0.5 * rng.normal(size=w.shape).astype(np.float32)
        for w in conv_net().get_weights()
    ]


@pytest.fixture(scope="module")
def followed(start: list[np.ndarray]) -> list[np.ndarray]:
    return caffe(start)


@pytest.mark.parametrize("compiled", ["eager", "graph", "xla"])
def test_follows_caffes_sgd_for_fifty_steps(
    compiled: str, start: list[np.ndarray], followed: list[np.ndarray]
) -> None:
    assert distance(ours_after(start, compiled), followed) < 1e-5


def test_follows_caffes_nesterov(start: list[np.ndarray]) -> None:
    expected = caffe(start, nesterov=True)
    assert distance(ours_after(start, "graph", nesterov=True), expected) < 1e-5


@pytest.mark.parametrize(
    "mistake",
    [
        {"momentum": 0.89},
        {"power": 1.0},
        {"decay": 0.0},
        {"decay": 2 * DECAY},
        {"momentum_first": False},
        {"nesterov": True},
        *({"rates": {**RATES, path: (1.1 * m, d)}} for path, (m, d) in RATES.items()),
        *({"rates": {**RATES, path: (m, d + 0.5)}} for path, (m, d) in RATES.items()),
    ],
    ids=str,
)
def test_fifty_steps_tell_other_rules(
    mistake: dict[str, Any], start: list[np.ndarray], followed: list[np.ndarray]
) -> None:
    assert distance(caffe(start, **mistake), followed) > 1e-3


def test_multipliers_are_of_the_first_match() -> None:
    model = conv_net()
    optimizer = CaffeSGD(0.1, multipliers=PATTERNS)
    found = {
        "/".join(variable_path(v).split("/")[-2:]): optimizer.multiplier(v)
        for v in model.trainable_variables
    }
    assert found == RATES


def test_decays_ten_times_as_much_as_keras_weight_decay() -> None:
    # With zero gradients and momentum 0.9, coupled decay sums to 1/(1 − 0.9) of it.
    def decayed(optimizer: Any) -> float:
        weight = keras.Variable([1.0]) if KERAS_3 else tf.Variable([1.0])
        optimizer.build([weight])
        step = tf.function(lambda: optimizer.apply_gradients([(tf.zeros(1), weight)]))
        for _ in range(400):
            step()
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
        {"multipliers": [("fc8(", 2.0, 0.0)]},
        {"multipliers": [("bias", "2", 0.0)]},
        {"multipliers": [("bias", float("nan"), 0.0)]},
        {"l2": "a"},
        {"momentum": 1.5},
        {"momentum": "a"},
        {"l2": None},
    ],
)
def test_bad_arguments_raise(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Expected"):
        CaffeSGD(0.1, **options)


@pytest.mark.parametrize("momentum", [0, 1])
def test_momentum_may_be_an_integer(momentum: int) -> None:
    assert CaffeSGD(0.1, momentum=momentum).momentum == momentum
