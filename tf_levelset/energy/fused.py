"""Cross-entropy and level set energy with their gradient, in one go (Eq. 8).

The same numbers as `energy.py` beside a cross-entropy of Keras' own, in less time and
memory, because

- both come from one softmax, and the gradient is written down on the way forward;
- images go one after the other, so that what is kept of one fits the processor's
  cache and takes the place of what was kept of the last;
- each row's classes come before its pixels, whose long runs suit vector instructions;
- a pixel's own class, where H may be close to one, is worked on apart: N numbers
  instead of N × C.

The gradient is worked out also where only the loss is asked for, as in validation.

What it gives up is in the last digits of an energy that is next to nothing: a class
predicted with certainty at nearly all pixels that are not its own. There the
cross-entropy is everything. `energy.py`, for the energy alone, keeps them; so do, here,
the forms whose force does not die with the energy (`keeps_complement`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

from tf_levelset.energy import heaviside as functions
from tf_levelset.energy.energy import (
    WITH_SIGN,
    Regions,
    Scale,
    class_scale,
    mean_difference,
    of_correlation,
    region_means,
)
from tf_levelset.labels import Labels

HEAVISIDES = ("mahf", "logit")
"""The Heaviside functions that this module knows."""

_BELOW = {"mahf": -float("inf"), "logit": -0.5}
"""By Heaviside function, a φ at which it is exactly zero."""


class Options(NamedTuple):
    """Options of the energy; see `energy.level_set_energy`."""

    level_set_weight: tf.Tensor
    """A float64 scalar."""
    heaviside: str
    epsilon: float
    class_weight: Sequence[float] | None
    normalization: str
    signed: bool


class Softmax(NamedTuple):
    """Softmax of one image, P = exponentials / total."""

    exponentials: tf.Tensor
    """(R, C, W): exp(logit − largest logit of the pixel)."""
    total: tf.Tensor
    """(R, W): sum of the exponentials over the classes."""
    own: tf.Tensor
    """(R, W): logit of the pixel's class − largest logit."""


class Own(NamedTuple):
    """What each pixel's own class contributes, (R, W), zero on void."""

    probability: tf.Tensor
    inside: tf.Tensor
    """H(φ)."""
    outside: tf.Tensor
    """1 − H(φ)."""
    slope: tf.Tensor
    """δ(φ), but for what does not depend on the pixel; see `slope`."""


class Factors(NamedTuple):
    """What a class multiplies H, 1 − H and δ by, each (C,); Eq. 4 and 7."""

    inside: tf.Tensor
    outside: tf.Tensor
    force: tf.Tensor


def combined_losses(
    labels: Labels,
    scores: tf.Tensor,
    pixel_weights: tf.Tensor,
    options: Options,
    jit_compile: bool = False,
) -> tf.Tensor:
    """Cross-entropy times `pixel_weights` plus N λ times the energy of each pixel.

    Args:
        labels: ground truth with N positions.
        scores: logits (B, …, C) in float32 or float64.
        pixel_weights: (B, N), what multiplies the cross-entropies; zero on void.
        options: of the energy; its `heaviside` is of `HEAVISIDES`.
        jit_compile: whether to compile with XLA. Only for a graph: called eagerly,
            it would be compiled anew each time.

    Returns:
        (B, N), zero on void pixels. Weights on the pixels of the result hold c1 and c2
        fixed in its gradient, as in `energy.energy_density`.
    """
    num_classes = scores.shape[-1]
    shape = tf.shape(scores)
    # Not −1, which nothing tells where a row has no pixel.
    known = scores.shape[1:-2].num_elements()
    rows = tf.reduce_prod(shape[1:-2]) if known is None else known
    by_row = tf.stack([shape[0], rows, shape[-2]])
    # Void is the class after the last, which nothing is predicted as.
    ids = tf.where(labels.valid, labels.ids, num_classes)
    of_images = functools.partial(every_image, options=options)
    if jit_compile:
        of_images = tf.function(of_images, jit_compile=True, autograph=False)

    @tf.custom_gradient
    def losses(
        scores: tf.Tensor,
    ) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        values, gradients = of_images(
            tf.reshape(ids, by_row),
            tf.reshape(scores, tf.concat([by_row, shape[-1:]], axis=0)),
            tf.reshape(pixel_weights, by_row),
        )

        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            upstream = tf.reshape(upstream, by_row)[..., tf.newaxis]
            return tf.reshape(upstream * gradients, shape)

        return tf.reshape(values, tf.shape(labels.ids)), gradient

    return losses(scores)


def every_image(
    ids: tf.Tensor, logits: tf.Tensor, pixel_weights: tf.Tensor, options: Options
) -> tuple[tf.Tensor, tf.Tensor]:
    """`image_losses` of a batch, one image after the other."""
    values, gradients = tf.map_fn(
        lambda image: image_losses(image[0], image[1], image[2], options),
        (ids, logits, pixel_weights),
        fn_output_signature=(logits.dtype, logits.dtype),
        parallel_iterations=1,
    )
    return values, gradients


