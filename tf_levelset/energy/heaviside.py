"""Heaviside functions H and their derivatives δ (Kim et al. 2019, Eq. 6, Section 3.1).

A level set function φ is positive inside its contour. H(φ) is one inside and zero
outside, either sharply ("hf") or smoothly with a width ε ("ahf", "mahf", "logit");
δ = dH/dφ. Each complement 1 − H is computed by a formula of its own, since the
difference 1 − H(φ) loses all digits in float32 where H is close to one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf


def hf(z: tf.Tensor, epsilon: float = 0.0) -> tf.Tensor:
    """Heaviside function: 1 where z ≥ 0, else 0 (HF, Section 3.1); NaN where z is.

    HF has no width: `epsilon` is there because the other functions have it.
    """
    return tf.where(tf.math.is_nan(z), z, tf.cast(z >= 0, z.dtype))


def hf_complement(z: tf.Tensor, epsilon: float = 0.0) -> tf.Tensor:
    """1 − HF(z)."""
    return tf.where(tf.math.is_nan(z), z, tf.cast(z < 0, z.dtype))


def ahf(z: tf.Tensor, epsilon: float) -> tf.Tensor:
    """Approximated Heaviside function ½(1 + (2/π) arctan(z/ε)) of Chan and Vese."""
    return 0.5 + tf.atan(z / epsilon) / math.pi


def ahf_delta(z: tf.Tensor, epsilon: float) -> tf.Tensor:
    """Derivative of `ahf`: (1/π) ε / (ε² + z²)."""
    return (epsilon / math.pi) / (epsilon**2 + tf.square(z))


def mahf(z: tf.Tensor, epsilon: float) -> tf.Tensor:
    """Modified approximated Heaviside function ½(1 + tanh(z/ε)) (MAHF, Eq. 6).

    It is written as the equal sigmoid(2z/ε). In float32, tanh is exactly −1 from
    z = −10 ε on, which would empty a region and leave its mean 0/0.
    """
    return tf.sigmoid((2 / epsilon) * z)


def mahf_delta(z: tf.Tensor, epsilon: float) -> tf.Tensor:
    """Derivative of `mahf`: (1/2ε)(1 − tanh(z/ε))(1 + tanh(z/ε)) (Eq. 6)."""
    return (2 / epsilon) * mahf(z, epsilon) * mahf(-z, epsilon)


def logit(z: tf.Tensor, epsilon: float) -> tf.Tensor:
    """Sigmoid of the log odds of P = z + ½ over ε: Pᵏ / (Pᵏ + (1 − P)ᵏ), k = 1/ε.

    At ε = 1, δ is 1 everywhere, and H is P itself: the membership in [0, 1] of the
    convex relaxation of Chan, Esedoglu and Nikolova (2006).
    """
    if epsilon == 1:
        return _probability(z)
    inside, outside = _powers(z, 1 / epsilon)
    return inside / (inside + outside)


def logit_delta(z: tf.Tensor, epsilon: float) -> tf.Tensor:
    """Derivative of `logit`: k (P (1 − P))ᵏ⁻¹ / (Pᵏ + (1 − P)ᵏ)²."""
    if epsilon == 1:
        return tf.ones_like(z)
    k = 1 / epsilon
    inside, outside = _powers(z, k)
    slope = tf.pow(tf.maximum(0.25 - tf.square(z), 0), k - 1)
    return k * slope / tf.square(inside + outside)


def _powers(z: tf.Tensor, k: float) -> tuple[tf.Tensor, tf.Tensor]:
    """Pᵏ and (1 − P)ᵏ."""
    return tf.pow(_probability(z), k), tf.pow(_probability(-z), k)


def _probability(z: tf.Tensor) -> tf.Tensor:
    """P = z + ½, kept at zero or more against rounding."""
    return tf.maximum(0.5 + z, 0)


class Heaviside(NamedTuple):
    """A Heaviside function H, its complement 1 − H, and the δ its gradient uses."""

    inside: Callable[[tf.Tensor, float], tf.Tensor]
    outside: Callable[[tf.Tensor, float], tf.Tensor]
    delta: Callable[[tf.Tensor, float], tf.Tensor]


FUNCTIONS = {
    "mahf": Heaviside(mahf, lambda z, epsilon: mahf(-z, epsilon), mahf_delta),
    "ahf": Heaviside(ahf, lambda z, epsilon: ahf(-z, epsilon), ahf_delta),
    "logit": Heaviside(logit, lambda z, epsilon: logit(-z, epsilon), logit_delta),
    # The derivative of HF is zero almost everywhere, so HF is trained with MAHF's δ
    # (a straight-through estimator).
    "hf": Heaviside(hf, hf_complement, mahf_delta),
}
"""By the names of `options.HEAVISIDES`."""
