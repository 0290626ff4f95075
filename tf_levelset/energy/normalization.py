"""The factors of the classes' energies: weights and normalisations.

The paper sums the energies ("sum"). The other forms are ours. With n valid pixels, S_g
of them of the class, and S_h = Σ H, they rest on the total sum of squares T_l of the
truth, which bounds E_l, and on the correlation ρ_l of truth and prediction:

    T_l = S_g (1 − S_g/n)     V_l = S_h (1 − S_h/n)     ρ_l = (c_l1 − c_l2) √(V_l/T_l)
    E_l / T_l = 1 − ρ_l²

For a sharp H, ρ_l is the Matthews correlation coefficient, else its soft counterpart.
"scale_free" is the mean of E_l/T_l over the classes that vary (0 < S_g < n). Its
gradient vanishes with ρ_l, that is, while a class is not found yet. "correlation" is
1 − ρ_l, whose gradient does not vanish:

    ∂(1 − ρ_l)/∂φ_l(x) = −δ(φ_l) (2 G_l − c_l1 − c_l2) / (2 √(T_l V_l))

"balanced" is the mean of 1 − ρ_l² and 1 − ρ_l with the sign of ρ_l kept,
1 − (ρ_l + ρ_l |ρ_l|)/2. It pulls a class the more
strongly the better the class is found, as the mean IoU does, and always pulls a little.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from tf_levelset.energy.regions import Regions


class Scale(NamedTuple):
    """The factor of the energy of each class."""

    factor: tf.Tensor
    """(…, C): class weight times normalisation."""
    share: tf.Tensor
    """(…, C): S_g/n, the share of the valid pixels that the class has."""


def class_scale(
    pixels: tf.Tensor,
    n: tf.Tensor,
    class_weight: Sequence[float] | None,
    normalization: str,
) -> Scale:
    """Returns class weights times the normalisation, and the shares of the classes.

    Args:
        pixels: The number S_g of pixels of each class, (…, C).
        n: The number of valid pixels, (…, 1).
        class_weight: C numbers, or None.
        normalization: One of `options.NORMALIZATIONS`. All but "sum" and "mean" are
            means over the classes that vary, 0 < S_g < n.
    """
    share = tf.math.divide_no_nan(pixels, n)
    variance = tf.math.divide_no_nan(pixels * (n - pixels), n)
    if normalization == "sum":
        factor = tf.ones_like(variance)
    elif normalization == "mean":
        factor = tf.math.divide_no_nan(tf.ones_like(variance), n)
    else:
        varied = tf.cast(variance > 0, variance.dtype)
        count = tf.reduce_sum(varied, axis=-1, keepdims=True)
        factor = tf.math.divide_no_nan(varied, variance * count)
    if class_weight is not None:
        factor *= tf.constant(class_weight, factor.dtype)
    return Scale(factor, share)


def correlation_terms(
    difference: tf.Tensor, sums: Regions, normalization: str
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns what turns E/T and its slope into those of a signed form.

    1 − |ρ| is computed as (1 − ρ²)/(1 + |ρ|), which keeps the digits of a small one.

    Args:
        difference: The difference c1 − c2, (…, C).
        sums: The sums of the classes, each (…, C).
        normalization: One of `options.SIGNED_NORMALIZATIONS`.

    Returns:
        The factor of E/T, 1/(1 + |ρ|), and the slope that replaces c1 − c2 in Eq. 7,
        ½ √(T/V), both (…, C). For "balanced", (1 + factor)/2 and (|c1 − c2| + slope)/2.
    """
    root, size = _root_of_ratio(sums), tf.abs(difference)
    factor = 1 / (1 + size * root)
    slope = tf.math.divide_no_nan(tf.constant(0.5, root.dtype), root)
    if normalization == "balanced":
        return (1 + factor) / 2, (size + slope) / 2
    return factor, slope


def _root_of_ratio(sums: Regions) -> tf.Tensor:
    """Returns √(V/T), (…, C); zero for a class whose truth or H does not vary."""
    inside, outside = sums.a + sums.b, sums.c + sums.d
    pixels, others = sums.a + sums.c, sums.b + sums.d
    # V/T = (S_h S_1−h) / (S_g S_1−g), factor by factor: products may overflow.
    return tf.sqrt(tf.math.divide_no_nan(inside, pixels)) * tf.sqrt(
        tf.math.divide_no_nan(outside, others)
    )
