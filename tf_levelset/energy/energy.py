"""The Chan–Vese energy of softmax maps against a label map (Kim et al. 2019, Eq. 4–7).

For one image: n valid pixels, P_l the probability of class l, φ_l = P_l − ½ its level
set function, G_l ∈ {0, 1} its binary ground truth, and

    (4)  E = Σ_l Σ_x (G_l − c_l1)² H(φ_l) + (G_l − c_l2)² (1 − H(φ_l))
    (5)  c_l1 = Σ G_l H / Σ H        c_l2 = Σ G_l (1 − H) / Σ (1 − H)
    (7)  ∂E/∂φ_l = δ(φ_l) [(G_l − c_l1)² − (G_l − c_l2)²]

Because G_l is binary, four sums a class say everything: with H and 1 − H summed over
the class's own pixels (a, c) and over the others (b, d),

    c1 = a/(a+b),  1 − c1 = b/(a+b),  c2 = c/(c+d),  1 − c2 = d/(c+d),
    E_l = ab/(a+b) + cd/(c+d),

all of it sums of positive terms, which float32 holds to its last digits. Eq. 7 is the
exact gradient: c1 and c2 minimise E, so their own derivatives drop out. A class that
is absent from the image has a = c = 0, hence no energy and no gradient: the "l ∈ L"
of Eq. 4 needs no mask.

Divergences from the paper, all off by default: `normalization` divides by n or by the
class's total variance T_l, `signed` mends the energy's evenness in c1 − c2 (below),
and "correlation" is the signed root of what the scale-free form squares:

    E_l / T_l = 1 − ρ_l²,   ρ_l = (c_l1 − c_l2) √(V_l/T_l),   V_l = S_h (1 − S_h/n)

with S_h = Σ H, so that for a sharp H ρ_l is the correlation of the truth and the
prediction, the Matthews coefficient. The gradient of ρ² dies with ρ, where a class is
not found yet; that of ρ does not:

    ∂(1 − ρ_l)/∂φ_l(x) = −δ(φ_l) (2 G_l − c_l1 − c_l2) / (2 √(T_l V_l))

"balanced" is the mean of both, 1 − (ρ_l + ρ_l |ρ_l|)/2: a class pulls the more, the
better it is found, as it does in the mean IoU, and it never pulls nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import tensorflow as tf

from tf_levelset import xla
from tf_levelset.checks import check_ignore_class, check_numeric, is_number
from tf_levelset.energy.heaviside import HEAVISIDES, SMALLEST_LOGIT_EPSILON
from tf_levelset.labels import Labels, parse_labels

NORMALIZATIONS = ("sum", "mean", "scale_free", "correlation", "balanced")
WITH_SIGN = ("correlation", "balanced")
"""The normalisations that tell c1 < c2 from c1 > c2 by themselves."""


class Regions(NamedTuple):
    """Sums of H and 1 − H over a class's pixels and over the others, each (…, C)."""

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


class Scale(NamedTuple):
    """What multiplies the energy of each class."""

    factor: tf.Tensor
    """(…, C): class weight times normalisation."""
    share: tf.Tensor
    """(…, C): S_g/n, the share of the valid pixels that the class has."""


def region_sums(truth: tf.Tensor, inside: tf.Tensor, outside: tf.Tensor) -> Regions:
    """Sums H and 1 − H, both (B, N, C) and zero on void, where truth is 1 and 0."""

    def over_pixels(values: tf.Tensor) -> tf.Tensor:
        # XLA adds the pixels up one by one: four digits of float32 would be lost.
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
    """Means of the truth inside and outside each contour (Eq. 5).

    An empty region, whose mean is 0/0, takes the image's: it then exerts no force.
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
    """c1 − c2, from whichever of the means or their complements cancel less."""
    near_zero = means.c1 + means.c2 < 1
    return tf.where(near_zero, means.c1 - means.c2, means.not_c2 - means.not_c1)


def class_scale(
    pixels: tf.Tensor,
    n: tf.Tensor,
    class_weight: Sequence[float] | None,
    normalization: str,
) -> Scale:
    """Class weights times the normalisation, and the classes' shares, each (…, C).

    The scale-free form divides by T_l = S_g (1 − S_g/n), which bounds E_l; it and what
    is made of it are means over the classes that vary.

    Args:
        pixels: (…, C), the number S_g of pixels of each class.
        n: (…, 1), the number of valid pixels.
        class_weight: C numbers or None.
        normalization: of `NORMALIZATIONS`.
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


