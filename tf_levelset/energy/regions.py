"""The regions inside and outside each class's contour: their sums and means (Eq. 5).

The ground truth G_l is binary, so four sums describe a class completely: H and 1 − H
summed over the class's own pixels (a, c) and over the other pixels (b, d). They give

    c1 = a/(a+b),  1 − c1 = b/(a+b),  c2 = c/(c+d),  1 − c2 = d/(c+d)

as sums and quotients of positive terms, which keep their digits in float32.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from tf_levelset import xla


class Regions(NamedTuple):
    """Sums of H and 1 − H over the pixels of a class and the others, each (…, C)."""

    a: tf.Tensor
    """Σ H over the class's own pixels."""
    b: tf.Tensor
    """Σ H over the other valid pixels."""
    c: tf.Tensor
    """Σ (1 − H) over the class's own pixels."""
    d: tf.Tensor
    """Σ (1 − H) over the other valid pixels."""


class Means(NamedTuple):
    """Region means of Eq. 5 with their complements, each (…, C)."""

    c1: tf.Tensor
    not_c1: tf.Tensor
    c2: tf.Tensor
    not_c2: tf.Tensor


def region_sums(truth: tf.Tensor, inside: tf.Tensor, outside: tf.Tensor) -> Regions:
    """Sums H and 1 − H where the truth is 1 and where it is 0.

    Args:
        truth: G, (B, N, C).
        inside: H(φ), (B, N, C), zero on void pixels.
        outside: 1 − H(φ), (B, N, C), zero on void pixels.

    Returns:
        Sums over the pixels, each (B, 1, C).
    """

    def over_pixels(values: tf.Tensor) -> tf.Tensor:
        # XLA adds the pixels one by one: float32 would lose four digits.
        dtype = tf.float64 if xla.in_xla() else values.dtype
        total = tf.reduce_sum(tf.cast(values, dtype), axis=1, keepdims=True)
        return tf.cast(total, values.dtype)

    others = 1 - truth
    return Regions(
        over_pixels(truth * inside),
        over_pixels(others * inside),
        over_pixels(truth * outside),
        over_pixels(others * outside),
    )


def region_means(sums: Regions, share: tf.Tensor) -> Means:
    """Returns the means c1 and c2 of the truth inside and outside a contour (Eq. 5).

    Args:
        sums: The sums of each class, each (…, C).
        share: S_g/n, the share of the pixels that the class has, (…, C). It replaces
            the mean of an empty region, 0/0, which then exerts no force.
    """

    def mean(part: tf.Tensor, rest: tf.Tensor, if_empty: tf.Tensor) -> tf.Tensor:
        total = part + rest
        safe = tf.where(total > 0, total, 1)
        return tf.where(total > 0, part / safe, if_empty)

    a, b, c, d = sums
    return Means(
        mean(a, b, share),
        mean(b, a, 1 - share),
        mean(c, d, share),
        mean(d, c, 1 - share),
    )


def mean_difference(means: Means) -> tf.Tensor:
    """Returns c1 − c2, from the means or their complements, whichever cancel less."""
    near_zero = means.c1 + means.c2 < 1
    return tf.where(near_zero, means.c1 - means.c2, means.not_c2 - means.not_c1)
