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


def test_versions_are_those_that_run() -> None:
    versions = compat.versions()
    assert versions["tensorflow"] == tf.__version__
    assert versions["keras"] == keras.__version__
