"""The Chan–Vese energy of softmax maps against a label map (Kim et al. 2019, Eq. 4–7).

For one image with n valid pixels: P_l is the probability of class l, φ_l = P_l − ½ its
level set function, G_l ∈ {0, 1} its binary ground truth, and

    (4)  E = Σ_l Σ_x [(G_l − c_l1)² H(φ_l) + (G_l − c_l2)² (1 − H(φ_l))]
    (5)  c_l1 = Σ G_l H / Σ H        c_l2 = Σ G_l (1 − H) / Σ (1 − H)
    (7)  ∂E/∂φ_l = δ(φ_l) [(G_l − c_l1)² − (G_l − c_l2)²]

Eq. 7 is the exact gradient: c1 and c2 minimise E, so ∂E/∂c = 0, and their dependence on
φ adds nothing. In terms of the four sums of `regions`, E_l = ab/(a+b) + cd/(c+d). A
class that is absent from the image has a = c = 0, hence neither energy nor gradient:
the "l ∈ L" of Eq. 4 needs no mask.

Divergences from the paper, all off by default: the normalisations of `normalization`,
and `signed`. E_l is even in c1 − c2: where the prediction of a class is anticorrelated
with its truth, c1 < c2, gradient descent makes it worse. The signed energy is
2 T_l − E_l there.

Training from logits with "mahf" or "logit" uses `fused`, which computes the same in one
pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from tf_levelset import compat
from tf_levelset.checks import (
    check_ignore_class,
    check_one_weight_per_class,
    plain_options,
)
from tf_levelset.energy.heaviside import FUNCTIONS
from tf_levelset.energy.normalization import Scale, class_scale, correlation_terms
from tf_levelset.energy.options import EnergyOptions
from tf_levelset.energy.regions import (
    Regions,
    mean_difference,
    region_means,
    region_sums,
)
from tf_levelset.labels import Labels, nan_where, parse_labels
from tf_levelset.scores import floating_scores, softmax_gradient


class Factors(NamedTuple):
    """The factors of H, 1 − H and δ at the pixels of a region, each (…, C)."""

    inside: tf.Tensor
    """(G − c1)² of Eq. 4, scaled."""
    outside: tf.Tensor
    """(G − c2)² of Eq. 4, scaled."""
    force: tf.Tensor
    """(G − c1)² − (G − c2)² of Eq. 7, scaled."""


def class_factors(
    sums: Regions, scale: Scale, options: EnergyOptions
) -> tuple[Factors, Factors]:
    """Returns the factors of Eq. 4 and 7 where G = 1 and where G = 0.

    Args:
        sums: The sums of each class, each (…, C).
        scale: The factor of the energy of each class, and its share, (…, C).
        options: Options of the energy.
    """
    factor, share = scale
    means = region_means(sums, share)
    difference = mean_difference(means)
    weight, slope = factor, factor * difference
    twice = tf.zeros_like(factor)  # 2 T, where the signed energy adds it
    if options.has_sign:
        part, slope = correlation_terms(difference, sums, options.normalization)
        weight, slope = factor * part, factor * slope
    if options.has_sign or options.signed:
        wrong = means.c1 < means.c2
        weight, slope = tf.where(wrong, -weight, weight), tf.abs(slope)
        twice = tf.where(wrong, 2 * factor, 0)
    # (1 − c1)² − (1 − c2)² and c1² − c2² are factored, so that they do not cancel.
    # 2 T is spread over the pixels as 2 (G − share)², whose sum over all pixels is 2 T.
    # Both factors get it, since H + (1 − H) = 1.
    added_to_truth, added_elsewhere = twice * (1 - share) ** 2, twice * share**2
    truth = Factors(
        weight * means.not_c1**2 + added_to_truth,
        weight * means.not_c2**2 + added_to_truth,
        _times_sum(-slope, means.not_c1, means.not_c2),
    )
    elsewhere = Factors(
        weight * means.c1**2 + added_elsewhere,
        weight * means.c2**2 + added_elsewhere,
        _times_sum(slope, means.c1, means.c2),
    )
    return truth, elsewhere


def _times_sum(factor: tf.Tensor, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Returns factor (x + y) as a reduction, because XLA stores its result.

    A plain sum would be recomputed at every pixel.
    """
    return tf.reduce_sum(factor[..., tf.newaxis] * tf.stack([x, y], axis=-1), axis=-1)


class PixelEnergies(NamedTuple):
    """Level sets and energies of every pixel and class, each (B, N, C)."""

    inside: tf.Tensor
    """H(φ), zero on void pixels."""
    energies: tf.Tensor
    """The summands of Eq. 4, scaled; zero on void pixels."""
    force: tf.Tensor
    """The factor of δ(φ) in Eq. 7, scaled."""