def pixel_energies(
    truth: tf.Tensor, inside: tf.Tensor, outside: tf.Tensor, means: Means
) -> tf.Tensor:
    """The summand of Eq. 4 for each pixel and class, (B, N, C)."""
    is_truth = truth > 0
    to_inside = tf.where(is_truth, tf.square(means.not_c1), tf.square(means.c1))
    to_outside = tf.where(is_truth, tf.square(means.not_c2), tf.square(means.c2))
    return to_inside * inside + to_outside * outside


def root_ratio(sums: Regions) -> tf.Tensor:
    """√(V/T) of each class, (…, C); zero where its truth or its H does not vary."""
    inside, outside = sums.a + sums.b, sums.c + sums.d
    pixels, others = sums.a + sums.c, sums.b + sums.d
    # V/T = (S_h S_1−h) / (S_g S_1−g), factor by factor: products may overflow.
    return tf.sqrt(tf.math.divide_no_nan(inside, pixels)) * tf.sqrt(
        tf.math.divide_no_nan(outside, others)
    )


def of_correlation(
    difference: tf.Tensor, sums: Regions, normalization: str
) -> tuple[tf.Tensor, tf.Tensor]:
    """What multiplies E/T, and the slope that stands for E/T's, c1 − c2.

    1 − |ρ| = (1 − ρ²) / (1 + |ρ|) keeps the digits of a small one, and so does the
    mean of 1 − |ρ| and 1 − ρ².

    Args:
        difference: c1 − c2, (…, C).
        sums: of the classes, each (…, C).
        normalization: of `WITH_SIGN`.

    Returns:
        1/(1 + |ρ|) and ½ √(T/V), both (…, C); or their means with 1 and |c1 − c2|.
    """
    root, size = root_ratio(sums), tf.abs(difference)
    factor = 1 / (1 + size * root)
    slope = tf.math.divide_no_nan(tf.constant(0.5, root.dtype), root)
    if normalization == "balanced":
        return (1 + factor) / 2, (size + slope) / 2
    return factor, slope


def forces(
    truth: tf.Tensor, delta: tf.Tensor, means: Means, slope: tf.Tensor
) -> tf.Tensor:
    """∂E/∂φ of Eq. 7 for each pixel and class, (B, N, C), where slope is c1 − c2.

    Other forms have another slope, see `of_correlation`.
    """
    # (1 − c1)² − (1 − c2)² and c1² − c2², factored so that they do not cancel.
    on_truth = -slope * (means.not_c1 + means.not_c2)
    elsewhere = slope * (means.c1 + means.c2)
    return delta * tf.where(truth > 0, on_truth, elsewhere)


