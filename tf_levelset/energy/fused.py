"""Cross-entropy and level set energy with their gradient, in one pass (Eq. 8).

The result is Keras' cross-entropy plus λ times the energy of `energy.py`. It takes less
time and memory, because

- both come from one softmax, and the gradient is computed with the value;
- images are processed one after the other, so that the intermediate results of one
  image fit the processor's cache and their memory is used again for the next;
- tensors are laid out (R, C, W), for R rows of W pixels, so that the inner loop runs
  over pixels and vectorises;
- 1 − H loses digits where H is near one, usually at the true class; so only the true
  class of each pixel (N numbers, not N × C) computes it separately.

The gradient is computed even where only the loss is needed, as in validation.

If a class is predicted with certainty at nearly all pixels of the *other* classes, d is
a difference of large numbers, and an energy near zero loses digits. The cross-entropy
dominates there. `energy.py` keeps these digits, and so do here the forms whose force
does not vanish with the energy (`_keeps_complement`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

from tf_levelset.energy.energy import Factors, class_factors
from tf_levelset.energy.heaviside import FUNCTIONS
from tf_levelset.energy.normalization import class_scale
from tf_levelset.energy.options import EnergyOptions
from tf_levelset.energy.regions import Regions
from tf_levelset.labels import Labels

HEAVISIDES = ("mahf", "logit")
"""The Heaviside functions that this file implements."""


class FusedOptions(NamedTuple):
    """Options of Eq. 8."""

    energy: EnergyOptions
    """Its Heaviside function is one of `HEAVISIDES`."""
    weight: tf.Tensor
    """λ, a float64 scalar."""


class Softmax(NamedTuple):
    """Softmax of one image, P = exponentials / total."""

    exponentials: tf.Tensor
    """(R, C, W): exp(logit − largest logit of the pixel)."""
    total: tf.Tensor
    """(R, W): sum of the exponentials over the classes."""
    own: tf.Tensor
    """(R, W): logit of the pixel's class − largest logit."""


class Own(NamedTuple):
    """The contribution of the true class of each pixel, (R, W), zero on void."""

    probability: tf.Tensor
    inside: tf.Tensor
    """H(φ)."""
    outside: tf.Tensor
    """1 − H(φ)."""
    slope: tf.Tensor
    """δ(φ) without its constant factor, see `_slope`."""


def fused_losses(
    labels: Labels,
    scores: tf.Tensor,
    pixel_weights: tf.Tensor,
    options: FusedOptions,
    jit_compile: bool = False,
) -> tf.Tensor:
    """Returns `pixel_weights` × cross-entropy + N λ × the pixel's energy.

    Args:
        labels: Ground truth with N positions.
        scores: Logits (B, …, C) in float32 or float64.
        pixel_weights: (B, N), factors of the cross-entropies; zero on void.
        options: Options of Eq. 8.
        jit_compile: Whether to compile with XLA. Only for graphs: an eager call would
            compile anew each time.

    Returns:
        (B, N), zero on void pixels. Weights on the pixels of the result hold c1 and c2
        fixed in its gradient, as in `energy.energy_density`.
    """
    num_classes = scores.shape[-1]
    shape = tf.shape(scores)
    # The number of rows is not given as −1: it cannot be inferred if the width is zero.
    known = scores.shape[1:-2].num_elements()
    rows = tf.reduce_prod(shape[1:-2]) if known is None else known
    by_row = tf.stack([shape[0], rows, shape[-2]])
    # Void pixels get the id C, which has no score.
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
    ids: tf.Tensor, logits: tf.Tensor, pixel_weights: tf.Tensor, options: FusedOptions
) -> tuple[tf.Tensor, tf.Tensor]:
    """Applies `image_losses` to a batch, one image after the other."""
    values, gradients = tf.map_fn(
        lambda image: image_losses(image[0], image[1], image[2], options),
        (ids, logits, pixel_weights),
        fn_output_signature=(logits.dtype, logits.dtype),
        parallel_iterations=1,
    )
    return values, gradients