def pixel_energies(
    phi: tf.Tensor, truth: tf.Tensor, valid: tf.Tensor, options: EnergyOptions
) -> PixelEnergies:
    """Computes the energy of every pixel and class (Eq. 4).

    Args:
        phi: Level set functions (B, N, C), floating.
        truth: G (B, N, C), zeros and ones, zero on void pixels.
        valid: (B, N, 1), one on valid pixels and zero on void pixels.
        options: Options of the energy.
    """
    functions = FUNCTIONS[options.heaviside]
    inside = functions.inside(phi, options.epsilon) * valid
    outside = functions.outside(phi, options.epsilon) * valid
    scale = class_scale(
        tf.reduce_sum(truth, axis=1, keepdims=True),
        tf.reduce_sum(valid, axis=1, keepdims=True),
        options.class_weight,
        options.normalization,
    )
    of_truth, elsewhere = class_factors(
        region_sums(truth, inside, outside), scale, options
    )
    factors = Factors(
        *(tf.where(truth > 0, *pair) for pair in zip(of_truth, elsewhere, strict=True))
    )
    energies = factors.inside * inside + factors.outside * outside
    return PixelEnergies(inside, energies, factors.force)


def energy_density(
    labels: Labels, scores: tf.Tensor, options: EnergyOptions, from_logits: bool
) -> tf.Tensor:
    """Returns the energy of each pixel, which sums up to `level_set_energy`.

    Weights on the pixels of the result hold c1 and c2 fixed in its gradient, as in
    Chan and Vese's alternating minimisation; equal weights give the exact gradient.

    Args:
        labels: Ground truth with N positions.
        scores: (B, …, C) in float32 or float64, as `floating_scores` returns them.
        options: Options of the energy.
        from_logits: Whether the scores are logits rather than probabilities.

    Returns:
        (B, N), zero on void pixels, NaN where a label is invalid.

    Raises:
        ValueError: If `options.class_weight` does not hold C numbers.
    """
    num_classes = scores.shape[-1]
    check_one_weight_per_class(options.class_weight, num_classes)
    shape = tf.shape(scores)
    flat = tf.stack([shape[0], tf.reduce_prod(shape[1:-1]), num_classes])
    valid = tf.cast(labels.valid, scores.dtype)[..., tf.newaxis]
    truth = tf.one_hot(labels.ids, num_classes, dtype=scores.dtype) * valid

    @tf.custom_gradient
    def density(
        scores: tf.Tensor,
    ) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        probabilities = tf.nn.softmax(scores) if from_logits else scores
        phi = probabilities - 0.5
        _, energies, force = pixel_energies(phi, truth, valid, options)

        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            delta = FUNCTIONS[options.heaviside].delta(phi, options.epsilon) * valid
            by_phi = upstream[..., tf.newaxis] * delta * force  # Eq. 7
            return softmax_gradient(probabilities, by_phi) if from_logits else by_phi

        return tf.reduce_sum(energies, axis=-1), gradient

    densities = density(tf.where(valid > 0, tf.reshape(scores, flat), 0))
    return nan_where(labels.invalid, densities)


@plain_options
def level_set_energy(
    y_true: tf.Tensor,
    y_pred: tf.Tensor,
    *,
    from_logits: bool = False,
    ignore_class: int | None = None,
    **options: Any,
) -> tf.Tensor:
    """Returns the energy of each image, summed over its pixels and classes (Eq. 4).

    Args:
        y_true: Labels (B, …) or (B, …, 1) of an integer dtype, or one-hot (B, …, C),
            with any number of spatial axes.
        y_pred: Probabilities, or logits if `from_logits`, (B, …, C). C = 1 is the
            sigmoid output of a binary task.
        from_logits: Whether a softmax (or sigmoid) is still to be applied.
        ignore_class: Label of void pixels, which do not belong to the image.
        **options: `heaviside`, `epsilon`, `class_weight`, `normalization` and
            `signed`, see `EnergyOptions`.

    Returns:
        (B,), float32, or float64 if `y_pred` is float64. Its gradient is Eq. 7.

    Raises:
        ValueError: For unknown options and for shapes that do not match.
        tf.errors.InvalidArgumentError: For labels that are neither a class nor void.
            XLA drops assertions: the energy is NaN there.

    Example:
    >>> labels = tf.constant([[[0, 1]]])
    >>> probabilities = tf.constant([[[[0.9, 0.1], [0.5, 0.5]]]])
    >>> level_set_energy(labels, probabilities).numpy().round(4)
    array([0.6667], dtype=float32)
    """
    checked = EnergyOptions(**options)
    check_ignore_class(ignore_class)
    scores = floating_scores(y_pred, from_logits)
    mask = compat.keras_mask(y_pred)
    y_true = tf.convert_to_tensor(y_true)
    labels = parse_labels(y_true, scores, ignore_class, mask, from_logits)
    density = energy_density(labels, scores, checked, from_logits)
    return tf.reduce_sum(density, axis=1)
