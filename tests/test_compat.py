"""What the two versions of Keras are made to agree on."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_levelset import compat


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (None, "float32"),
        ("float32", "float32"),
        ("float64", "float64"),
        ("float16", "float32"),
        ("bfloat16", "float32"),
        ("mixed_float16", "float32"),
        ("mixed_bfloat16", "float32"),
        (tf.float64, "float64"),
    ],
)
def test_losses_compute_in_32_bits_or_more(dtype: Any, expected: str) -> None:
    loss = compat.Loss(name="loss", dtype=dtype)
    assert tf.as_dtype(loss.dtype).name == expected


def test_a_half_precision_floatx_is_not_the_losses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keras.backend, "floatx", lambda: "float16")
    assert tf.as_dtype(compat.Loss(name="loss").dtype).name == "float32"


def test_a_policy_object_is_kept_by_name() -> None:
    policy = (
        keras.DTypePolicy("mixed_bfloat16")
        if compat.KERAS_3
        else keras.mixed_precision.Policy("mixed_bfloat16")
    )
    assert compat.Loss(name="loss", dtype=policy).get_config()["dtype"] == policy.name


def test_paths_name_layer_and_kind() -> None:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="head")])
    paths = [compat.variable_path(v) for v in model.trainable_variables]
    assert [path.split("/")[-2:] for path in paths] == [
        ["head", "kernel"],
        ["head", "bias"],
    ]


def test_state_of_a_model_repeats_its_dropout() -> None:
    model = keras.Sequential([keras.Input((50,)), compat.dropout(0.5, "drop")])
    x = tf.ones((1, 50))
    state = [tf.identity(v) for v in compat.state_of(model)]
    first, second = model(x, training=True), model(x, training=True)
    assert np.any(first != second)
    for variable, value in zip(compat.state_of(model), state, strict=True):
        variable.assign(value)
    np.testing.assert_array_equal(model(x, training=True), first)


def test_an_optimizers_variables_hold_the_scale_of_the_loss() -> None:
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    wrapper = (
        keras.optimizers.LossScaleOptimizer
        if compat.KERAS_3
        else keras.mixed_precision.LossScaleOptimizer
    )
    optimizer = wrapper(keras.optimizers.SGD(1.0), initial_scale=1024.0)
    model.compile(optimizer, "mse")
    x = np.full((1, 1), np.inf, np.float32)
    optimizer.build(model.trainable_variables)
    before = [v.numpy() for v in compat.variables_of(optimizer)]
    assert 1024 in before
    model.train_on_batch(x, x)  # its gradients are not finite: the scale is halved
    assert 512 in [v.numpy() for v in compat.variables_of(optimizer)]


def test_the_variables_of_metrics_are_what_an_epoch_sums_up() -> None:
    inputs = keras.Input((1,))
    outputs = [keras.layers.Dense(1, name=name)(inputs) for name in ("a", "b")]
    model = keras.Model(inputs, outputs)
    metrics: list[Any] = [["mse"], []]
    model.compile("sgd", ["mse", "mse"], metrics=metrics)
    x = np.ones((3, 1), np.float32)
    model.fit(x, [x, x], batch_size=1, verbose=0)
    sums = [float(v.numpy()) for v in compat.metric_variables(model)]
    # The means of the loss, of each output's and of the metric: sums and counts.
    assert len(sums) == 8
    assert sums.count(3) == 4
    model.reset_metrics()
    assert not any(v.numpy() for v in compat.metric_variables(model))


def test_versions_are_those_that_run() -> None:
    versions = compat.versions()
    assert versions["tensorflow"] == tf.__version__
    assert versions["keras"] == keras.__version__
