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
