"""Heaviside functions: values, derivatives, complements and float32 tails."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
import tensorflow as tf

from tf_levelset.energy import heaviside

EPSILON = 1 / 20
PHI = np.linspace(-0.5, 0.5, 101)


def test_values_by_hand() -> None:
    # z = ε: MAHF = ½(1 + tanh 1) = 0.880797, AHF = ½(1 + (2/π)(π/4)) = 0.75.
    z = tf.constant([-EPSILON, 0.0, EPSILON], tf.float64)
    np.testing.assert_allclose(
        heaviside.mahf(z, EPSILON), [0.11920292, 0.5, 0.88079708], rtol=1e-7
    )
    np.testing.assert_allclose(heaviside.ahf(z, EPSILON), [0.25, 0.5, 0.75])
    np.testing.assert_array_equal(heaviside.hf(z), [0, 1, 1])


SMOOTH = [("mahf", EPSILON), ("ahf", EPSILON), ("logit", 1.0), ("logit", 0.4)]


@pytest.mark.parametrize(("name", "epsilon"), [*SMOOTH, ("hf", EPSILON)])
def test_equals_the_literal_formula(name: str, epsilon: float) -> None:
    z = tf.constant(PHI, tf.float64)
    functions = heaviside.FUNCTIONS[name]
    expected = oracles.heaviside(name, z, epsilon)
    np.testing.assert_allclose(functions.inside(z, epsilon), expected, atol=1e-15)
    np.testing.assert_allclose(functions.outside(z, epsilon), 1 - expected, atol=1e-15)


@pytest.mark.parametrize(("name", "epsilon"), SMOOTH)
def test_delta_is_the_derivative(name: str, epsilon: float) -> None:
    z = tf.constant(PHI[1:-1], tf.float64)
    functions = heaviside.FUNCTIONS[name]
    with tf.GradientTape() as tape:
        tape.watch(z)
        value = oracles.heaviside(name, z, epsilon)
    np.testing.assert_allclose(
        functions.delta(z, epsilon), tape.gradient(value, z), rtol=1e-6
    )


def test_logit_is_the_sigmoid_of_the_log_odds() -> None:
    z = tf.constant([0.2, 1.5, -3.0], tf.float64)
    phi = tf.sigmoid(z) - 0.5
    np.testing.assert_allclose(heaviside.logit(phi, 0.3), tf.sigmoid(z / 0.3))
    np.testing.assert_allclose(heaviside.logit(phi, 1.0), phi + 0.5)


@pytest.mark.parametrize("epsilon", [1.0, 0.5, 0.05])
def test_logit_is_finite_where_the_net_is_certain(epsilon: float) -> None:
    functions = heaviside.FUNCTIONS["logit"]
    certain = tf.constant([-0.5, 0.5, -0.5000001, 0.5000001])
    np.testing.assert_array_equal(functions.inside(certain, epsilon)[0::2], 0)
    np.testing.assert_allclose(functions.inside(certain, epsilon)[1::2], 1, rtol=1e-6)
    slope = 1 if epsilon == 1 else 0
    np.testing.assert_array_equal(functions.delta(certain, epsilon), slope)


def test_hf_trains_with_the_delta_of_mahf() -> None:
    z = tf.constant(PHI)
    np.testing.assert_array_equal(
        heaviside.FUNCTIONS["hf"].delta(z, EPSILON), heaviside.mahf_delta(z, EPSILON)
    )


def test_mahf_keeps_its_tail_in_float32() -> None:
    # ½(1 + tanh(−10)) is exactly 0 in float32, and a region's mean 0/0.
    tail = heaviside.mahf(tf.constant(-0.5), EPSILON)
    np.testing.assert_allclose(tail, 1 / (1 + np.exp(20)), rtol=1e-5)
    outside = heaviside.FUNCTIONS["mahf"].outside(tf.constant(0.5), EPSILON)
    np.testing.assert_allclose(outside, 1 / (1 + np.exp(20)), rtol=1e-5)