def image_losses(
    ids: tf.Tensor, logits: tf.Tensor, pixel_weights: tf.Tensor, options: Options
) -> tuple[tf.Tensor, tf.Tensor]:
    """Losses of one image and their gradient, each for itself.

    Args:
        ids: int32 (R, W), C on void.
        logits: (R, W, C).
        pixel_weights: (R, W).
        options: see `combined_losses`.

    Returns:
        Losses (R, W), and (R, W, C), the derivatives of each by its pixel's logits.
    """
    num_classes = logits.shape[-1]
    valid = tf.cast(ids < num_classes, logits.dtype)
    is_own = ids[:, tf.newaxis] == tf.range(num_classes)[:, tf.newaxis]
    # On void, whatever is gathered is multiplied by zero.
    real_ids = tf.where(ids < num_classes, ids, 0)
    softmax = image_softmax(logits, real_ids)
    scale = 1 / softmax.total
    own = own_class(softmax, valid, options)

    phi = softmax.exponentials * scale[:, tf.newaxis] - 0.5
    elsewhere = ~is_own & (ids < num_classes)[:, tf.newaxis]
    # H where the truth is 0, and exactly zero where it is 1 and on void.
    inside = heaviside(tf.where(elsewhere, phi, _BELOW[options.heaviside]), options)
    outside = None
    if keeps_complement(options):
        outside = heaviside(tf.where(elsewhere, -phi, _BELOW["mahf"]), options)

    others, owns = energy_factors(ids, valid, own, inside, outside, options)
    of_own = [tf.gather(factor, real_ids) for factor in owns]

    # Σ_l≠own of in_l H_l + out_l (1 − H_l), as products of a matrix and a vector.
    energies = tf.linalg.matvec(
        inside, others.inside - others.outside, transpose_a=True
    )
    rest = tf.reduce_sum(others.outside) - others.outside
    energies += valid * tf.gather(rest, real_ids)
    energies += own.inside * of_own[0] + own.outside * of_own[1]
    cross_entropies = tf.math.log(softmax.total) - softmax.own
    values = tf.where(ids < num_classes, pixel_weights * cross_entropies + energies, 0)

    # ∂/∂z_k = P_k (F_k − Σ_l P_l F_l) + w (P_k − G_k), with F = ∂E/∂φ of Eq. 7.
    slopes = slope(phi, inside, outside, options)
    if options.heaviside != "mahf":  # whose is zero where H is
        slopes = tf.where(elsewhere, slopes, 0)
    forces = slopes * others.force[:, tf.newaxis]
    pull = scale * tf.reduce_sum(softmax.exponentials * forces, axis=1)
    pull += own.probability * own.slope * of_own[2]
    level = (pixel_weights - pull)[:, tf.newaxis]
    gradients = softmax.exponentials * (scale[:, tf.newaxis] * (forces + level))
    gradients = tf.where(elsewhere, gradients, 0)
    # A pixel's derivatives add up to zero, which gives its class's to the last digit.
    of_class = -tf.reduce_sum(gradients, axis=1, keepdims=True)
    return values, tf.transpose(tf.where(is_own, of_class, gradients), (0, 2, 1))


def image_softmax(logits: tf.Tensor, ids: tf.Tensor) -> Softmax:
    """Softmax over the classes of logits (R, W, C), for ids (R, W) of real classes."""
    by_class = tf.transpose(logits, (0, 2, 1))
    largest = tf.reduce_max(by_class, axis=1)
    exponentials = tf.exp(by_class - largest[:, tf.newaxis])
    return Softmax(
        exponentials,
        tf.reduce_sum(exponentials, axis=1),
        tf.gather(logits, ids, batch_dims=2) - largest,
    )


def keeps_complement(options: Options) -> bool:
    """Whether 1 − H is computed on its own: of MAHF, where its digits make a force."""
    return options.heaviside == "mahf" and options.normalization in WITH_SIGN


def heaviside(phi: tf.Tensor, options: Options) -> tf.Tensor:
    """H(φ)."""
    return functions.HEAVISIDES[options.heaviside].inside(phi, options.epsilon)


def slope(
    phi: tf.Tensor, inside: tf.Tensor, outside: tf.Tensor | None, options: Options
) -> tf.Tensor:
    """δ(φ) without its constant factor, which is `constant_slope`.

    Where 1 − H is given, `outside`, the product keeps its digits as H nears one.
    """
    if options.heaviside == "logit":
        return functions.HEAVISIDES["logit"].delta(phi, options.epsilon)
    return inside * (1 - inside if outside is None else outside)


def constant_slope(options: Options) -> float:
    """What `slope` leaves out."""
    return 1.0 if options.heaviside == "logit" else 2 / options.epsilon


