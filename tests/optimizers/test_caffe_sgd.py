"""CaffeSGD against Caffe's update written out, and Keras' contracts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_levelset.compat import raw_variable
from tf_levelset.optimizers.caffe_sgd import CaffeSGD

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


def conv_net(dtype: str | None = "float32") -> keras.Model:
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


def caffe(start: list[np.ndarray], nesterov: bool = False) -> list[np.ndarray]:
    """Caffe's SGD in float64: v ← μ v + lr·m (g + d·λ w);  w ← w − v.

    With Nesterov's momentum, w ← w − ((1 + μ) v − μ · the last v).
    Each gradient is taken where these weights are, and not where ours are.
    """
    model = conv_net("float64")
    gradients_at = gradients_of(model)
    weights = [w.astype(np.float64) for w in start]
    velocity = [np.zeros_like(w) for w in weights]
    for step in range(STEPS):
        model.set_weights(weights)
        learning_rate = RATE * (1 - step / (2 * STEPS)) ** 0.9
        gradients = gradients_at(step)
        for i, (rate, decay_rate) in enumerate(RATES.values()):
            gradient = gradients[i].numpy() + decay_rate * DECAY * weights[i]
            last = velocity[i]
            velocity[i] = 0.9 * last + learning_rate * rate * gradient
            ahead = 0.9 * (velocity[i] - last) if nesterov else 0
            weights[i] = weights[i] - velocity[i] - ahead
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
def followed(start: list[np.ndarray]) -> dict[bool, list[np.ndarray]]:
    return {nesterov: caffe(start, nesterov) for nesterov in (False, True)}


@pytest.mark.parametrize(
    ("compiled", "nesterov"),
    [("eager", False), ("graph", False), ("xla", False), ("graph", True)],
)
def test_follows_caffes_sgd_for_fifty_steps(
    compiled: str,
    nesterov: bool,
    start: list[np.ndarray],
    followed: dict[bool, list[np.ndarray]],
) -> None:
    ours = ours_after(start, compiled, nesterov)
    assert distance(ours, followed[nesterov]) < 1e-5
    # The other momentum is told apart.
    assert distance(ours, followed[not nesterov]) > 1e-3


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_trains(policy: str) -> None:
    keras.mixed_precision.set_global_policy(policy)
    try:
        model = conv_net(None)
        model.compile(CaffeSGD(0.01, 0.9, 1e-4, PATTERNS, nesterov=True), "mse")
        x, y = np.random.default_rng(0).normal(size=(2, 16, 6, 7, 2))
        losses = model.fit(x, y, epochs=3, verbose=0).history["loss"]
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert losses[-1] < losses[0]


def test_round_trips_with_its_model(tmp_path: Path) -> None:
    model = conv_net()
    optimizer = CaffeSGD(0.01, 0.9, 1e-4, PATTERNS, nesterov=True)
    model.compile(optimizer, "mse")
    optimizer.build(model.trainable_variables)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras").optimizer
    assert isinstance(loaded, CaffeSGD)
    assert loaded.get_config() == optimizer.get_config()
    assert loaded.multipliers == optimizer.multipliers


@pytest.mark.parametrize(
    "options",
    [
        {"l2": -1.0},
        {"weight_decay": 1e-4},
        {"multipliers": [("bias", -2.0, 0.0)]},
        {"multipliers": [("fc8(", 2.0, 0.0)]},
        {"multipliers": [("bias", float("nan"), 0.0)]},
        {"momentum": 1.5},
        {"l2": None},
    ],
)
def test_bad_arguments_raise(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Expected"):
        CaffeSGD(0.1, **options)