def image_losses(
    ids: tf.Tensor, logits: tf.Tensor, pixel_weights: tf.Tensor, options: FusedOptions
) -> tuple[tf.Tensor, tf.Tensor]:
    """Computes the losses of one image and their gradient.

    Args:
        ids: int32 (R, W), C on void.
        logits: (R, W, C).
        pixel_weights: (R, W).
        options: Options of Eq. 8.

    Returns:
        Losses (R, W), and (R, W, C): the derivatives of each pixel's loss by the
        logits of that pixel.
    """
    num_classes = logits.shape[-1]
    valid = tf.cast(ids < num_classes, logits.dtype)
    is_own = ids[:, tf.newaxis] == tf.range(num_classes)[:, tf.newaxis]
    # The values gathered for void pixels are multiplied by zero.
    real_ids = tf.where(ids < num_classes, ids, 0)
    softmax = _softmax(logits, real_ids)
    scale = 1 / softmax.total
    own = _own_class(softmax, valid, options.energy)

    phi = softmax.exponentials * scale[:, tf.newaxis] - 0.5
    elsewhere = ~is_own & (ids < num_classes)[:, tf.newaxis]
    # H where G = 0, and exactly zero where G = 1 and on void.
    inside = tf.where(elsewhere, _inside(phi, options.energy), 0)
    outside = None
    if _keeps_complement(options.energy):
        outside = tf.where(elsewhere, _inside(-phi, options.energy), 0)

    owns, others = _factors(ids, valid, own, inside, outside, options)
    of_own = Factors(*(tf.gather(factor, real_ids) for factor in owns))

    # Σ_l≠own of in_l H_l + out_l (1 − H_l), as products of a matrix and a vector.
    energies = tf.linalg.matvec(
        inside, others.inside - others.outside, transpose_a=True
    )
    rest = tf.reduce_sum(others.outside) - others.outside
    energies += valid * tf.gather(rest, real_ids)
    energies += own.inside * of_own.inside + own.outside * of_own.outside
    cross_entropies = tf.math.log(softmax.total) - softmax.own
    values = tf.where(ids < num_classes, pixel_weights * cross_entropies + energies, 0)

    # ∂/∂z_k = P_k (F_k − Σ_l P_l F_l) + w (P_k − G_k), with F = ∂E/∂φ of Eq. 7 and
    # the pixel's weight w.
    slopes = _slope(phi, inside, outside, options.energy)
    # For MAHF the slope H(1 − H) is already zero where H was set to zero.
    if options.energy.heaviside != "mahf":
        slopes = tf.where(elsewhere, slopes, 0)
    forces = slopes * others.force[:, tf.newaxis]
    pull = scale * tf.reduce_sum(softmax.exponentials * forces, axis=1)
    pull += own.probability * own.slope * of_own.force
    level = (pixel_weights - pull)[:, tf.newaxis]
    gradients = softmax.exponentials * (scale[:, tf.newaxis] * (forces + level))
    gradients = tf.where(elsewhere, gradients, 0)
    # A pixel's derivatives sum to zero, so that of its class is minus the sum of the
    # others, without cancellation.
    of_class = -tf.reduce_sum(gradients, axis=1, keepdims=True)
    return values, tf.transpose(tf.where(is_own, of_class, gradients), (0, 2, 1))


def _softmax(logits: tf.Tensor, ids: tf.Tensor) -> Softmax:
    """Softmax over the classes of logits (R, W, C), for ids (R, W) of real classes."""
    by_class = tf.transpose(logits, (0, 2, 1))
    largest = tf.reduce_max(by_class, axis=1)
    exponentials = tf.exp(by_class - largest[:, tf.newaxis])
    return Softmax(
        exponentials,
        tf.reduce_sum(exponentials, axis=1),
        tf.gather(logits, ids, batch_dims=2) - largest,
    )


def _own_class(softmax: Softmax, valid: tf.Tensor, options: EnergyOptions) -> Own:
    """Probability, H, 1 − H and δ of the true class of each pixel."""
    probability = tf.exp(softmax.own) / softmax.total
    phi = probability - 0.5
    inside, outside = _inside(phi, options), _inside(-phi, options)
    delta = _slope(phi, inside, outside, options)
    return Own(valid * probability, valid * inside, valid * outside, valid * delta)