def own_class(softmax: Softmax, valid: tf.Tensor, options: Options) -> Own:
    """Probability, H, 1 − H and δ of each pixel's own class."""
    probability = tf.exp(softmax.own) / softmax.total
    phi = probability - 0.5
    inside, outside = heaviside(phi, options), heaviside(-phi, options)
    delta = slope(phi, inside, outside, options)
    return Own(valid * probability, valid * inside, valid * outside, valid * delta)


def energy_factors(
    ids: tf.Tensor,
    valid: tf.Tensor,
    own: Own,
    inside: tf.Tensor,
    outside: tf.Tensor | None,
    options: Options,
) -> tuple[Factors, Factors]:
    """Factors of N λ E for the classes that a pixel is not of, and for its own.

    Sums and means are float64: there are few of them, of many addends.

    Args:
        ids: int32 (R, W), C on void.
        valid: (R, W), one or zero.
        own: of each pixel's own class.
        inside: (R, C, W), H of the other classes, else zero.
        outside: likewise 1 − H, or None to take it from H.
        options: see `combined_losses`.
    """
    num_classes = inside.shape[1]
    a, c, pixels = _sums_by_class([own.inside, own.outside, valid], ids, num_classes)
    n = tf.reduce_sum(pixels, keepdims=True)
    b = _sum_of_rows(inside, valid)
    if outside is None:
        # Rounding must not take it below what it is where every probability is one.
        least = heaviside(tf.constant(-0.5, tf.float64), options)
        d = tf.maximum(n - pixels - b, (n - pixels) * least)
    else:
        d = _sum_of_rows(outside, valid)

    scale = class_scale(pixels, n, options.class_weight, options.normalization)
    positions = tf.cast(tf.size(ids), tf.float64)
    scale = scale._replace(factor=scale.factor * options.level_set_weight * positions)
    others, owns = factors_of_sums(Regions(a, b, c, d), scale, options)
    return _cast(others, valid.dtype), _cast(owns, valid.dtype)


def _sum_of_rows(values: tf.Tensor, valid: tf.Tensor) -> tf.Tensor:
    """Sums (R, C, W) over the valid pixels, float64 (C,).

    Row by row, so that float32 adds few numbers.
    """
    by_row = tf.linalg.matvec(values, valid)
    return tf.reduce_sum(tf.cast(by_row, tf.float64), axis=0)


def _cast(factors: Factors, dtype: tf.DType) -> Factors:
    return Factors(*(tf.cast(factor, dtype) for factor in factors))


def factors_of_sums(
    sums: Regions, scale: Scale, options: Options
) -> tuple[Factors, Factors]:
    """Factors of the other classes and of the own one, from the regions' sums.

    Args:
        sums: each (C,).
        scale: what multiplies the energy of a class, and the classes' shares, (C,).
        options: see `combined_losses`.
    """
    factor, share = scale
    means = region_means(sums, share)
    of_root = options.normalization in WITH_SIGN
    difference = mean_difference(means)
    has_sign = options.signed or of_root
    wrong = (means.c1 < means.c2) if has_sign else tf.zeros_like(share, tf.bool)
    sign = tf.where(wrong, -factor, factor)
    slopes = sign * difference
    if of_root:
        share_of_energy, slope_of_root = of_correlation(
            difference, sums, options.normalization
        )
        sign, slopes = sign * share_of_energy, factor * slope_of_root
    slopes *= constant_slope(options)
    # 2 T is added to a signed energy as 2 (G − share)², times H + (1 − H).
    to_others = tf.where(wrong, 2 * factor * tf.square(share), 0)
    to_own = tf.where(wrong, 2 * factor * tf.square(1 - share), 0)
    others = Factors(
        sign * tf.square(means.c1) + to_others,
        sign * tf.square(means.c2) + to_others,
        _times_sum(slopes, means.c1, means.c2),
    )
    own = Factors(
        sign * tf.square(means.not_c1) + to_own,
        sign * tf.square(means.not_c2) + to_own,
        _times_sum(-slopes, means.not_c1, means.not_c2),
    )
    return others, own


def _times_sum(factor: tf.Tensor, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Returns factor (x + y) by a reduction, whose result XLA keeps.

    What leads to a plain sum it would work out again at every pixel that uses it.
    """
    return tf.reduce_sum(factor[:, tf.newaxis] * tf.stack([x, y], axis=-1), axis=-1)


def _sums_by_class(
    values: Sequence[tf.Tensor], ids: tf.Tensor, num_classes: int
) -> list[tf.Tensor]:
    """Sums each of values (R, W) over the pixels of each class, float64 (C,)."""
    # In float64, since the numbers are added one by one.
    table = tf.cast(tf.stack(values, axis=-1), tf.float64)
    table = tf.reshape(table, (-1, len(values)))
    sums = tf.math.unsorted_segment_sum(table, tf.reshape(ids, [-1]), num_classes + 1)
    return tf.unstack(sums[:num_classes], axis=-1)