def softmax_gradient(probabilities: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    """Carries a gradient from probabilities back to logits, both (..., C).

    Adding a constant to the gradient of all classes changes nothing, so that of the
    class with P > ½ is subtracted first: where P is 1 to the last digit, the products
    would otherwise cancel to noise.
    """
    of_leader = tf.where(probabilities > 0.5, gradient, 0)
    relative = gradient - tf.reduce_sum(of_leader, axis=-1, keepdims=True)
    mean = tf.reduce_sum(probabilities * relative, axis=-1, keepdims=True)
    return probabilities * (relative - mean)


def two_channels(scores: tf.Tensor, from_logits: bool) -> tf.Tensor:
    """Writes a one-channel sigmoid output (..., 1) as two classes, (..., 2).

    The softmax of (0, z) is the sigmoid of z, so a binary output needs no formulas of
    its own: background and foreground are the classes of Eq. 4.
    """
    background = tf.zeros_like(scores) if from_logits else 1 - scores
    return tf.concat([background, scores], axis=-1)


def floating_scores(y_pred: tf.Tensor, from_logits: bool) -> tf.Tensor:
    """Class scores (B, …, C) in float32 at least, a one-channel output made two.

    Raises:
        ValueError: if the number of channels is unknown or zero, or they hold no
            numbers.
    """
    y_pred = tf.convert_to_tensor(y_pred)
    check_numeric("y_pred", y_pred)
    if y_pred.dtype != tf.float64:
        # float16 sums over a picture overflow: accumulate in float32.
        y_pred = tf.cast(y_pred, tf.float32)
    if not y_pred.shape.rank or not y_pred.shape[-1]:
        raise ValueError(
            "Expected y_pred (B, …, C) with a known number of channels C. Received: "
            f"y_pred of shape {y_pred.shape}."
        )
    if y_pred.shape[-1] == 1:
        return two_channels(y_pred, from_logits)
    return y_pred


def check_options(
    heaviside: str,
    epsilon: float,
    normalization: str,
    class_weight: Sequence[float] | None,
    signed: bool = False,
) -> None:
    """Raises `ValueError` for options that the energy does not have."""
    if heaviside not in tuple(HEAVISIDES):
        raise ValueError(
            f"Expected `heaviside` to be one of {tuple(HEAVISIDES)}. "
            f"Received: {heaviside!r}"
        )
    if not (is_number(epsilon) and 0 < epsilon < float("inf")):
        raise ValueError(f"Expected `epsilon` to be positive. Received: {epsilon!r}")
    if heaviside == "logit" and epsilon > 1:
        raise ValueError(
            'Expected `epsilon` of at most 1 for "logit", whose δ would be infinite '
            f"at a probability of 0. Received: {epsilon!r}"
        )
    if heaviside == "logit" and epsilon < SMALLEST_LOGIT_EPSILON:
        raise ValueError(
            'Expected `epsilon` of 1/60 or more for "logit", whose powers float32 '
            f"would not hold. Received: {epsilon!r}"
        )
    if normalization not in NORMALIZATIONS:
        raise ValueError(
            f"Expected `normalization` to be one of {NORMALIZATIONS}. "
            f"Received: {normalization!r}"
        )
    if normalization in WITH_SIGN and signed:
        raise ValueError(
            f"Expected `signed` to be False for {normalization!r}, which has a sign by "
            "itself. Received: True"
        )
    if isinstance(class_weight, Mapping):
        raise ValueError(
            "Expected `class_weight` to be a sequence, one number a class. "
            f"Received: a mapping, {class_weight!r}"
        )
    if class_weight is not None and not (
        isinstance(class_weight, Iterable)
        and all(is_number(w) and 0 <= w < float("inf") for w in class_weight)
    ):
        raise ValueError(
            "Expected `class_weight` to be finite numbers of zero or more, one a "
            f"class. Received: {class_weight!r}"
        )


def check_class_weight(class_weight: Sequence[float] | None, num_classes: int) -> None:
    """Raises `ValueError` unless there is one weight a class."""
    if class_weight is not None and len(class_weight) != num_classes:
        raise ValueError(
            f"Expected `class_weight` to hold {num_classes} numbers, one a class. "
            f"Received: {len(class_weight)} of them, {class_weight!r}"
        )


def level_set_energy(
    y_true: tf.Tensor,
    y_pred: tf.Tensor,
    *,
    from_logits: bool = False,
    heaviside: str = "mahf",
    epsilon: float = 1 / 20,
    ignore_class: int | None = None,
    class_weight: Sequence[float] | None = None,
    normalization: str = "sum",
    signed: bool = False,
) -> tf.Tensor:
    """Energy of each image, summed over its pixels and classes (Eq. 4).

    Args:
        y_true: labels (B, …) or (B, …, 1) of an integer dtype, or one-hot
            (B, …, C), with any number of spatial axes.
        y_pred: probabilities, or logits where `from_logits`, (B, …, C); C = 1 is the
            sigmoid output of a binary task.
        from_logits: whether a softmax (or sigmoid) is still to be applied.
        heaviside: "mahf" (the paper's, Eq. 6), "ahf" (Chan and Vese's), "hf" (sharp;
            its gradient uses MAHF's δ) or "logit" (of the log odds; see
            `heaviside.logit`).
        epsilon: width ε of the smooth Heaviside functions, in units of probability;
            of log odds for "logit", at most 1, where H is the probability itself.
        ignore_class: label of void pixels, which do not belong to the image.
        class_weight: C numbers that multiply the classes' energies (two, background
            and foreground, for a sigmoid output).
        normalization: "sum" over the image (the paper's), "mean" over its valid
            pixels (E/n, independent of the resolution), "scale_free": the mean of
            E_l/T_l over the classes with 0 < S_g < n, where T_l = S_g (1 − S_g/n)
            bounds E_l, so that a rare class weighs as much as a common one, or
            "correlation": the mean of 1 − ρ_l instead, where E_l/T_l = 1 − ρ_l²; or
            "balanced": the mean of these two.
        signed: where a class's prediction is anticorrelated with its truth, c1 < c2,
            Eq. 4 rewards making it worse; the signed energy takes 2 T_l − E_l there.
            Not for "correlation" and "balanced", which are signed.

    Returns:
        (B,), float32, or float64 where y_pred is; differentiable by Eq. 7.

    Raises:
        ValueError: for unknown options and for shapes that do not belong together.
        tf.errors.InvalidArgumentError: for labels that are neither a class nor void
            (NaN under XLA).

    Example:
    >>> labels = tf.constant([[[0, 1]]])
    >>> probabilities = tf.constant([[[[0.9, 0.1], [0.5, 0.5]]]])
    >>> level_set_energy(labels, probabilities).numpy().round(4)
    array([0.6667], dtype=float32)
    """
    check_options(heaviside, epsilon, normalization, class_weight, signed)
    check_ignore_class(ignore_class)
    scores = floating_scores(y_pred, from_logits)
    labels = parse_labels(tf.convert_to_tensor(y_true), scores, ignore_class)
    return tf.reduce_sum(
        energy_density(
            labels,
            scores,
            from_logits=from_logits,
            heaviside=heaviside,
            epsilon=epsilon,
            class_weight=class_weight,
            normalization=normalization,
            signed=signed,
        ),
        axis=1,
    )


def energy_density(
    labels: Labels,
    scores: tf.Tensor,
    *,
    from_logits: bool,
    heaviside: str,
    epsilon: float,
    class_weight: Sequence[float] | None,
    normalization: str,
    signed: bool,
) -> tf.Tensor:
    """Energy of each pixel, whose sum over the image is `level_set_energy`.

    Weights on the pixels of the result hold c1 and c2 fixed in its gradient, as in
    Chan and Vese's alternating minimisation; equal weights give the exact gradient.

    Args:
        labels: ground truth with N positions.
        scores: (B, …, C) in float32 or float64, as `floating_scores` gives them.
        from_logits: see `level_set_energy`, and so the others.
        heaviside: of `HEAVISIDES`.
        epsilon: width ε.
        class_weight: C numbers or None.
        normalization: of `NORMALIZATIONS`.
        signed: whether c1 < c2 costs 2 T − E.

    Returns:
        (B, N), zero on void pixels, NaN where a label is invalid.

    Raises:
        ValueError: if `class_weight` does not hold C numbers.
    """
    num_classes = scores.shape[-1]
    check_class_weight(class_weight, num_classes)
    functions = HEAVISIDES[heaviside]
    shape = tf.shape(scores)
    flat = tf.stack([shape[0], tf.reduce_prod(shape[1:-1]), num_classes])
    valid = tf.cast(labels.valid, scores.dtype)[..., tf.newaxis]
    truth = tf.one_hot(labels.ids, num_classes, dtype=scores.dtype) * valid
    scale = class_scale(
        tf.reduce_sum(truth, axis=1, keepdims=True),
        tf.reduce_sum(valid, axis=1, keepdims=True),
        class_weight,
        normalization,
    )

    @tf.custom_gradient
    def density(
        scores: tf.Tensor,
    ) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        probabilities = tf.nn.softmax(scores) if from_logits else scores
        phi = probabilities - 0.5
        inside = functions.inside(phi, epsilon) * valid
        outside = functions.outside(phi, epsilon) * valid
        sums = region_sums(truth, inside, outside)
        means = region_means(sums, scale.share)
        energies = pixel_energies(truth, inside, outside, means)
        slope = mean_difference(means)
        if normalization in WITH_SIGN:
            share_of_energy, slope = of_correlation(slope, sums, normalization)
            energies *= share_of_energy
        elif signed:
            slope = tf.abs(slope)
        if signed or normalization in WITH_SIGN:
            wrong = means.c1 < means.c2
            variances = tf.square(truth - scale.share) * valid
            energies = tf.where(wrong, 2 * variances - energies, energies)
        value = tf.reduce_sum(scale.factor * energies, axis=-1)

        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            delta = functions.delta(phi, epsilon) * valid
            force = forces(truth, delta, means, scale.factor * slope)
            force *= upstream[..., tf.newaxis]
            return softmax_gradient(probabilities, force) if from_logits else force

        return value, gradient

    return tf.where(
        labels.invalid,
        tf.constant(float("nan"), scores.dtype),
        density(tf.where(valid > 0, tf.reshape(scores, flat), 0)),
    )