def _inside(phi: tf.Tensor, options: EnergyOptions) -> tf.Tensor:
    """H(φ). Both functions of this file are symmetric: 1 − H(φ) is H(−φ)."""
    return FUNCTIONS[options.heaviside].inside(phi, options.epsilon)


def _keeps_complement(options: EnergyOptions) -> bool:
    """Whether 1 − H needs its own computation.

    In these forms the force stays large while 1 − H is tiny.
    """
    return options.heaviside == "mahf" and options.has_sign


def _slope(
    phi: tf.Tensor, inside: tf.Tensor, outside: tf.Tensor | None, options: EnergyOptions
) -> tf.Tensor:
    """δ(φ) without its constant factor, which is `_constant_of_slope`.

    If 1 − H is given as `outside`, the slope of MAHF keeps its digits where H nears 1.
    """
    if options.heaviside == "logit":
        return FUNCTIONS["logit"].delta(phi, options.epsilon)
    return inside * (1 - inside if outside is None else outside)


def _constant_of_slope(options: EnergyOptions) -> float:
    return 1.0 if options.heaviside == "logit" else 2 / options.epsilon


def _factors(
    ids: tf.Tensor,
    valid: tf.Tensor,
    own: Own,
    inside: tf.Tensor,
    outside: tf.Tensor | None,
    options: FusedOptions,
) -> tuple[Factors, Factors]:
    """Returns the factors of N λ E at the pixels of each class, and at the others.

    The sums are float64: they are few, and have many addends.

    Args:
        ids: int32 (R, W), C on void.
        valid: (R, W), one or zero.
        own: The contributions of each pixel's true class.
        inside: (R, C, W), H of the other classes, else zero.
        outside: Likewise 1 − H, or None to derive it from H.
        options: Options of Eq. 8.
    """
    energy = options.energy
    num_classes = inside.shape[1]
    a, c, pixels = _sums_by_class([own.inside, own.outside, valid], ids, num_classes)
    n = tf.reduce_sum(pixels, keepdims=True)
    b = _sum_of_rows(inside, valid)
    if outside is None:
        # Rounding may make n − S_g − b too small; d is at least what it would be if
        # every probability were one.
        least = _inside(tf.constant(-0.5, tf.float64), energy)
        d = tf.maximum(n - pixels - b, (n - pixels) * least)
    else:
        d = _sum_of_rows(outside, valid)

    scale = class_scale(pixels, n, energy.class_weight, energy.normalization)
    positions = tf.cast(tf.size(ids), tf.float64)
    scale = scale._replace(factor=scale.factor * options.weight * positions)
    owns, others = class_factors(Regions(a, b, c, d), scale, energy)
    constant = _constant_of_slope(energy)

    def complete(factors: Factors) -> Factors:
        factors = factors._replace(force=constant * factors.force)
        return Factors(*(tf.cast(factor, valid.dtype) for factor in factors))

    return complete(owns), complete(others)


def _sum_of_rows(values: tf.Tensor, valid: tf.Tensor) -> tf.Tensor:
    """Sums (R, C, W) over the valid pixels, float64 (C,).

    The pixels of a row are added in float32, the rows in float64.
    """
    by_row = tf.linalg.matvec(values, valid)
    return tf.reduce_sum(tf.cast(by_row, tf.float64), axis=0)


def _sums_by_class(
    values: Sequence[tf.Tensor], ids: tf.Tensor, num_classes: int
) -> list[tf.Tensor]:
    """Sums each of several (R, W) over the pixels of each class, float64 (C,)."""
    # In float64, since the numbers are added one by one.
    table = tf.cast(tf.stack(values, axis=-1), tf.float64)
    table = tf.reshape(table, (-1, len(values)))
    sums = tf.math.unsorted_segment_sum(table, tf.reshape(ids, [-1]), num_classes + 1)
    return tf.unstack(sums[:num_classes], axis=-1)
